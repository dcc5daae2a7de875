"""How a reranker is measured (lesson 05): ranking metrics, before against after with an interval, calibration.

Begin with ``evaluate(reranker, test)``.
"""

from course_utils.evaluation import metrics
from course_utils.evaluation.calibration import (
    apply_threshold,
    choose_threshold,
    fit_temperature,
    log_loss,
    reliability,
    take_answers_away,
)
from course_utils.evaluation.measure import (
    Difference,
    Evaluation,
    compare,
    evaluate,
    evaluate_scores,
    paired_bootstrap,
)
from course_utils.evaluation.metrics import average_precision, mrr_at_k, ndcg_at_k, per_query, recall_at_k, summary
from course_utils.evaluation.rules import betrayed, document_alone

__all__ = [
    "Difference",
    "Evaluation",
    "apply_threshold",
    "average_precision",
    "betrayed",
    "choose_threshold",
    "compare",
    "document_alone",
    "evaluate",
    "evaluate_scores",
    "fit_temperature",
    "log_loss",
    "metrics",
    "mrr_at_k",
    "ndcg_at_k",
    "paired_bootstrap",
    "per_query",
    "recall_at_k",
    "reliability",
    "summary",
    "take_answers_away",
]
