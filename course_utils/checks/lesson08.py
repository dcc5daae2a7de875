"""Checks for the exercises of lesson 08, Ship it."""

import numpy as np
import torch

from course_utils.checks import _careful, need, ok


@_careful
def check_same_scores(same_scores):
    """Exercise 1: ``same_scores(golden, other, tolerance)`` returns (ok, index of the largest difference)."""
    golden = np.array([1.0, -2.0, 0.5])
    cases = (
        ("the lists are equal", golden.copy(), True, None),
        ("the second score is 0.3 lower", np.array([1.01, -2.3, 0.5]), False, 1),
        ("the third score is within the tolerance", np.array([1.0, -2.0, 0.55]), True, 2),
        ("the last score is not a number", np.array([1.0, -2.05, np.nan]), False, 2),
    )
    for what, other, fine, worst in cases:
        answer = same_scores(golden.copy(), other, 0.1)
        need(isinstance(answer, (tuple, list)) and len(answer) == 2, "Return two things: (ok, worst).")
        need(bool(answer[0]) == fine, f"When {what}, ok should be {fine}; you return {answer[0]}.")
        need(worst is None or int(answer[1]) == worst, f"When {what}, worst should be {worst}; you return {answer[1]}.")
    ok("Right: equal lists, one score off, and a score that is not a number.")


@_careful
def check_one_row(one_row):
    """Exercise 2: ``one_row(weights, yes, no)`` returns W[yes] - W[no] as float32 [1, hidden]."""
    for dtype in (torch.float32, torch.bfloat16):
        weights = torch.randn(20, 8, generator=torch.Generator().manual_seed(3)).to(dtype)
        row = one_row(weights, 7, 3)
        need(isinstance(row, torch.Tensor), f"Return a tensor, not a {type(row).__name__}.")
        need(tuple(row.shape) == (1, 8), f"The shape should be (1, hidden); it is {tuple(row.shape)}.")
        need(row.dtype == torch.float32, f"The type should be float32; it is {row.dtype}.")
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
        what = f"For {len(lengths)} document{'s' if len(lengths) > 1 else ''}"
        strange = [i for i in flat if i not in range(len(lengths))]
        need(not strange, f"{what} you return {next(iter(strange), None)} in a batch: return indices, from 0 to {len(lengths) - 1}, not lengths.")  # fmt: skip
        missing = sorted(set(range(len(lengths))) - set(flat))
        need(
            not missing,
            f"Every document should stand in one batch. {what} index {next(iter(missing), None)} stands in none.",
        )
        need(len(flat) == len(lengths), f"Every document should stand in one batch. {what} you return {len(flat)} indices.")  # fmt: skip
        need(all(found), "A batch is empty: there is nothing to close before the first document.")
        for b in found:
            cost = len(b) * max(lengths[i] for i in b)
            need(len(b) == 1 or cost <= 240, f"A batch of {len(b)} documents computes {cost} tokens, more than 240.")
        computed = sum(len(b) * max(lengths[i] for i in b) for b in found)
        need(
            len(lengths) < 20 or computed <= 1.25 * sum(lengths),
            f"{computed} tokens are computed for {sum(lengths)}: put documents of similar length together.",
        )
        need(
            len(lengths) < 20 or len(found) <= 1.6 * sum(lengths) / 240,
            f"{len(found)} batches are too many: fill each up to the budget.",
        )
    ok("Right: every document once, within the budget, with little padding.")
