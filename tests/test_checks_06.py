"""The checks of lesson 06 accept a right answer and say in words what is wrong with wrong ones."""

import pytest
import torch

from course_utils.checks import NotYet, lesson06


def changed(base, adapted):
    return {name: t.detach().clone() for name, t in adapted.items() if not torch.equal(t, base[name])}


def test_changed_right(capsys):
    lesson06.check_changed(changed)
    assert "Right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda base, adapted: None, "Return a dict"),
        (lambda base, adapted: {}, "leave it out"),
        (lambda base, adapted: {n: t.clone() for n, t in adapted.items()}, "same in both"),
        (
            lambda base, adapted: {
                n: t.clone() for n, t in adapted.items() if not torch.allclose(t, base[n], atol=1e-4)
            },
            "Compare exactly",
        ),
        (
            lambda base, adapted: {n: t.clone() for n, t in adapted.items() if not torch.allclose(t, base[n])},
            "Compare exactly",
        ),
        (lambda base, adapted: {n: t - base[n] for n, t in changed(base, adapted).items()}, "not the difference"),
        (lambda base, adapted: {n: adapted[n] for n in changed(base, adapted)}, "shares the memory"),
    ],
    ids=["none", "nothing", "everything", "allclose", "allclose as it is", "difference", "no copy"],
)
def test_changed_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson06.check_changed(answer)


def add_up(base, deltas, weights):
    out = {}
    for delta, w in zip(deltas, weights, strict=True):
        for name, tensor in delta.items():
            out.setdefault(name, base[name].clone())
            out[name] = out[name] + w * (tensor - base[name])
    return out


def in_place(base, deltas, weights):
    for delta, w in zip(deltas, weights, strict=True):
        for name, tensor in delta.items():
            base[name] += w * (tensor - base[name])
    return base


def plain_sum(base, deltas, weights):
    out = {}
    for delta, w in zip(deltas, weights, strict=True):
        for name, tensor in delta.items():
            out[name] = out.get(name, base[name]) + w * tensor
    return out


def last_wins(base, deltas, weights):
    out = {}
    for delta, w in zip(deltas, weights, strict=True):
        out.update({n: base[n] + w * (t - base[n]) for n, t in delta.items()})
    return out


def missing_is_zero(base, deltas, weights):
    held = {n for delta in deltas for n in delta}
    pairs = list(zip(deltas, weights, strict=True))
    return {n: base[n] + sum(w * (d.get(n, 0 * base[n]) - base[n]) for d, w in pairs) for n in held}


def test_add_up_right(capsys):
    lesson06.check_add_up(add_up)
    assert "as it was" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (in_place, "you changed the base"),
        (plain_sum, "you add the new values"),
        (last_wins, "overlap in b, tensor b is off by .* for each delta"),
        (lambda base, deltas, weights: add_up(base, deltas, [1.0] * len(deltas)), "off by .* w times"),
        (missing_is_zero, "does not hold did not change"),
        (lambda base, deltas, weights: {**base, **add_up(base, deltas, weights)}, "should hold"),
        (lambda base, deltas, weights: None, "Return a dict"),
    ],
    ids=["in place", "no difference", "last wins", "no weights", "missing is zero", "whole model", "none"],
)
def test_add_up_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson06.check_add_up(answer)


def route_cost(ndcg, routes, labels):
    losses = [ndcg[y][i] - ndcg[r][i] for i, (r, y) in enumerate(zip(routes, labels, strict=True))]
    wrong = [x for x, r, y in zip(losses, routes, labels, strict=True) if r != y]
    return 1 - len(wrong) / len(losses), sum(losses) / len(losses), sum(wrong) / len(wrong) if wrong else 0.0


def by_loss(ndcg, routes, labels):
    """Count a route as wrong where it costs something."""
    losses = [ndcg[y][i] - ndcg[r][i] for i, (r, y) in enumerate(zip(routes, labels, strict=True))]
    wrong = [x for x in losses if x]
    return 1 - len(wrong) / len(losses), sum(losses) / len(losses), sum(wrong) / len(wrong) if wrong else 0.0


def spoil(change):
    return lambda ndcg, routes, labels: change(*route_cost(ndcg, routes, labels))


def test_route_cost_right(capsys):
    lesson06.check_route_cost(route_cost)
    assert "five streams" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (spoil(lambda a, loss, there: (a, loss)), "three numbers"),
        (spoil(lambda a, loss, there: None), "three numbers"),
        (spoil(lambda a, loss, there: {"a": a, "loss": loss, "there": there}), "three numbers"),
        (spoil(lambda a, loss, there: (1 - a, loss, there)), "the accuracy is"),
        (spoil(lambda a, loss, there: (a, -loss, -there)), "sign is turned round"),
        (spoil(lambda a, loss, there: (a, there, loss)), "mean loss is"),
        (spoil(lambda a, loss, there: (a, loss, loss)), "wrongly routed queries alone"),
        (spoil(lambda a, loss, there: (a, max(0, loss), max(0, there))), "that helps, the mean loss"),
        (by_loss, "that costs nothing, the accuracy is"),
    ],
    ids=["two numbers", "none", "dict", "error rate", "sign", "swapped", "over all", "never negative", "by loss"],
)
def test_route_cost_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson06.check_route_cost(answer)
