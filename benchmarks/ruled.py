"""A reranker plus the rule that reads documents alone: a control that a gain from training has to pass."""

from course_utils.evaluation import add_rule, document_alone, evaluate_scores
from course_utils.evaluation.rules import WEIGHTS


def with_rule(scores, train, parts):
    """Return ({part: Evaluation} of scores plus the rule, for each part but "dev"; the weight, which "dev" chooses).

    Args:
        scores: {part: list of arrays}, one a query; a part "dev" is among them.
        train: list of Group that the rule learns from.
        parts: {part: list of Group}.
    """
    rule = {part: document_alone(train, parts[part]) for part in scores}

    def summed(part, weight):
        return evaluate_scores(add_rule(scores[part], rule[part], weight), parts[part])

    weight = max(WEIGHTS, key=lambda w: summed("dev", w).summary["ndcg@10"])
    return {part: summed(part, weight) for part in scores if part != "dev"}, weight
