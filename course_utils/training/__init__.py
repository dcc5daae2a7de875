"""How a reranker is adapted (lessons 03 and 04): what trains, the loss, cached states, the run, its cost.

Begin with ``adapt(reranker, train)``.
"""

from course_utils import _unsearched

with _unsearched():
    from course_utils.training.adaptation import Adaptation, adapt
    from course_utils.training.batch import Source
    from course_utils.training.cost import forecast
    from course_utils.training.freezing import (
        borrowed,
        decoder_layers,
        freeze_all_but_last,
        gradient_report,
        parameter_table,
        train_only,
    )
    from course_utils.training.held_out import hold_out, training_data
    from course_utils.training.losses import LOSSES
    from course_utils.training.recipe import EMA_DECAY, Recipe, default_learning_rate, is_large
    from course_utils.training.scorer import GroupScorer
    from course_utils.training.sweeps import sweep
    from course_utils.training.trainer import TENSORS, TrainingError
    from course_utils.training.trunk import build_trunk, row_offsets, trunk_megabytes
    from course_utils.training.weights import load_tensors, trained_tensors

__all__ = [
    "EMA_DECAY",
    "LOSSES",
    "TENSORS",
    "Adaptation",
    "GroupScorer",
    "Recipe",
    "Source",
    "TrainingError",
    "adapt",
    "borrowed",
    "build_trunk",
    "decoder_layers",
    "default_learning_rate",
    "forecast",
    "freeze_all_but_last",
    "gradient_report",
    "hold_out",
    "is_large",
    "load_tensors",
    "parameter_table",
    "row_offsets",
    "sweep",
    "train_only",
    "trained_tensors",
    "training_data",
    "trunk_megabytes",
]
