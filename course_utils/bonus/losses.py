"""What the student is told about a batch: order and margins of the teacher, yes or no, dense labels, meanings."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cosine_similarity, log_softmax, smooth_l1_loss

from course_utils.bonus.lists import TEMPERATURE
from course_utils.bonus.student import forward, nearness, scores_of, text_mask


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


class BatchLoss:
    """The loss of a batch, with all that it needs of the student.

    Args:
        model, heads, frame: see ``student``.
        yes_no: ids of "yes" and "no".
        tables: (meanings [tokens, MEANING], weights [tokens]) for ``nearness``.
    """

    def __init__(self, model, heads, frame, yes_no, tables):
        self.model, self.heads, self.frame, self.yes_no, self.tables = model, heads, frame, yes_no, tables

    def __call__(self, batch, stage, instruction=0):
        """Return (loss, parts for the log).

        Args:
            batch: (groups, index or None, cosines or None, told or None); without cosines the first document is right.
            stage: with the weights ``dense`` and ``meaning`` of the two throw-away losses, and ``short``.
            instruction: which of the course's instructions.
        """
        groups, index, cosines, told = batch
        segments, order = self.frame.segments(groups, instruction, short=stage.short)
        skip = 1 if stage.short else len(self.frame.tail)
        low, high, flat = forward(self.model, segments, self.yes_no)
        scores = scores_of(flat, order, groups)
        loss = hard_loss(scores) if cosines is None else list_loss(scores, cosines)
        parts = {"first": float((scores.argmax(1) == 0).float().mean()), "score": float(loss.detach())}
        if cosines is not None:
            parts["agree"] = float((scores.argmax(1) == cosines.argmax(1)).float().mean())
        if stage.dense:
            dense = dense_loss(self.heads, high, segments, self.frame, self.tables, skip)
            loss, parts["dense"] = loss + stage.dense * dense, float(dense.detach())
        if stage.meaning and told is not None:
            meaning = meaning_loss(self.heads, low, segments, order, index, told, skip)
            loss, parts["meaning"] = loss + stage.meaning * meaning, float(meaning.detach())
        return loss, parts
