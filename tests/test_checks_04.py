"""The checks of lesson 04 accept a right answer and say in words what is wrong with wrong ones."""

import numpy as np
import pytest
import torch
from conftest import make_groups

from course_utils.checks import NotYet, lesson04
from course_utils.evaluation.metrics import ndcg_at_k
from course_utils.training.losses import _listwise as course_listwise


def listwise(scores, labels):
    wrong = scores[labels == 0]
    return torch.stack([torch.logsumexp(torch.cat([s[None], wrong]), 0) - s for s in scores[labels > 0]]).mean()


def test_a_right_loss_is_accepted():
    lesson04.check_listwise(listwise)
    lesson04.check_listwise(lambda s, y: course_listwise(s, y, torch.zeros(len(s), dtype=torch.long)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda s, y: -torch.log_softmax(s, 0)[y > 0].mean(), "compete with each other"),
        (lambda s, y: listwise(s, y) * (y > 0).sum(), "the sum"),
        (lambda s, y: -listwise(s, y), "sign"),
        (lambda s, y: listwise(s, y) + 0.1, "the loss is"),
        (lambda s, y: (torch.logsumexp(s[y == 0], 0) - s[y > 0]).mean(), "itself belongs in it"),
        (lambda s, y: torch.stack([listwise(s, y), listwise(s, y)]), "Return one number"),
        (lambda s, y: None, "returns nothing"),
        (
            lambda s, y: torch.stack(
                [-torch.log(t.exp() / (t.exp() + s[y == 0].exp().sum())) for t in s[y > 0]]
            ).mean(),
            "overflows",
        ),
    ],
)
def test_a_wrong_loss_is_named(wrong, words):
    with pytest.raises(NotYet, match=words):
        lesson04.check_listwise(wrong)


def epoch_to_keep(history):
    return max(history, key=lambda row: row["ndcg@10"])["epoch"]


def test_the_right_epoch_is_accepted():
    lesson04.check_epoch(epoch_to_keep)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda history: history[-1]["epoch"], "keep epoch 2; you return 3"),
        (lambda history: min(history, key=lambda row: row["dev_loss"])["epoch"], "keep epoch 3; you return 1"),
        (lambda history: epoch_to_keep(history[1:]), "keep epoch 0"),
        (lambda history: epoch_to_keep(history[::-1]), "keep epoch 2; you return 4"),
        (lambda history: history.index(max(history, key=lambda row: row["ndcg@10"])), "begins with epoch 1"),
    ],
)
def test_a_wrong_epoch_is_named(wrong, words):
    with pytest.raises(NotYet, match=words):
        lesson04.check_epoch(wrong)


def suspects(groups, scores):
    return np.argsort([ndcg_at_k(s, g.relevance) for g, s in zip(groups, scores, strict=True)], kind="stable")


def test_right_suspects_are_accepted():
    lesson04.check_suspects(suspects)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda groups, scores: suspects(groups, scores)[::-1], "turned round"),
        (lambda groups, scores: suspects(groups, scores)[:10], "each index"),
        (lambda groups, scores: None, "returns nothing"),
        (lambda groups, scores: np.argsort([-sum(g.relevance) for g in groups]), "you list"),
        (
            lambda groups, scores: np.argsort([np.array(s) @ g.relevance for g, s in zip(groups, scores, strict=True)]),
            "within each query",
        ),
    ],
)
def test_wrong_suspects_are_named(wrong, words):
    with pytest.raises(NotYet, match=words):
        lesson04.check_suspects(wrong)


def test_moved_labels_keep_their_number_and_name_the_groups():
    groups = make_groups(20)
    moved, chosen = lesson04.moved_labels(groups, 0.25)
    assert len(chosen) == 5
    for i, (a, b) in enumerate(zip(groups, moved, strict=True)):
        assert sum(a.relevance) == sum(b.relevance)
        assert (a.relevance != b.relevance) == (i in chosen)


def batches(lengths, size):
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[i : i + size] for i in range(0, len(order), size)]


def test_right_batches_are_accepted():
    lesson04.check_batches(batches)
    lesson04.check_batches(lambda lengths, size: batches([-n for n in lengths], size))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda lengths, size: batches(list(range(len(lengths))), size), "padding included"),
        (lambda lengths, size: batches(lengths, 1), "Batches of one"),
        (lambda lengths, size: batches(lengths, len(lengths)), "more than 4"),
        (lambda lengths, size: batches(lengths, size)[1:], "occurs once"),
        (lambda lengths, size: [i for b in batches(lengths, size) for i in b], "a list of lists"),
        (lambda lengths, size: None, "returns nothing"),
    ],
)
def test_wrong_batches_are_named(wrong, words):
    with pytest.raises(NotYet, match=words):
        lesson04.check_batches(wrong)


def search(measure, start, factor=4, tries=8):
    seen = {rate: measure(rate) for rate in (start / factor, start, start * factor)}
    while len(seen) < tries:
        best = max(seen, key=seen.get)
        if best == max(seen):
            seen[best * factor] = measure(best * factor)
        elif best == min(seen):
            seen[best / factor] = measure(best / factor)
        else:
            break
    return max(seen, key=seen.get)


def test_a_right_search_is_accepted():
    lesson04.check_search(search)


def forgetful(measure, start):
    while True:
        seen = {rate: measure(rate) for rate in (start / 4, start, start * 4)}
        best = max(seen, key=seen.get)
        if best == start:
            return best
        start = best


def endless(measure, start):
    while True:
        measure(start)
        start *= 4


def wide(measure, start):
    return max((start * 4.0**k for k in range(-6, 7)), key=measure)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda measure, start: start, "at the edge"),
        (lambda measure, start: search(measure, start, tries=3), "at the edge"),
        (lambda measure, start: 4 * search(measure, start), "you return"),
        (wide, "runs are enough"),
        (lambda measure, start: None, "you return None"),
        (forgetful, "twice"),
        (endless, "does not stop"),
        (lambda measure, start: search(measure, start, tries=99), "stop after 8 runs"),
        (lambda measure, start: search(measure, start, tries=7), "make 8 runs"),
    ],
)
def test_a_wrong_search_is_named(wrong, words):
    with pytest.raises(NotYet, match=words):
        lesson04.check_search(wrong)
