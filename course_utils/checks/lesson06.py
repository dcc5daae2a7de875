"""Checks for the exercises of lesson 06, Many domains."""

import math

import numpy as np
import torch

from course_utils.checks import _attempt, _careful, need, ok
from course_utils.language import _


@_careful
def check_changed(changed):
    """Exercise 1: ``changed(base, adapted)`` returns copies of exactly the tensors that differ."""
    generator = torch.Generator().manual_seed(0)
    base = {f"layers.{i}.weight": torch.randn(4, 3, generator=generator) for i in range(4)}
    adapted = {name: t.clone() for name, t in base.items()}
    adapted["layers.2.weight"] += 0.5
    largest = adapted["layers.3.weight"].abs().argmax()
    adapted["layers.3.weight"].view(-1)[largest] += 1e-6  # one value, and so little that torch.allclose does not see it
    answer = changed(dict(base), dict(adapted))
    need(isinstance(answer, dict), "Return a dict from name to tensor, not a {kind}.", kind=type(answer).__name__)
    for name in sorted(set(answer) - {"layers.2.weight", "layers.3.weight"}):
        need(False, '"{name}" is the same in both; a delta does not hold it.', name=name)
    need("layers.2.weight" in answer, '"layers.2.weight" changed by 0.5 everywhere, and you leave it out.')
    need(
        "layers.3.weight" in answer,
        'One value of "layers.3.weight" changed by 0.000001, and you leave it out. Compare exactly.',
    )
    for name, t in answer.items():
        need(
            torch.equal(t, adapted[name]),
            '"{name}" does not hold the adapted values. Keep those, not the base and not the difference.',
            name=name,
        )
    adapted["layers.2.weight"].zero_()
    need(
        bool(answer["layers.2.weight"].any()),
        "The model was trained on, and your delta changed with it: it shares the memory. Clone the tensors.",
    )
    ok("Right: every changed tensor, no other, and a copy of its own.")


@_careful
def check_add_up(add_up):
    """Exercise 2: ``add_up(base, deltas, weights)`` returns base + sum of w (delta - base)."""
    random = np.random.default_rng(0)
    names = ("a", "b", "c")
    base = {n: torch.tensor(random.normal(size=(2, 3))) for n in names}
    kept = {n: t.clone() for n, t in base.items()}
    cases = (
        (_("one delta with weight 1"), [("a", "b")], [1.0]),
        (_("one delta with weight 0.5"), [("a", "c")], [0.5]),
        (_("two deltas that overlap in b"), [("a", "b"), ("b", "c")], [0.6, 0.6]),
        (_("three deltas with different weights"), [("a",), ("a", "b"), ("a",)], [1.0, -0.5, 0.25]),
    )
    for what, held, weights in cases:
        deltas = [{n: torch.tensor(random.normal(size=(2, 3))) for n in own} for own in held]
        missing = _("A tensor that a delta does not hold did not change there: go over the names that it holds.")
        answer = _attempt(add_up, base, deltas, weights, KeyError=missing)
        expected = {}
        for n in names:
            rows = [(w, d[n].numpy()) for w, d in zip(weights, deltas, strict=True) if n in d]
            if rows:
                # The same sum in another order: what is left of the base, then every delta.
                expected[n] = (1 - sum(w for w, _ in rows)) * kept[n].numpy() + sum(w * t for w, t in rows)
        need(
            all(torch.equal(base[n], kept[n]) for n in names),
            "With {what}, you changed the base. Clone it first.",
            what=what,
        )
        need(isinstance(answer, dict), "Return a dict from name to tensor, not a {kind}.", kind=type(answer).__name__)
        need(
            set(answer) == set(expected),
            _("With {what}, the result holds {value}; it should hold {names}.").format(
                what=what, value=", ".join(sorted(answer)) or _("nothing"), names=", ".join(sorted(expected))
            ),
        )
        for n, value in expected.items():
            own = np.asarray(answer[n])
            summed = sum(w * d[n].numpy() for w, d in zip(weights, deltas, strict=True) if n in d)
            need(
                not np.allclose(own, kept[n].numpy() + summed),
                "With {what}, you add the new values to the base. Add what changed: new value less base.",
                what=what,
            )
            hint = (
                _("It is the base's value and, for each delta, w times (new value less the base's value).")
                if all(n in d for d in deltas)
                else _("A tensor that a delta does not hold did not change there.")
            )
            need(
                np.allclose(own, value),
                _("With {what}, tensor {n} is off by {own:.2g}. {hint}").format(
                    what=what, n=n, own=float(np.abs(own - value).max()), hint=hint
                ),
            )
    ok("Right: one delta, two that overlap, three with different weights; the base is as it was.")


@_careful
def check_route_cost(route_cost):
    """Exercise 3: ``route_cost(ndcg, routes, labels)`` returns accuracy, mean loss, mean loss where the route is wrong."""
    cases = (
        (_("no wrong route"), [[0.9, 0.4], [0.5, 0.8]], "mm", "mm", (1.0, 0.0, 0.0)),
        (_("one wrong route of four"), [[0.9, 0.9, 0.5, 0.5], [0.3, 0.7, 0.9, 0.7]], "mlll", "mmll", (0.75, 0.05, 0.2)),
        (_("every route wrong"), [[1.0, 0.5], [0.4, 0.9]], "lm", "ml", (0.0, 0.5, 0.5)),
        (_("a wrong route that helps"), [[0.6, 0.8, 1.0], [0.9, 0.5, 0.2]], "lmm", "mmm", (2 / 3, -0.1, -0.3)),
        (_("a wrong route that costs nothing"), [[0.9, 0.6], [0.4, 0.6]], "ml", "mm", (0.5, 0.0, 0.0)),
    )
    names = {"m": "medical", "l": "legal"}
    for what, rows, routes, labels, expected in cases:
        ndcg, own = dict(zip(("medical", "legal"), rows, strict=True)), [names[y] for y in labels]
        nothing = _("Where no route is wrong there is nothing to average: the third number is 0.0.")
        answer = _attempt(route_cost, ndcg, [names[r] for r in routes], own, ZeroDivisionError=nothing)
        need(np.shape(answer) == (3,), "Return three numbers: accuracy, mean loss, mean loss of the wrongly routed.")
        accuracy, loss, there = (float(x) for x in answer)
        need(math.isclose(accuracy, expected[0], abs_tol=1e-9), _('With {what}, the accuracy is {expected_0:.3f}; you return {accuracy:.3f}.').format(what=what, expected_0=expected[0], accuracy=accuracy))  # fmt: skip
        need(
            math.isclose(loss, 0, abs_tol=1e-9) or not math.isclose(loss, -expected[1], abs_tol=1e-9),
            "With {what}, the sign is turned round: the loss is right label less routed.",
            what=what,
        )
        need(math.isclose(loss, expected[1], abs_tol=1e-9), _('With {what}, the mean loss is {expected_1:.3f}; you return {loss:.3f}.').format(what=what, expected_1=expected[1], loss=loss))  # fmt: skip
        need(
            math.isclose(there, expected[2], abs_tol=1e-9),
            _(
                "With {what}, the mean loss over the wrongly routed queries alone is {expected_2:.3f}; you return {there:.3f}."
            ).format(what=what, expected_2=expected[2], there=there),
        )
    ok(
        "Right: five streams, among them one without an error, one in which a wrong route helps and one in which it costs nothing."
    )
