"""Checks for the exercises of lesson 07, Keep learning."""

import math

import numpy as np
import torch
from torch import nn

from course_utils.checks import _attempt, _careful, need, ok
from course_utils.language import _


@_careful
def check_backward(backward):
    """Exercise 1: ``backward(values)`` returns the mean change of the earlier stages' sets up to the end."""
    cases = (
        (_('one stage fell by 0.2'), [[0.5, 0.5], [0.8, 0.5], [0.6, 0.9]], -0.2),
        (_('nothing changed after it was learned'), [[0.1, 0.2, 0.3], [0.7, 0.2, 0.3], [0.7, 0.8, 0.3], [0.7, 0.8, 0.9]], 0.0),
        (_('one set fell, one rose, and both moved in between'), [[0.5, 0.5, 0.5], [0.9, 0.4, 0.6], [0.95, 0.7, 0.4], [0.6, 0.8, 0.9]], -0.1),
    )  # fmt: skip
    for what, rows, expected in cases:
        values = np.array(rows)
        answer = backward(values.copy())
        need(answer is not None, "Your function returns nothing; end it with return.")
        answer = float(answer)
        own = float(np.mean([values[i + 1, i] - values[0, i] for i in range(values.shape[1])]))
        need(
            not math.isclose(answer, own, abs_tol=1e-9) or math.isclose(own, expected, abs_tol=1e-9),
            "When {what}, you return the gain over the base. Compare the end with the moment just after learning.",
            what=what,
        )
        need(
            expected == 0 or not math.isclose(answer, -expected, abs_tol=1e-9),
            "When {what}, the sign is turned round: the end less the moment just after learning.",
            what=what,
        )
        n = values.shape[1]
        best = float(np.mean([values[-1, j] - values[j + 1 : -1, j].max() for j in range(n - 1)]))
        need(
            not math.isclose(answer, best, abs_tol=1e-9) or math.isclose(best, expected, abs_tol=1e-9),
            "When {what}, you compare the end with the best value so far: that is another usual measure, average "
            "forgetting. Compare it with the moment just after learning, row j + 1.",
            what=what,
        )
        need(
            expected == 0 or not math.isclose(answer, expected * (n - 1) / n, abs_tol=1e-9),
            "When {what}, you divide by {n}; the last stage has nothing after it and does not count.",
            what=what,
            n=n,
        )
        need(math.isclose(answer, expected, abs_tol=1e-9), _('When {what}, the answer is {expected:+.3f}; you return {answer:+.3f}. Just after learning column j is row j + 1.').format(what=what, expected=expected, answer=answer))  # fmt: skip
    ok("Right: three matrices, with a fall, with nothing, and with a fall and a rise.")


@_careful
def check_pull(pull):
    """Exercise 2: ``pull(model, start, strength)`` is strength / 2 x the squared distance from ``start``."""
    for strength in (1.0, 0.3):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        start = {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith("1.")}
        free = _("Parameters that are not in start are free: leave them out.")
        at_start = _attempt(pull, model, dict(start), strength, KeyError=free)
        need(isinstance(at_start, torch.Tensor), "Return a tensor, not a {kind}.", kind=type(at_start).__name__)
        need(
            float(at_start.detach()) == 0,
            "At the start the pull is 0; you return {at_start:.3g}.",
            at_start=float(at_start.detach()),
        )
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn(p.shape)
        answer = pull(model, dict(start), strength)
        need(
            answer.requires_grad,
            "No gradient flows through your pull, so it would not pull. Use the parameters themselves, without detach or .data.",
        )
        answer.backward()
        expected = strength / 2 * sum(float(((p.detach() - start[n]) ** 2).sum()) for n, p in model.named_parameters() if n in start)  # fmt: skip
        need(
            not math.isclose(float(answer.detach()), 2 * expected, rel_tol=1e-5),
            "With strength {strength}, you return twice as much: half the strength times the squared distance.",
            strength=strength,
        )
        need(
            math.isclose(float(answer.detach()), expected, rel_tol=1e-5),
            _(
                "With strength {strength}, the pull is {expected:.4f}; you return {answer:.4f}. It is half the strength "
                "times the sum of all squared differences."
            ).format(strength=strength, expected=expected, answer=float(answer.detach())),
        )
        # Independent of the sum: the gradient of L2-SP is strength x the way from the start.
        for n, p in model.named_parameters():
            if n in start:
                right = torch.allclose(p.grad, strength * (p.detach() - start[n]), atol=1e-5)
                need(right, "The gradient of {n} does not point back to the start.", n=n)
    ok("Right: 0 at the start, half the strength times the squared distance, and the gradient points back.")


@_careful
def check_gate(gate):
    """Exercise 3: ``gate(low, high, changes, margin)`` returns (accepted, list of words)."""
    cases = (
        (_('the gain is sure and nothing falls'), (0.02, 0.08, {"general": 0.01, "legal": 0.0}, 0.02), True, ()),
        (_('the interval includes 0'), (-0.01, 0.08, {"general": 0.01}, 0.02), False, ("target",)),
        (_('the interval begins at 0 exactly'), (0.0, 0.08, {"general": 0.01}, 0.02), False, ("target",)),
        (_('it is worse on the target for sure'), (-0.09, -0.02, {"general": 0.0}, 0.02), False, ("target",)),
        (_('general falls by more than the margin'), (0.02, 0.08, {"general": -0.03, "legal": 0.01}, 0.02), False, ("general",)),
        (_('two sets fall, and others rise by more'), (0.02, 0.08, {"general": -0.03, "legal": -0.05, "medical": 0.2}, 0.02), False, ("general", "legal")),
        (_('general falls by less than the margin'), (0.02, 0.08, {"general": -0.01}, 0.02), True, ()),
        (_('general falls by exactly the margin'), (0.02, 0.08, {"general": -0.02}, 0.02), True, ()),
        (_('the margin is 0.05 and general falls by 0.03'), (0.02, 0.08, {"general": -0.03}, 0.05), True, ()),
        (_('everything is wrong'), (-0.2, -0.1, {"general": -0.3}, 0.02), False, ("target", "general")),
    )  # fmt: skip
    for what, (low, high, changes, margin), accepted, names in cases:
        answer = gate(low, high, dict(changes), margin)
        need(
            isinstance(answer, (tuple, list)) and len(answer) == 2,
            "Return two things: accepted, and a list of reasons.",
        )
        verdict, reasons = answer
        need(
            bool(verdict) == accepted,
            _("When {what}, the gate {word}; yours {word_2}.").format(
                what=what,
                word=_("accepts") if accepted else _("refuses"),
                word_2=_("accepts") if verdict else _("refuses"),
            ),
        )
        need(not isinstance(reasons, str), "The reasons are a list of sentences, not one string.")
        reasons = list(reasons)
        for name in names:
            need(
                any(name in str(r) for r in reasons),
                'When {what}, one reason must name "{name}".',
                what=what,
                name=name,
            )
        for name in {"target", *changes} - set(names):
            need(
                not any(name in str(r) for r in reasons),
                'When {what}, "{name}" is no reason, but you name it.',
                what=what,
                name=name,
            )
        need(not (accepted and reasons), "When {what}, all is well: the list of reasons is empty.", what=what)
    ok("Right: {n_cases} updates, each refusal with every reason.", n_cases=len(cases))


@_careful
def check_judge(judge):
    """Exercise 4: ``judge(general, own)`` returns "forgets", "good" or "not settled" for two intervals (low, high)."""
    cases = (
        (_('general falls for sure and own gains for sure'), (-0.20, -0.05), (0.02, 0.09), "forgets"),
        (_('general falls for sure and own holds 0'), (-0.20, -0.01), (-0.02, 0.09), "forgets"),
        (_('general holds 0 and own gains for sure'), (-0.04, 0.03), (0.02, 0.09), "good"),
        (_("general's mean is below 0 but its interval holds 0, and own gains for sure"), (-0.06, 0.01), (0.01, 0.05), "good"),
        (_("general's interval ends at 0 exactly, and own gains for sure"), (-0.06, 0.0), (0.01, 0.05), "good"),
        (_('both rise for sure'), (0.01, 0.04), (0.02, 0.06), "good"),
        (_('both hold 0'), (-0.04, 0.03), (-0.01, 0.10), "not settled"),
        (_("own's interval begins at 0 exactly"), (-0.04, 0.03), (0.0, 0.10), "not settled"),
        (_('nothing was learned or forgotten'), (0.0, 0.0), (0.0, 0.0), "not settled"),
    )  # fmt: skip
    for what, general, own, expected in cases:
        answer = judge(general, own)
        need(answer is not None, "Your function returns nothing; end it with return.")
        need(
            answer in ("forgets", "good", "not settled"),
            'Return "forgets", "good" or "not settled"; you return {answer!r}.',
            answer=answer,
        )
        need(
            answer == expected,
            _(
                'When {what} (general {general}, own {own}), the verdict is "{expected}"; you return "{answer}". Look at '
                "the ends of the intervals, not at their middles."
            ).format(what=what, general=general, own=own, expected=expected, answer=answer),
        )
    ok("Right: {n_cases} tables judged by their intervals.", n_cases=len(cases))
