"""The checks of lesson 09 accept a right answer and say in words what is wrong with wrong ones."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_checks_wrong_answers import refused

from course_utils.checks import lesson09
from course_utils.data import leaks, prepare
from course_utils.evaluation import compare, evaluate_scores
from course_utils.files import data_folder
from course_utils.text import normalise


def hits(index, g, k):
    return len(set(index.top(g.query, k)) & set(g.positives))


def ceiling(index, groups, k):
    return float(np.mean([hits(index, g, k) > 0 for g in groups]))


def wrong(train):
    return [d for g in train for d, r in zip(g.documents, g.relevance, strict=True) if r == 0]


def right(dev):
    return list(dict.fromkeys(d for g in dev for d in g.positives))


def leaked(train, dev):
    own = {normalise(d) for d in wrong(train)}
    return [d for d in right(dev) if normalise(d) in own]


def test_right_answers_are_accepted(capsys):
    lesson09.check_ceiling(ceiling)
    lesson09.check_leaked(leaked)
    lesson09.check_next_step(lambda case: lesson09._CASES[case][0])
    assert capsys.readouterr().out.count("Right:") == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda i, groups, k: sum(hits(i, g, k) for g in groups) / len(groups), "count questions"),
        (lambda i, groups, k: np.mean([hits(i, g, k) == len(g.positives) for g in groups]), "one is enough"),
        (lambda i, groups, k: np.mean([bool(set(i.top(g.query, k)) & set(g.documents)) for g in groups]), "g.positives"),
        (lambda i, groups, k: np.mean([hits(i, g, k) > 0 for g in groups if i.top(g.query, k)]), "all questions"),
        (lambda i, groups, k: sum(hits(i, g, k) > 0 for g in groups), "return a count"),
        (lambda i, groups, k: 100 * ceiling(i, groups, k), "percent"),
        (lambda i, groups, k: np.mean([i.top(g.query, k)[0] in g.positives for g in groups]), "find nothing"),
        (lambda i, groups, k: ceiling(i, groups, 50), "you return"),
        (lambda i, groups, k: None, "one number"),
    ],
)  # fmt: skip
def test_a_wrong_ceiling(answer, words):
    refused(words, lesson09.check_ceiling, answer)


def normal(texts):
    return {normalise(t) for t in texts}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda train, dev: [d for d in right(dev) if d in wrong(train)], "other spaces and capitals"),
        (lambda train, dev: [d for d in wrong(train) if normalise(d) in normal(right(dev))], "the one of dev"),
        (
            lambda train, dev: [d for d in right(dev) if normalise(d) in normal(d for g in train for d in g.documents)],
            "is right in train",
        ),
        (
            lambda train, dev: [d for g in dev for d in g.documents if normalise(d) in normal(wrong(train))],
            "wrong document of dev",
        ),
        (lambda train, dev: leaked(train, dev) * 2, "stands twice"),
        (lambda train, dev: leaked(train, dev)[:1], "You miss"),
        (lambda train, dev: [*leaked(train, dev), "Lunch is at noon."], "no right answer"),
        (lambda train, dev: None, "returns nothing"),
        (lambda train, dev: "Park in the north.", "not one text"),
        (lambda train, dev: leaked(train, dev) if dev else [""], "empty list"),
    ],
)
def test_a_wrong_leak(answer, words):
    refused(words, lesson09.check_leaked, answer)


@pytest.fixture(scope="module")
def own():
    """What the third exercise makes, with scores that nobody trained."""
    folder = data_folder() / "handbook" / "zh"
    columns = {"query": "员工的问法", "document": "答案出处"}
    parts = prepare(folder / "questions.csv", folder / "handbook.csv", columns=columns).parts
    chance = np.random.default_rng(0)
    before, after = (
        evaluate_scores([chance.random(len(g.documents)) for g in parts["test"]], parts["test"]) for _ in "ba"
    )
    counts = {"replayed": 0} | {name: {"queries": len(parts[name])} for name in ("train", "dev")}
    return parts, before, SimpleNamespace(best_epoch=1, counts=counts), after, compare(before, after)  # fmt: skip


def test_an_own_adaptation_is_accepted(own, capsys):
    lesson09.check_own(*own)
    kept = SimpleNamespace(best_epoch=0, counts=own[2].counts)
    lesson09.check_own(own[0], own[1], kept, own[1], compare(own[1], own[1]))
    assert capsys.readouterr().out.count("Right:") == 2


def test_a_wrong_adaptation_is_named(own):
    parts, before, done, after, difference = own
    stolen = parts["train"][0]
    answer = parts["test"][0].positives[0]
    taught = stolen.__class__(
        stolen.query, (*stolen.documents, answer), (*stolen.relevance, 0), stolen.topic
    )  # a leak through negatives
    assert leaks([taught], parts["test"], near=False).answers
    kept = SimpleNamespace(best_epoch=0, counts=done.counts)
    swapped = SimpleNamespace(best_epoch=1, counts={**done.counts, "dev": {"queries": len(parts["test"])}})
    mixed = SimpleNamespace(best_epoch=1, counts={**done.counts, "replayed": 18})
    english = data_folder() / "handbook" / "en"
    names = {"query": "What people ask", "document": "Answer is in"}
    other = prepare(english / "questions.csv", english / "handbook.csv", columns=names).parts
    for given, words in (
        ((other, before, done, after, difference), "no question of the Chinese handbook"),
        (({**parts, "train": [taught]}, before, done, after, difference), "split before you mine"),
        (({**parts, "dev": parts["test"]}, before, done, after, difference), "shares questions"),
        ((parts, before, swapped, after, difference), "adapt was given"),
        ((parts, before, mixed, after, difference), "leave replay out"),
        ((parts, before, done, before, difference), "measure before you train"),
        ((parts, before, kept, after, difference), "use one reranker"),
        ((parts, before, done, after, compare(after, before)), "sign is turned round"),
        ((parts, before, done, after, difference.mean), "what compare returns"),
        ((parts, before, done, after, compare(before, before)), "The mean difference is"),
        ((parts, evaluate_scores(before.scores[:5], parts["test"][:5]), done, after, difference), "before was not measured"),
    ):  # fmt: skip
        refused(words, lesson09.check_own, *given)


@pytest.mark.parametrize("case", "ABCDEF")
def test_every_wrong_next_step_gets_words(case):
    steps = {right for right, _ in lesson09._CASES.values()}
    for step in steps - {lesson09._CASES[case][0]}:
        refused(f"{case} is not", lesson09.check_next_step, lambda c, s=step: s if c == case else lesson09._CASES[c][0])
    refused("choose one of", lesson09.check_next_step, lambda c: "pray" if c == case else lesson09._CASES[c][0])
