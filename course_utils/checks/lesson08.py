"""Checks for the exercises of lesson 08, Ship it."""

import numpy as np
import torch

from course_utils.checks import _careful, need, ok
from course_utils.language import _


@_careful
def check_same_scores(same_scores):
    """Exercise 1: ``same_scores(golden, other, tolerance)`` returns (ok, index of the largest difference)."""
    golden = np.array([1.0, -2.0, 0.5])
    cases = (
        (_("the lists are equal"), golden.copy(), True, None),
        (_("the second score is 0.3 lower"), np.array([1.01, -2.3, 0.5]), False, 1),
        (_("the third score is off by exactly the tolerance"), np.array([1.0, -2.0, 0.75]), True, 2),
        (_("the last score is not a number"), np.array([1.0, -2.05, np.nan]), False, 2),
    )
    for what, other, fine, worst in cases:
        answer = same_scores(golden.copy(), other, 0.25)
        need(isinstance(answer, (tuple, list)) and len(answer) == 2, "Return two things: (ok, worst).")
        need(
            bool(answer[0]) == fine,
            _("When {what}, ok should be {fine}; you return {answer_0}.").format(
                what=what, fine=fine, answer_0=answer[0]
            ),
        )
        need(
            worst is None or int(answer[1]) == worst,
            _("When {what}, worst should be {worst}; you return {answer_1}.").format(
                what=what, worst=worst, answer_1=answer[1]
            ),
        )
    ok("Right: equal lists, one score off, and a score that is not a number.")


@_careful
def check_one_row(one_row):
    """Exercise 2: ``one_row(weights, yes, no)`` returns W[yes] - W[no] as float32 [1, hidden]."""
    for dtype in (torch.float32, torch.bfloat16):
        weights = torch.randn(20, 8, generator=torch.Generator().manual_seed(3)).to(dtype)
        row = one_row(weights, 7, 3)
        need(isinstance(row, torch.Tensor), "Return a tensor, not a {kind}.", kind=type(row).__name__)
        need(tuple(row.shape) == (1, 8), "The shape should be (1, hidden); it is {shape}.", shape=tuple(row.shape))
        need(row.dtype == torch.float32, "The type should be float32; it is {dtype}.", dtype=row.dtype)
        expected = weights[7].float() - weights[3].float()
        need(not torch.allclose(row[0], -expected), "The sign is turned round: yes minus no.")
        need(
            torch.allclose(row[0], expected, atol=1e-7),
            "The values differ from W[yes] - W[no] in float32: change the type before you subtract.",
        )
    ok("Right: shape, type and value, also from a bf16 matrix.")


@_careful
def check_batches(batches):
    """Exercise 3: ``batches(lengths, budget)`` returns lists of indices, padded cost within the budget."""
    random_ = np.random.default_rng(5)
    for lengths in ([5], [30, 2, 31, 3, 29, 1], random_.integers(5, 120, 60).tolist(), [500, 10, 10], [500, 300]):
        found = batches(list(lengths), 240)
        need(found is not None, "Your function returns nothing; end it with return.")
        found = [list(b) for b in found]
        flat = [i for b in found for i in b]
        what = _("For {n_lengths} document{word}").format(n_lengths=len(lengths), word="s" if len(lengths) > 1 else "")
        strange = [i for i in flat if i not in range(len(lengths))]
        need(not strange, _('{what} you return {strange} in a batch: return indices, from 0 to {n_lengths}, not lengths.').format(what=what, strange=next(iter(strange), None), n_lengths=len(lengths) - 1))  # fmt: skip
        missing = sorted(set(range(len(lengths))) - set(flat))
        need(
            not missing,
            "Every document should stand in one batch. {what} index {missing} stands in none.",
            what=what,
            missing=next(iter(missing), None),
        )
        need(len(flat) == len(lengths), 'Every document should stand in one batch. {what} you return {n_flat} indices.', what=what, n_flat=len(flat))  # fmt: skip
        need(all(found), "A batch is empty: there is nothing to close before the first document.")
        for b in found:
            cost = len(b) * max(lengths[i] for i in b)
            need(
                len(b) == 1 or cost <= 240,
                "A batch of {n_b} documents computes {cost} tokens, more than 240.",
                n_b=len(b),
                cost=cost,
            )
        computed = sum(len(b) * max(lengths[i] for i in b) for b in found)
        need(
            len(lengths) < 20 or computed <= 1.25 * sum(lengths),
            "{computed} tokens are computed for {lengths}: put documents of similar length together.",
            computed=computed,
            lengths=sum(lengths),
        )
        need(
            len(lengths) < 20 or len(found) <= 1.6 * sum(lengths) / 240,
            "{n_found} batches are too many: fill each up to the budget.",
            n_found=len(found),
        )
    ok("Right: every document once, within the budget, with little padding.")
