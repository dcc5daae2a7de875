"""What the student is told about a batch: order and margins of the teacher, yes or no, dense labels, meanings."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cosine_similarity, log_softmax, smooth_l1_loss

from distil.lists import TEMPERATURE
from distil.student import forward, nearness, scores_of, text_mask


def list_loss(scores, cosines, yes=0.2, margin=0.1):
    """Return the loss of scores [lists, documents] against the teacher's cosines [lists, documents].

    Kullback-Leibler divergence of the two orders; differences within a list as the teacher has them (margin loss:
    Hofstätter et al., arXiv 2010.02666), bounded; and a pair loss that keeps right answers above 0, wrong ones below.
    The own passage is first; a rival nearly as good in the teacher's eyes counts neither way.
    """
    wanted = cosines / TEMPERATURE
    order = -(wanted.softmax(1) * (log_softmax(scores, 1) - log_softmax(wanted, 1))).sum(1).mean()
    centred = scores - scores.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    below = cosines[:, :1] - cosines
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    counts = torch.where(labels > 0, (below[:, 1:].amin(1, keepdim=True) > -0.06).float(), (below > 0.03).float())
    pairs = bce(scores, labels, weight=counts * (1 + labels * (scores.shape[1] - 2)))
    return order + margin * smooth_l1_loss(*centred) + yes * pairs


def hard_loss(scores):
    """Return the loss of lists whose first document alone is right: softmax over the list, and yes or no."""
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    return -log_softmax(scores, 1)[:, 0].mean() + bce(scores, labels, pos_weight=torch.tensor(scores.shape[1] - 1.0))


def dense_loss(heads, high, segments, frame, tables, skip):
    """Return the mean cross-entropy of "how near is this document token to the query?" over all document tokens."""
    total, count = 0.0, 0
    for n, states in enumerate(high):
        near = nearness(segments, n + 2, len(frame.between), *tables)
        mask = text_mask(segments[n + 2], skip)
        logits, near = heads.matched(states)[..., 0][mask], near[mask]
        total = total + (bce(logits, near, reduction="none") * (1 + 4 * near)).sum()
        count += int(mask.sum())
    return total / max(1, count)


def meaning_loss(heads, low, segments, order, index, told, skip):
    """Return 1 - cosine of the student's and the teacher's vectors of the documents.

    Args:
        low: states after MEANT layers, one [rows, length, hidden] a leaf.
        index: passage of each list and place [lists, documents].
        told: the teacher's vectors of the passages less their mean [passages, 384].
    """
    means = []
    for n, states in enumerate(low):
        mask = text_mask(segments[n + 2], skip)[..., None].float()
        means.append((states * mask).sum(1) / mask.sum(1).clamp(min=1))
    wanted = told[index[order[:, 0].numpy(), order[:, 1].numpy()]]
    return 1 - cosine_similarity(heads.meant(torch.cat(means)), torch.as_tensor(wanted)).mean()


def batch_loss(model, heads, frame, batch, yes_no, tables, weights, instruction=0, short=False):
    """Return (loss, parts for the log) of one batch.

    Args:
        batch: (groups, index or None, cosines or None, told or None); without cosines the first document is right.
        tables: (meanings [tokens, MEANING], weights [tokens]) for ``nearness``.
        weights: (dense, meaning) weights of the two throw-away losses.
        instruction: which of the course's instructions.
        short: see ``Frame.segments``.
    """
    groups, index, cosines, told = batch
    segments, order = frame.segments(groups, instruction, short=short)
    skip = 1 if short else len(frame.tail)
    low, high, last = forward(model, segments)
    scores = scores_of(model, last, order, groups, yes_no)
    loss = hard_loss(scores) if cosines is None else list_loss(scores, cosines)
    parts = {"first": float((scores.argmax(1) == 0).float().mean()), "score": float(loss.detach())}
    if cosines is not None:
        parts["agree"] = float((scores.argmax(1) == cosines.argmax(1)).float().mean())
    if weights[0]:
        dense = dense_loss(heads, high, segments, frame, tables, skip)
        loss, parts["dense"] = loss + weights[0] * dense, float(dense.detach())
    if weights[1] and told is not None:
        meaning = meaning_loss(heads, low, segments, order, index, told, skip)
        loss, parts["meaning"] = loss + weights[1] * meaning, float(meaning.detach())
    return loss, parts
