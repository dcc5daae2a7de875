"""The checks of lesson 08 accept a right answer and say in words what is wrong with wrong ones."""

import numpy as np
import pytest

from course_utils.checks import NotYet, lesson08


def same_scores(golden, other, tolerance):
    gaps = np.nan_to_num(np.abs(golden - other), nan=np.inf)
    return bool(gaps.max() <= tolerance), int(gaps.argmax())


def one_row(weights, yes, no):
    return (weights[yes].float() - weights[no].float())[None]


def batches(lengths, budget):
    out, current = [], []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if current and (len(current) + 1) * lengths[i] > budget:
            out.append(current)
            current = []
        current.append(i)
    return [*out, current]


def empty_first(lengths, budget):
    """Close the batch before the first document when that document alone is over the budget."""
    found = batches(lengths, budget)
    return [[], *found] if lengths[found[0][0]] > budget else found


def test_right_answers(capsys):
    lesson08.check_same_scores(same_scores)
    lesson08.check_same_scores(lambda *given: list(same_scores(*given)))
    lesson08.check_one_row(one_row)
    lesson08.check_batches(batches)
    assert capsys.readouterr().out.count("Right") == 4


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [
        (lesson08.check_same_scores, lambda g, o, t: np.abs(g - o).max() <= t, "two things"),
        (lesson08.check_same_scores, lambda g, o, t: (True, 0), "ok should be False"),
        (
            lesson08.check_same_scores,
            lambda g, o, t: same_scores(g, o, t * 0.999),
            "exactly the tolerance, ok should be True",
        ),
        (lesson08.check_same_scores, lambda g, o, t: (same_scores(g, o, t)[0], 0), "worst should be 1"),
        (lesson08.check_one_row, lambda w, yes, no: None, "Return a tensor"),
        (lesson08.check_one_row, lambda w, yes, no: one_row(w, yes, no)[0], "shape"),
        (lesson08.check_one_row, lambda w, yes, no: one_row(w, no, yes), "sign"),
        (lesson08.check_one_row, lambda w, yes, no: one_row(w, yes, no).double(), "float32"),
        (lesson08.check_one_row, lambda w, yes, no: (w[yes] - w[no]).float()[None], "before you subtract"),
        (lesson08.check_batches, lambda lengths, budget: [list(range(len(lengths)))], "more than 240"),
        (lesson08.check_batches, lambda lengths, budget: [[i] for i in range(len(lengths))], "too many"),
        (lesson08.check_batches, lambda lengths, budget: batches(lengths, budget)[:-1], "one batch"),
        (lesson08.check_batches, lambda lengths, budget: 2 * batches(lengths, budget), "you return 2 indices"),
        (lesson08.check_batches, lambda lengths, budget: [[lengths[0]]], "indices, from 0 to 0, not lengths"),
        (lesson08.check_batches, empty_first, "A batch is empty"),
        (lesson08.check_batches, lambda lengths, budget: None, "returns nothing"),
    ],
)
def test_wrong_answers(check, answer, words):
    with pytest.raises(NotYet, match=words):
        check(answer)
