"""Temperature, reliability, expected calibration error, the threshold for showing nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from course_utils.errors import InputError
from course_utils.evaluation.calibration import (
    apply_threshold,
    choose_threshold,
    fit_temperature,
    log_loss,
    reliability,
    take_answers_away,
)
from course_utils.model.reranker import sigmoid


def drawn(temperature, queries=400, documents=10, seed=0):
    """Return scores that are ``temperature`` times too sure, and labels drawn from the true probabilities."""
    random = np.random.default_rng(seed)
    true = random.normal(-1, 2, (queries, documents))
    labels = (random.random(true.shape) < sigmoid(true)).astype(int)
    return list(true * temperature), list(labels)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_spoilt_the_scores_is_found(temperature):
    scores, labels = drawn(temperature)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(temperature, rel=0.08)
    best = minimize_scalar(lambda t: log_loss(scores, labels, np.exp(t)), bounds=(-3, 3), method="bounded").x
    assert found == pytest.approx(np.exp(best), rel=1e-3)


def test_temperature_lowers_log_loss_and_calibration_error_on_unseen_queries():
    scores, labels = drawn(4.0)
    test, truth = drawn(4.0, seed=1)
    t = fit_temperature(scores, labels)
    assert log_loss(test, truth, t) < log_loss(test, truth)
    assert reliability(test, truth, t).error < 0.03 < reliability(test, truth).error


def test_log_loss_of_two_pairs_by_hand():
    assert log_loss([[0.0, np.log(3)]], [[1, 0]]) == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert log_loss([[1000.0]], [[0]]) == pytest.approx(1000)


def test_bins_by_hand():
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    found = reliability([[logit(0.1), logit(0.2), logit(0.9)], [logit(0.9)]], [[0, 1, 1], [0]], bins=2)
    assert [(round(b.probability, 6), b.share, b.count) for b in found.bins] == [(0.15, 0.5, 2), (0.9, 0.5, 2)]
    assert found.error == pytest.approx((0.35 * 2 + 0.4 * 2) / 4)
    assert "| 0.900 | 0.500 | 2 |" in str(found) and "error 0.375 at temperature 1.00" in str(found)


def test_certain_scores_fall_into_the_outer_bins():
    found = reliability([[-1000.0, 1000.0]], [[0, 1]])
    assert [b.count for b in found.bins] == [1, 1] and found.error == 0


def test_separated_labels_reach_the_lower_end_and_do_not_run_away():
    assert fit_temperature([[-3.0, 2.0, 5.0]], [[0, 1, 1]]) == 0.01


SCORES = [np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.5]), np.array([1.5, 0.0])]
LABELS = [np.array([1, 1, 0]), np.array([0, 1]), np.array([0, 0])]


def test_largest_recall_at_a_precision_by_hand():
    # From the top: 3.0 right, 2.5 wrong, 2.0 right, 1.5 wrong, 1.0 wrong, 0.5 right, 0.0 wrong.
    sure = choose_threshold(SCORES, LABELS, precision=1.0)
    assert (sure.value, sure.precision, sure.recall, sure.shown) == (2.75, 1.0, pytest.approx(1 / 3), 1)
    assert (sure.answered, sure.silent, sure.refused) == (0.5, 0.5, 1.0)
    loose = choose_threshold(SCORES, LABELS, precision=0.5)
    assert (loose.value, loose.recall, loose.shown) == (0.25, 1.0, 6)
    assert (loose.answered, loose.silent, loose.refused) == (1.0, 0.0, 0.0)


def test_best_f1_by_hand():
    best = choose_threshold(SCORES, LABELS)  # two of three found in the first three, or all in the first six
    assert best.value == 1.75 and best.f1 == pytest.approx(2 / 3)
    assert "precision 0.667, recall 0.667" in str(best)
    assert "Of the queries without an answer 100% rightly see nothing." in str(best)


def test_a_threshold_below_all_scores_shows_everything():
    found = choose_threshold([[1.0, 2.0]], [[1, 1]], precision=0.9)
    assert found.shown == 2 and found.value < 1 and found.refused is None
    assert "without an answer" not in str(found)


def test_equal_scores_are_shown_together():
    found = choose_threshold([[1.0, 1.0, 0.0]], [[1, 0, 1]], precision=0.5)
    assert found.shown == 3
    assert apply_threshold([[1.0, 1.0]], [[1, 0]], 1.0).shown == 0


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 1)), min_size=2, max_size=30).filter(
        lambda rows: any(r for _, r in rows)
    ),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_no_threshold_does_better_than_the_chosen_one(rows, precision):
    scores, labels = [np.array([float(s) for s, _ in rows])], [np.array([r for _, r in rows])]
    every = [apply_threshold(scores, labels, v) for v in np.arange(-5.5, 6)]
    fit = [t.recall for t in every if t.shown and t.precision >= precision and t.recall > 0]
    assert choose_threshold(scores, labels).f1 == pytest.approx(max(t.f1 for t in every if t.shown))
    if fit:
        found = choose_threshold(scores, labels, precision)
        assert found.precision >= precision and found.recall == pytest.approx(max(fit))
    else:
        with pytest.raises(InputError, match="No threshold reaches precision"):
            choose_threshold(scores, labels, precision)


def test_taking_answers_away_leaves_the_wrong_documents():
    scores, labels = take_answers_away(SCORES, LABELS, share=1.0)
    assert [s.tolist() for s in scores] == [[1.0], [2.5], [1.5, 0.0]] and not any(r.any() for r in labels)
    some, left = take_answers_away(*drawn(1.0, queries=20), share=0.5)
    assert sum(not r.any() for r in left) >= 10 and all(len(s) == len(r) > 0 for s, r in zip(some, left, strict=True))
    whole, right = take_answers_away([np.array([1.0])], [np.array([1])], share=1.0)
    assert whole[0].tolist() == [1.0] and right[0].tolist() == [1]


def test_queries_take_answers_away_raise_the_threshold():
    scores, labels = drawn(1.0)
    mixed = take_answers_away(scores, labels)
    assert choose_threshold(*mixed, precision=0.8).value > choose_threshold(scores, labels, precision=0.8).value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_temperature([[1.0, 2.0]], [[1, 1]]), "All labels are the same"),
        (lambda: fit_temperature([[1.0, -1.0]], [[0, 1]]), "run against the labels"),
        (lambda: fit_temperature([[0.0, 0.0]], [[0, 1]]), "tell nothing about them"),
        (lambda: log_loss([[1.0]], [[1, 0]]), "There are 1 scores and 2 labels"),
        (lambda: log_loss([], []), "at least one"),
        (lambda: reliability([[float("nan")]], [[1]]), "not a finite number"),
        (lambda: choose_threshold([[1.0]], [[0]]), "No document is relevant"),
        (lambda: choose_threshold([[1.0, 2.0]], [[1, 0]], 1.0), "the best is 0.500"),
        (lambda: choose_threshold([[1.0]], [[1]], 1.5), "a share between 0 and 1"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
