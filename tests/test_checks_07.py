"""The checks of lesson 07 accept a right answer and say in words what is wrong with wrong ones."""

import pytest

from course_utils.checks import NotYet, lesson07


def backward(values):
    columns = range(values.shape[1] - 1)
    return sum(values[-1, j] - values[j + 1, j] for j in columns) / len(columns)


def test_backward_right(capsys):
    lesson07.check_backward(backward)
    assert "three matrices" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda values: -backward(values), "sign is turned round"),
        (lambda values: backward(values) * (values.shape[1] - 1) / values.shape[1], "you divide by"),
        (lambda values: sum(values[i + 1, i] - values[0, i] for i in range(values.shape[1])) / values.shape[1], "base"),
        (lambda values: 0.0, "the answer is"),
        (lambda values: None, "returns nothing"),
    ],
    ids=["sign", "counts the last", "gain", "zero", "no return"],
)
def test_backward_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson07.check_backward(answer)


def pull(model, start, strength):
    return strength / 2 * sum(((p - start[n]) ** 2).sum() for n, p in model.named_parameters() if n in start)


def test_pull_right(capsys):
    lesson07.check_pull(pull)
    assert "points back" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda model, start, strength: 2 * pull(model, start, strength), "twice as much"),
        (lambda model, start, strength: pull(model, start, strength).detach(), "No gradient"),
        (lambda model, start, strength: float(pull(model, start, strength)), "Return a tensor"),
        (lambda model, start, strength: -pull(model, start, strength), "the pull is"),
        (lambda model, start, strength: pull(model, start, 1.0), "With strength 0.3"),
        (
            lambda model, start, strength: (
                strength / 2 * sum((p**2).sum() for n, p in model.named_parameters() if n in start)
            ),
            "At the start the pull is 0",
        ),
    ],
    ids=["twice", "detached", "number", "sign", "no strength", "towards zero"],
)
def test_pull_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson07.check_pull(answer)


def gate(low, high, changes, margin):
    reasons = []
    if low <= 0:
        reasons.append(f"the gain on the target is not sure: [{low:+.3f}, {high:+.3f}]")
    reasons += [f"{name} falls by {-change:.3f}" for name, change in changes.items() if change < -margin]
    return not reasons, reasons


def first_reason(*given):
    accepted, reasons = gate(*given)
    return accepted, reasons[:1]


def mean_of_guards(low, high, changes, margin):
    fall = sum(changes.values()) / len(changes)
    return low > 0 and fall >= -margin, ["target"] if low <= 0 else []


def test_gate_right(capsys):
    lesson07.check_gate(gate)
    assert "every reason" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda low, high, changes, margin: gate(high, high, changes, margin), "interval includes 0, the gate refuses"),
        (lambda low, high, changes, margin: gate(low or 1, high, changes, margin), "0 exactly"),
        (lambda low, high, changes, margin: gate(low, high, changes, 0), "less than the margin, the gate accepts"),
        (lambda low, high, changes, margin: gate(low, high, changes, 0.02), "margin is 0.05"),
        (lambda low, high, changes, margin: gate(low, high, {}, margin), "general falls by more"),
        (mean_of_guards, "the gate refuses|must name"),
        (first_reason, "must name"),
        (lambda *given: (gate(*given)[0], ["target and general"]), "is no reason"),
        (lambda *given: (gate(*given)[0], gate(*given)[1] or ["all is well"]), "the list of reasons is empty"),
        (lambda *given: (gate(*given)[0], "; ".join(gate(*given)[1])), "not one string"),
        (lambda *given: [gate(*given)[0]], "two things"),
        (lambda *given: gate(*given)[0], "two things"),
        (lambda *given: None, "two things"),
    ],
    ids=[
        "high end",
        "from 0",
        "no margin",
        "fixed margin",
        "no guards",
        "mean",
        "first reason",
        "always",
        "praise",
        "text",
        "bare",
        "verdict alone",
        "no return",
    ],
)
def test_gate_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson07.check_gate(answer)


def judge(general, own):
    if general[1] < 0:
        return "forgets"
    return "good" if own[0] > 0 else "not settled"


def test_a_right_verdict_passes(capsys):
    lesson07.check_judge(judge)
    assert "Right: 9 tables" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda general, own: None, "returns nothing"),
        (lambda general, own: "bad", "you return 'bad'"),
        (lambda general, own: "forgets" if sum(general) < 0 else "good" if own[0] > 0 else "not settled", "not at their middles"),
        (lambda general, own: "forgets" if general[1] <= 0 else "good" if own[0] > 0 else "not settled", "ends at 0 exactly"),
        (lambda general, own: "forgets" if general[1] < 0 else "good" if own[0] >= 0 else "not settled", "begins at 0 exactly"),
        (lambda general, own: "good" if own[0] > 0 else "forgets" if general[1] < 0 else "not settled", "general falls for sure and own gains"),
    ],
)  # fmt: skip
def test_a_wrong_verdict_is_refused_in_words(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson07.check_judge(answer)
