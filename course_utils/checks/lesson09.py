"""Checks for the exercises of lesson 09, Your own trade."""

import numpy as np

from course_utils.checks import _attempt, _careful, _judged, need, ok
from course_utils.data import Bm25, Group, leaks, read_data
from course_utils.evaluation import compare
from course_utils.files import data_folder
from course_utils.language import _, _later

_TEXTS = ["a lost badge is blocked", "parking costs five euros", "the badge opens the ward", "parking is in the north", "the monitor is broken"]  # fmt: skip
_ASKED = [
    ("lost badge", (0,)), ("badge ward", (2,)), ("parking", (1, 3)), ("broken parking badge", (4, 1)), ("the badge", (0,)),
    ("where is my dinner", (1,)), ("car", (3,)),
]  # fmt: skip


@_careful
def check_ceiling(ceiling):
    """Exercise 1: ``ceiling(index, groups, k)`` is the share of groups with a right document among the first k."""
    index = Bm25(_TEXTS)
    groups = [
        Group(q, tuple(_TEXTS), tuple(int(i in right) for i in range(len(_TEXTS))), str(i))
        for i, (q, right) in enumerate(_ASKED)
    ]
    for k in (1, 2, 5):
        tops = [index.top(g.query, k) for g in groups]
        hits = [sum(d in top for d in g.positives) for g, top in zip(groups, tops, strict=True)]
        found, every = sum(h > 0 for h in hits), sum(h == len(g.positives) for h, g in zip(hits, groups, strict=True))
        count, expected = len(groups), found / len(groups)
        answer = _attempt(ceiling, index, list(groups), k, IndexError=_("A question may find nothing at all."))
        number = isinstance(answer, (int, float, np.floating)) and not isinstance(answer, bool)
        need(number, "Return one number, not {answer!r}.", answer=answer)
        for words, wrong in (
            (_("You count right passages; count questions: two found for one question are one."), sum(hits) / count),
            (_("You ask for all right passages of a question; one is enough."), every / count),
            (_("You count every document of a list; only g.positives are right."), sum(map(bool, tops)) / count),
            (
                _("Questions that find nothing count too: divide by all questions."),
                found / max(1, sum(map(bool, tops))),
            ),
            (_("You return a count; divide by the number of questions."), found),
            (_("You return percent; return a share from 0 to 1."), 100 * expected),
        ):
            fits = abs(answer - wrong) > 1e-9 or abs(wrong - expected) < 1e-9
            need(fits, "With k = {k}: {words}", k=k, words=words)
        need(
            abs(answer - expected) < 1e-9,
            "With k = {k} it is {expected:.3f}; you return {answer:.3f}.", k=k, expected=expected, answer=answer,
        )  # fmt: skip
    ok("Right: three depths, also where nothing is found.")


@_careful
def check_leaked(leaked):
    """Exercise 2: ``leaked(train, dev)`` returns the right documents of dev that stand in train as wrong ones."""
    train = [
        Group("badge", ("Call 4100.", "Park in the  NORTH.", "Ask the porter."), (1, 0, 0), "a"),
        Group("monitor", ("Report it.", "call 4100", "Dinner is at six."), (1, 0, 0), "b"),
        Group("keys", ("Ask the porter.", "The keys hang there.", "Bikes stay outside."), (1, 1, 0), "c"),
    ]
    dev = [
        Group("car", ("Park in the north.", "Bikes stay outside."), (1, 0), "d"),
        Group("food", ("Dinner is at six.", "Lunch is at noon."), (1, 1), "e"),
        Group("door", ("The keys hang there.", "Report it."), (1, 0), "f"),
    ]
    expected = {twin for __, twin, __ in leaks(train, dev, near=False).answers}
    answer = leaked(list(train), list(dev))
    need(answer is not None, "Your function returns nothing; end it with return.")
    need(not isinstance(answer, str), "Return a list of texts, not one text.")
    answer = list(answer)
    need(
        "The keys hang there." not in answer,
        '"The keys hang there." is right in train: sharing a right document is another leak. Look at relevance 0 there.',
    )
    for text in ("Bikes stay outside.", "Report it."):
        need(text not in answer, '"{text}" is a wrong document of dev; look for its right ones (g.positives).', text=text)  # fmt: skip
    need("Park in the  NORTH." not in answer, "You return the text as it stands in train; return the one of dev.")
    need(
        "Park in the north." in answer,
        'You miss "Park in the north.": in train it stands with other spaces and capitals. Compare normalise(text).',
    )
    missing, extra = [d for d in expected if d not in answer], [d for d in answer if d not in expected]
    need(not missing, 'You miss "{text}".', text="".join(missing[:1]))
    need(not extra, "{text!r} is no right answer of dev that stands in train as a wrong one.", text=[*extra, ""][0])
    need(len(set(answer)) == len(answer), "A text stands twice in what you return.")
    need(list(leaked(train, [])) == [], "Without a dev list there is no leak: return an empty list.")
    ok("Right: the leaks of data.leaks, also under other spaces and capitals.")


@_careful
def check_own(parts, before, done, after, difference):
    """Exercise 3: lists from the Chinese handbook, a reranker adapted to them, and the change on the test."""
    train, dev, test = (parts[name] for name in ("train", "dev", "test"))
    file = data_folder() / "handbook" / "zh" / "questions.csv"
    known = read_data(file, {"query": "员工的问法", "document": "答案出处"}, drop_repeated=True).groups
    asked = {g.query for g in known}
    strange = next((g.query for g in (*train, *dev, *test) if g.query not in asked), None)
    need(strange is None, "{query!r} is no question of the Chinese handbook; prepare its files.", query=strange)
    for name, other in (("train", dev), ("train", test), ("dev", test)):
        found = leaks(parts[name], other, near=False)
        apart = not found.queries and not found.documents
        need(apart, "{name} shares questions or right passages with a later part.", name=name)
        need(
            not found.answers,
            "{name} holds right answers of a later part as wrong ones: split before you mine.", name=name,
        )  # fmt: skip
    for name in ("train", "dev"):
        given = done.counts[name]["queries"]
        need(
            given == len(parts[name]),
            "adapt was given {given} lists as {name}; parts holds {count}.", given=given, name=name, count=len(parts[name]),
        )  # fmt: skip
    need(not done.counts["replayed"], "General queries were mixed in: leave replay out here.")
    for name, run in (("before", before), ("after", after)):
        fits = [list(r) for r in run.relevance] == [list(g.relevance) for g in test]
        need(fits, "{name} was not measured on the test lists.", name=name)
    same = all(np.array_equal(a, b) for a, b in zip(before.scores, after.scores, strict=True))
    need(
        not same or done.best_epoch == 0,
        "before and after hold the same scores, although training kept a later epoch: measure before you train.",
    )
    need(same or done.best_epoch > 0, "before and after differ although training kept the base: use one reranker.")
    true = compare(before, after)
    need(hasattr(difference, "low"), "difference is {value!r}; take what compare returns.", value=difference)
    turned = abs(difference.mean + true.mean) < 1e-9 and abs(true.mean) > 1e-9
    need(not turned, "The sign is turned round: compare(before, after) is after less before.")
    need(
        abs(difference.mean - true.mean) < 1e-9,
        "The mean difference is {true:+.3f}, not {given:+.3f}.", true=true.mean, given=difference.mean,
    )  # fmt: skip
    said = _("a gain") if true.low > 0 else _("a loss") if true.high < 0 else _("not settled")
    ok(
        "Right: {count} test questions, nDCG@10 {mean:+.3f} [{low:+.3f}, {high:+.3f}]: {said}.",
        count=len(test), mean=true.mean, low=true.low, high=true.high, said=said,
    )  # fmt: skip


_CASES = {
    "A": ("collect questions", {"use it": _later("A loss fits the interval as well."),
          "keep the base": _later("The interval is wide: a large gain fits it, too.")}),
    "B": ("mend the lists", {"use it": _later("The check found answers among negatives: what was measured on these lists says little.")}),
    "C": ("mend the search", {"keep the base": _later("What keeps users waiting stands in the second column."),
          "collect questions": _later("The interval is narrow enough; the second column is the worry.")}),
    "D": ("use it", {"collect questions": _later("The interval lies above 0: it is settled."),
          "keep the base": _later("It is settled, and nothing fell beyond the margin.")}),
    "E": ("replay more", {"use it": _later("General questions fall by more than the margin, for sure."),
          "keep the base": _later("The gain is real; try to keep it without the fall.")}),
    "F": ("keep the base", {"collect questions": _later("The interval is narrow enough: any gain is too small to matter."),
          "use it": _later("The interval holds 0.")}),
}  # fmt: skip


@_careful
def check_next_step(next_step):
    """Exercise 4: ``next_step(case)`` returns the first thing to do for each of the six cases of the table."""
    choose = _later("Your answer for {name} is {answer!r}; choose one of {words}.")
    other = _later("Go through the columns from left to right; the first one that is not well decides.")
    _judged(next_step, _CASES, choose, _later("{name} is not {answer!r}. {why}"), other)
    ok("Right: six cases, six different next steps.")
