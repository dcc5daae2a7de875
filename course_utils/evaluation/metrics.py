"""Ranking and classification metrics, one value per query, with honest ties.

Documents with equal scores are in no order. Every ranking metric here is the mean over all orders of tied documents, so
input order earns nothing. Formulas for ties: McSherry and Najork, "Computing information retrieval performance measures
efficiently in the presence of tied scores", ECIR 2008.
"""

from itertools import pairwise
from math import comb

import numpy as np


def _tie_blocks(scores, relevance):
    """Return [(position before the block, gains of the block), ...] of tied documents, from the best score down."""
    scores, relevance = np.asarray(scores, dtype=np.float64), np.asarray(relevance, dtype=np.float64)
    if scores.shape != relevance.shape or scores.ndim != 1 or not len(scores):
        raise ValueError(f"scores {scores.shape} and relevance {relevance.shape} must be equally long lists")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    order = np.argsort(-scores, kind="stable")
    scores, relevance = scores[order], relevance[order]
    bounds = [0, *(np.flatnonzero(np.diff(scores)) + 1).tolist(), len(scores)]
    return [(a, relevance[a:b]) for a, b in pairwise(bounds)]


def ndcg_at_k(scores, relevance, k=10):
    """Return nDCG@k of one query: discounted gain of the ranking over that of the best ranking, 0 to 1.

    Gain is the relevance itself, the discount log2(rank + 1). 0 when nothing is relevant.

    Args:
        scores: one number per document, higher is better.
        relevance: one grade per document, 0 for not relevant.
        k: ranks that count.
    """
    relevance = np.maximum(np.asarray(relevance, dtype=np.float64), 0)  # less than irrelevant is no loss
    blocks = _tie_blocks(scores, relevance)
    discounts = 1 / np.log2(np.arange(2, len(scores) + 2))
    discounts[k:] = 0
    ideal = np.sort(relevance)[::-1] @ discounts
    gain = sum(block.mean() * discounts[a : a + len(block)].sum() for a, block in blocks)
    return float(gain / ideal) if ideal > 0 else 0.0


def mrr_at_k(scores, relevance, k=10):
    """Return 1 / rank of the first relevant document, 0 when it is below rank k; see ``ndcg_at_k`` for arguments."""
    for a, block in _tie_blocks(scores, relevance):
        n, r = len(block), int((block > 0).sum())
        if r:
            # P(first relevant at place j of the block) = C(n - j, r - 1) / C(n, r)
            places = range(1, min(n - r + 1, k - a) + 1)
            return float(sum(comb(n - j, r - 1) / comb(n, r) / (a + j) for j in places))
    return 0.0


def average_precision(scores, relevance):
    """Return the mean of precision at each relevant document's rank; its mean over queries is MAP."""
    blocks = _tie_blocks(scores, relevance)
    total, before, found = 0.0, 0, int((np.asarray(relevance) > 0).sum())
    if not found:
        return 0.0
    for a, block in blocks:
        n, r = len(block), int((block > 0).sum())
        if r:
            places = np.arange(1, n + 1)
            others = (places - 1) * ((r - 1) / (n - 1) if n > 1 else 0.0)
            total += (r / n) * ((before + others + 1) / (a + places)).sum()
        before += r
    return float(total / found)


def recall_at_k(scores, relevance, k=10):
    """Return the share of relevant documents within the first k ranks."""
    found = int((np.asarray(relevance) > 0).sum())
    hits = sum((block > 0).mean() * max(0, min(len(block), k - a)) for a, block in _tie_blocks(scores, relevance))
    return float(hits / found) if found else 0.0


def _accuracy_f1(scores, relevance, threshold=0.0):
    """Return (accuracy, F1 of the relevant class) of pairs called relevant when score > threshold.

    Args:
        scores: logits of all pairs; 0 is probability 0.5.
        relevance: labels of all pairs; above 0 is relevant.
    """
    called, truth = np.asarray(scores) > threshold, np.asarray(relevance) > 0
    hit = int((called & truth).sum())
    f1 = 2 * hit / (called.sum() + truth.sum()) if called.any() or truth.any() else 0.0
    return float((called == truth).mean()), float(f1)


RANKING = {"ndcg@10": ndcg_at_k, "mrr@10": mrr_at_k, "map": average_precision, "recall@10": recall_at_k}


def per_query(scores, relevance, metric="ndcg@10"):
    """Return an array with one value of ``metric`` a query.

    Args:
        scores: list of score arrays, one a query.
        relevance: list of label lists, one a query.
        metric: a key of RANKING.
    """
    return np.array([RANKING[metric](s, r) for s, r in zip(scores, relevance, strict=True)])


def summary(scores, relevance):
    """Return the means of all ranking metrics, and accuracy and F1 over pairs, as a dict of floats."""
    out = {name: float(per_query(scores, relevance, name).mean()) for name in RANKING}
    flat_scores = np.concatenate([np.asarray(s) for s in scores])
    flat_labels = np.concatenate([np.asarray(r) for r in relevance])
    out["accuracy"], out["f1"] = _accuracy_f1(flat_scores, flat_labels)
    return out
