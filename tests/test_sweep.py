"""Successive halving: who goes on, what is recorded, what the explanation says."""

import random

import pytest
from trades import small_reranker, trade

from course_utils import training
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.training import sweeps as module
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe
from course_utils.training.sweeps import _words, sweep
from course_utils.training.trainer import TrainingError

TRAIN, DEV = trade("legal", "train", 32), trade("legal", "dev", 16)
RECIPE = Recipe(cache=False, layers=1, epochs=1)


@pytest.mark.slow
def test_rounds_halve_the_settings_and_double_the_queries(tokenizer):
    grid = {"learning_rate": [1e-6, 5e-3], "negatives": [1, 3]}
    found = sweep(
        lambda: small_reranker(tokenizer), TRAIN, DEV, grid, RECIPE.replace(layers=2, epochs=2), (8, 16, 32), quiet=True
    )
    assert [sum(r["rung"] == i for r in found.rows) for i in range(3)] == [4, 2, 1]
    assert [{r["queries"] for r in found.rows if r["rung"] == i} for i in range(3)] == [{8}, {16}, {32}]
    last = [r for r in found.rows if r["rung"] == 2]
    assert found.best == max(last, key=lambda r: r["ndcg@10"])["settings"]
    assert found.best["learning_rate"] == 5e-3
    for i in (0, 1):  # the better half went on
        rung = sorted((r for r in found.rows if r["rung"] == i), key=lambda r: -r["ndcg@10"])
        went_on = [r["settings"] for r in found.rows if r["rung"] == i + 1]
        assert all(r["settings"] in went_on for r in rung[: len(rung) // 2])
    # 2 epochs: 4 runs on 8 queries, 2 on 16, 1 on 32; the whole grid: 4 runs on 32.
    assert "7 runs in 3 rounds went over 192 queries; the whole grid on all 32 would be 256" in found.why
    table = str(found).splitlines()
    assert table[0].startswith("| learning_rate | negatives | queries | dev nDCG@10")
    assert len(table) == 2 + 7 + 2 and sum("**" in line for line in table) == 1 and "**" in table[2]


@pytest.mark.slow
def test_the_full_run_repeats_the_best_row(tokenizer):
    grid = {"negatives": [2]}
    found = sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, grid, RECIPE.replace(layers=2), (32,), quiet=True)
    assert found.full == Recipe(cache=False, layers=2, epochs=1, negatives=2, batch_queries=4, keep="best")
    reranker = small_reranker(tokenizer)
    adapt(reranker, TRAIN, DEV, found.full, quiet=True)
    assert evaluate(reranker, DEV).summary["ndcg@10"] == found.rows[0]["ndcg@10"]


def test_all_rungs_take_the_step_of_the_full_run(tokenizer, monkeypatch):
    monkeypatch.setattr(training.recipe, "LARGER_STEPS_FROM", 32)
    steps = []

    def counted(*args, **options):
        done = adapt(*args, **options)
        steps.append(len(done.batch_losses))
        return done

    monkeypatch.setattr(module, "adapt", counted)
    found = sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, {"layers": [1]}, RECIPE, (8, 16), quiet=True)
    assert found.full.batch_queries == 8 and steps == [1, 2]


def test_a_setting_that_cannot_be_trained_is_a_row_and_drops_out(tokenizer, monkeypatch):
    def fussy(reranker, train, dev, recipe, **options):
        if recipe.learning_rate > 1:
            raise TrainingError("The loss is not a number at step 3. Lower it.")
        return adapt(reranker, train, dev, recipe, **options)

    monkeypatch.setattr(module, "adapt", fussy)
    grid = {"learning_rate": [9.0, 5e-3]}
    options = {"recipe": RECIPE, "sizes": (8,), "quiet": True}
    found = sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, grid, **options)
    assert found.best == {"learning_rate": 5e-3}
    assert found.rows[0]["ndcg@10"] is None and "The loss is not a number at step 3" in str(found)
    with pytest.raises(InputError, match=r"No setting could be trained\. The last one said: The loss is not a number"):
        sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, {"learning_rate": [9.0]}, **options)


def test_a_gain_that_may_be_chance_is_called_so(tokenizer):
    grid = {"learning_rate": [1e-7, 2e-7]}
    options = {"recipe": RECIPE, "sizes": (8,), "quiet": True}
    found = sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, grid, **options)
    assert "That gain may be chance" in found.why and "ahead of" in found.why
    assert "which may be chance" in found.why and "more than chance" not in found.why


def test_some_settings_of_a_large_grid_can_be_drawn(tokenizer):
    drawn = random.Random(0).sample([{"learning_rate": i * 1e-4} for i in range(1, 50)], 2)
    found = sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, drawn, RECIPE, (4,), quiet=True)
    assert [r["settings"] for r in found.rows] == drawn
    assert len({_words(r["settings"]) for r in found.rows}) == 2


@pytest.mark.slow
def test_the_default_rungs_are_a_quarter_half_and_all(tokenizer):
    found = sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, {"layers": [1]}, RECIPE, quiet=True)
    assert [r["queries"] for r in found.rows] == [8, 16, 32]


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({"speed": [1]}, {}, 'no choice "speed"'),
        ([{"layers": 1}, {"speed": 1}], {}, 'no choice "speed"'),
        ({"epochs": []}, {}, 'no list of values for "epochs"'),
        ({"epochs": "12"}, {}, 'no list of values for "epochs"'),
        ({"epochs": [0]}, {}, "epochs is 0"),
        ([], {}, "holds no settings"),
        ({"epochs": [1]}, {"sizes": (16, 8)}, "smallest first"),
        ({"epochs": [1]}, {"sizes": (2, 4, 8)}, "The first rung would have 2 queries"),
    ],
)
def test_wrong_arguments_are_named(tokenizer, grid, options, message):
    with pytest.raises(InputError, match=message):
        sweep(lambda: small_reranker(tokenizer), TRAIN, DEV, grid, **options)


def test_dev_must_not_be_trained_on(tokenizer):
    with pytest.raises(InputError, match="train and dev share"):
        sweep(lambda: small_reranker(tokenizer), TRAIN, TRAIN[:8], {"epochs": [1]})
