"""Losses over the candidates of one query: pointwise, listwise, both."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax


def pointwise(scores, relevance, groups, positive_weight=1.0):
    """Return the mean yes/no cross-entropy of pairs: is this document relevant to this query?

    Sets the level of the scores, so that 0 stays the border. The official model was trained this way.

    Args:
        scores: logits [pairs].
        relevance: labels [pairs]; above 0 is relevant.
        groups: query index of each pair [pairs]; unused here, so that all losses are called alike.
        positive_weight: how much a relevant pair counts; lists hold far more of the other kind.
    """
    target = (relevance > 0).to(scores.dtype)
    return binary_cross_entropy_with_logits(scores, target, pos_weight=scores.new_tensor(positive_weight))


def listwise(scores, relevance, groups):
    """Return the mean over queries of softmax cross-entropy: put the relevant documents above their rivals.

    Every relevant document competes with the non-relevant ones of its query, not with other relevant ones. Queries with
    no relevant or no other document are left out. Adding a constant to all scores of a query changes nothing, so this
    loss alone lets the level drift (ms-swift issue 5655).

    Args:
        scores: logits [pairs].
        relevance: labels [pairs].
        groups: query index of each pair [pairs].
    """
    losses = []
    for g in torch.unique(groups):
        own, positive = scores[groups == g], relevance[groups == g] > 0
        if positive.any() and not positive.all():
            rivals = own[~positive].expand(int(positive.sum()), -1)
            lists = torch.cat([own[positive][:, None], rivals], dim=1)
            losses.append(-log_softmax(lists, dim=1)[:, 0].mean())
    return torch.stack(losses).mean() if losses else scores.sum() * 0


def both(scores, relevance, groups):
    """Return pointwise + listwise: an order that is right and a level that means something."""
    return pointwise(scores, relevance, groups) + listwise(scores, relevance, groups)


LOSSES = {"pointwise": pointwise, "listwise": listwise, "both": both}
