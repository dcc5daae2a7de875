"""What measures a training is kept apart from what it learns: dev, replay, near copies, checkpoints of another base."""

import random

import pytest
import torch
from conftest import make_groups, tiny_model

from course_utils.data import Plan, mine, prepare
from course_utils.data.groups import Group, leaks
from course_utils.data.prepare import _mined
from course_utils.evaluation.metrics import ndcg_at_k
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import _replayed, adapt
from course_utils.training.held_out import hold_out, training_data
from course_utils.training.losses import _are_chances
from course_utils.training.recipe import Recipe


def words(n, seed):
    random_ = random.Random(seed)
    return [f"w{random_.randrange(10**6)}" for _ in range(n)]


def chains(families):
    """Return texts in threes: the first is nearly the second and the second nearly the third, the first not the third."""
    out = []
    for i in range(families):
        first = words(40, f"{i}a")
        second = words(9, f"{i}b") + first[9:]
        out += [first, second, second[:31] + words(9, f"{i}c")]
    return [" ".join(text) for text in out]


def asked(texts, wrong=()):
    return [
        Group(f"what is {i} {words(1, i)[0]}", (text, *wrong), (1, *[0] * len(wrong))) for i, text in enumerate(texts)
    ]


def test_prepare_keeps_chains_of_near_copies_in_one_part(tmp_path):
    texts = chains(30) + [" ".join(words(30, f"other{i}")) for i in range(30)]
    (tmp_path / "handbook.csv").write_text("id,text\n" + "".join(f"P-{i},{t}\n" for i, t in enumerate(texts)))
    parts = prepare(asked(texts[:90]), tmp_path / "handbook.csv", None, Plan(by="query")).parts
    found = leaks(parts["train"], [*parts["dev"], *parts["test"]])
    assert not found.near_documents and not found.documents


def test_dev_that_is_held_out_holds_no_near_copy_of_train():
    texts = chains(4) + [" ".join(words(30, f"other{i}")) for i in range(60)]
    groups = asked(texts, ["no answer", "none either"])
    train, dev = hold_out(groups)
    assert not leaks(train, dev).near_documents and not leaks(train, dev).documents
    assert len(train) + len(dev) == len(groups) and len(dev) >= 5
    plain = asked(texts[12:], ["no answer", "none either"])
    from benchmarks.lists import held_out

    assert hold_out(plain) == held_out(plain), "without near copies the draw is as it was"


def test_dev_of_a_handbook_in_two_versions_is_drawn_by_twins():
    first = [words(40, i) for i in range(30)]
    twins = [" ".join(text) for own in first for text in (own, [*own[:38], "now", "then"])]
    train, dev = hold_out(asked(twins, ["no answer", "none either"]))
    assert len(dev) >= 6 and not leaks(train, dev).near_documents


def test_replay_gives_nothing_of_dev_away():
    groups = make_groups(22, seed=1)
    train, dev, rest = groups[:12], groups[12:16], groups[16:]
    told = Group("a question of its own", ("its answer", dev[0].positives[0]), (1, 0))
    mixed, _dev = training_data(train, dev, [*rest, *dev, told], 1.0)
    assert {g.query for g in mixed} == {g.query for g in (*train, *rest)}, "no list is left without its wrong document"
    told = Group("a question of its own", ("its answer", dev[0].positives[0], "no answer"), (1, 0, 0))
    mixed, _dev = training_data(train, dev, [*rest, told], 1.0)
    assert mixed[-1].documents == ("its answer", "no answer") or told.query in {g.query for g in mixed}
    assert not any(dev[0].positives[0] in g.documents for g in mixed)
    assert _replayed(mixed, train) == len(mixed) - len(train)


def test_what_the_margin_drops_is_no_negative_by_chance_either():
    class Likes:
        def score_groups(self, pairs):
            return [torch.tensor([3.0 if "ward" in d else -3.0 for d in own]).numpy() for _query, own in pairs]

    texts = [f"the ward is open on day {i}" for i in range(12)] + [f"the park is far on day {i}" for i in range(12)]
    groups = [Group("when is the ward open", ("the ward is open at noon",), (1,))]
    mined, dropped = mine(groups, texts, hard=4, random_negatives=4, reranker=Likes())
    assert dropped == 12 and not any("ward" in d for d in mined[0].documents[1:] if d not in groups[0].positives)
    wrong = [d for d, r in zip(mined[0].documents, mined[0].relevance, strict=True) if not r]
    assert wrong and not any("ward" in d for d in wrong)
    from course_utils.data.negatives import Bm25

    own, dropped = _mined(groups, Bm25(texts), {}, Plan(hard=12, random_negatives=4), "train", Likes())
    assert dropped == 12 and not any("ward" in d for d in own[0].documents if d not in groups[0].positives)


def test_a_run_on_another_base_does_not_go_on_with_its_checkpoints(tokenizer, tmp_path, capsys):
    groups, recipe = make_groups(10, seed=1), Recipe(layers=1, epochs=1, keep="last", batch_queries=4)

    def run(folder, factor=1.0):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=128)
        with torch.no_grad():
            reranker.model.model.layers[0].mlp.down_proj.weight.mul_(factor)
        return adapt(reranker, groups[:6], groups[6:], recipe, work_dir=folder, quiet=False).history

    first = run(tmp_path / "work")
    other = run(tmp_path / "work", 3.0)
    assert "another recipe, data or weights" in capsys.readouterr().out
    assert other != first
    assert run(tmp_path / "alone", 3.0)[-1]["dev_loss"] == pytest.approx(other[-1]["dev_loss"], abs=1e-5)


@pytest.mark.parametrize("queries", [4, 8])
def test_a_run_of_one_step_moves_the_weights(tiny, queries):
    before = {n: p.detach().clone() for n, p in tiny.model.named_parameters()}
    recipe = Recipe(layers=1, epochs=1, batch_queries=4, keep="last")
    groups = make_groups(queries + 4, seed=1)
    adapt(tiny, groups[:queries], groups[queries:], recipe, quiet=True)
    assert any(not torch.equal(p, before[n]) for n, p in tiny.model.named_parameters())


def test_a_step_in_parts_is_as_many_steps_and_every_query_is_seen(tokenizer, monkeypatch):
    from course_utils.training.batch import Source

    drawn, draw, groups = [], Source.draw, make_groups(17, seed=1)

    def note(self, batch, negatives, seed, epoch=0):
        drawn.extend(batch)
        return draw(self, batch, negatives, seed, epoch)

    monkeypatch.setattr(Source, "draw", note)
    for parts in (1, 2):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=128)
        recipe = Recipe(layers=1, epochs=3, batch_queries=8, gradient_accumulation_steps=parts, keep="last")
        drawn.clear()
        done = adapt(reranker, groups[:13], groups[13:], recipe, quiet=True)
        assert len(done.batch_losses) == 3 * parts, "one step an epoch"
        if parts == 2:
            assert {*drawn} == {*range(13)}


def test_probabilities_are_told_over_train_and_dev_together():
    train, dev = Group("q", ["a", "b"], [1, 0], scores=[4, -3]), Group("p", ["a", "b"], [1, 0], scores=[0.9, 0.1])
    assert _are_chances([dev]) and not _are_chances([train, dev])


def test_a_grade_below_zero_costs_nothing():
    assert ndcg_at_k([2.0, 1.0], [1, -2]) == 1.0 and ndcg_at_k([3.0, 2.0, 1.0], [2, -1, 0]) == 1.0
    assert ndcg_at_k([1.0, 2.0], [1, -2]) < 1


def test_near_copies_between_the_files_of_adapt_are_said(tiny, tmp_path, monkeypatch, capsys):
    import json

    from course_utils.cli import parts
    from course_utils.data import groups

    texts = chains(1) + [" ".join(words(30, f"o{i}")) for i in range(9)]
    assert groups._nearly_shared(asked(texts[:1]), asked(texts[1:])) == 1
    assert groups._nearly_shared(asked(texts[:1]), asked(texts[:1])) == 0, "what is the same is another matter"

    class Args:
        train, dev, test, general, max_relevance = "train.jsonl", None, "test.jsonl", None, 1

    monkeypatch.chdir(tmp_path)
    for name, own in (("train", asked(texts[:1] + texts[3:8])), ("test", asked(texts[1:2] + texts[8:]))):
        rows = ({"query": f"{name} {g.query}", "document": g.documents[0], "relevance": 1} for g in own)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts.read(Args())
    assert (
        "1 queries or right documents of test.jsonl are nearly the same as some of train.jsonl"
        in capsys.readouterr().err
    )
