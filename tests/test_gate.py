"""The update gate: what it lets through, what it keeps aside, and what it says."""

import json
import re

import numpy as np
import pytest
import torch
from trades import FAST, RECIPE, small_reranker, stage, trade

from course_utils.data.groups import shuffle_labels
from course_utils.errors import InputError
from course_utils.training.recipe import Recipe
from course_utils.training.trainer import TrainingError
from course_utils.training.weights import trained_tensors
from course_utils.updates import gate
from course_utils.updates.gate import agreement, decide, update
from course_utils.updates.stream import Stage, learn
from course_utils.updates.versions import RECORD, current_version, load_version, rollback

TARGET, GUARDS = trade("legal", "test", 24), {"general": trade("general", "test", 20)}
OPTIONS = {**FAST, "strategy": "replay", "earlier": [stage("general")], "quiet": True}


@pytest.fixture
def small(tokenizer):
    """A reranker that knows the general trade."""
    reranker = small_reranker(tokenizer)
    learn(reranker, stage("general"), strategy="plain", quiet=True, **FAST)
    return reranker


def test_a_good_batch_passes_and_a_poisoned_one_is_refused_with_the_reason(small, tmp_path):
    good = update(tmp_path, small, stage("legal"), TARGET, GUARDS, margin=0.2, **OPTIONS)
    assert good.accepted, good.reason
    assert good.reason.startswith("The gain in the domain is real: +")
    assert current_version(tmp_path) == good.version
    held, instruction = trained_tensors(small.model), small.instruction

    poisoned = Stage(
        "poisoned", shuffle_labels(trade("legal", "more", 24)), shuffle_labels(trade("legal", "moredev", 12))
    )
    bad = update(tmp_path, small, poisoned, TARGET, GUARDS, margin=0.2, **OPTIONS)
    assert not bad.accepted
    assert "worse in its own domain" in bad.reason and "Check the labels." in bad.reason
    assert current_version(tmp_path) == good.version and bad.path.parent.name == "aside"
    assert all(torch.equal(t, held[n]) for n, t in trained_tensors(small.model).items())
    assert small.instruction == instruction
    record = json.loads((bad.path / RECORD).read_text(encoding="utf-8"))
    assert record["accepted"] is False and record["reason"] == bad.reason and record["previous"] == good.version
    assert record["agreement"] < 0.3
    assert record["figures"]["target"]["mean"] == pytest.approx(bad.figures["target"].mean)
    assert "refused, kept aside" in str(bad) and "| general |" in str(bad)

    scores = small.score_groups(TARGET[:1])[0]
    rollback(tmp_path, small)
    assert not np.allclose(small.score_groups(TARGET[:1])[0], scores)
    load_version(tmp_path, small, good.version)
    assert np.array_equal(small.score_groups(TARGET[:1])[0], scores)


def runs(target, general):
    """Return (before, after): 50 queries a set whose values rise by the given mean steps, with some noise."""
    random = np.random.default_rng(0)
    before = {"target": random.uniform(0.3, 0.6, 50), "general": random.uniform(0.3, 0.6, 50)}
    noise = np.tile([0.05, -0.05], 25)
    return before, {"target": before["target"] + target + noise, "general": before["general"] + general + noise}


@pytest.mark.parametrize(
    ("target", "general", "accepted", "words"),
    [
        (0.05, 0.0, True, r"real: \+0\.050 .* \(worst: general \+0\.000\)"),
        (0.05, -0.019, True, "real"),
        (0.05, -0.021, False, r"^General fell by 0\.021, more than the margin of 0\.02\.$"),
        (0.0, 0.0, False, "may be chance"),
        (-0.1, -0.1, False, "worse in its own domain: -0.100 .*; general fell by 0.100"),
    ],
)
def test_the_gate_decides_by_the_interval_and_the_margin(target, general, accepted, words):
    decided, reason, figures = decide(*runs(target, general))
    assert decided is accepted and re.search(words, reason), reason
    assert figures["target"].mean == pytest.approx(target)


def test_a_version_that_changes_nothing_is_refused_as_such():
    before, _ = runs(0.0, 0.0)
    accepted, reason, _ = decide(before, before)
    assert (
        not accepted and reason == "It ranks every query as well as the version in use, so nothing useful was learned."
    )


def test_a_suspicion_about_the_labels_is_part_of_a_refusal_only():
    before, after = runs(0.05, 0.0)
    assert "labels" not in decide(before, after, agreed=0.1)[1]
    assert "ranks only 10 % of their pairs as labelled" in decide(after, before, agreed=0.1)[1]
    assert "labels" not in decide(after, before, agreed=0.7)[1]


def test_agreement_counts_pairs_in_the_labelled_order(small, monkeypatch):
    groups = [stage("legal").train[0]]
    groups[0] = type(groups[0])("q", ("a", "b", "c"), (1, 0, 0))
    monkeypatch.setattr(small, "score_groups", lambda _: [np.array([1.0, 0.0, 1.0])])
    assert agreement(small, groups) == 0.75


def test_failed_training_leaves_reranker_and_folder_as_they_were(small, tmp_path, monkeypatch):
    def burst(reranker, *args, **kwargs):
        for p in reranker.model.parameters():
            p.data = torch.full_like(p, float("nan"), dtype=torch.float64)
        raise TrainingError("The loss is not a number.")

    monkeypatch.setattr(gate, "learn", burst)
    before = {n: p.detach().clone() for n, p in small.model.named_parameters()}
    with pytest.raises(TrainingError):
        update(tmp_path, small, stage("legal"), TARGET, GUARDS, **{**OPTIONS, "recipe": RECIPE.replace(layers="all")})
    assert all(p.dtype == before[n].dtype and torch.equal(p, before[n]) for n, p in small.model.named_parameters())
    assert current_version(tmp_path).startswith("v0000-") and not (tmp_path / "aside").exists()


def test_wrong_input_is_named_before_anything_trains(small, tmp_path):
    new, other = stage("legal"), [stage("general")]
    with pytest.raises(InputError, match="at least one set that must not fall"):
        update(tmp_path, small, new, TARGET, {})
    with pytest.raises(InputError, match='may be called "target"'):
        update(tmp_path, small, new, TARGET, {"target": TARGET})
    with pytest.raises(InputError, match="stage legal and target share"):
        update(tmp_path, small, new, new.train, GUARDS)
    assert not list(tmp_path.iterdir())
    update(
        tmp_path, small, new, TARGET, GUARDS, strategy="plain", recipe=RECIPE.replace(epochs=1, layers=1), quiet=True
    )
    with pytest.raises(InputError, match="use the layers that the folder was begun with"):
        update(tmp_path, small, new, TARGET, GUARDS, earlier=other, recipe=Recipe(layers=2))
    small.instruction = "Something else."
    with pytest.raises(InputError, match="were made with the instruction"):
        update(tmp_path, small, new, TARGET, GUARDS, earlier=other, recipe=Recipe(layers=1))
