"""adapt: it learns, it repeats itself, it survives a kill, it says why it stops."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, make_groups, tiny_model

from course_utils import training
from course_utils.data.groups import Group, shuffle_labels
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.batch import Source
from course_utils.training.recipe import Recipe
from course_utils.training.trainer import TrainingError
from course_utils.training.weights import _MovingAverage, load_tensors, trained_tensors


def parameters(reranker):
    return {n: p.detach().clone() for n, p in reranker.model.named_parameters()}


def test_adapt_learns_and_leaves_the_frozen_part_alone(tiny):
    before = parameters(tiny)
    train, dev = make_groups(24), make_groups(12, seed=3)[:0] or None
    done = adapt(tiny, train, dev, Recipe(layers=2, epochs=3, learning_rate=5e-3), quiet=True)
    assert [r["epoch"] for r in done.history] == [0, 1, 2, 3]
    assert done.batch_losses[-1] < done.batch_losses[0]
    changed = {n for n, p in parameters(tiny).items() if not torch.equal(p, before[n])}
    if done.best_epoch:
        assert changed
    assert all(n.startswith(("model.layers.2.", "model.layers.3.", "model.norm.")) for n in changed)
    assert done.trainable < done.total


@pytest.mark.parametrize(("least", "steps"), [(24, 3), (25, 6)])
def test_from_enough_queries_on_a_small_model_takes_larger_steps(tiny, monkeypatch, least, steps):
    monkeypatch.setattr(training.recipe, "LARGER_STEPS_FROM", least)
    every = make_groups(30)
    done = adapt(tiny, every[:24], every[24:], Recipe(layers=1, epochs=1), quiet=True)
    assert len(done.batch_losses) == steps


def test_the_default_rate_grows_with_the_step_up_to_eight_queries_and_a_large_model_keeps_its_own(tiny, monkeypatch):
    assert [training.default_learning_rate(tiny.model, n) for n in (1, 4, 8, 32)] == [2e-3, 2e-3, 4e-3, 4e-3]
    assert [training.default_learning_rate(tiny.model, n, "all") for n in (4, 8)] == [5e-4, 1e-3]
    monkeypatch.setattr(training.recipe, "is_large", lambda model: True)
    assert training.default_learning_rate(tiny.model, 8) == 2e-5
    assert training.default_learning_rate(tiny.model, 8, "all") == 2e-5
    assert training.recipe._default_batch(tiny.model, 10_000) == 4


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tokenizer):
    def run(seed):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        done = adapt(
            reranker, make_groups(20), None, Recipe(layers=1, epochs=2, learning_rate=5e-3, seed=seed), quiet=True
        )
        return done.batch_losses

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_the_best_epoch_is_kept_and_a_harmful_run_keeps_the_start(tokenizer):
    reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
    clean = make_groups(30)
    adapt(reranker, clean[:20], clean[20:], Recipe(layers=2, epochs=3, learning_rate=5e-3), quiet=True)
    good = evaluate(reranker, clean[20:]).summary["ndcg@10"]
    assert good > 0.9
    weights = parameters(reranker)
    poisoned = adapt(
        reranker, shuffle_labels(clean[:20]), clean[20:], Recipe(layers=2, epochs=2, learning_rate=5e-3), quiet=True
    )
    assert poisoned.best_epoch == 0
    assert all(torch.equal(p, weights[n]) for n, p in parameters(reranker).items())


@pytest.mark.slow
def test_the_last_epoch_or_half_of_the_way_to_it_can_be_kept_whatever_dev_says(tokenizer, capsys):
    clean = make_groups(30)
    run = Recipe(layers=2, epochs=3, learning_rate=5e-3)
    kept, weights = {}, {}
    for keep in ("best", "last", "halfway"):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        adapt(reranker, clean[:20], clean[20:], run, quiet=True)
        start = parameters(reranker)
        done = adapt(reranker, shuffle_labels(clean[:20]), clean[20:], run.replace(keep=keep), quiet=keep == "last")
        kept[keep], weights[keep] = done, parameters(reranker)
        moved = any(not torch.equal(p, start[n]) for n, p in weights[keep].items())
        assert moved == (keep != "best")
        now = evaluate(reranker, clean[20:]).summary["ndcg@10"]
        assert now == pytest.approx(done.kept["ndcg@10"])
        assert ("high" in done.kept) == (keep != "best")
        if keep == "best":
            assert done.kept == {name: done.history[done.best_epoch][name] for name in ("dev_loss", "ndcg@10")}
    for name, p in weights["halfway"].items():
        torch.testing.assert_close(p, (start[name] + weights["last"][name]) / 2, rtol=0, atol=1e-6)
    assert kept["halfway"].kept["dev_loss"] < kept["last"].kept["dev_loss"], "the labels were shuffled"
    assert f"half of the way to epoch 3:  dev loss {kept['halfway'].kept['dev_loss']:6.3f}" in capsys.readouterr().out
    assert [kept[keep].best_epoch for keep in ("best", "last", "halfway")] == [0, 3, 3]
    assert kept["last"].history == kept["best"].history == kept["halfway"].history, "the training is the same"
    assert kept["last"].history[3]["ndcg@10"] < kept["last"].history[0]["ndcg@10"]
    assert kept["halfway"].kept["ndcg@10"] < kept["halfway"].history[0]["ndcg@10"]
    said = [any("worse than the start" in sentence for sentence in done.warnings) for done in kept.values()]
    assert said == [False, True, True]


@pytest.mark.parametrize(("own", "replayed", "keep"), [(16, 8, "best"), (20, 0, "halfway"), (20, 5, "halfway")])
def test_own_queries_decide_what_is_kept_and_replayed_ones_do_not(tiny, monkeypatch, own, replayed, keep):
    monkeypatch.setattr(training.recipe, "LARGER_STEPS_FROM", 20)
    every = make_groups(48)
    recipe = Recipe(layers=1, epochs=1, replay_share=replayed / own)
    done = adapt(tiny, every[:own], every[30:36], recipe, replay=every[36:], quiet=True)
    assert done.counts["replayed"] == replayed and done.recipe["keep"] == keep
    assert done.recipe["negatives"] == {"best": 4, "halfway": 2}[keep]


def test_a_stopped_run_goes_on_to_the_same_middle(tokenizer, tmp_path):
    clean, calls = make_groups(16), []

    def stop(model):
        calls.append(0)
        if len(calls) == 5:  # in the second epoch of three steps
            raise KeyboardInterrupt
        return 0

    recipe = Recipe(layers=1, epochs=3, batch_queries=4, learning_rate=5e-3, keep="halfway", penalty=stop)
    weights = {}
    for name in ("whole", "stopped"):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        calls[:] = [0] * 9 if name == "whole" else []
        if name == "stopped":
            with pytest.raises(KeyboardInterrupt):
                adapt(reranker, clean[:12], clean[12:], recipe, work_dir=tmp_path / name, quiet=True)
        done = adapt(reranker, clean[:12], clean[12:], recipe, work_dir=tmp_path / name, quiet=True)
        weights[name] = parameters(reranker), done.kept
    assert weights["stopped"][1] == weights["whole"][1]
    assert all(torch.equal(p, weights["whole"][0][n]) for n, p in weights["stopped"][0].items())


def test_negatives_are_drawn_anew_in_each_epoch_and_right_documents_stay(tokenizer, monkeypatch):
    every = make_groups(12, candidates=6)
    groups = [Group(g.query, (*g.documents, "also right"), (*g.relevance, 1)) for g in every[:8]]
    seen, texts = [], {g.query: g.documents for g in groups}
    collate = Source.collate

    def watch(self, batch, *rest):
        if not isinstance(batch[0], int) and self.groups[0].query in texts:
            own = [(self.groups[g], chosen) for g, chosen in batch]
            seen.append([(g.query, [texts[g.query].index(g.documents[c]) for c in chosen]) for g, chosen in own])
        return collate(self, batch, *rest)

    monkeypatch.setattr(Source, "collate", watch)

    def run(**more):
        seen.clear()
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        done = adapt(reranker, groups, every[8:], Recipe(layers=1, epochs=3, batch_queries=2, **more), quiet=True)
        drawn = {}
        for batch in seen:
            for query, own in batch:
                if query in texts:
                    drawn.setdefault(query, []).append(tuple(own))
        return drawn, done.batch_losses

    drawn, losses = run(negatives=2)
    by_query = {g.query: g for g in groups}
    assert len(drawn) == 8 and all(len(own) == 3 for own in drawn.values())
    for query, own in drawn.items():
        relevance = by_query[query].relevance
        right = {c for c, r in enumerate(relevance) if r}
        assert all(right <= set(choice) and len(choice) == len(right) + 2 for choice in own)
    assert sum(len(set(own)) > 1 for own in drawn.values()) >= 5, "not the same ones in each epoch"
    assert run(negatives=2) == (drawn, losses), "the same seed draws the same"
    whole, _ = run(negatives=None)
    assert all(set(own) == {tuple(range(len(by_query[q].documents)))} for q, own in whole.items())
    with pytest.raises(InputError, match='negatives is 0; it is a whole number from 1, "auto", or None for all'):
        run(negatives=0)


def test_states_are_kept_of_the_documents_that_an_epoch_draws_and_the_run_is_the_same(tokenizer, tmp_path):
    every = make_groups(16, candidates=8)
    recipe, runs = Recipe(layers=1, epochs=2, negatives=1, batch_queries=2, learning_rate=5e-3, keep="last"), {}
    for resume in (True, False):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        work = tmp_path / str(resume)
        done = adapt(reranker, every[:12], every[12:], recipe, work_dir=work, resume=resume, quiet=True)
        size = max(p.stat().st_size for p in work.glob("trunk/*/states.bin"))
        runs[resume] = done.batch_losses, [row["ndcg@10"] for row in done.history], done.counts, size
    planned, whole = runs[True], runs[False]
    np.testing.assert_allclose(planned[0], whole[0], rtol=1e-4)
    assert planned[1:3] == whole[1:3] and planned[3] < 0.7 * whole[3]  # 3 of 8 documents a query at most, and the query


@pytest.mark.slow
def test_the_moving_average_is_what_is_measured_and_kept(tokenizer):
    clean = make_groups(30)
    run = Recipe(layers=2, epochs=2, learning_rate=5e-3)
    kept, losses = {}, {}
    for keep in ("best", "last"):
        for decay in (0, 0.9):
            reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
            done = adapt(reranker, clean[:20], clean[20:], run.replace(keep=keep, ema_decay=decay), quiet=True)
            now = evaluate(reranker, clean[20:]).summary["ndcg@10"]
            assert now == pytest.approx(done.history[done.best_epoch]["ndcg@10"])
            kept[keep, decay], losses[keep, decay] = parameters(reranker), done.batch_losses
    assert len({tuple(own) for own in losses.values()}) == 1, "the average is not trained"
    assert any(not torch.equal(p, kept["last", 0][n]) for n, p in kept["last", 0.9].items())
    with pytest.raises(InputError, match="ema_decay is 1; it is at least 0 and below 1"):
        adapt(reranker, clean[:20], clean[20:], run.replace(ema_decay=1), quiet=True)


def test_the_moving_average_is_the_formula(tokenizer):
    model = tiny_model(tokenizer)
    for n, p in model.named_parameters():
        p.requires_grad_(n == "model.norm.weight")
    average, by_hand = _MovingAverage(model, 0.5), model.model.norm.weight.detach().clone()
    for step in range(1, 31):
        with torch.no_grad():
            model.model.norm.weight += step
        average.update(step)
        share = min(0.5, (1 + step) / (10 + step))
        by_hand = share * by_hand + (1 - share) * model.model.norm.weight.detach()
    held = model.model.norm.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(model.model.norm.weight.detach(), by_hand)
    assert torch.equal(model.model.norm.weight.detach(), held) and list(average.mean) == ["model.norm.weight"]


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from conftest import make_groups, tiny_model
from transformers import AutoTokenizer
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe
tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)
reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
recipe = Recipe(layers=2, epochs=4, negatives=1, learning_rate=3e-3, seed=3)
done = adapt(reranker, make_groups(24), None, recipe, work_dir=sys.argv[1], quiet=True)
reranker.save(sys.argv[2])
print(done.batch_losses, [r["ndcg@10"] for r in done.history], done.best_epoch)
"""


def run_script(arguments, **kwargs):
    code = SCRIPT.format(tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **kwargs)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result_as_one_that_was_not(tmp_path):
    whole = run_script([tmp_path / "a", tmp_path / "whole"])
    expected = whole.communicate(timeout=240)[0]
    assert whole.returncode == 0
    killed = run_script([tmp_path / "b", tmp_path / "resumed"])
    deadline = time.time() + 200
    while time.time() < deadline and not list(Path(tmp_path / "b").glob("checkpoints/checkpoint-*/history.json")):
        assert killed.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "resumed").exists()
    again = run_script([tmp_path / "b", tmp_path / "resumed"])
    assert again.communicate(timeout=240)[0] == expected
    pairs = [("what is fever 3", "a page about fever"), ("rent", "lease")]
    scores = [Reranker.load(str(tmp_path / n), device="cpu", quiet=True).score(pairs) for n in ("whole", "resumed")]
    np.testing.assert_array_equal(*scores)


def test_a_loss_that_is_not_a_number_stops_with_its_cause(tiny):
    with torch.no_grad():
        tiny.model.model.layers[3].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(TrainingError, match=r"not finite|not a number"):
        adapt(tiny, make_groups(8), None, Recipe(layers=1, epochs=1), quiet=True)


def test_a_penalty_that_explodes_is_named(tiny):
    with pytest.raises(TrainingError, match="check the labels and the penalty"):
        recipe = Recipe(layers=1, epochs=1, penalty=lambda model: torch.tensor(float("inf")))
        adapt(tiny, make_groups(12), None, recipe, quiet=True)


def test_gradient_recomputation_gives_the_same_losses(tokenizer):
    losses = []
    for recompute in (False, True):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        recipe = Recipe(layers=2, epochs=1, recompute=recompute, cache=False)
        losses.append(adapt(reranker, make_groups(12), None, recipe, quiet=True).batch_losses)
    np.testing.assert_allclose(*losses, atol=1e-5)


@pytest.mark.parametrize("loss", ["pointwise", "both"])
def test_gradient_accumulation_takes_the_same_steps(tokenizer, loss):
    weights, losses = [], []
    for parts in (1, 2):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        recipe = Recipe(
            layers=2, epochs=2, batch_queries=2, gradient_accumulation_steps=parts, loss=loss, keep="last"
        )  # fmt: skip
        result = adapt(reranker, make_groups(12), None, recipe, quiet=True)
        weights.append(trained_tensors(reranker.model))
        losses.append(np.reshape(result.batch_losses, (-1, parts)).mean(1))
    np.testing.assert_allclose(*losses, atol=1e-4)
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-4, rtol=0)


def test_a_decoder_without_sharing_trains_the_plain_way(tokenizer):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        hidden_size=32, num_hidden_layers=2, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, vocab_size=len(tokenizer), sliding_window=512,
    )  # fmt: skip
    reranker = Reranker(Gemma2ForCausalLM(config), tokenizer, max_length=256)
    done = adapt(reranker, make_groups(12), None, Recipe(layers=1, epochs=1), quiet=True)
    assert all(np.isfinite(done.batch_losses))


def test_mistake_7_shared_queries_between_train_and_dev_are_refused(tiny):
    groups = make_groups(12)
    with pytest.raises(InputError, match="share 4 queries"):
        adapt(tiny, groups, groups[:4], quiet=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": "magic"}, "pointwise"),
        ({"epochs": 0}, "whole numbers"),
        ({"batch_queries": 0}, "whole numbers"),
        ({"keep": "first"}, '"best" or "last" or "halfway"'),
        ({"gradient_accumulation_steps": 0}, "whole number from 1"),
        ({"gradient_accumulation_steps": 3}, "cannot be cut into 3"),
    ],
)
def test_bad_arguments_are_refused(tiny, change, words):
    with pytest.raises(InputError, match=words):
        adapt(tiny, make_groups(8), None, Recipe(**change), quiet=True)


def test_nothing_to_rank_is_refused(tiny):
    import dataclasses

    flat = [dataclasses.replace(g, relevance=(0,) * len(g.relevance)) for g in make_groups(8)]
    with pytest.raises(InputError, match="too few"):
        adapt(tiny, flat, quiet=True)


def test_tensors_of_another_shape_are_refused_and_change_nothing(tiny, tokenizer):
    other = tiny_model(tokenizer, hidden_size=32)
    before = parameters(tiny)
    with pytest.raises(InputError, match="does not fit"):
        load_tensors(tiny.model, trained_tensors(other))
    assert all(torch.equal(p, before[n]) for n, p in parameters(tiny).items())


def test_mistake_9_the_names_of_trainer_arguments_are_the_current_ones():
    import inspect

    from transformers import Trainer, TrainingArguments

    arguments = inspect.signature(TrainingArguments).parameters
    assert "evaluation_strategy" not in arguments
    assert "eval_strategy" in arguments
    trainer = inspect.signature(Trainer).parameters
    assert "tokenizer" not in trainer
    assert "processing_class" in trainer
    with pytest.raises(TypeError):
        TrainingArguments(output_dir="x", evaluation_strategy="epoch")


def test_mistake_10_the_base_is_scored_before_training(tiny):
    """The history starts at epoch 0, measured before the first step, so there is always a baseline."""
    groups = make_groups(30)
    baseline = evaluate(tiny, groups[20:]).summary["ndcg@10"]
    done = adapt(tiny, groups[:20], groups[20:], Recipe(layers=2, epochs=1, learning_rate=5e-3), quiet=True)
    assert done.history[0]["ndcg@10"] == pytest.approx(baseline)
    assert done.history[0]["loss"] is None
