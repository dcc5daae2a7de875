"""Before and after: evaluate a reranker, compare two evaluations of the same queries."""

from dataclasses import dataclass, field, replace

import numpy as np

from course_utils.data.counts import Counts, usable
from course_utils.data.long_documents import _score_lists
from course_utils.evaluation import metrics
from course_utils.language import _


@dataclass
class Evaluation:
    """Scores and metrics of one reranker on one list of Group.

    Queries that cannot be ranked wrongly or do not fit into the prompt are left out, see ``data.usable``.

    Attributes:
        scores: one array of logits a query that stays.
        relevance: one tuple of labels a query that stays.
        summary: mean of each metric.
        counts: ``data.Counts`` of what was left out and cut.
    """

    scores: list
    relevance: list
    summary: dict
    counts: Counts = field(default_factory=Counts)

    def per_query(self, metric="ndcg@10"):
        """Return one value of ``metric`` a query."""
        return metrics.per_query(self.scores, self.relevance, metric)


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its bootstrap interval.

    Attributes:
        mean: after minus before.
        low: lower end of the interval.
        high: upper end.
        wins: queries that became better.
        losses: queries that became worse.
    """

    mean: float
    low: float
    high: float
    wins: int
    losses: int

    def __str__(self):
        return _("{mean:+.3f} [{low:+.3f}, {high:+.3f}], {wins} better, {losses} worse").format(
            mean=self.mean, low=self.low, high=self.high, wins=self.wins, losses=self.losses
        )


def evaluate_scores(scores, groups):
    """Return the Evaluation of given score arrays, one per Group; errors as in ``evaluate``."""
    kept, counts = usable(groups)
    stays = {id(g) for g in kept}
    own = [s for s, g in zip(scores, groups, strict=True) if id(g) in stays]
    relevance = [g.relevance for g in kept]
    return Evaluation(own, relevance, metrics.summary(own, relevance), counts)


def evaluate(reranker, groups, progress=False, long_documents="cut"):
    """Score the candidates of every Group that can be ranked and return the Evaluation.

    Args:
        reranker: the Reranker.
        groups: list of Group.
        progress: show a bar with the time left.
        long_documents: "cut" reads what fits into the prompt; "passages" scores overlapping pieces and keeps the best.

    Raises:
        InputError: when no group holds both a relevant and another document.
    """
    kept, counts = usable(groups, reranker)
    scores = _score_lists(reranker, kept, long_documents, progress)
    found = evaluate_scores(scores, kept)
    found.counts = replace(counts, cut=getattr(scores, "truncated", 0))
    return found


def paired_bootstrap(before, after, rounds=10_000, level=0.95, seed=0, topics=None):
    """Return the Difference of two runs over the same queries, with a percentile bootstrap interval over queries.

    Queries of one topic share documents and rise or fall together: what a new topic would bring is told by an interval
    over ``topics``. Topics are few, so its ends are moved outward as Student's t asks; with fewer than about 20 it is rough,
    with one it has no width and says nothing.

    Args:
        before: one value a query.
        after: one value a query, same order.
        rounds: resamples.
        level: coverage of the interval.
        seed: for the resamples.
        topics: one name a query: whole topics are resampled in place of queries.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; for topics the expanded percentiles of
    Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015.
    """
    before, after = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise ValueError(f"before {before.shape} and after {after.shape} must hold one value a query, the same queries")
    gaps = after - before
    random = np.random.default_rng(seed)
    sums, counts = gaps, np.ones(len(gaps))
    if topics is not None:
        place = np.unique(np.asarray(topics), return_inverse=True)[1]
        sums, counts = np.bincount(place, gaps), np.bincount(place)
    draws = (random.integers(0, len(sums), (100, len(sums))) for _ in range(max(1, rounds // 100)))
    means = np.concatenate([sums[d].sum(axis=1) / counts[d].sum(axis=1) for d in draws])
    tail = (1 - level) / 2
    if topics is not None:
        tail = _expanded(tail, len(sums))
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(float(gaps.mean()), float(low), float(high), int((gaps > 0).sum()), int((gaps < 0).sum()))


def _expanded(tail, count):
    """Return the share of resamples beyond an end of an interval over ``count`` units, less than ``tail`` where they are few."""
    from scipy.stats import norm, t

    return float(norm.cdf(t.ppf(tail, count - 1) * (count / (count - 1)) ** 0.5)) if count > 1 else 0.0


def compare(before, after, metric="ndcg@10", seed=0):
    """Return the Difference in ``metric`` between two Evaluations of the same groups."""
    return paired_bootstrap(before.per_query(metric), after.per_query(metric), seed=seed)
