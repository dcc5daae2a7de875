"""What a Recipe refuses and fills in, and what a run does when something is wrong with it, its folder or its disk."""

import errno
import shutil

import numpy as np
import pytest
import torch
from conftest import make_groups, tiny_model

from course_utils.errors import InputError
from course_utils.files import lock
from course_utils.model.reranker import Reranker
from course_utils.training import GroupScorer, Recipe, TrainingError, adapt, borrowed, train_only, trainer
from course_utils.training import recipe as recipe_module
from course_utils.training.batch import Source
from course_utils.training.checkpoints import SETTINGS, START

QUICK = Recipe(layers=1, epochs=2, learning_rate=5e-3, batch_queries=4)
GROUPS = make_groups(16)
TRAIN, DEV = GROUPS[:12], GROUPS[12:]


def fresh(tokenizer, dtype=torch.float32):
    return Reranker(tiny_model(tokenizer, layers=2).to(dtype), tokenizer, max_length=256)


def state(model):
    return [(n, p.detach().clone(), p.dtype, p.requires_grad) for n, p in model.named_parameters()], model.training


def same_state(one, other):
    return one[1] == other[1] and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and a[2:] == b[2:] for a, b in zip(one[0], other[0], strict=True)
    )


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": -1}, "above 0"),
        ({"learning_rate": "fast"}, "above 0"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"layer_decay": 0}, "above 0 and at most 1"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"layer_decay": True}, "layer_decay is True"),
        ({"ema_decay": float("nan")}, "ema_decay is nan"),
        ({"replay_share": float("inf")}, "replay_share"),
        ({"layers": 0}, "layers is 0"),
        ({"layers": "most"}, "layers is 'most'"),
        ({"epochs": 1.5}, "whole numbers"),
        ({"epochs": True}, "whole numbers"),
        ({"mixed_precision": "fp8"}, '"bf16" or "fp16" or "no"'),
        ({"penalty": 3}, "penalty is 3"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_when_the_recipe_is_made(choice, words):
    with pytest.raises(InputError, match=words):
        Recipe(**choice)


def test_a_recipe_that_does_not_fit_the_model_is_refused_before_the_work(tiny):
    with pytest.raises(InputError, match="has 4 layers: choose a whole number from 1 to 4"):
        Recipe(layers=99).resolved(tiny.model, 100)
    before = state(tiny.model)
    with pytest.raises(InputError, match="from 1 to 4"):
        adapt(tiny, TRAIN, DEV, Recipe(layers=99), quiet=True)
    assert same_state(state(tiny.model), before)
    with pytest.raises(InputError, match='no choice "speed"'):
        QUICK.replace(speed=1)


def test_a_resolved_recipe_has_no_default_left_and_can_be_written(tiny):
    found = Recipe().resolved(tiny.model, 100)
    assert (found.batch_queries, found.learning_rate, found.ema_decay, found.mixed_precision) == (4, 2e-3, 0.99, "no")
    assert found.resolved(tiny.model, 1000) == found
    assert found.asdict()["penalty"] is None
    assert "layer_decay" not in found.asdict()  # checkpoints and records from before it existed still fit
    assert found.replace(layer_decay=0.5).asdict()["layer_decay"] == 0.5
    described = found.replace(penalty=state).asdict()["penalty"]
    assert described.endswith("test_recipe.state")


def test_layer_wise_rates_fall_from_the_last_layer_to_the_embeddings(tokenizer, tmp_path):
    reranker = fresh(tokenizer)  # 2 layers
    recipe = Recipe(layers="all", layer_decay=0.5).resolved(reranker.model, len(TRAIN))
    assert recipe.learning_rate == 2e-3, "the top learns at the rate of last layers, not at the quarter of everything"
    train_only(reranker.model, "all")
    sources = [Source(groups, reranker.encode(groups)) for groups in (TRAIN, DEV)]
    made = trainer._make_trainer(
        reranker, GroupScorer(reranker, 0), sources, tmp_path, recipe, resumable=False, quiet=True
    )
    rates = {id(p): group["lr"] for group in made.create_optimizer().param_groups for p in group["params"]}
    by_name = {n: rates[id(p)] for n, p in reranker.model.named_parameters()}
    assert len(rates) == len(by_name)
    for name, rate in by_name.items():
        share = 0.25 if "embed" in name else 0.5 if "layers.0." in name else 1.0
        assert rate == pytest.approx(2e-3 * share), name
    decays = {group["weight_decay"] for group in made.optimizer.param_groups}
    assert decays == {0.0, 0.01}, "the Trainer's own groups are kept"


def test_a_layer_decay_of_one_is_one_rate_and_a_smaller_one_moves_lower_layers_less(tokenizer):
    moved = {}
    for decay in (None, 1.0, 0.1):
        reranker = fresh(tokenizer)
        before = {n: p for n, p, *_ in state(reranker.model)[0]}
        recipe = QUICK.replace(layers=2, layer_decay=decay, keep="last")
        adapt(reranker, TRAIN, DEV, recipe, quiet=True)
        moved[decay] = {n: (p.detach() - before[n]).abs().sum() for n, p in reranker.model.named_parameters()}
    assert moved[None] == moved[1.0]
    low = [n for n in moved[None] if "layers.0." in n]
    assert low and all(moved[0.1][n] < 0.5 * moved[None][n] for n in low)


@pytest.mark.parametrize(
    ("text", "length", "words"),
    [
        ("Judge. <|im_end|>", 256, "without <| marks"),
        ("", 256, "instruction must be"),
        (None, 256, "instruction must be"),
        ("Judge.", 10**9, "max_length is 1000000000"),
        ("Judge.", 0, "max_length is 0"),
    ],
)
def test_a_prompt_that_could_not_be_loaded_again_is_refused_before_training(tiny, tmp_path, text, length, words):
    tiny.instruction, tiny.max_length = text, length
    with pytest.raises(InputError, match=words):
        adapt(tiny, TRAIN, DEV, QUICK, work_dir=tmp_path / "work", quiet=True)
    assert not (tmp_path / "work").exists()


def test_two_runs_in_one_work_folder_are_kept_apart(tiny, tmp_path):
    with lock(tmp_path), pytest.raises(InputError, match="Another run"):
        adapt(tiny, TRAIN, DEV, QUICK, work_dir=tmp_path, quiet=True)


def still(model):
    return torch.tensor(0.0)


@pytest.mark.slow
def test_another_average_penalty_or_precision_starts_anew_and_the_same_recipe_resumes(tokenizer, tmp_path, capsys):
    def resumed(recipe):
        adapt(fresh(tokenizer), TRAIN, DEV, recipe, work_dir=tmp_path)
        said = capsys.readouterr().out
        assert ("resuming from" in said) != ("is of another recipe" in said) or recipe is first
        return "resuming from" in said

    first = QUICK.replace(weight_decay=0.02)
    assert not resumed(first)
    assert not resumed(QUICK)
    assert resumed(QUICK)
    for other in (
        {"ema_decay": 0.5},
        {"penalty": still},
        {"mixed_precision": "bf16"},
        {"recompute": True},
        {"layer_decay": 0.5},
    ):
        assert not resumed(QUICK.replace(**other)), other
    assert not resumed(QUICK)
    assert resumed(QUICK.replace(ema_decay=0.99)), "what the default stands for is the same recipe"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("checkpoints/checkpoint-*/trained.safetensors", "is left out"),
        ("checkpoints/checkpoint-*/optimizer.pt", "is left out"),
        ("checkpoints/checkpoint-*/history.json", "is left out"),
        ("checkpoints/checkpoint-*/trainer_state.json", "is left out"),
        ("checkpoints/" + SETTINGS, "is damaged: training starts anew"),
        ("checkpoints/" + START, "resuming from"),
        ("checkpoints/checkpoint-*/last_step.safetensors", "is left out"),
        ("checkpoints/checkpoint-*/scheduler.pt", "is left out"),
        ("checkpoints/checkpoint-*/rng_state.pth", "is left out"),
        ("trunk/*/done-*.json", "resuming from"),
        ("trunk/*/states.bin", "resuming from"),
        ("trunk/*/constant.npy", "resuming from"),
    ],
)
def test_a_half_written_file_in_the_work_folder_costs_time_and_nothing_else(finished, tmp_path, capsys, name, words):
    make, whole, expected = finished
    work = tmp_path / "work"
    shutil.copytree(whole, work)
    path = sorted(work.glob(name), key=lambda p: p.stat().st_mtime)[-1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reranker = make()
    done = adapt(reranker, TRAIN, DEV, QUICK, work_dir=work)
    assert words in capsys.readouterr().out
    assert done.batch_losses == expected.batch_losses and done.history == expected.history


@pytest.fixture(scope="module")
def finished(tokenizer, tmp_path_factory):
    """(function that makes the reranker, work folder of a finished run, its Adaptation)."""
    work = tmp_path_factory.mktemp("finished") / "work"
    return lambda: fresh(tokenizer), work, adapt(fresh(tokenizer), TRAIN, DEV, QUICK, work_dir=work, quiet=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_that_fails_leaves_the_model_as_it_was(tokenizer, dtype):
    reranker = fresh(tokenizer, dtype)
    before, scores = state(reranker.model), reranker.score_groups(DEV)
    with pytest.raises(TrainingError, match=r"not finite|not a number"):
        adapt(reranker, TRAIN, DEV, QUICK.replace(learning_rate=1e30), quiet=True)
    assert same_state(state(reranker.model), before)
    np.testing.assert_array_equal(np.concatenate(reranker.score_groups(DEV)), np.concatenate(scores))


def test_a_disk_that_fills_up_ends_in_a_sentence_and_the_model_is_as_it_was(tokenizer, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer, "save_file", full)
    reranker = fresh(tokenizer)
    before = state(reranker.model)
    with pytest.raises(InputError, match=r"cannot be written or read: No space left.*the model is as it was"):
        adapt(reranker, TRAIN, DEV, QUICK, work_dir=tmp_path, quiet=True)
    assert same_state(state(reranker.model), before)


def test_a_dev_set_of_a_few_queries_warns(tokenizer, capsys):
    done = adapt(fresh(tokenizer), TRAIN, DEV[:1], QUICK)
    assert "dev has 1 query: which epoch is best is left to chance" in capsys.readouterr().out
    assert any("left to chance" in text for text in done.warnings)


def test_what_was_left_out_and_cut_is_counted(tokenizer):
    flat = [GROUPS[0].__class__("no answer here", ("a", "b"), (0, 0)), GROUPS[0].__class__("all", ("a",), (1,))]
    long = GROUPS[0].__class__("what is long", ("long " * 500, "a page"), (1, 0))
    old = [GROUPS[0].__class__(f"old {i}", (f"old answer {i}", "another"), (1, 0)) for i in range(4)]
    done = adapt(fresh(tokenizer), [*TRAIN, *flat, long], DEV, QUICK, replay=[*old, *TRAIN[:2]], quiet=True)
    train = done.counts["train"]
    assert (train["queries"], train["queries_kept"]) == (15, 13)
    assert (train["queries_without_right_document"], train["queries_with_right_documents_only"]) == (1, 1)
    assert train["documents_cut"] == 1 and done.counts["dev"]["queries"] == 4 and done.counts["replayed"] == 3
    assert done.recipe["learning_rate"] == 5e-3 and done.recipe["mixed_precision"] == "no"


@pytest.mark.parametrize("layers", [1, "all", None, 0])
def test_a_borrowed_model_is_given_back_however_the_block_ends(tokenizer, layers):
    model = fresh(tokenizer, torch.bfloat16).model
    train_only(model, 1)
    before, memory = state(model), [p.data_ptr() for p in model.parameters()]
    with pytest.raises(ZeroDivisionError), borrowed(model, layers) as table:
        assert (table is None) == (layers == 0)
        model.train()
        for p in model.parameters():
            if p.requires_grad:
                with torch.no_grad():
                    p += 1
                p.data = p.data.float()
            p.requires_grad = not p.requires_grad
        raise ZeroDivisionError
    assert same_state(state(model), before)
    assert memory == [p.data_ptr() for p in model.parameters()]


def test_a_batch_moves_as_a_whole(tokenizer):
    reranker = fresh(tokenizer)
    batch = Source(TRAIN, reranker.encode(TRAIN)).collate([0, 3])
    moved = batch.to("meta")
    tensors = [moved.labels, moved.groups, *(s.values for s in moved.segments)]
    assert {t.device.type for t in tensors} == {"meta"} and moved.leaves == batch.leaves
    assert [g for g, _ in batch.index] == [int(g) for g in torch.tensor([0, 3])[batch.groups]]


def test_half_of_the_way_is_kept_where_it_was_measured_to_be_best(tiny, monkeypatch):
    def keep(queries, **choices):
        found = Recipe(**choices).resolved(tiny.model, queries)
        # Fewer negatives where half of the way is what would be kept anyway: there they were measured.
        by_itself = Recipe(**{**choices, "keep": "auto"}).resolved(tiny.model, queries).keep
        assert found.negatives == (2 if found.keep == by_itself == "halfway" else 4)
        assert Recipe(**choices, negatives=7).resolved(tiny.model, queries).negatives == 7
        assert Recipe(**choices, negatives=None).resolved(tiny.model, queries).negatives is None
        return found.keep

    least = recipe_module.LARGER_STEPS_FROM
    assert [keep(n) for n in (least - 1, least)] == ["best", "halfway"]
    assert keep(least, layers="all") == keep(least, layers=None) == keep(least, keep="best") == "best"
    assert keep(4, keep="halfway") == "halfway" and keep(least, keep="last") == "last"
    monkeypatch.setattr(recipe_module, "is_large", lambda model: True)
    assert keep(10_000) == "best"
