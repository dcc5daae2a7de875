"""The checks of lesson 00 accept a right answer and say in words what is wrong with wrong ones."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_groups

from course_utils.checks import NotYet, lesson00
from course_utils.evaluation.measure import evaluate_scores
from course_utils.model.reranker import Ranked, sigmoid

DOCUMENTS = ["a", "b", "c", "d"]


def ranking(scores=(0.5, 2.0, -1.0, 0.1)):
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [Ranked(DOCUMENTS[i], scores[i], float(sigmoid(scores[i])), i) for i in order]


def test_an_own_ranking_is_accepted(capsys):
    lesson00.check_ranking(DOCUMENTS, 0, ranking())
    assert "rank 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("documents", "right", "rows", "words"),
    [
        (["a", "b", "a", "b"], 0, ranking(), "at least 4"),
        (DOCUMENTS, 4, ranking(), "from 0 to 3"),
        (DOCUMENTS, 0, ranking()[:3], "each of your documents once"),
        (DOCUMENTS[::-1], 0, ranking(), "other documents"),
        (DOCUMENTS, 0, ranking()[::-1], "best comes first"),
        (DOCUMENTS, 0, [Ranked(r.document, r.score, r.score, r.index) for r in ranking()], "probabilities"),
    ],
)
def test_a_wrong_ranking_is_named(documents, right, rows, words):
    with pytest.raises(NotYet, match=words):
        lesson00.check_ranking(documents, right, rows)


def gain(labels):
    return sum(label / math.log2(rank + 1) for rank, label in enumerate(labels, 1))


def ndcg(labels):
    best = gain(sorted(labels, reverse=True))
    return gain(labels) / best if best else 0.0


def test_a_right_ndcg_is_accepted():
    lesson00.check_ndcg(ndcg)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (gain, "divide it"),
        (lambda labels: 1 / (1 + labels.index(1)) if 1 in labels else 0, "you return"),
        (lambda labels: ndcg(labels) if any(labels) else 1.0, "no right document"),
        (lambda labels: None, "one number"),
    ],
)
def test_a_wrong_ndcg_is_named(wrong, words):
    with pytest.raises(NotYet, match=words):
        lesson00.check_ndcg(wrong)


@pytest.fixture
def runs():
    groups = make_groups(12)
    random = np.random.default_rng(0)
    before = evaluate_scores([random.random(len(g.documents)) for g in groups], groups)
    after = evaluate_scores([random.random(len(g.documents)) + 0.5 * np.array(g.relevance) for g in groups], groups)
    return groups, before, after


def winners(before, after):
    pairs = list(zip(before.per_query(), after.per_query(), strict=True))
    return sum(b > a for a, b in pairs), sum(b < a for a, b in pairs), sum(b == a for a, b in pairs)


def test_right_winners_are_accepted(runs):
    lesson00.check_winners(winners(*runs[1:]), *runs[1:])


def test_wrong_winners_are_named(runs):
    _, before, after = runs
    better, worse, same = winners(before, after)
    assert better != worse
    for answer, words in (
        ((worse, better, same), "swapped"),
        ((better, worse), "three numbers"),
        ((better, worse, same + 1), "sum to"),
        ((better + 1, worse - 1, same), "query by query"),
    ):
        with pytest.raises(NotYet, match=words):
            lesson00.check_winners(answer, before, after)


def test_an_adapted_model_is_accepted(runs, capsys):
    groups, before, after = runs
    lesson00.check_adapted([], [], groups, before, after, SimpleNamespace(best_epoch=2))
    lesson00.check_adapted([], [], groups, before, before, SimpleNamespace(best_epoch=0))
    assert "+0.000; epoch 0" in capsys.readouterr().out


def test_a_wrong_comparison_is_named(runs):
    groups, before, after = runs
    shorter = evaluate_scores(before.scores[1:], groups[1:])
    two, none = SimpleNamespace(best_epoch=2), SimpleNamespace(best_epoch=0)
    for arguments, words in (
        ((groups[:1], [], groups, before, after, two), "train and test share"),
        (([], groups[3:4], groups, before, after, two), "dev and test share"),
        (([], [], groups, shorter, after, two), "before was not measured"),
        (([], [], groups, before, shorter, two), "after was not measured"),
        (([], [], groups, after, after, two), "measure before you train"),
        (([], [], groups, before, after, none), "one reranker"),
    ):
        with pytest.raises(NotYet, match=words):
            lesson00.check_adapted(*arguments)
