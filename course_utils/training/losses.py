"""Losses over the candidates of one query: pointwise, listwise, both. Every query counts the same."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax


def _pointwise(scores, relevance, groups):
    """Return the yes/no cross-entropy of pairs, averaged within each query, then over queries.

    Sets the level of the scores, so that 0 stays the border. The official model was trained this way.

    Args:
        scores: logits [pairs].
        relevance: labels [pairs]; above 0 is relevant.
        groups: query index of each pair [pairs], 0 to queries - 1.
    """
    losses = binary_cross_entropy_with_logits(scores, (relevance > 0).to(scores.dtype), reduction="none")
    counts = torch.bincount(groups)
    return (losses / counts[groups]).sum() / (counts > 0).sum()


def _listwise(scores, relevance, groups):
    """Return the mean over queries of softmax cross-entropy: put the relevant documents above their rivals.

    Every relevant document competes with the non-relevant ones of its query, not with other relevant ones. Queries with
    no relevant or no other document add nothing. Adding a constant to all scores of a query changes nothing, so this
    loss alone lets the level drift (ms-swift issue 5655).

    Args:
        scores: logits [pairs].
        relevance: labels [pairs].
        groups: query index of each pair [pairs], 0 to queries - 1.
    """
    losses, queries = [], torch.unique(groups)
    for g in queries:
        own, positive = scores[groups == g], relevance[groups == g] > 0
        if positive.any() and not positive.all():
            rivals = own[~positive].expand(int(positive.sum()), -1)
            lists = torch.cat([own[positive][:, None], rivals], dim=1)
            losses.append(-log_softmax(lists, dim=1)[:, 0].mean())
    return torch.stack(losses).sum() / len(queries) if losses else scores.sum() * 0


def _both(scores, relevance, groups):
    """Return pointwise + listwise: an order that is right and a level that means something."""
    return _pointwise(scores, relevance, groups) + _listwise(scores, relevance, groups)


LOSSES = {"pointwise": _pointwise, "listwise": _listwise, "both": _both}
