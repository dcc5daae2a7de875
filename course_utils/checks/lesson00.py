"""Checks for the exercises of lesson 00, Start here."""

import functools
import itertools
import math
import random

import numpy as np

from course_utils.checks import _attempt, _careful, need, ok
from course_utils.data import read_cases, read_grid
from course_utils.data.groups import leaks
from course_utils.language import _
from course_utils.model import Ranked, sigmoid


@_careful
def check_ranking(documents, right, ranking):
    """Exercise 1: ``ranking`` is the ranking of the learner's own documents; ``right`` the place of the right one."""
    need(
        len(set(documents)) >= 4,
        "There are {n_documents} different documents; write at least 4.",
        n_documents=len(set(documents)),
    )
    need(
        right in range(len(documents)),
        "right is {right}; it is a place in documents, from 0 to {n_documents}.",
        right=right,
        n_documents=len(documents) - 1,
    )
    ranking = list(ranking)
    strange = next((r for r in ranking if not isinstance(r, Ranked)), None)
    need(
        strange is None,
        "ranking holds a {kind}; keep what reranker.rank(query, documents) returns, not scores or texts.",
        kind=type(strange).__name__,
    )
    found = sorted(r.index for r in ranking)
    need(found == list(range(len(documents))), "The ranking does not hold each of your documents once.")
    need(all(r.document == documents[r.index] for r in ranking), "The ranking belongs to other documents.")
    scores = np.array([r.score for r in ranking])
    need((np.diff(scores) <= 0).all(), "The scores do not fall from the first line to the last: best comes first.")
    gap = np.abs(np.array([r.probability for r in ranking]) - sigmoid(scores)).max()
    need(gap < 1e-4, "The probabilities do not belong to the scores.")
    place = next(i for i, r in enumerate(ranking, 1) if r.index == right)
    ok(
        "Right: {n_documents} documents in order. Yours stands on rank {place}.",
        n_documents=len(documents),
        place=place,
    )


@_careful
def check_ndcg(ndcg):
    """Exercise 2: ``ndcg(labels)`` of labels (0 or 1) in ranked order, best rank first, at most 10 of them."""
    random_ = random.Random(0)
    cases = [[1, 0, 0], [0, 1, 0], [0, 1, 0, 1], [1, 1, 0], [0, 0, 0, 1, 1]]
    cases += [[random_.randint(0, 1) for _ in range(random_.randint(2, 9))] + [1] for _ in range(20)]
    for labels in cases:
        answer = ndcg(list(labels))
        need(
            isinstance(answer, (int, float, np.floating)),
            "Return one number, not a {kind}.",
            kind=type(answer).__name__,
        )
        gain = sum(1 / math.log2(rank + 1) for rank, label in enumerate(labels, 1) if label)
        best = sum(1 / math.log2(rank + 1) for rank in range(1, sum(labels) + 1))
        near = math.isclose(answer, gain, rel_tol=1e-6) and not math.isclose(answer, gain / best, rel_tol=1e-6)
        need(
            not near,
            _(
                "For {labels} you return the gain {gain:.3f}; divide it by the gain of the best order, {best:.3f}."
            ).format(labels=labels, gain=gain, best=best),
        )
        need(
            math.isclose(answer, gain / best, rel_tol=1e-6),
            _(
                "For {labels} the gain is {gain:.3f}, the best gain {best:.3f}, so nDCG {gain_2:.3f}; you return {answer:.3f}."
            ).format(labels=labels, gain=gain, best=best, gain_2=gain / best, answer=answer),
        )
    zero = _("Without a right document the best gain is 0, too, and nDCG is 0 here.")
    answer = _attempt(ndcg, [0, 0, 0], ZeroDivisionError=zero)
    need(answer == 0, "With no right document nDCG is 0 here; you return {answer}.", answer=answer)
    ok("Right: {n_cases} rankings, among them one without a right document.", n_cases=len(cases) + 1)


@_careful
def check_winners(answer, before, after):
    """Exercise 3: ``answer`` is (better, worse, same), the queries by the change of their nDCG@10."""
    change = after.per_query() - before.per_query()
    truth = (int((change > 0).sum()), int((change < 0).sum()), int((change == 0).sum()))
    need(len(tuple(answer)) == 3, "Give three numbers: better, worse, same.")
    answer = tuple(int(n) for n in answer)
    need(
        sum(answer) == len(change),
        "Your numbers sum to {answer}; there are {n_change} queries.",
        answer=sum(answer),
        n_change=len(change),
    )
    need(
        answer != (truth[1], truth[0], truth[2]) or truth[0] == truth[1],
        "Better and worse are swapped: take after minus before.",
    )
    need(
        answer == truth,
        "Your numbers are {answer}. Compare query by query: per_query() gives one value for each.",
        answer=answer,
    )
    ok(
        _("Right: {truth_0} better, {truth_1} worse, {truth_2} the same.").format(
            truth_0=truth[0], truth_1=truth[1], truth_2=truth[2]
        )
    )


@functools.cache
def _course_queries():
    # {query: [(domain, language, part), ...]} of two trades, both languages: where a learner's queries come from.
    places = {}
    for domain, language in itertools.product(("legal", "medical"), ("en", "zh")):
        grid, cases = read_grid(domain, language), read_cases(domain, language)
        topics = [(q.text, grid.splits, q.topic) for q in grid.queries]
        topics += [(q.text, cases.splits, cases.passages[q.passage].topic) for q in cases.queries]
        for query, splits, topic in topics:
            places.setdefault(query, []).append((domain, language, splits.get(topic, "")))
    return places


@_careful
def check_adapted(train, dev, test, before, after, done):
    """Exercise 4: a reranker adapted to another domain, measured before and after on the same test queries."""
    for name, other in (("train", train), ("dev", dev)):
        found = leaks(other, test, near=False)
        shared = [text for _, text, _ in found.queries + found.documents]
        need(not shared, "{name} and test share {names!r}; keep them apart.", name=name, names="".join(shared[:1]))
    places = _course_queries()
    for name, own in (("train", train), ("dev", dev), ("test", test)):
        # Queries that are not the course's are the learner's own, and fine.
        other = next(
            (places[g.query] for g in own if g.query in places and ("legal", "zh", name) not in places[g.query]), None
        )
        need(
            not other,
            "{name} holds queries of {word}; the exercise asks for legal, zh, {name}.",
            name=name,
            word=", ".join(other[0]) if other else "",
        )
    labels = [g.relevance for g in test]
    need(before.relevance == labels, "before was not measured on these test queries.")
    need(after.relevance == labels, "after was not measured on these test queries.")
    same = all(np.array_equal(a, b) for a, b in zip(before.scores, after.scores, strict=True))
    need(
        not same or done.best_epoch == 0,
        "before and after hold the same scores, although training kept a later epoch: measure before you train.",
    )
    need(
        same or done.best_epoch > 0,
        "before and after differ although training kept the base: both must come from one reranker.",
    )
    change = after.summary["ndcg@10"] - before.summary["ndcg@10"]
    ok(
        _("Right: {n_test} unseen queries, nDCG@10 changed by {change:+.3f}; epoch {best_epoch} was kept.").format(
            n_test=len(test), change=change, best_epoch=done.best_epoch
        )
    )
