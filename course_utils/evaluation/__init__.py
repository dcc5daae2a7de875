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
from course_utils.evaluation.metrics import average_precision, mrr_at_k, ndcg_at_k, per_query, summary
from course_utils.evaluation.rules import betrayed, document_alone
from course_utils.evaluation.slices import add_rule, by_slice

__all__ = [
    "Difference",
    "Evaluation",
    "add_rule",
    "apply_threshold",
    "average_precision",
    "betrayed",
    "by_slice",
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
    "reliability",
    "summary",
    "take_answers_away",
]
