"""Ranking metrics against other libraries and against brute force; the paired comparison."""

from collections import Counter
from itertools import permutations

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, R, nDCG
from sklearn.metrics import accuracy_score, f1_score, ndcg_score

from course_utils.data.counts import usable
from course_utils.data.groups import Group
from course_utils.errors import InputError
from course_utils.evaluation import measure as compare
from course_utils.evaluation import metrics


def lists(count, seed, grades=2, ties=False, size=(2, 25)):
    """Return random (scores, relevance) of queries, each with something relevant."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        n = int(random.integers(*size))
        relevance = random.integers(0, grades, n)
        relevance[random.integers(n)] = grades - 1
        scores = random.integers(0, 4, n).astype(float) if ties else random.permutation(n) + random.random()
        out.append((scores, relevance))
    return out


@pytest.mark.parametrize("grades", [2, 4])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_ndcg_agrees_with_scikit_learn_ties_included(grades, ties, k):
    for scores, relevance in lists(60, 1, grades, ties):
        assert metrics.ndcg_at_k(scores, relevance, k) == pytest.approx(
            ndcg_score([relevance], [scores], k=k), abs=1e-12
        )


@pytest.mark.parametrize("grades", [2, 4])
def test_all_metrics_agree_with_ir_measures_without_ties(grades):
    runs = lists(80, 2, grades)
    qrels = {f"q{i}": {f"d{j}": int(r) for j, r in enumerate(rel)} for i, (_, rel) in enumerate(runs)}
    run = {f"q{i}": {f"d{j}": float(s) for j, s in enumerate(scores)} for i, (scores, _) in enumerate(runs)}
    names = {nDCG @ 10: "ndcg@10", RR @ 10: "mrr@10", AP: "map", R @ 10: "recall@10"}
    ours = {name: metrics.per_query(*zip(*runs, strict=True), name) for name in names.values()}
    seen = 0
    for m in ir_measures.iter_calc(list(names), qrels, run):
        assert ours[names[m.measure]][int(m.query_id[1:])] == pytest.approx(m.value, abs=1e-9)
        seen += 1
    assert seen == 4 * len(runs)


def in_order(metric, relevance, **k):
    """The metric of a ranking without ties."""
    return metric(-np.arange(len(relevance), dtype=float), relevance, **k)


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        (metrics.ndcg_at_k, {"k": 3}),
        (metrics.ndcg_at_k, {"k": 10}),
        (metrics.mrr_at_k, {"k": 3}),
        (metrics.mrr_at_k, {"k": 10}),
        (metrics.average_precision, {}),
        (metrics.recall_at_k, {"k": 3}),
    ],
)
def test_a_tie_counts_as_the_mean_over_all_orders(metric, arguments):
    random = np.random.default_rng(3)
    for _ in range(25):
        n = int(random.integers(1, 7))
        scores, relevance = random.integers(0, 3, n).astype(float), random.integers(0, 3, n)
        # Every order that the scores allow: sorted by score, the tied ones in the order of the permutation.
        orders = Counter(
            tuple(relevance[sorted(order, key=lambda i: -scores[i])].tolist()) for order in permutations(range(n))
        )
        mean = sum(count * in_order(metric, own, **arguments) for own, count in orders.items()) / orders.total()
        assert metric(scores, relevance, **arguments) == pytest.approx(mean, abs=1e-12)


def test_the_order_of_the_input_earns_nothing():
    for metric in metrics.RANKING.values():
        assert metric(np.zeros(5), [1, 0, 0, 0, 0]) == pytest.approx(metric(np.zeros(5), [0, 0, 0, 0, 1]))
        assert metric([5, 4, 3.0], [1, 0, 0]) == 1
        assert metric([5, 4, 3.0], [0, 0, 0]) == 0


def test_hand_made_values():
    scores, relevance = [4.0, 3, 2, 1], [0, 1, 0, 1]
    assert metrics.mrr_at_k(scores, relevance) == 0.5
    assert metrics.average_precision(scores, relevance) == pytest.approx((1 / 2 + 2 / 4) / 2)
    best = 1 + 1 / np.log2(3)
    assert metrics.ndcg_at_k(scores, relevance) == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / best)
    assert metrics.mrr_at_k(scores, [0, 0, 0, 1], k=3) == 0 and metrics.recall_at_k(scores, relevance, k=2) == 0.5


def test_accuracy_and_f1_agree_with_scikit_learn():
    random = np.random.default_rng(4)
    for _ in range(20):
        scores, relevance = random.normal(size=40), random.integers(0, 3, 40)
        accuracy, f1 = metrics._accuracy_f1(scores, relevance)
        assert accuracy == pytest.approx(accuracy_score(relevance > 0, scores > 0))
        assert f1 == pytest.approx(f1_score(relevance > 0, scores > 0))
    assert metrics._accuracy_f1([-1.0, -2.0], [0, 0]) == (1.0, 0.0)


def test_the_summary_is_the_mean_over_queries():
    runs = lists(15, 5)
    scores, relevance = zip(*runs, strict=True)
    summary = metrics.summary(scores, relevance)
    assert set(summary) == {*metrics.RANKING, "accuracy", "f1"}
    assert summary["map"] == pytest.approx(np.mean([metrics.average_precision(s, r) for s, r in runs]))


@pytest.mark.parametrize("metric", metrics.RANKING.values())
def test_scores_that_are_no_numbers_are_refused(metric):
    with pytest.raises(ValueError, match="not a finite number"):
        metric([1.0, float("nan")], [1, 0])
    with pytest.raises(ValueError, match="equally long"):
        metric([1.0, 2.0, 3.0], [1, 0])


def test_the_bootstrap_interval_covers_the_true_difference():
    random = np.random.default_rng(6)
    trials, covered = 300, 0
    for i in range(trials):
        before = random.random(80)
        after = before + 0.05 + 0.2 * random.standard_normal(80)
        d = compare.paired_bootstrap(before, after, rounds=500, seed=i)
        covered += d.low <= 0.05 <= d.high
        assert d.low <= d.mean <= d.high and d.wins + d.losses == 80
    # 95 % nominal; the percentile interval of 80 values is a little narrow. Three standard errors are 3.8 points.
    assert 0.90 <= covered / trials <= 0.985


def test_the_interval_is_the_same_for_the_same_seed_and_holds_no_zero_for_a_clear_gain():
    before = np.linspace(0, 0.5, 60)
    d = compare.paired_bootstrap(before, before + 0.1 + 0.01 * np.sin(np.arange(60)))
    assert d == compare.paired_bootstrap(before, before + 0.1 + 0.01 * np.sin(np.arange(60)))
    assert 0.09 < d.low < d.high < 0.11 and (d.wins, d.losses) == (60, 0) and str(d).startswith("+0.1")
    same = compare.paired_bootstrap(before, before)
    assert (same.mean, same.low, same.high, same.wins, same.losses) == (0, 0, 0, 0, 0)
    narrow, wide = (compare.paired_bootstrap(before, before[::-1], level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_bootstrap_refuses_different_queries():
    for pair in (([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[1.0]])):
        with pytest.raises(ValueError, match="one value a query"):
            compare.paired_bootstrap(*pair)


def test_two_evaluations_of_the_same_groups_are_compared():
    groups = [Group(f"q{i}", ("a", "b", "c"), (0, 1, 0)) for i in range(30)]
    bad, good = ([np.array(s)] * 30 for s in ([3.0, 2.0, 1.0], [1.0, 2.0, 0.0]))
    before, after = compare.evaluate_scores(bad, groups), compare.evaluate_scores(good, groups)
    assert before.summary["mrr@10"] == 0.5 and after.summary["mrr@10"] == 1
    assert after.per_query("mrr@10").tolist() == [1.0] * 30
    difference = compare.compare(before, after, "mrr@10")
    assert (difference.mean, difference.wins, difference.losses) == (0.5, 30, 0)


def test_a_reranker_is_evaluated_on_groups_that_can_be_ranked(tiny, groups):
    evaluation = compare.evaluate(tiny, groups)
    scores = tiny.score_groups(groups)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(evaluation.scores, scores, strict=True))
    with pytest.raises(InputError, match="nothing to rank"):
        compare.evaluate(tiny, [Group("q", ("a", "b"), (1, 1))])


def test_one_rule_for_queries_that_cannot_be_ranked(tiny, groups):
    spoilt = [*groups, Group("nothing fits", ("a", "b"), (0, 0)), Group("all fit", ("a", "b"), (1, 2))]
    spoilt.append(Group("a very long query " * 200, ("a", "b"), (1, 0)))
    clean, found = compare.evaluate(tiny, groups), compare.evaluate(tiny, spoilt)
    assert found.summary == clean.summary and len(found.scores) == len(clean.scores)
    counts = found.counts
    assert (counts.queries, counts.kept) == (len(groups) + 3, len(groups))
    assert (counts.without_right, counts.only_right, counts.too_long) == (1, 1, 1)
    assert (
        "3 of" in counts.sentence() and "1 without a right document, 1 with right documents only" in counts.sentence()
    )
    assert clean.counts.sentence() == "" and counts.as_dict()["queries_too_long"] == 1
    scores = [np.arange(len(g.documents)) for g in spoilt[:-1]]
    assert len(compare.evaluate_scores(scores, spoilt[:-1]).scores) == len(groups)
    long = [Group("q", ("word " * 5000, "b"), (1, 0))]
    assert (
        compare.evaluate(tiny, long).counts.cut == 1
        and "1 of 2 documents are cut" in compare.evaluate(tiny, long).counts.sentence()
    )


def test_a_query_that_is_too_long_is_told_by_the_same_rule_as_the_encoder(tiny):
    for words in range(1, 400, 7):
        group = Group("word " * words + "?", ("a " * 2000, "b"), (1, 0))
        try:
            tiny.encode([group])
            fits = True
        except InputError:
            fits = False
        try:
            assert usable([group], tiny)[1].too_long == 0 and fits
        except InputError:
            assert not fits
