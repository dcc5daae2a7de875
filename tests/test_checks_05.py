"""The checks of lesson 05 accept a right answer and say in words what is wrong with wrong ones."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from course_utils.checks import NotYet, lesson05


def shares(labels):
    return [sum(labels[:rank]) / rank for rank in range(1, len(labels) + 1)]


def average_precision(labels):
    own = [s for s, label in zip(shares(labels), labels, strict=True) if label]
    return sum(own) / len(own) if own else 0.0


def test_average_precision_right(capsys):
    lesson05.check_average_precision(average_precision)
    assert "60 rankings" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda labels: sum(shares(labels)) / len(labels), "all places"),
        (lambda labels: average_precision(labels) if any(labels) else 1.0, "nothing is right"),
        (lambda labels: 1 / (labels.index(1) + 1) if 1 in labels else 0.0, "you return"),
        (shares, "one number"),
        (
            lambda labels: sum(s for s, label in zip(shares(labels), labels, strict=True) if label) / sum(labels),
            "0, not",
        ),
        (lambda labels: average_precision(labels) * sum(labels) / len(labels), "number of right documents"),
    ],
)
def test_average_precision_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson05.check_average_precision(answer)


def means(gaps, rounds, seed):
    random = np.random.default_rng(seed)
    return [gaps[random.integers(0, len(gaps), len(gaps))].mean() for _ in range(rounds)]


def ends(values, outside=0.05):
    low, high = np.quantile(values, [outside / 2, 1 - outside / 2])
    return float(low), float(high)


def interval(before, after, rounds, seed):
    return ends(means(after - before, rounds, seed))


@pytest.mark.parametrize("kind", [tuple, list, np.array])
def test_interval_right(capsys, kind):
    lesson05.check_interval(lambda *given: kind(interval(*given)))
    assert "Right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (
            lambda before, after, rounds, seed: ends(
                np.subtract(means(after, rounds, seed), means(before, rounds, seed + 1))
            ),
            "Resample differences",
        ),
        (lambda before, after, rounds, seed: ends(after - before), "Resample differences"),
        (lambda before, after, rounds, seed: interval(after, before, rounds, seed), "sign"),
        (lambda before, after, rounds, seed: ends(means(after - before, rounds, seed), 0.5), "0.025 and 0.975"),
        (lambda before, after, rounds, seed: ends(means(after - before, rounds, seed), 0.1), "0.025 and 0.975"),
        (lambda before, after, rounds, seed: ends(means(after - before, rounds, seed), 0.01), "0.025 and 0.975"),
        (lambda before, after, rounds, seed: ends(means(after, rounds, seed)), "is about|Resample"),
        (lambda before, after, rounds, seed: ends([(after - before).mean()] * rounds), "no width"),
        (lambda before, after, rounds, seed: ends(means(after - before, rounds, None)), "same seed"),
        (lambda before, after, rounds, seed: interval(before, after, rounds, seed)[::-1], "above the upper"),
        (lambda before, after, rounds, seed: float(np.mean(after - before)), "two numbers"),
    ],
)
def test_interval_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson05.check_interval(answer)


def gaps_and_counts(p, y, bins):
    place = np.minimum((p * bins).astype(int), bins - 1)
    groups = [place == i for i in range(bins) if (place == i).any()]
    return [abs(p[own].mean() - y[own].mean()) for own in groups], [own.sum() for own in groups]


def calibration_error(p, y, bins):
    gaps, counts = gaps_and_counts(p, y, bins)
    return float(np.average(gaps, weights=counts))


def last_bin_lost(p, y, bins):
    return sum(abs((p - y)[(p * bins).astype(int) == i].sum()) for i in range(bins)) / len(p)


def no_last_bin(p, y, bins):
    count = [0] * bins
    for x in p:
        count[int(x * bins)] += 1
    return calibration_error(p, y, bins)


def empty_bins(p, y, bins):
    place = np.minimum((p * bins).astype(int), bins - 1)
    with np.errstate(invalid="ignore"):
        return sum(
            abs(np.divide((p - y)[own].sum(), own.sum())) * own.mean() for own in (place == i for i in range(bins))
        )


def empty_bins_of_lists(p, y, bins):
    groups = [[] for _ in range(bins)]
    for x, label in zip(p.tolist(), y.tolist(), strict=True):
        groups[min(int(x * bins), bins - 1)].append(x - label)
    return sum(abs(sum(own) / len(own)) * len(own) for own in groups) / len(p)


def middle_of_the_bin(p, y, bins):
    place = np.minimum((p * bins).astype(int), bins - 1)
    return sum(abs((i + 0.5) / bins - y[place == i].mean()) * (place == i).mean() for i in set(place.tolist()))


def test_calibration_error_right(capsys):
    lesson05.check_calibration_error(calibration_error)
    assert "10 bins" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda p, y, bins: float(np.mean(gaps_and_counts(p, y, bins)[0])), "weight it"),
        (lambda p, y, bins: float(np.abs(p - y).mean()), "the error is"),
        (last_bin_lost, "last bin"),
        (lambda p, y, bins: calibration_error(p[p < 1], y[p < 1], bins) if (p < 1).any() else 0.0, "last bin"),
        (no_last_bin, "last bin"),
        (empty_bins, "without pairs"),
        (empty_bins_of_lists, "without pairs"),
        (middle_of_the_bin, "mean probability of the pairs"),
        (lambda p, y, bins: [0.0] * bins, "one number"),
    ],
)
def test_calibration_error_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson05.check_calibration_error(answer)


def first_rank(order, labels):
    ranks = [rank for rank, i in enumerate(order, 1) if labels[i]]
    return 1 / ranks[0] if ranks else 0.0


def allowed(scores):
    orders = permutations(range(len(scores)))
    return [order for order in orders if all(scores[a] >= scores[b] for a, b in pairwise(order))]


def reciprocal_rank(scores, labels):
    return float(np.mean([first_rank(order, labels) for order in allowed(scores)]))


def test_reciprocal_rank_right(capsys):
    lesson05.check_reciprocal_rank(reciprocal_rank)
    assert "40 lists" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda scores, labels: first_rank(allowed(scores)[0], labels), "order of the input"),
        (
            lambda scores, labels: float(np.mean([first_rank(o, labels) for o in permutations(range(len(scores)))])),
            "never rise",
        ),
        (lambda scores, labels: 0.9 * reciprocal_rank(scores, labels), "you return"),
        (lambda scores, labels: [reciprocal_rank(scores, labels)], "one number"),
    ],
)
def test_reciprocal_rank_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson05.check_reciprocal_rank(answer)


VERDICTS = {"A": "gain", "B": "not settled", "C": "style", "D": "loss", "E": "style"}


def test_judge_right(capsys):
    lesson05.check_judge(VERDICTS.get)
    assert "five reports" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, words",
    [
        ({"A": "style"}, "A is not 'style'. Base [+] rule"),
        ({"A": "loss"}, "same sign"),
        ({"B": "gain"}, "interval over topics holds 0"),
        ({"C": "gain"}, "reads no query"),
        ({"D": "not settled"}, "Both intervals lie below 0"),
        ({"E": "gain"}, "other trades by more than half"),
        ({"E": "good"}, "choose one of gain, loss, not settled, style"),
    ],
)
def test_judge_wrong(change, words):
    with pytest.raises(NotYet, match=words):
        lesson05.check_judge((VERDICTS | change).get)
