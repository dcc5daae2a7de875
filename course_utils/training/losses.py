"""Losses over the candidates of one query: pointwise, listwise, both; by grades, by a teacher. Every query counts the same."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from course_utils.errors import InputError


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


def _graded(scores, relevance, groups):
    """Return pointwise + softmax cross-entropy with the gains as target: a grade of 3 above a grade of 1.

    The target of a document is its share in the grades of its query, so scores that order by grade cost least. Source:
    ListNet with top-one probabilities, Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML
    2007; the gain is the grade, as in this course's nDCG.
    """
    losses, queries = [], torch.unique(groups)
    for g in queries:
        gain = relevance[groups == g].clamp(min=0)
        if gain.sum() > 0 and (gain != gain[0]).any():
            losses.append(-(gain / gain.sum() * log_softmax(scores[groups == g], dim=0)).sum())
    listed = torch.stack(losses).sum() / len(queries) if losses else scores.sum() * 0
    return _pointwise(scores, relevance, groups) + listed


def _teacher(scores, relevance, groups, teacher):
    """Return pointwise + the divergence KL(softmax of the teacher's scores, softmax of the own): listwise distillation.

    A query that the teacher did not score takes ``_both``. Source: Ren et al., "RocketQAv2", arXiv 2110.07367, section 3.2.

    Args:
        teacher: the teacher's logits [pairs]; NaN where there is none.
    """
    losses, queries = [], torch.unique(groups)
    for g in queries:
        own, told = scores[groups == g], teacher[groups == g]
        if torch.isfinite(told).all():
            target = log_softmax(told, dim=0)
            losses.append((target.exp() * (target - log_softmax(own, dim=0))).sum())
        else:
            losses.append(_listwise(own, relevance[groups == g], torch.zeros_like(own, dtype=torch.long)))
    return _pointwise(scores, relevance, groups) + torch.stack(losses).sum() / len(queries)


def _are_chances(groups):
    """Return whether a teacher's scores are probabilities: all lie from 0 to 1."""
    known = [s for g in groups for s in g.scores]
    return bool(known) and min(known) >= 0 and max(known) <= 1


def _teacher_logits(groups, chances):
    """Return one list of a teacher's logits a Group, NaN where it gave none; ``chances``: the scores are probabilities."""
    told = [torch.tensor(g.scores or [float("nan")] * len(g.documents), dtype=torch.float32) for g in groups]
    return [torch.logit(t, eps=1e-4) if chances else t for t in told]


def _find_loss(groups, loss="auto"):
    """Return ``loss``, or for "auto" what data ask for: "teacher" where all have scores, "graded" for grades, else "both".

    Raises:
        InputError: "teacher", and no group has scores.
    """
    if loss == "teacher" and not any(g.scores for g in groups):
        raise InputError(
            'The loss is "teacher", and no row has a teacher\'s score; give a column score, or another loss.'
        )
    if loss != "auto":
        return loss
    if groups and all(g.scores for g in groups):
        return "teacher"
    return "graded" if any(r > 1 for g in groups for r in g.relevance) else "both"


_TARGETED = {"graded": _graded, "teacher": _teacher}
LOSSES = {"pointwise": _pointwise, "listwise": _listwise, "both": _both}
