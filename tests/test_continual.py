"""Learning stage after stage: strategies, penalties, interpolation, the forgetting matrix."""

import numpy as np
import pytest
import torch
from trades import FAST, allowing, small_reranker, stage, trade

from benchmarks.continual import losses
from course_utils.data.groups import shuffle_labels
from course_utils.errors import InputError
from course_utils.training.adaptation import Adaptation
from course_utils.training.freezing import freeze_all_but_last
from course_utils.training.recipe import Recipe
from course_utils.training.weights import load_tensors, trained_tensors
from course_utils.updates import stream as continual
from course_utils.updates.forgetting import (
    Forgetting,
    average_forgetting,
    backward_transfer,
    forward_transfer,
    own_gain,
)
from course_utils.updates.stream import (
    STRATEGIES,
    Stage,
    _choose_share,
    _draw,
    _mix,
    l2_sp,
    learn,
    learn_stream,
)

TESTS = {name: trade(name, "test", 20) for name in ("general", "medical", "legal")}


@pytest.fixture
def small(tokenizer):
    return small_reranker(tokenizer)


def stream(reranker, strategy):
    stages = [stage("medical"), stage("legal")]
    return learn_stream(reranker, stages, TESTS, [stage("general")], allowing(strategy), FAST, quiet=True)


@pytest.fixture(scope="module")
def plain(tokenizer):
    return stream(small_reranker(tokenizer), "plain")


@pytest.mark.slow
def test_plain_learning_forgets_and_the_default_strategy_does_not(plain, small):
    kept = stream(small, "default")
    assert losses(plain)["medical"] > 0.1
    assert losses(kept)["medical"] < 0.1
    assert losses(kept)["medical"] < losses(plain)["medical"] - 0.1
    assert own_gain(plain) > 0 and own_gain(kept) > 0


def test_a_stream_reports_every_stage_and_keeps_values_per_query(plain):
    assert plain.rows == ["base", "medical", "legal"]
    assert [row["stage"] for row in plain.log] == ["medical", "legal"]
    assert all(row["replayed"] == 0 and row["alpha"] == 1 for row in plain.log)
    assert plain.queries["legal", "medical"].mean() == pytest.approx(plain.at("legal", "medical"))
    assert len(plain.queries["base", "general"]) == 20


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_trains(small, strategy):
    freeze_all_but_last(small.model, 1)
    before = trained_tensors(small.model)
    recipe = FAST.replace(layers=1, epochs=1)
    done = learn(small, stage("medical", 8), [stage("general", 8)], allowing(strategy), recipe, quiet=True)
    moved = any(not torch.equal(t, before[n]) for n, t in trained_tensors(small.model).items())
    assert moved == (done["best_epoch"] > 0 and done["alpha"] > 0)
    assert done["replayed"] == (8 if strategy in ("replay", "default") else 0)


def test_settings_reach_the_training(small, monkeypatch):
    seen = {}

    def record(reranker, train, dev, recipe, **options):
        seen.update(options, dev=dev, **recipe.asdict() | {"penalty": recipe.penalty})
        return Adaptation([], 0, 0.0, 0, 0, counts={"replayed": 0})

    monkeypatch.setattr(continual, "adapt", record)
    old = [stage("general", 30), stage("legal", 4)]
    learn(
        small,
        stage("medical", 10),
        old,
        {"rate": 0.5, "replay": 1.0, "pull": 2.0},
        Recipe(learning_rate=0.01, layers=1),
    )
    assert seen["learning_rate"] == 0.005
    assert len(seen["replay"]) == 10 and seen["replay_share"] == 1.0
    assert sum(g.query.startswith("legal") for g in seen["replay"]) == 4
    assert {g.query.split()[0] for g in seen["dev"]} == {"medical", "general", "legal"}
    assert seen["penalty"](small.model).item() == 0
    learn(small, stage("medical", 10), strategy="plain", recipe=Recipe(layers=1))
    assert seen["penalty"] is None and seen["replay"] == [] and seen["learning_rate"] == 2e-3
    assert seen["keep"] == "last"
    learn(small, stage("medical", 10), old, recipe=Recipe(layers=1))
    assert seen["keep"] == "best"
    learn(small, stage("medical", 240), old, recipe=Recipe(layers=1))
    assert seen["negatives"] == Recipe(keep="best", layers=1).resolved(small.model, 240).negatives


def test_replay_draws_evenly_and_gives_what_there_is():
    pools = [[f"a{i}" for i in range(50)], ["b0", "b1"], [f"c{i}" for i in range(50)]]
    drawn = _draw(pools, 20)
    assert len(drawn) == len(set(drawn)) == 20
    assert [sum(x[0] == name for x in drawn) for name in "abc"] == [9, 2, 9]
    assert _draw(pools, 20) == drawn != _draw(pools, 20, seed=1)
    assert len(_draw(pools, 1000)) == 102 and _draw([], 3) == []


def test_the_penalty_measures_the_way_from_the_start(small):
    freeze_all_but_last(small.model, 1)
    start = trained_tensors(small.model)
    assert l2_sp(start, 3.0)(small.model).item() == 0
    with torch.no_grad():
        for n, p in small.model.named_parameters():
            if n in start:
                p += 0.5
    count = sum(t.numel() for t in start.values())
    assert l2_sp(start, 3.0)(small.model).item() == pytest.approx(1.5 * 0.25 * count, rel=1e-4)


@pytest.mark.slow
def test_a_strong_pull_keeps_the_weights_near(tokenizer):
    away = []
    for strategy in ({}, {"pull": 100.0}):
        reranker = small_reranker(tokenizer)
        freeze_all_but_last(reranker.model, 1)
        before = trained_tensors(reranker.model)
        learn(reranker, stage("medical", 12), strategy=strategy, recipe=FAST.replace(layers=None), quiet=True)
        after = trained_tensors(reranker.model)
        away.append(sum(float(((after[n] - before[n]) ** 2).sum()) for n in before))
    assert 0 < away[1] < away[0] / 2


def test_mixing_ends_at_both_ends():
    before, after = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([1.0, 4.0])}
    assert torch.equal(_mix(before, after, 0.0)["w"], before["w"])
    assert torch.equal(_mix(before, after, 1.0)["w"], after["w"])
    assert torch.equal(_mix(before, after, 0.5)["w"], torch.tensor([0.5, 3.0]))


@pytest.mark.slow
def test_interpolation_takes_the_gain_and_refuses_it_where_an_earlier_set_would_fall(small):
    freeze_all_but_last(small.model, 2)
    before = trained_tensors(small.model)
    learn(small, stage("legal"), strategy="plain", recipe=FAST, quiet=True)
    after = trained_tensors(small.model)
    alpha = _choose_share(small, before, trade("legal", "dev", 12))
    assert alpha > 0
    for name, tensor in trained_tensors(small.model).items():
        assert torch.allclose(tensor, _mix(before, after, alpha)[name])
    load_tensors(small.model, after)
    opposite = shuffle_labels(trade("legal", "test", 12))
    assert _choose_share(small, before, trade("legal", "dev", 12), [opposite]) == 0
    assert all(torch.equal(t, before[n]) for n, t in trained_tensors(small.model).items())


@pytest.fixture
def matrix():
    values = np.array([[0.8, 0.5, 0.4, 0.3], [0.7, 0.9, 0.5, 0.2], [0.6, 0.8, 0.9, 0.4], [0.5, 0.6, 0.95, 0.8]])
    return Forgetting(["base", "a", "b", "c"], ["general", "a", "b", "c"], values)


def test_the_figures_of_a_matrix_worked_out_by_hand(matrix):
    assert losses(matrix) == pytest.approx({"general": 0.3, "a": 0.3, "b": -0.05})
    assert average_forgetting(matrix) == pytest.approx((0.3 + 0.3 - 0.05) / 3)
    assert backward_transfer(matrix) == pytest.approx((-0.3 + 0.05) / 2)
    assert forward_transfer(matrix) == pytest.approx((0.1 + 0.1) / 2)
    assert own_gain(matrix) == pytest.approx((0.4 + 0.5 + 0.5) / 3)


def test_a_matrix_prints_as_a_markdown_table(matrix):
    lines = str(matrix).splitlines()
    assert lines[0] == "| after | general | a | b | c |"
    assert lines[3] == "| a | 0.700 | **0.900** | 0.500 | 0.200 |"
    assert "average forgetting 0.183" in lines[-1] and "backward transfer -0.125" in lines[-1]


def test_one_stage_has_no_transfer_and_still_prints():
    matrix = Forgetting(["base", "a"], ["general", "a"], np.array([[0.8, 0.5], [0.7, 0.9]]), "plain")
    assert str(matrix).endswith("plain: average forgetting 0.100, gain +0.400")


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("magic", 'no strategy "magic"'),
        ({"speed": 1}, 'no setting "speed"'),
        ({"replay": -1}, "not a number from 0"),
        ({"pull": "strong"}, "not a number from 0"),
        ({"rate": 0}, "nothing would be learned"),
        ({"keep": "first"}, '"best" or "last"'),
        ("replay", "at least one earlier Stage"),
        ({"replay": 0.5}, "at least one earlier Stage"),
        ({"pull": float("nan")}, "not a number from 0"),
    ],
)
def test_a_wrong_strategy_is_named(small, strategy, message):
    with pytest.raises(InputError, match=message):
        learn(small, stage("medical", 8), strategy=strategy)


def test_a_stage_without_dev_needs_enough_queries(small):
    with pytest.raises(InputError, match="medical has 3 rankable queries"):
        learn(small, Stage("medical", trade("medical", "train", 3)), strategy="plain")


def test_a_stream_checks_names_tests_and_leaks_before_it_trains(small):
    with pytest.raises(InputError, match="at least one"):
        learn_stream(small, [], TESTS)
    with pytest.raises(InputError, match="names of their own"):
        learn_stream(small, [stage("legal"), stage("legal")], TESTS)
    with pytest.raises(InputError, match='no set "legal"'):
        learn_stream(small, [stage("legal")], {"general": TESTS["general"]})
    with pytest.raises(InputError, match="stage legal and test legal share"):
        learn_stream(small, [Stage("legal", TESTS["legal"][:8])], TESTS)
