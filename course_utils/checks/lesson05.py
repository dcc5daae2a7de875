"""Checks for the exercises of lesson 05, Evaluation."""

import numpy as np

from course_utils.checks import _attempt, _careful, _judged, need, ok
from course_utils.evaluation import metrics
from course_utils.evaluation.calibration import reliability
from course_utils.evaluation.measure import paired_bootstrap
from course_utils.language import _, _later


def _number(answer, what):
    """Raise NotYet unless ``answer`` is one finite number."""
    right = isinstance(answer, (int, float, np.floating, np.integer)) and np.isfinite(answer)
    need(right, "{what} should be one number, not {answer!r}.", what=what, answer=answer)


@_careful
def check_average_precision(average_precision):
    """Exercise 1: ``average_precision(labels)`` of a ranking without ties."""
    random = np.random.default_rng(0)
    lists = [[1, 0, 0, 1], [0, 0, 0], [0, 1]] + [(random.random(7) < 0.4).astype(int).tolist() for _ in range(57)]
    for labels in lists:
        nothing = _("In {labels} nothing is right: the answer is 0, not a division by zero.").format(labels=labels)
        answer = _attempt(average_precision, list(labels), ZeroDivisionError=nothing)
        if not any(labels):
            need(
                answer == 0,
                "In {labels} nothing is right: the answer is 0, not {answer}.",
                labels=labels,
                answer=answer,
            )
            continue
        _number(answer, _("The answer for {labels}").format(labels=labels))
        expected = metrics.average_precision(np.arange(len(labels), 0, -1), labels)
        shares = np.cumsum(labels) / np.arange(1, len(labels) + 1)
        need(
            abs(answer - shares.mean()) > 1e-9 or abs(answer - expected) < 1e-9,
            "For {labels} you average over all places; take only those of right documents.",
            labels=labels,
        )
        need(
            abs(answer - expected * np.mean(labels)) > 1e-9 or abs(answer - expected) < 1e-9,
            "For {labels} you divide by the number of places; divide by the number of right documents.",
            labels=labels,
        )
        need(
            abs(answer - expected) < 1e-9,
            _("For {labels} it is {expected:.4f}; you return {answer:.4f}.").format(
                labels=labels, expected=expected, answer=answer
            ),
        )
    ok("Right: as in course_utils.evaluation, for 60 rankings.")


@_careful
def check_interval(interval):
    """Exercise 2: ``interval(before, after, rounds, seed)`` is the 95 % paired bootstrap interval."""
    random = np.random.default_rng(0)
    for shift in (0.05, -0.1, 0.0):
        before = random.random(200)
        after = before + shift + 0.05 * random.standard_normal(200)
        expected = paired_bootstrap(before, after)
        first, again = (interval(before, after, 2000, 1) for _ in range(2))
        need(np.shape(first) == (2,), "Return (low, high), two numbers, not {first!r}.", first=first)
        need(
            tuple(first) == tuple(again), "Two calls with the same seed differ: draw from np.random.default_rng(seed)."
        )
        low, high = first
        _number(low, _("The lower end"))
        _number(high, _("The upper end"))
        need(low <= high, "The lower end is above the upper end.")
        width = expected.high - expected.low
        middle = float(np.mean(after - before))
        need(
            abs(low + high - 2 * middle) > 1e-9 or high == low,
            "Your interval has the mean difference exactly in its middle: that is mean +- some standard errors. "
            "Resample the differences instead, and take quantiles of the means.",
        )
        need(
            not (
                abs(low + expected.high) < 0.2 * width and abs(high + expected.low) < 0.2 * width and abs(shift) > 0.01
            ),
            "The sign is turned round: after minus before.",
        )
        need(
            high - low < 2 * width,
            "Your interval is {high:.3f} wide, the paired one {width:.3f}. Resample differences, not the two lists.",
            high=high - low,
            width=width,
        )
        need(
            high - low > 0.01 * width,
            "Your interval has no width: all means are equal. Draw with repetition, and make the generator once, before "
            "the loop.",
        )
        need(
            abs(low + high - expected.low - expected.high) > 0.2 * width or 0.9 < (high - low) / width < 1.1,
            "Your interval is {high:.4f} wide, the 95 % one {width:.4f}: take the quantiles 0.025 and 0.975.",
            high=high - low,
            width=width,
        )
        need(
            abs(low - expected.low) < 0.2 * width and abs(high - expected.high) < 0.2 * width,
            _("The interval is about [{low:+.4f}, {high:+.4f}]; yours is [{low_2:+.4f}, {high_2:+.4f}].").format(
                low=expected.low, high=expected.high, low_2=low, high_2=high
            ),
        )
        one = interval(before, after, 1, 1)
        need(
            abs(one[1] - one[0]) < 1e-9,
            "With rounds = 1 there is a single mean, so both ends are equal; yours are not: draw rounds resamples.",
        )
    ok("Right: within a small tolerance of evaluation.compare, and as narrow as pairing makes it.")


@_careful
def check_calibration_error(calibration_error):
    """Exercise 3: ``calibration_error(probabilities, labels, bins)`` is the ECE with bins of equal width."""
    random = np.random.default_rng(0)
    for bins in (2, 5, 10):
        logits = 3 * random.standard_normal(300)
        logits[:40] = 0.0  # probability 0.5, which for an even number of bins is the edge of two
        labels = (random.random(300) < 1 / (1 + np.exp(-0.5 * logits))).astype(int)
        probabilities = 1 / (1 + np.exp(-logits))
        edge = _attempt(  # all but the last bin are empty
            calibration_error, np.array([1.0, 1.0]), np.array([1, 0]), bins,
            IndexError=_('A probability of exactly 1 belongs to the last bin.'),
            ZeroDivisionError=_('A bin without pairs has no mean; leave it out.'),
        )  # fmt: skip
        nothing = isinstance(edge, float) and np.isnan(edge)
        need(not nothing, "A bin without pairs has no mean; leave it out.")
        _number(edge, _("The error"))
        need(abs(edge) > 1e-9, "A probability of exactly 1 belongs to the last bin.")
        answer = calibration_error(probabilities, labels, bins)
        _number(answer, _("The error"))
        result = reliability([logits], [labels], bins=bins)
        plain = np.mean([abs(b.probability - b.share) for b in result.bins])
        need(
            abs(answer - plain) > 1e-6 or abs(answer - result.error) < 1e-6,
            "Each bin counts the same in your mean; weight it with its number of pairs.",
        )
        lower = np.maximum(np.ceil(probabilities * bins).astype(int) - 1, 0)
        closed = sum(abs((probabilities - labels)[lower == i].sum()) for i in range(bins)) / len(labels)
        need(
            abs(answer - closed) > 1e-6 or abs(answer - result.error) < 1e-6,
            "You put a probability on the edge of two bins, such as 0.5, into the lower one; it belongs to the upper one.",
        )
        place = np.minimum((probabilities * bins).astype(int), bins - 1)
        middles = sum(
            abs((i + 0.5) / bins - labels[place == i].mean()) * (place == i).mean() for i in set(place.tolist())
        )
        need(
            abs(answer - middles) > 1e-6,
            "You take the middle of each bin; take the mean probability of the pairs in it.",
        )
        need(
            abs(answer - result.error) < 1e-6,
            _("With {bins} bins the error is {error:.4f}; you return {answer:.4f}.").format(
                bins=bins, error=result.error, answer=answer
            ),
        )
    ok("Right: the same as evaluation.reliability, with 2, 5 and 10 bins.")


@_careful
def check_reciprocal_rank(reciprocal_rank):
    """Exercise 4: ``reciprocal_rank(scores, labels)`` is the mean over all orders of tied documents."""
    random = np.random.default_rng(0)
    for i in range(40):
        n = 2 + i % 5
        scores, labels = random.integers(0, 3, n).tolist(), (random.random(n) < 0.4).astype(int).tolist()
        answer = reciprocal_rank(list(scores), list(labels))
        name = _("For scores {scores} and labels {labels}").format(scores=scores, labels=labels)
        _number(answer, name + _(" the answer"))
        expected = metrics.mrr_at_k(scores, labels)
        order = np.argsort(-np.array(scores), kind="stable")
        ranks = [rank for rank, j in enumerate(order, 1) if labels[j]]
        careless = 1 / ranks[0] if ranks else 0.0
        need(
            abs(answer - careless) > 1e-9 or abs(answer - expected) < 1e-9,
            "{name} you let the order of the input decide between equal scores; average over their orders.",
            name=name,
        )
        need(
            abs(answer - metrics.mrr_at_k([0] * n, labels)) > 1e-9 or abs(answer - expected) < 1e-9,
            "{name} you average over all orders; keep only those in which the scores never rise.",
            name=name,
        )
        need(
            abs(answer - expected) < 1e-9,
            _("{name} it is {expected:.4f}; you return {answer:.4f}.").format(
                name=name, expected=expected, answer=answer
            ),
        )
    ok("Right: as evaluation.mrr_at_k, for 40 lists with ties; input order earns nothing.")


_REPORTS = {
    "A": ("gain", {"not settled": _later("Both intervals lie above 0."), "style": _later("Base + rule gains nothing, nor do other trades.")}),
    "B": ("not settled", {"gain": _later("The interval over topics holds 0."), "style": _later("Neither the rule nor other trades gain.")}),
    "C": ("style", {"gain": _later("Base + rule, which reads no query, gains nearly as much."),
          "not settled": _later("Both intervals lie above 0; the change is real. Ask what was learnt.")}),
    "D": ("loss", {"not settled": _later("Both intervals lie below 0: it is settled."), "style": _later("There is no gain to explain.")}),
    "E": ("style", {"gain": _later("The rule gains nothing, but the same weights lift the other trades by more than half as much."),
          "not settled": _later("Both intervals lie above 0; the change is real. Ask what was learnt.")}),
}  # fmt: skip


@_careful
def check_judge(judge):
    """Exercise 5: ``judge(report)`` returns the verdict on each of the five reports of the table."""
    choose = _later("Your verdict on {name} is {answer!r}; choose one of {words}.")
    other = _later("The mean and both intervals have the same sign; look at it again.")
    _judged(judge, _REPORTS, choose, _later("{name} is not {answer!r}. {why}"), other)
    ok("Right: five reports, one of them a gain of knowledge.")
