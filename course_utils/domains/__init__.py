"""Many specialists on one base (lesson 06): deltas, LoRA adapters, switching, merging, routing.

Begin with ``adapt_layers(reranker, train)``.
"""

from course_utils.domains.delta import Delta, attach, detach, load_delta, save_delta, swapped
from course_utils.domains.merging import Matrix, combine, cross_matrix, sweep_weights
from course_utils.domains.routing import route_report, train_router
from course_utils.domains.serve import Domains, storage_bytes
from course_utils.domains.train import adapt_layers, adapt_lora

__all__ = [
    "Delta",
    "Domains",
    "Matrix",
    "adapt_layers",
    "adapt_lora",
    "attach",
    "combine",
    "cross_matrix",
    "detach",
    "load_delta",
    "route_report",
    "save_delta",
    "storage_bytes",
    "swapped",
    "sweep_weights",
    "train_router",
]
