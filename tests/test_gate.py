"""The update gate: what it lets through, what it keeps aside, and what it says."""

import copy
import dataclasses
import json
import re

import numpy as np
import pytest
import torch
from trades import FAST, small_reranker, stage, trade

from course_utils.data.counts import usable
from course_utils.data.groups import Group, shuffle_labels
from course_utils.domains.delta import _groups_hash
from course_utils.errors import InputError
from course_utils.files import lock
from course_utils.model.reranker import Reranker
from course_utils.training.recipe import Recipe
from course_utils.training.trainer import TrainingError
from course_utils.training.weights import trained_tensors
from course_utils.updates import gate
from course_utils.updates.candidate import _consider, _for_both
from course_utils.updates.gate import Gate, _agreement, update
from course_utils.updates.stream import Stage, learn
from course_utils.updates.verdict import _past, decide, judge
from course_utils.updates.versions import _RECORD, current_version, load_version, rollback

TARGET, GUARDS = trade("legal", "test", 24), {"general": trade("general", "test", 20)}
GATE = Gate(TARGET, GUARDS, least=20)
EARLIER = [stage("general")]


@pytest.fixture(scope="module")
def learned(tokenizer):
    """A reranker that knows the general trade, trained once."""
    reranker = small_reranker(tokenizer)
    learn(reranker, stage("general"), strategy="plain", recipe=FAST, quiet=True)
    return reranker


@pytest.fixture
def small(learned):
    """Its copy, which a test may change."""
    return Reranker(copy.deepcopy(learned.model), learned.tokenizer, max_length=256, name="small")


@pytest.mark.slow
def test_a_good_batch_passes_and_a_poisoned_one_is_refused_with_the_reason(small, tmp_path):
    gate = dataclasses.replace(GATE, margin=0.2)
    good = update(tmp_path, small, stage("legal"), gate, EARLIER, "replay", FAST, quiet=True)
    assert good.accepted, good.reason
    assert good.reason.startswith("The gain in the domain is real: +")
    assert current_version(tmp_path) == good.version
    held, instruction = trained_tensors(small.model), small.instruction

    poisoned = Stage(
        "poisoned", shuffle_labels(trade("legal", "more", 24)), shuffle_labels(trade("legal", "moredev", 12))
    )
    bad = update(tmp_path, small, poisoned, gate, EARLIER, "replay", FAST, quiet=True)
    assert not bad.accepted
    assert "worse in its own domain" in bad.reason and "Check the labels." in bad.reason
    assert current_version(tmp_path) == good.version and bad.path.parent.name == "aside"
    assert all(torch.equal(t, held[n]) for n, t in trained_tensors(small.model).items())
    assert small.instruction == instruction
    record = json.loads((bad.path / _RECORD).read_text(encoding="utf-8"))
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


def test_small_falls_may_not_add_up():
    before, after = runs(0.05, -0.019)
    best = {"general": before["general"].mean() + 0.019}
    accepted, reason, _ = decide(before, after, best=best)
    assert not accepted and "general is 0.038 below the best version so far" in reason.lower()
    assert decide(before, after, margin=0.04, best=best)[0] and decide(before, after, best={"other": 1.0})[0]


def test_a_batch_whose_wrong_documents_answer_the_gate_is_refused(small, tmp_path):
    new = Stage(
        "new", [Group(f"new {i}", ("yes", TARGET[i].positives[0]), (1, 0)) for i in range(6)], stage("legal").dev
    )
    with pytest.raises(InputError, match="No query of new has a wrong document"):
        update(tmp_path / "v", small, new, GATE, EARLIER, "replay", FAST, quiet=True)
    assert not (tmp_path / "v").exists()


def test_a_guard_that_rises_passes_and_odd_records_tell_nothing(tmp_path):
    before, after = runs(0.05, 0.01)
    assert decide(before, after, best={"general": before["general"].mean() + 0.04})[0]
    names = [f"v{i:04d}-20260101-000000" for i in range(2)]
    for name, other in zip(names, names[::-1], strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / _RECORD).write_text(
            json.dumps({"previous": other, "figures": {"g": {}}, "sets": {"g": "h"}})
        )
    assert _past(tmp_path, names[1], {"target": "t", "g": "h"}) == ({}, 0)
    figures = {"g": {}, "other": {"before": 0.5, "after": 0.6}}
    odd = (
        {"previous": ["x"], "figures": figures, "sets": {"g": "h", "other": "o"}},
        {"previous": names[0], "sets": None},
    )
    for name, record in zip(names, odd, strict=True):
        (tmp_path / name / _RECORD).write_text(json.dumps(record))
    assert _past(tmp_path, names[1], {"target": "t", "g": "h", "other": "o"}) == ({"other": 0.6}, 0)


def test_the_past_of_a_folder_is_read_from_its_records(tmp_path):
    def write(name, previous, before, after, sets, place=tmp_path):
        (place / name).mkdir(parents=True)
        figures = {"general": {"before": before, "after": after}, "target": {"before": 0.1, "after": 0.9}}
        record = {"previous": previous, "figures": figures, "sets": sets} if sets else {"previous": previous}
        (place / name / _RECORD).write_text(json.dumps(record))

    names = [f"v{i:04d}-20260101-000000" for i in range(6)]
    same, other = {"target": "t", "general": "g"}, {"target": "t", "general": "x"}
    write(names[0], None, 0, 0, None)
    write(names[1], names[0], 0.80, 0.79, same)
    write(names[2], names[1], 0.99, 0.98, other)
    write(names[3], names[2], 0.77, 0.76, same)
    write(names[4], names[3], 0.99, 0.99, same, tmp_path / "aside")
    (tmp_path / "aside" / names[5]).mkdir()
    (tmp_path / "aside" / names[5] / _RECORD).write_text("{")
    best, tries = _past(tmp_path, names[3], {"target": "t", "general": "g"})
    assert best == {"general": 0.80, "target": 0.9} and tries == 1
    assert _past(tmp_path, names[3], {"target": "u", "general": "g"}) == ({"general": 0.80}, 0)


def test_a_second_try_and_near_copies_are_said(small, tmp_path):
    long = "Visitors may park for two hours in the yard behind ward {}, after that a fee is due at the desk."
    own = Group("where may a visitor park", (long.format("seven"), "no"), (1, 0))
    copies = [Group("may visitors park here", (long.format("7"), "no"), (1, 0))]
    sets = GATE.usable(small)
    sets["target"] = [*sets["target"][0], own], sets["target"][1]
    values = ({n: np.zeros(len(g)) for n, (g, _) in sets.items()}, {n: np.ones(len(g)) for n, (g, _) in sets.items()})
    assert "as some of the new data (target 1)" in judge(tmp_path, "v", GATE, sets, values, copies)[1]
    said = judge(tmp_path, "v", GATE, sets, values, trade("medical", "train", 6))[1]
    assert "nearly" not in said and "Earlier tries" not in said
    (tmp_path / "aside" / "v0001-20260101-000000").mkdir(parents=True)
    record = {"previous": "v", "sets": {"target": _groups_hash(sets["target"][0])}}
    (tmp_path / "aside" / "v0001-20260101-000000" / _RECORD).write_text(json.dumps(record))
    assert "Earlier tries on this target against this version in use: 1." in judge(tmp_path, "v", GATE, sets, values)[1]


def test_a_candidate_with_a_longer_instruction_is_judged_on_what_both_read(small, tmp_path):
    other = Reranker(copy.deepcopy(small.model), small.tokenizer, max_length=256, name="other")
    with torch.no_grad():
        other.model.model.layers[-1].mlp.down_proj.weight.add_(0.01)
    other.instruction, told = "find " + "a page of this kind " * 5, small.instruction

    def lengthened(n):
        return [Group(f"{g.query} {'please ' * n}{i}", g.documents, g.relevance) for i, g in enumerate(TARGET[:4])]

    most = max(n for n in range(1, 250, 4) if len(usable([*TARGET, *lengthened(n)], small)[0]) == len(TARGET) + 4)
    gate = Gate([*TARGET, *lengthened(most)], GUARDS, least=20)
    fit = {name: len(groups) for name, (groups, _) in gate.usable(small).items()}
    done = _consider(tmp_path / "v", small, other, gate, layers=1)
    record = json.loads((done.path / _RECORD).read_text(encoding="utf-8"))
    assert small.instruction == (other.instruction if done.accepted else told)
    sets = _for_both(gate, small, other)
    assert len(sets["target"][0]) < fit["target"] and record["sets"]["target"] == _groups_hash(sets["target"][0])


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
    assert _agreement(small, groups) == 0.75


def test_failed_training_leaves_reranker_and_folder_as_they_were(small, tmp_path, monkeypatch):
    def burst(reranker, *args, **kwargs):
        for p in reranker.model.parameters():
            p.data = torch.full_like(p, float("nan"), dtype=torch.float64)
        raise TrainingError("The loss is not a number.")

    monkeypatch.setattr(gate, "learn", burst)
    before = {n: p.detach().clone() for n, p in small.model.named_parameters()}
    with pytest.raises(TrainingError):
        update(tmp_path, small, stage("legal"), GATE, EARLIER, "replay", FAST.replace(layers="all"))
    assert all(p.dtype == before[n].dtype and torch.equal(p, before[n]) for n, p in small.model.named_parameters())
    assert current_version(tmp_path).startswith("v0000-") and not (tmp_path / "aside").exists()


def test_wrong_input_is_named_before_anything_trains(small, tmp_path):
    new, other = stage("legal"), [stage("general")]
    with pytest.raises(InputError, match="at least one set that must not fall"):
        Gate(TARGET, {}, least=20)
    with pytest.raises(InputError, match='may be called "target"'):
        Gate(TARGET, {"target": TARGET}, least=20)
    with pytest.raises(InputError, match="stage legal and target share"):
        update(tmp_path, small, new, Gate(new.train, GUARDS, least=20))
    assert not list(tmp_path.iterdir())
    update(tmp_path, small, new, GATE, strategy="plain", recipe=FAST.replace(epochs=1, layers=1), quiet=True)
    with pytest.raises(InputError, match="use the layers that the folder was begun with"):
        update(tmp_path, small, new, GATE, other, recipe=Recipe(layers=2))
    small.instruction = "Something else."
    with pytest.raises(InputError, match="were made with the instruction"):
        update(tmp_path, small, new, GATE, other, recipe=Recipe(layers=1))


# What was let through once, by the name of the fault


@pytest.mark.parametrize("target", [1, 2, 29])
def test_too_few_target_queries_decide_nothing(target):
    few = {"target": np.zeros(target), "general": np.zeros(50)}
    with pytest.raises(InputError, match=f"The target has {target} queries .* at least 30"):
        decide(few, {name: values + 1 for name, values in few.items()})
    with pytest.raises(InputError, match=f"The target has {target} queries .* at least 30"):
        Gate(trade("legal", "test", target), {"general": trade("general", "test", 30)})


def test_too_few_guard_queries_guard_nothing_and_unrankable_ones_do_not_count():
    right = Group("q", ("a",), (1,))
    with pytest.raises(InputError, match="The guard general has 29 queries that can be ranked"):
        Gate(trade("legal", "test", 30), {"general": [*trade("general", "test", 29), right]})
    kept, counts = Gate([*trade("legal", "test", 30), right], {"g": trade("general", "test", 30)}).usable()["target"]
    assert len(kept) == counts.kept == 30 and counts.only_right == 1


def test_queries_that_are_too_long_for_the_model_do_not_count(small, tmp_path):
    long = [dataclasses.replace(g, query=f"{g.query} " + "word " * 300) for g in TARGET[:5]]
    with pytest.raises(InputError, match="The target has 19 queries that can be ranked"):
        update(tmp_path / "v", small, stage("legal"), Gate([*TARGET[5:], *long], GUARDS, least=20))
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -0.01, 1.5, "0.02", None, True])
def test_a_margin_that_is_no_share_of_ndcg_is_refused(margin):
    with pytest.raises(InputError, match="a number from 0 to 1"):
        decide(*runs(0.05, 0.0), margin)
    with pytest.raises(InputError, match="a number from 0 to 1"):
        Gate(TARGET, GUARDS, margin, least=20)


@pytest.mark.parametrize("least", [0, 1, -5, 2.5, True, None])
def test_a_least_number_that_is_none_is_refused(least):
    with pytest.raises(InputError, match="least is"):
        Gate(TARGET, GUARDS, least=least)


def test_figures_that_are_not_numbers_are_refused():
    before, after = runs(0.05, 0.0)
    after["general"][3] = float("nan")
    with pytest.raises(InputError, match="general is not a number"):
        decide(before, after)


def test_a_fall_of_a_guard_that_the_interval_does_not_exclude_is_said_and_refused_when_strict():
    accepted, reason, figures = decide(*runs(0.05, -0.019))
    low = figures["general"].low
    assert accepted and low < -0.02
    assert f"a fall beyond the margin of 0.02 is not excluded: general by up to {-low:.3f} on 50 queries" in reason
    accepted, strict, _ = decide(*runs(0.05, -0.019), strict=True)
    assert not accepted and strict.startswith("A fall beyond the margin of 0.02 is not excluded: general")
    assert decide(*runs(0.05, 0.0), 0.1, strict=True)[0]
    assert "not excluded" not in decide(*runs(0.05, 0.0), 0.1)[1]


@pytest.mark.parametrize("where", ["target", "general"])
def test_dev_queries_that_choose_the_epoch_do_not_decide(small, tmp_path, where):
    new, sets = stage("legal"), {"target": TARGET, "general": GUARDS["general"]}
    sets[where] = sets[where] + new.dev[:1]
    with pytest.raises(InputError, match=f"stage legal and {where} share"):
        update(tmp_path / "v", small, new, Gate(sets["target"], {"general": sets["general"]}, least=20))
    assert not (tmp_path / "v").exists()


def test_an_update_with_defaults_works(small, tmp_path):
    small.instruction = "Given a question, find the page"
    gate = Gate(trade("legal", "test", 30), {"general": trade("general", "test", 30)})
    done = update(tmp_path / "versions", small, stage("legal"), gate, recipe=Recipe(layers=2, epochs=1))
    record = json.loads((done.path / _RECORD).read_text(encoding="utf-8"))
    assert record["strategy"]["replay"] == 0 and record["learned"]["replayed"] == 0
    assert record["gate"] == {"margin": 0.02, "least": 30, "strict": False}
    assert record["counts"]["general"]["queries_kept"] == 30
    assert record["figures"]["general"]["low"] <= record["figures"]["general"]["mean"]
    said = record["recipe"]
    assert (said["layers"], said["epochs"], said["keep"]) == (2, 1, "best")
    assert said["learning_rate"] > 0, "as it was carried out, not as it was asked for"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "replay"}, "at least one earlier Stage"),
        ({"strategy": "magic"}, "no strategy"),
        ({"recipe": Recipe(layers=99)}, "layers"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_the_folder_is_begun(small, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        update(tmp_path / "versions", small, stage("legal"), GATE, **arguments)
    assert not (tmp_path / "versions").exists()


def test_a_second_update_of_the_same_folder_is_kept_out(small, tmp_path):
    with lock(tmp_path / "v"), pytest.raises(InputError, match="Another run is writing to"):
        update(tmp_path / "v", small, stage("legal"), GATE, recipe=FAST)
    assert not list(tmp_path.glob("v/v*"))
