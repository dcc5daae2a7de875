"""A domain is a delta: it fits its own base only, comes off without a trace, and several share one base."""

import gc
import json
import time

import numpy as np
import pytest
import torch
from conftest import make_groups, tiny_model
from safetensors.torch import save_file

from benchmarks.domains_tables import cross_matrix, memory, route_report, sweep_weights
from course_utils.domains.delta import _base_hash, _groups_hash, attach, detach, load_delta, save_delta
from course_utils.domains.merging import Matrix, combine
from course_utils.domains.routing import _course_texts, train_router
from course_utils.domains.serve import Domains, storage_bytes
from course_utils.domains.train import adapt_layers, adapt_lora
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.files import MARKER
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe

FAST = Recipe(layers=2, epochs=1, learning_rate=3e-3)
LORA = FAST.replace(learning_rate=1e-2)
TRAIN, DEV = make_groups(24), make_groups(32)[24:]


def bits(reranker):
    """Every weight of a reranker as bytes."""
    return {n: p.detach().contiguous().view(torch.uint8).clone() for n, p in reranker.model.named_parameters()}


def same_bits(reranker, before):
    now = bits(reranker)
    return now.keys() == before.keys() and all(torch.equal(now[n], before[n]) for n in now)


def scores(reranker, groups=DEV):
    return np.concatenate(reranker.score_groups(groups))


@pytest.fixture(scope="module")
def built(tokenizer):
    """A tiny base, a delta of its last two layers, one of LoRA factors, and the weights of the base as bytes."""
    reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256, name="tiny")
    before = bits(reranker)
    reranker.instruction = "Given a question about words, retrieve pages"
    layers, _ = adapt_layers(reranker, TRAIN, DEV, FAST, name="words", quiet=True)
    lora, _ = adapt_lora(reranker, TRAIN, DEV, LORA, name="factors", rank=4, quiet=True)
    reranker.instruction = "the base's own"
    return reranker, layers, lora, before


@pytest.fixture
def trained(built):
    """What ``built`` holds; afterwards the base is plain again, whatever a test did."""
    yield built
    detach(built[0])
    for p in built[0].model.parameters():
        p.requires_grad = True


def other(delta, name, shift=0.0):
    """The delta under another name, its tensors moved by ``shift``."""
    from dataclasses import replace

    return replace(delta, name=name, tensors={n: t + shift for n, t in delta.tensors.items()})


# Making, attaching, detaching


def test_training_a_delta_leaves_the_base_bit_for_bit_as_it_was(trained):
    reranker, layers, lora, before = trained
    assert same_bits(reranker, before)
    assert layers.layers == lora.layers == [2, 3]
    assert all(p.grad is None and p.requires_grad for p in reranker.model.parameters())


def test_the_delta_scores_exactly_like_the_adapted_copy(tokenizer, trained):
    reranker, delta, _, _ = trained
    copy = Reranker(tiny_model(tokenizer), tokenizer, instruction=delta.instruction, max_length=256)
    adapt(copy, TRAIN, DEV, FAST, quiet=True)
    attach(reranker, delta)
    np.testing.assert_array_equal(scores(reranker), scores(copy))
    assert np.abs(scores(detach(reranker)) - scores(copy)).max() > 1e-3


@pytest.mark.parametrize("kind", [1, 2])
def test_detaching_restores_every_bit_and_the_instruction(trained, kind):
    reranker, before = trained[0], trained[3]
    base = scores(reranker)
    attach(reranker, trained[kind])
    assert reranker.instruction == "Given a question about words, retrieve pages"
    assert not same_bits(reranker, before)
    attach(reranker, trained[kind])
    detach(detach(reranker))
    assert same_bits(reranker, before)
    assert reranker.instruction == "the base's own"
    np.testing.assert_array_equal(scores(reranker), base)


def test_lora_merged_scores_like_the_peft_model(tokenizer, monkeypatch):
    import peft

    reranker, seen = Reranker(tiny_model(tokenizer), tokenizer, max_length=256), {}
    unload = peft.PeftModel.unload if hasattr(peft.PeftModel, "unload") else peft.tuners.lora.LoraModel.unload

    def scored_first(self):
        seen["scores"] = scores(reranker)
        return unload(self)

    target = peft.PeftModel if hasattr(peft.PeftModel, "unload") else peft.tuners.lora.LoraModel
    monkeypatch.setattr(target, "unload", scored_first)
    base = scores(reranker)
    delta, run = adapt_lora(reranker, TRAIN, DEV, LORA, rank=4, quiet=True)
    assert run.trainable == delta.parameters < 0.1 * sum(p.numel() for p in reranker.model.parameters())
    np.testing.assert_allclose(scores(attach(reranker, delta)), seen["scores"], atol=2e-5)
    assert np.abs(seen["scores"] - base).max() > 1e-3


def test_training_on_does_not_write_into_the_delta(trained):
    reranker, delta, _, before = trained
    kept = {n: t.clone() for n, t in delta.tensors.items()}
    attach(reranker, delta)
    adapt(reranker, TRAIN, DEV, FAST, quiet=True)
    assert all(torch.equal(kept[n], t) for n, t in delta.tensors.items())
    detach(reranker)
    assert same_bits(reranker, before)


def test_a_second_stage_gives_a_delta_of_the_same_base(trained):
    reranker, delta, _, before = trained
    attach(reranker, delta)
    second, _ = adapt_layers(reranker, make_groups(48)[32:], DEV, FAST.replace(layers=1), name="second", quiet=True)
    assert second.base_fingerprint == delta.base_fingerprint
    assert second.layers == [2, 3]
    untouched = next(n for n in delta.tensors if ".layers.2." in n)
    assert torch.equal(second.tensors[untouched], delta.tensors[untouched])
    attach(reranker, second)
    detach(reranker)
    assert same_bits(reranker, before)


def test_a_failed_training_leaves_the_base(trained):
    reranker, before = trained[0], trained[3]
    for learn in (adapt_layers, adapt_lora):
        with pytest.raises(InputError, match="share"):
            learn(reranker, TRAIN, TRAIN[:4], FAST, quiet=True)
        with pytest.raises(InputError, match="not a number"):
            learn(reranker, TRAIN, DEV, FAST.replace(learning_rate=1e30), quiet=True)
        assert same_bits(reranker, before)


def test_a_delta_says_where_it_comes_from(tokenizer, trained):
    _, delta, lora, _ = trained
    base = Reranker(tiny_model(tokenizer), tokenizer, max_length=256, name="tiny")
    assert delta.base_fingerprint == lora.base_fingerprint == _base_hash(base)
    assert delta.data == lora.data == _groups_hash(TRAIN) != _groups_hash(DEV)
    assert (
        delta.recipe == FAST.asdict() | {"keep": "best"}
        and lora.recipe["keep"] == "best"
        and delta.figures["train_queries"] == len(TRAIN)
    )
    assert lora.recipe["batch_queries"] == 4 and lora.recipe["layers"] == 2
    assert lora.nbytes < delta.nbytes < 0.7 * storage_bytes(base.model.parameters())


@pytest.mark.parametrize("name", ["general", "", " ", "..", "law/en", "law\\en", "a\nb", None])
def test_a_delta_called_general_or_like_a_path_is_refused_before_it_trains(trained, name, monkeypatch):
    reranker, delta, _, before = trained
    monkeypatch.setattr("course_utils.domains.train.adapt", lambda *_, **__: pytest.fail("trained"))
    for learn in (adapt_layers, adapt_lora):
        with pytest.raises(InputError, match="A delta cannot be called"):
            learn(reranker, TRAIN, DEV, FAST, name=name)
    with pytest.raises(InputError, match="A delta cannot be called"):
        other(delta, name)
    assert same_bits(reranker, before)


def test_a_saved_delta_whose_name_was_edited_to_general_is_refused(trained, tmp_path):
    about = save_delta(trained[1], tmp_path / "d") / "delta.json"
    (tmp_path / "d" / MARKER).unlink()  # holds the hashes
    about.write_text(json.dumps({**json.loads(about.read_text()), "name": "general"}))
    with pytest.raises(InputError, match='"general" is the base itself'):
        load_delta(tmp_path / "d")


def test_the_fingerprint_sees_any_weight_and_not_the_dtype(tokenizer):
    model = tiny_model(tokenizer).to(torch.bfloat16)
    reranker = Reranker(model, tokenizer)
    first = _base_hash(reranker)
    model.float()
    assert _base_hash(reranker) == first
    model.half()
    assert _base_hash(reranker) == first
    model.float().model.norm.weight.data[3] += 2e-3
    assert _base_hash(reranker) != first


def test_a_delta_of_another_base_is_refused_and_nothing_changes(tokenizer, trained):
    delta = trained[1]
    reranker = Reranker(tiny_model(tokenizer, seed=1), tokenizer, max_length=256, name="stranger")
    before = bits(reranker)
    with pytest.raises(InputError, match=r'"words" was made for the base tiny \(.*\), and this is stranger'):
        attach(reranker, delta)
    assert same_bits(reranker, before)


@pytest.mark.parametrize("kind", [1, 2])
def test_tensors_that_do_not_fit_are_refused(trained, kind):
    reranker, delta = trained[0], trained[kind]
    name = next(iter(delta.tensors))
    wrong = other(delta, "wrong")
    wrong.tensors[name] = torch.zeros(3, 3)
    with pytest.raises(InputError, match="does not fit"):
        attach(reranker, wrong)
    wrong.tensors = {"model.layers.77.self_attn.q_proj": torch.zeros(3, 3)}
    with pytest.raises(InputError, match="does not fit"):
        attach(reranker, wrong)


@pytest.mark.slow
def test_a_bf16_base_takes_a_delta_and_comes_back(tokenizer):
    reranker = Reranker(tiny_model(tokenizer).to(torch.bfloat16), tokenizer, max_length=256)
    before = bits(reranker)
    for learn in (adapt_layers, adapt_lora):
        delta, run = learn(reranker, TRAIN, DEV, LORA, quiet=True)
        assert run.best_epoch == 1
        base = scores(reranker)
        attach(reranker, delta)
        assert {p.dtype for p in reranker.model.parameters()} == {torch.bfloat16}
        assert np.abs(scores(reranker) - base).max() > 0
        detach(reranker)
        assert same_bits(reranker, before)


@pytest.mark.parametrize("rank, layers", [(0, 3), (8, 9), (8, None)])
def test_lora_with_senseless_sizes_is_refused(trained, rank, layers):
    with pytest.raises(InputError, match="choose"):
        adapt_lora(trained[0], TRAIN, DEV, Recipe(layers=layers), rank=rank)


def test_half_of_the_way_is_half_of_a_delta_and_no_way_for_lora(tokenizer):
    reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
    recipe, found = Recipe(layers=2, epochs=1, learning_rate=5e-3), {}
    for keep in ("last", "halfway"):
        found[keep], run = adapt_layers(reranker, TRAIN, DEV, recipe.replace(keep=keep), quiet=True)
        assert found[keep].figures["dev_ndcg@10_after"] == run.kept["ndcg@10"]
    half = combine(reranker, [found["last"]], [0.5])
    for name, tensor in half.tensors.items():
        torch.testing.assert_close(found["halfway"].tensors[name], tensor, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"half of two LoRA factors.*combine\(reranker, \[delta\], \[0.5\]\)"):
        adapt_lora(reranker, TRAIN, DEV, recipe.replace(keep="halfway"))


def test_lora_on_an_attached_delta_is_refused(trained):
    attach(trained[0], trained[1])
    with pytest.raises(InputError, match="detach"):
        adapt_lora(trained[0], TRAIN, DEV)
    detach(trained[0])


# Files


@pytest.mark.parametrize("kind", [1, 2])
def test_a_saved_delta_comes_back_whole(trained, kind, tmp_path):
    reranker, delta = trained[0], trained[kind]
    loaded = load_delta(save_delta(delta, tmp_path / "words"))
    assert {p.name for p in (tmp_path / "words").iterdir()} == {"delta.safetensors", "delta.json", MARKER}
    for field in (
        "name",
        "base",
        "base_fingerprint",
        "kind",
        "scale",
        "layers",
        "instruction",
        "data",
        "figures",
        "recipe",
    ):
        assert getattr(loaded, field) == getattr(delta, field)
    expected = scores(attach(reranker, delta))
    np.testing.assert_array_equal(scores(attach(reranker, loaded)), expected)
    detach(reranker)
    save_delta(delta, tmp_path / "words")
    assert [p.name for p in tmp_path.iterdir()] == ["words"]


def test_a_folder_with_something_else_is_not_replaced(trained, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt, which was not written"):
        save_delta(trained[1], tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_broken_files_are_named(trained, tmp_path):
    folder = save_delta(trained[1], tmp_path / "d")
    about, tensors = folder / "delta.json", folder / "delta.safetensors"
    good, whole = about.read_text(), tensors.read_bytes()
    for text, message in (
        ("{", "not valid JSON"),
        (json.dumps({**json.loads(good), "kind": "pickle"}), "this course knows"),
        (json.dumps({**json.loads(good), "layers": None}), '"layers" is missing'),
        (json.dumps({**json.loads(good), "instruction": "<|im_end|>"}), "without <| marks"),
    ):
        about.write_text(text)
        with pytest.raises(InputError, match=message.replace("|", r"\|")):
            load_delta(folder)
    about.write_text(json.dumps({**json.loads(good), "instruction": "Another task."}))
    with pytest.raises(InputError, match=r"delta\.json was changed or damaged since it was written"):
        load_delta(folder)
    about.write_text(good)
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"delta\.safetensors was changed or damaged.*copy the folder again"):
        load_delta(folder)
    (folder / MARKER).unlink()  # as earlier versions wrote it, without hashes
    tensors.write_bytes(whole[:-5])
    with pytest.raises(InputError, match="bytes where its header"):
        load_delta(folder)
    save_file({"model.norm.weight": torch.tensor([float("nan")])}, tensors)
    with pytest.raises(InputError, match="not finite"):
        load_delta(folder)
    tensors.unlink()
    with pytest.raises(InputError, match=r"no delta\.safetensors"):
        load_delta(folder)


# Several domains on one base


def test_switching_takes_milliseconds_and_comes_back(trained):
    reranker, layers, lora, before = trained
    domains = Domains(reranker, [layers, lora])
    assert domains.names == ["general", "words", "factors"]
    expected = {}
    for name, delta in (("words", layers), ("factors", lora), ("general", None)):
        attach(reranker, delta) if delta else detach(reranker)
        expected[name] = scores(reranker)
    detach(reranker)
    seconds = []
    for name in ("words", "factors", "general", "factors", "words", "general"):
        started = time.process_time()
        domains.use(name)
        seconds.append(time.process_time() - started)
        np.testing.assert_array_equal(scores(reranker), expected[name])
    assert min(seconds[:2]) < 0.02 and min(seconds[3:5]) < 0.02  # the better of two: other work may share the core
    with domains.use("words"):
        with domains.use("factors"):
            assert domains.current == "factors"
        np.testing.assert_array_equal(scores(reranker), expected["words"])
    assert domains.current == "general"
    assert same_bits(reranker, before)


def test_memory_is_the_base_and_the_deltas(tokenizer, trained):
    def alive():
        gc.collect()
        return storage_bytes([x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)])

    reranker, layers = trained[0], trained[1]
    deltas = [other(layers, name, 0.001 * i) for i, name in enumerate(("a", "b", "c"))]
    before = alive()
    domains = Domains(reranker, deltas)
    found = memory(domains)
    assert found["deltas"] == {"a": layers.nbytes, "b": layers.nbytes, "c": layers.nbytes}
    assert found["total"] == found["base"] + 3 * layers.nbytes
    for name in ("b", "c", "a", "b"):
        domains.use(name)
        assert memory(domains)["total"] == found["total"]
    assert alive() == before
    domains.use("general")


def test_a_mixed_stream_is_scored_by_label_in_order(trained):
    reranker, layers, lora, before = trained
    domains = Domains(reranker, [layers, lora])
    labels = ["words", "general", "factors"] * 4
    groups = make_groups(12)
    mixed = domains.score(groups, labels)
    for name in domains.names:
        own = [i for i, label in enumerate(labels) if label == name]
        alone = domains.score([groups[i] for i in own], name)
        for i, value in zip(own, alone, strict=True):
            np.testing.assert_allclose(mixed[i], value, atol=2e-5)
    assert same_bits(reranker, before)
    assert domains.score([], []) == []


def test_each_domain_in_a_stream_is_switched_to_once(trained, monkeypatch):
    domains, used = Domains(trained[0], trained[1:3]), []
    use = domains.use
    monkeypatch.setattr(domains, "use", lambda name: used.append(name) or use(name))
    domains.score(make_groups(6), ["words", "factors"] * 3)
    assert used == ["words", "factors"]


def test_a_router_decides_where_no_label_is_given(trained):
    class ByWord:
        def predict(self, queries):
            return np.array(["words" if "rent" in q else "general" for q in queries])

    groups = make_groups(8)
    domains = Domains(trained[0], [trained[1]], router=ByWord())
    labels = [str(x) for x in ByWord().predict([g.query for g in groups])]
    for a, b in zip(domains.score(groups), domains.score(groups, labels), strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_names_and_numbers_of_labels_are_refused(trained):
    domains, groups = Domains(trained[0], [trained[1]]), make_groups(3)
    with pytest.raises(InputError, match='no domain "law"; there are general, words'):
        domains.score(groups, ["words", "law", "general"])
    with pytest.raises(InputError, match='no domain "law"'):
        domains.use("law")
    with pytest.raises(InputError, match="3 queries and 2 domains"):
        domains.score(groups, ["words", "words"])
    with pytest.raises(InputError, match="router"):
        domains.score(groups)


def test_a_delta_of_another_base_does_not_join(tokenizer, trained):
    domains = Domains(Reranker(tiny_model(tokenizer, seed=1), tokenizer, name="stranger"))
    with pytest.raises(InputError, match="made for the base tiny"):
        domains.add(trained[1])


def test_a_newer_delta_replaces_the_one_in_use(trained):
    reranker, delta, _, before = trained
    domains = Domains(reranker, [delta])
    domains.use("words")
    domains.add(other(delta, "words", 0.01))
    name = next(iter(delta.tensors))
    assert torch.equal(reranker.model.get_parameter(name), delta.tensors[name] + 0.01)
    domains.use("general")
    assert same_bits(reranker, before)


# Merging


def test_interpolation_begins_at_the_base_and_ends_at_the_delta(trained):
    reranker, delta, lora, before = trained
    for alpha, value in ((0, reranker.model.get_parameter), (1, delta.tensors.__getitem__)):
        mixed = combine(reranker, [delta], [alpha])
        assert all(torch.equal(t, value(n)) for n, t in mixed.tensors.items())
    half = combine(reranker, [delta], [0.5])
    name = next(iter(delta.tensors))
    between = (reranker.model.get_parameter(name) + delta.tensors[name]) / 2
    torch.testing.assert_close(half.tensors[name], between.detach())
    merged = combine(reranker, [lora], [1])
    assert merged.kind == "layers"
    expected = scores(attach(reranker, lora))
    np.testing.assert_array_equal(scores(attach(reranker, merged)), expected)
    detach(reranker)
    assert same_bits(reranker, before)


def test_average_and_sum_are_what_their_names_say(trained):
    reranker, delta, lora, _ = trained
    a, b = other(delta, "a", 0.02), other(delta, "b", -0.04)
    mean, total = combine(reranker, [a, b]), combine(reranker, [a, b], [1, 0.5])
    for n, t in delta.tensors.items():
        base = reranker.model.get_parameter(n).detach()
        torch.testing.assert_close(mean.tensors[n], t - 0.01)
        torch.testing.assert_close(total.tensors[n], base + (t + 0.02 - base) + 0.5 * (t - 0.04 - base))
    assert (mean.name, total.name) == ("0.5 a + 0.5 b", "1 a + 0.5 b")
    both = combine(reranker, [delta, lora], [1, 1])
    norm = next(n for n in delta.tensors if "layernorm" in n)
    torch.testing.assert_close(both.tensors[norm], delta.tensors[norm])


def test_merging_counts_from_the_base_also_while_a_delta_is_attached(trained):
    reranker, delta, _, _ = trained
    expected = combine(reranker, [delta], [0.3])
    attach(reranker, other(delta, "x", 0.5))
    found = combine(reranker, [delta], [0.3])
    detach(reranker)
    assert all(torch.equal(found.tensors[n], t) for n, t in expected.tensors.items())


def test_senseless_merges_are_refused(tokenizer, trained):
    reranker, delta = trained[0], trained[1]
    for deltas, weights, message in (
        ([], [], "0 deltas"),
        ([delta], [1, 2], "2 weights"),
        ([delta], [float("nan")], "numbers near"),
    ):
        with pytest.raises(InputError, match=message):
            combine(reranker, deltas, weights)
    with pytest.raises(InputError, match="made for the base"):
        combine(Reranker(tiny_model(tokenizer, seed=1), tokenizer), [delta])
    with pytest.raises(InputError, match="sweep needs"):
        sweep_weights(reranker, delta, {}, {"test": DEV})


def test_the_matrix_has_a_row_a_model_and_a_column_a_set(trained):
    reranker, layers, lora, before = trained
    sets = {"train": TRAIN, "dev": DEV}
    attach(reranker, other(layers, "x", 0.5))
    attached = scores(reranker)
    matrix = cross_matrix(reranker, [layers, lora], sets)
    np.testing.assert_array_equal(scores(reranker), attached)
    detach(reranker)
    assert same_bits(reranker, before)
    assert (matrix.rows, matrix.columns) == (["base", "words", "factors"], ["train", "dev"])
    assert matrix["base", "dev"] == evaluate(reranker, DEV).summary["ndcg@10"]
    attach(reranker, layers)
    assert matrix["words", "train"] == evaluate(reranker, TRAIN).summary["ndcg@10"]
    detach(reranker)
    same = cross_matrix(reranker, [layers], sets, instructions={"dev": layers.instruction})
    assert same["words", "dev"] == matrix["words", "dev"]
    with pytest.raises(InputError, match="same name"):
        cross_matrix(reranker, [layers, layers], sets)


def test_a_matrix_prints_as_markdown():
    text = str(Matrix(["base", "a"], ["n", "x"], [[1200, 0.5], [3, None]], "trained on"))
    assert text.splitlines() == [
        "| trained on | n | x |", "| --- | ---: | ---: |", "| base | 1,200 | 0.500 |", "| a | 3 |  |"
    ]  # fmt: skip


def test_the_sweep_chooses_on_dev_and_reports_on_test(trained):
    reranker, delta, _, before = trained
    test = make_groups(60)[40:]
    found = sweep_weights(reranker, delta, {"own": DEV, "other": TRAIN}, {"test": test}, scales=(0, 0.5, 1))
    means = [row[-1] for row in found.dev.values]
    assert found.best == (0, 0.5, 1)[int(np.argmax(means))]
    assert found.dev["0", "mean"] == pytest.approx((found.dev["0", "own"] + found.dev["0", "other"]) / 2)
    values = []
    for scale in (0, 1, found.best):
        attach(reranker, combine(reranker, [delta], [scale]))
        values.append([evaluate(reranker, test).summary["ndcg@10"]])
        if scale == found.best:
            assert found.dev[f"{scale:g}", "other"] == evaluate(reranker, TRAIN).summary["ndcg@10"]
        detach(reranker)
    assert found.test.values == values and values[0] != values[1]
    assert same_bits(reranker, before)


def test_a_set_that_chooses_the_weight_does_not_report_it(trained):
    with pytest.raises(InputError, match="dev set own and test set test share"):
        sweep_weights(trained[0], trained[1], {"own": DEV}, {"test": TRAIN[:8] + DEV[:1]})


# Routing


@pytest.fixture(scope="module")
def router():
    return train_router(_course_texts(languages=("zh",)))


def test_the_router_is_right_far_more_often_than_chance_on_topics_it_has_not_seen(router):
    dev = _course_texts("dev", languages=("zh",))
    accuracy = {name: np.mean(router.predict(queries) == name) for name, queries in dev.items()}
    assert np.mean(list(accuracy.values())) > 0.7  # 0.25 by chance
    assert min(accuracy.values()) > 0.6


def test_a_router_needs_two_domains_with_texts():
    with pytest.raises(InputError, match="1 domain"):
        train_router({"medical": ["fever"]})
    with pytest.raises(InputError, match='"legal" has no texts'):
        train_router({"medical": ["fever"], "legal": []})


def test_the_report_tells_accuracy_and_the_cost_of_a_wrong_route(trained):
    class Half:
        def predict(self, queries):
            return np.array(["words", "general"] * len(queries))[: len(queries)]

    reranker, delta, lora, _ = trained
    report = route_report(Domains(reranker, [delta, lora]), Half(), {"words": DEV})
    assert report.rows == ["words", "all"]
    assert (report["words", "queries"], report["words", "wrong"], report["words", "accuracy"]) == (8, 4, 0.5)
    gap = report["words", "right label"] - report["words", "routed"]
    there = report["words", "right label there"] - report["words", "routed there"]
    assert gap == pytest.approx(there / 2)
    assert report["words", "base"] != report["words", "right label"]
