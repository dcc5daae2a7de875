"""Losses agree with plain formulas and do what their names say."""

import math

import pytest
import torch

from course_utils.training.losses import _both, _listwise, _pointwise

SCORES = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0, -2.0, 3.0])
LABELS = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 1])


def test_pointwise_is_the_mean_over_queries_of_the_mean_cross_entropy():
    def bce(s, y):
        return math.log1p(math.exp(-s if y else s))

    means = []
    for g in (0, 1):
        own = [(float(s), float(y)) for s, y, o in zip(SCORES, LABELS, GROUPS, strict=True) if o == g]
        means.append(sum(bce(s, y) for s, y in own) / len(own))
    assert float(_pointwise(SCORES, LABELS, GROUPS)) == pytest.approx(sum(means) / 2, abs=1e-5)


def test_listwise_lets_each_positive_compete_with_the_negatives_only():
    def one(positive, negatives):
        return -positive + math.log(math.exp(positive) + sum(map(math.exp, negatives)))

    first = one(2.0, [-1.0, 0.5])
    second = (one(0.0, [-2.0, 3.0]) + one(1.0, [-2.0, 3.0])) / 2
    assert float(_listwise(SCORES, LABELS, GROUPS)) == pytest.approx((first + second) / 2, abs=1e-5)


def test_listwise_alone_does_not_see_the_level_and_pointwise_does():
    assert float(_listwise(SCORES + 5, LABELS, GROUPS)) == pytest.approx(
        float(_listwise(SCORES, LABELS, GROUPS)), abs=1e-5
    )
    assert abs(float(_pointwise(SCORES + 5, LABELS, GROUPS) - _pointwise(SCORES, LABELS, GROUPS))) > 0.5


def test_a_query_without_rivals_adds_nothing_and_breaks_nothing():
    scores = SCORES.clone().requires_grad_()
    loss = _listwise(scores, torch.ones(7), GROUPS)
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(scores.grad, torch.zeros(7))


def test_both_is_the_sum_and_pushes_positives_up():
    scores = SCORES.clone().requires_grad_()
    loss = _both(scores, LABELS, GROUPS)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(
        float(_pointwise(SCORES, LABELS, GROUPS) + _listwise(SCORES, LABELS, GROUPS))
    )
    assert (scores.grad[LABELS > 0] < 0).all()
    assert (scores.grad[LABELS == 0] > 0).all()
