"""Make probabilities mean what they say, and choose the score below which nothing is shown.

Scores and labels come as one array a query, as in ``compare.Evaluation``. Choose on dev, report on test. Calibration by
temperature changes no order, so no ranking metric.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from course_utils.errors import InputError
from course_utils.language import _
from course_utils.model.reranker import sigmoid
from course_utils.text import _Markdown, markdown_table

LIMITS = (0.01, 100.0)


def _flat(scores, relevance):
    """Return (logits, labels 0 or 1) of all pairs as two float arrays; raise InputError when they do not fit.

    Args:
        scores: one array of logits a query, or one array for all pairs.
        relevance: labels in the same shape; above 0 is relevant.
    """
    logits = np.concatenate([np.ravel(s) for s in scores]).astype(np.float64) if len(scores) else np.empty(0)
    labels = np.concatenate([np.ravel(r) for r in relevance]) > 0 if len(relevance) else np.empty(0, dtype=bool)
    if logits.shape != labels.shape or not len(logits):
        raise InputError(
            "There are {n_logits} scores and {n_labels} labels; give one label a score, at least one.",
            n_logits=len(logits),
            n_labels=len(labels),
        )
    if not np.isfinite(logits).all():
        raise InputError("A score is not a finite number, so it cannot be calibrated.")
    return logits, labels.astype(np.float64)


def log_loss(scores, relevance, temperature=1.0):
    """Return the mean of -log(probability given to the right label), in nats a pair."""
    logits, labels = _flat(scores, relevance)
    z = logits / temperature
    return float((np.logaddexp(0, z) - labels * z).mean())


def fit_temperature(scores, relevance):
    """Return the temperature T for which sigmoid(score / T) has the lowest log loss; above 1 it takes confidence back.

    One number, between 0.01 and 100; a score of 0 stays probability 0.5. The loss is convex in 1 / T, so its slope has one
    zero. Source: Guo et al., "On calibration of modern neural networks", arXiv 1706.04599, section 4.2.

    Args:
        scores: one array of logits a query; of dev, not of test.
        relevance: labels in the same shape.

    Raises:
        InputError: labels of one kind only, or scores that run against the labels.
    """
    from scipy.optimize import brentq

    logits, labels = _flat(scores, relevance)
    if labels.min() == labels.max():
        raise InputError("All labels are the same; a temperature needs relevant and other documents.")

    def slope(log_temperature):
        z = logits * np.exp(-log_temperature)
        return float(((sigmoid(z) - labels) * logits).mean())

    low, high = np.log(LIMITS)
    if slope(high) >= 0:  # even a nearly flat sigmoid is too sure
        if ((0.5 - labels) * logits).mean() >= 0:
            raise InputError("The scores run against the labels or tell nothing about them; no temperature mends that.")
        return LIMITS[1]
    if slope(low) <= 0:  # labels are separated: the surer the better
        return LIMITS[0]
    return float(np.exp(brentq(slope, low, high)))


class _Bin(NamedTuple):
    """Pairs of similar probability: their mean probability, the share that is relevant, their number."""

    probability: float
    share: float
    count: int


@dataclass(frozen=True)
class _Reliability(_Markdown):
    """Bins of pairs by probability, and the expected calibration error (ECE) over them.

    Attributes:
        bins: list of Bin, empty ones left out; ``plots.reliability`` draws it.
        error: mean over pairs of |mean probability - share relevant| of their bin, 0 to 1.
        temperature: what the scores were divided by.
    """

    bins: list
    error: float
    temperature: float = 1.0

    def __str__(self):
        rows = [(f"{b.probability:.3f}", f"{b.share:.3f}", b.count) for b in self.bins]
        table = markdown_table([_("mean probability"), _("share relevant"), _("pairs")], rows)
        return _("{table}\n\nexpected calibration error {error:.3f} at temperature {temperature:.2f}").format(
            table=table, error=self.error, temperature=self.temperature
        )


def reliability(scores, relevance, temperature=1.0, bins=10):
    """Return the Reliability of sigmoid(score / temperature) in ``bins`` bins of equal width.

    The probability is that of "relevant", not that of the likelier label, so bins run from 0 to 1. ECE depends on the bins:
    compare only figures with the same number of them. Source: arXiv 1706.04599, section 2.
    """
    logits, labels = _flat(scores, relevance)
    p = sigmoid(logits / temperature)
    place = np.minimum((p * bins).astype(int), bins - 1)
    found = [_Bin(float(p[own].mean()), float(labels[own].mean()), int(own.sum()))
             for own in (place == i for i in range(bins)) if own.any()]  # fmt: skip
    error = sum(abs(b.probability - b.share) * b.count for b in found) / len(p)
    return _Reliability(found, float(error), temperature)


@dataclass(frozen=True)
class _Threshold:
    """Documents with a score above ``value`` are shown; the figures are those of the pairs it was chosen or measured on.

    Attributes:
        value: a logit; probability 0.5 is 0.
        precision: share of the shown documents that are relevant; 1 when nothing is shown.
        recall: share of the relevant documents that are shown.
        shown: number of documents shown.
        answered: share of the queries with a right document that get at least one right document shown.
        silent: share of the queries with a right document that get nothing shown.
        refused: share of the queries without a right document that rightly get nothing shown; None without such queries.
    """

    value: float
    precision: float
    recall: float
    shown: int
    answered: float
    silent: float
    refused: float | None = None

    @property
    def f1(self):
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def __str__(self):
        text = _(
            "Shown above score {value:.2f}: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}. Of the "
            "queries with an answer {answered:.0%} see one and {silent:.0%} see nothing."
        ).format(
            value=self.value,
            precision=self.precision,
            recall=self.recall,
            f1=self.f1,
            answered=self.answered,
            silent=self.silent,
        )
        if self.refused is None:
            return text
        return _("{text} Of the queries without an answer {refused:.0%} rightly see nothing.").format(
            text=text, refused=self.refused
        )


def choose_threshold(scores, relevance, precision=None):
    """Return the Threshold with the largest recall at a precision of at least ``precision``; without one, the best F1.

    It lies in the middle between two scores. Of equals the higher one is taken. A precision from few documents is luck:
    look at ``shown``.

    Args:
        scores: one array of logits a query; of dev, best with queries that have no right document, see
            ``take_answers_away``.
        relevance: labels in the same shape.
        precision: share of shown documents that must be relevant, 0 to 1.

    Raises:
        InputError: nothing is relevant, or the precision is not reached anywhere.
    """
    from sklearn.metrics import precision_recall_curve  # here: it brings pandas, which every command would load

    logits, labels = _flat(scores, relevance)
    if not labels.any():
        raise InputError("No document is relevant, so there is nothing to find; give queries with right documents.")
    if precision is not None and not 0 < precision <= 1:
        raise InputError("precision is {precision}; it is a share between 0 and 1.", precision=precision)
    # Equal scores are shown together: one step a different score, from the lowest up; the last one shows nothing.
    reached, recall, values = precision_recall_curve(labels, logits)
    reached, recall, values = reached[-2::-1], recall[-2::-1], values[::-1]
    if precision is None:
        quality = 2 * reached * recall / np.maximum(reached + recall, 1e-12)
    else:
        quality = np.where(reached >= precision, recall, -1.0)
        if quality.max() <= 0:
            best = reached.max()
            raise InputError(
                "No threshold reaches precision {precision:g}; the best is {best:.3f}. Ask for less, or adapt further.",
                precision=precision,
                best=best,
            )
    end = int(np.argmax(quality))
    below = values[end + 1] if end + 1 < len(values) else values[end] - 1.0
    return apply_threshold(scores, relevance, (values[end] + below) / 2)


def apply_threshold(scores, relevance, value):
    """Return the Threshold ``value`` with its figures on these queries; see ``choose_threshold``."""
    logits, labels = _flat(scores, relevance)
    shown = logits > value
    queries = [(np.asarray(s) > value, np.asarray(r) > 0) for s, r in zip(scores, relevance, strict=True)]
    with_answer = [(s, r) for s, r in queries if r.any()]
    without = [s for s, r in queries if not r.any()]
    hits = float(labels[shown].sum())
    return _Threshold(
        value=float(value),
        precision=hits / shown.sum() if shown.any() else 1.0,
        recall=hits / labels.sum() if labels.any() else 0.0,
        shown=int(shown.sum()),
        answered=float(np.mean([(s & r).any() for s, r in with_answer])) if with_answer else 0.0,
        silent=float(np.mean([not s.any() for s, _ in with_answer])) if with_answer else 0.0,
        refused=float(np.mean([not s.any() for s in without])) if without else None,
    )


def take_answers_away(scores, relevance, share=0.5, seed=0):
    """Return (scores, relevance) where the right documents of some queries are taken out of their lists.

    A search engine meets queries that nothing answers; labelled data seldom hold any. Taking the right documents away makes
    them from what there is, with the hardest wrong documents left. Queries that would keep no document stay whole.

    Args:
        scores: one array of logits a query.
        relevance: labels in the same shape.
        share: share of the queries that lose their answers.
        seed: for their choice.
    """
    random = np.random.default_rng(seed)
    chosen = set(random.permutation(len(scores))[: round(share * len(scores))].tolist())
    out = []
    for i, (s, r) in enumerate(zip(scores, relevance, strict=True)):
        s, r = np.asarray(s), np.asarray(r)
        keep = r <= 0 if i in chosen and (r <= 0).any() else np.ones(len(r), dtype=bool)
        out.append((s[keep], r[keep]))
    return [s for s, _ in out], [r for _, r in out]
