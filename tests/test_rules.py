"""The rule that never sees the query finds what lists give away, and nothing where they give nothing away."""

import random

import numpy as np
import pytest

from course_utils.data.groups import Group
from course_utils.data.negatives import random_scores
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate_scores
from course_utils.evaluation.rules import _beside_rule, betrayed, document_alone

WORDS = [
    "river",
    "stone",
    "lamp",
    "paper",
    "cloud",
    "engine",
    "garden",
    "window",
    "bridge",
    "copper",
    "salt",
    "wheel",
    "ladder",
    "candle",
    "anchor",
    "basket",
]


def ndcg(scores, groups):
    return evaluate_scores(scores, groups).summary["ndcg@10"]


def texts(count, seed):
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=12)) + f" {seed}{i}." for i in range(count)]


def balanced(count, seed, wrong=9):
    """Every document is right once and wrong ``wrong`` times."""
    documents = texts(count, seed)
    return [
        Group(f"query {i}", tuple(documents[(i + j) % count] for j in range(wrong + 1)), (1, *[0] * wrong))
        for i in range(count)
    ]


@pytest.mark.parametrize("mark", ["?", "？"])
def test_a_question_mark_that_tells_the_label_is_found(mark):
    def lists(seed):
        documents = texts(200, seed)
        own = [documents[i : i + 5] for i in range(0, 200, 5)]
        return [Group(f"q{i}", (d[0], *(x[:-1] + mark for x in d[1:])), (1, 0, 0, 0, 0)) for i, d in enumerate(own)]

    train, test = lists(1), lists(2)
    assert ndcg(document_alone(train, test), test) > 0.95


def test_balanced_lists_give_the_figure_of_random_order():
    train, test = balanced(150, 1), balanced(150, 2)
    chance = np.mean([ndcg(random_scores(test, seed), test) for seed in range(10)])
    assert abs(ndcg(document_alone(train, test), test) - chance) < 0.05


def test_labels_and_queries_of_the_test_lists_are_not_read():
    train, test = balanced(40, 1), balanced(20, 2)
    other = [Group("something else", g.documents, g.relevance[::-1]) for g in test]
    first, second = document_alone(train, test), document_alone(train, other)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert [len(s) for s in first] == [len(g.documents) for g in test]


def test_a_rule_without_both_labels_or_without_text_is_refused():
    with pytest.raises(InputError, match="one kind of label"):
        document_alone([Group("q", ("a b", "c d"), (1, 1))], balanced(5, 1, 2))
    with pytest.raises(InputError, match="no words"):
        document_alone([Group("q", ("...", "!!!"), (1, 0))], balanced(5, 1, 2))


def test_the_halves_of_one_file_judge_each_other():
    documents = texts(200, 1)
    own = [documents[i : i + 5] for i in range(0, 200, 5)]
    marked = [Group(f"q{i}", (d[0], *(x[:-1] + "?" for x in d[1:])), (1, 0, 0, 0, 0)) for i, d in enumerate(own)]
    chance, rule, gain = betrayed(marked)
    assert rule > 0.95 > chance + 0.2 and gain.low > 0.2
    chance, rule, gain = betrayed(balanced(200, 3))
    assert rule < chance + 0.03


def test_a_gain_of_style_is_not_above_base_and_rule_and_one_of_reading_is():
    def marked(count, seed):
        return [
            Group(g.query, tuple(d + (" (see there)" if r else "") for d, r in zip(g.documents, g.relevance, strict=True)), g.relevance)
            for g in balanced(count, seed)
        ]  # fmt: skip

    def beside(make, after):
        train, test = make(80, 1), make(60, 2)
        before = evaluate_scores(random_scores(test, 3), test)
        return before, _beside_rule(train, test, before, evaluate_scores(after(train, test), test))

    before, style = beside(marked, document_alone)
    assert style["document_alone"] > 0.95 and style["base_and_rule"] > before.summary["ndcg@10"] + 0.2
    assert style["above"].mean < 0.5 * (style["document_alone"] - before.summary["ndcg@10"])
    before, read = beside(balanced, lambda train, test: [np.array(g.relevance, dtype=float) for g in test])
    assert read["above"].low > 0 and abs(read["document_alone"] - read["random"]) < 0.1
    assert _beside_rule([Group("q", ("a", "b"), (1, 1))], balanced(5, 1, 2), before, before) is None
