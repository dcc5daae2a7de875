"""The checks of lesson 02 accept a right answer and say in words what is wrong with wrong ones."""

import random

import pytest

from course_utils.checks import NotYet, lesson02
from course_utils.data import token_lengths
from course_utils.data.groups import split
from course_utils.model.reranker import sigmoid

LABELS = {"1": 1, "yes": 1, "0": 0, "no": 0}


def clean(rows):
    labels = {}
    for row in rows:
        query, document = (str(row.get(field) or "").strip() for field in ("query", "document"))
        label = LABELS.get(str(row.get("relevance")).strip().lower())
        if query and document and label is not None:
            labels.setdefault((query, document), set()).add(label)
    return [(*pair, min(own)) for pair, own in labels.items() if len(own) == 1]


def clean_but_keeps_both_labels(rows):
    seen = {}
    for row in rows:
        query, document = (str(row.get(field) or "").strip() for field in ("query", "document"))
        label = LABELS.get(str(row.get("relevance")).strip().lower())
        if query and document and label is not None:
            seen.setdefault((query, document), label)
    return [(*pair, label) for pair, label in seen.items()]


def test_clean_right(capsys):
    lesson02.check_clean(clean)
    assert "4 of 11" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda rows: [(r["query"].strip(), r["document"], r["relevance"]) for r in rows], "may lack a field"),
        (lambda rows: [(q + " ", d, r) for q, d, r in clean(rows)], "spaces around"),
        (lambda rows: [(q, d, str(r)) for q, d, r in clean(rows)], "not the number 0 or 1"),
        (clean_but_keeps_both_labels, "carries both labels"),
        (lambda rows: clean(rows) + clean(rows)[:1], "stands twice"),
        (lambda rows: clean(rows)[1:], "is missing"),
        (lambda rows: [*clean(rows), ("what is gout", "A kind of grape.", 0)], "left out"),
        (lambda rows: clean(rows)[::-1], "order"),
    ],
)
def test_clean_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson02.check_clean(answer)


def kept(right, candidates, margin):
    return [p <= margin * sigmoid(max(right)) for p in sigmoid(candidates)]


def test_margin_right(capsys):
    lesson02.check_margin(kept)
    assert "Right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer",
    [
        lambda right, candidates, margin: [c <= margin * max(right) for c in candidates],
        lambda right, candidates, margin: [p <= margin * sigmoid(min(right)) for p in sigmoid(candidates)],
        lambda right, candidates, margin: [p > margin * sigmoid(max(right)) for p in sigmoid(candidates)],
        lambda right, candidates, margin: [True] * len(candidates),
    ],
    ids=["logits", "worst answer", "turned round", "keeps all"],
)
def test_margin_wrong(answer):
    with pytest.raises(NotYet, match="probabilities"):
        lesson02.check_margin(answer)


def test_a_margin_of_ones_own_is_named():
    with pytest.raises(NotYet, match=r"You always take 0\.95"):
        lesson02.check_margin(lambda right, candidates, margin: kept(right, candidates, 0.95))


def test_margin_wants_one_answer_a_candidate():
    with pytest.raises(NotYet, match="one for each"):
        lesson02.check_margin(lambda right, candidates, margin: [True])


def split_by_topic(groups, share, seed):
    topics = sorted({g.topic for g in groups})
    random.Random(seed).shuffle(topics)
    chosen = set(topics[: round(share * len(topics))])
    return [g for g in groups if g.topic not in chosen], [g for g in groups if g.topic in chosen]


def by_groups(groups, share, seed):
    """Fill the test part with topics until it holds the share of the groups."""
    topics, chosen = sorted({g.topic for g in groups}), set()
    random.Random(seed).shuffle(topics)
    while sum(g.topic in chosen for g in groups) < share * len(groups):
        chosen.add(topics.pop())
    return [g for g in groups if g.topic not in chosen], [g for g in groups if g.topic in chosen]


def by_query(groups, share, seed):
    return split(groups, (1 - share, share), seed=seed)


def unseeded(groups, share, seed):
    return split_by_topic(groups, share, random.random())


def loses_some(groups, share, seed):
    train, test = split_by_topic(groups, share, seed)
    return train[:-1], test


def test_split_right(capsys):
    lesson02.check_split_by_topic(split_by_topic)
    assert "no topic" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (by_query, "in both parts"),
        (unseeded, "same seed differ"),
        (loses_some, "exactly one part"),
        (by_groups, "was asked for"),
        (lambda groups, share, seed: split_by_topic(groups, 0.25, seed), "a share of 40% was asked for"),
        (lambda groups, share, seed: split_by_topic(groups, 0.5, seed), "was asked for"),
        (lambda groups, share, seed: split_by_topic(groups, share, 0), "Another seed"),
    ],
)
def test_split_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson02.check_split_by_topic(answer)


def smallest(tokenizer, groups, share):
    lengths = sorted(token_lengths(groups, tokenizer).counts.elements())
    return lengths[len(lengths) - 1 - int(share * len(lengths))]


def documents_only(tokenizer, groups, share):
    lengths = sorted(len(tokenizer.encode(d)) for g in groups for d in g.documents)
    return lengths[len(lengths) - 1 - int(share * len(lengths))]


def test_max_length_right(tokenizer, capsys):
    lesson02.check_max_length(smallest, tokenizer)
    assert "three shares" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (documents_only, "whole prompt"),
        (lambda *given: smallest(*given) + 1, "would be too"),
        (lambda *given: smallest(*given) - 1, "more than"),
        (lambda *given: float(smallest(*given)), "whole number"),
        (lambda tokenizer, groups, share: smallest(tokenizer, groups, 0), "would be too"),
    ],
)
def test_max_length_wrong(answer, words, tokenizer):
    with pytest.raises(NotYet, match=words):
        lesson02.check_max_length(answer, tokenizer)
