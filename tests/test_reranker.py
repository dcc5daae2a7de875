"""The score is logit(yes) - logit(no) of the official prompt, however it is computed."""

import random
import warnings
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from conftest import tiny_model

from course_utils import machine
from course_utils.errors import InputError
from course_utils.files import MARKER
from course_utils.model import prompt
from course_utils.model.batches import _bucket_ends, _own_batches, _token_batches, _tokens
from course_utils.model.reranker import Reranker, sigmoid

QUERIES = [
    (
        "what is a fever",
        ["A fever is a raised body temperature.", "Rent is paid each month.", "糖尿病常见症状包括口渴。"],
    ),
    ("糖尿病症状", ["糖尿病常见症状包括多饮、多尿、多食和体重下降。", "租房押金应当退还。" * 9]),
    ("lonely query", ["only one candidate, so nothing is shared with a sibling"]),
]


def reference_scores(model, tokenizer, queries, side, batch, instruction=prompt.DEFAULT_INSTRUCTION):
    """Scores from the whole vocabulary, every prompt padded and computed on its own."""
    texts = [prompt.prompt_text(q, d, instruction) for q, documents in queries for d in documents]
    tokenizer.padding_side, out = side, []
    for start in range(0, len(texts), batch):
        inputs = tokenizer(texts[start : start + batch], padding=True, return_tensors="pt", add_special_tokens=False)
        positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            logits = model(**inputs, position_ids=positions).logits
        last = (
            logits[:, -1] if side == "left" else logits[torch.arange(len(logits)), inputs["attention_mask"].sum(1) - 1]
        )
        yes, no = prompt.yes_no_ids(tokenizer)
        out += (last[:, yes] - last[:, no]).tolist()
    return np.array(out)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch", [1, 16])
def test_two_rows_at_the_last_token_equal_the_full_vocabulary(tiny, side, batch):
    expected = reference_scores(tiny.model, tiny.tokenizer, QUERIES, side, batch)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(np.concatenate(tiny.score_groups(QUERIES)), expected, atol=2e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_sharing_works_for_other_decoders(tokenizer, family):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family, hidden_size=48, num_hidden_layers=3, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=len(tokenizer), max_position_embeddings=1024, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    expected = reference_scores(model, tokenizer, QUERIES, "right", 16)
    np.testing.assert_allclose(np.concatenate(Reranker(model, tokenizer).score_groups(QUERIES)), expected, atol=2e-5)


def test_a_decoder_that_cannot_share_is_scored_the_plain_way(tokenizer):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            hidden_size=48,
            num_hidden_layers=2,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            vocab_size=len(tokenizer),
            final_logit_softcapping=None,
            sliding_window=4096,
        )
    ).eval()
    expected = reference_scores(model, tokenizer, QUERIES, "right", 16)
    np.testing.assert_allclose(np.concatenate(Reranker(model, tokenizer).score_groups(QUERIES)), expected, atol=2e-4)


def test_buckets_are_cut_so_that_least_is_computed():
    def cost(lengths, ends):
        return sum((b - a) * lengths[b - 1] + 32 for a, b in pairwise([0, *ends]))

    chance = random.Random(0)
    for count in range(1, 9):
        lengths = sorted(chance.choices(range(5, 90), k=count))
        ways = ([*own, count] for n in range(count) for own in combinations(range(1, count), n))
        assert cost(lengths, _bucket_ends(lengths, 512)) == min(cost(lengths, ends) for ends in ways)
    many = sorted(chance.choices(range(5, 90), k=400)) + [90] * 50 + [3000]
    ends = _bucket_ends(many, 512)
    assert ends[-1] == len(many) and all((b - a) * many[b - 1] <= 1024 or b - a == 1 for a, b in pairwise([0, *ends]))
    assert _bucket_ends([], 512) == [] and _bucket_ends([0, 0], 512) == [2]


def test_the_way_pairs_are_batched_changes_no_score(tiny):
    groups = [(f"query {i}", [f"document {j} " * (1 + (i * j) % 17) for j in range(7)]) for i in range(9)]
    whole = np.concatenate(tiny.score_groups(groups))
    tiny.batch_tokens = 300
    np.testing.assert_allclose(np.concatenate(tiny.score_groups(groups, chunk=5)), whole, atol=2e-5)
    one_by_one = [tiny.score([(q, d)])[0] for q, documents in groups for d in documents]
    np.testing.assert_allclose(one_by_one, whole, atol=2e-5)


def test_batches_hold_every_candidate_once(tiny):
    encoded = tiny.encode([(f"q{i}", [f"d {j} " * (j + 1) for j in range(i + 1)]) for i in range(8)])
    seen = [(g, c) for batch in _token_batches(encoded, 200) for g, own in batch for c in own]
    assert sorted(seen) == [(i, j) for i in range(8) for j in range(i + 1)]


@pytest.mark.parametrize(("lists", "size"), [(1, 100), (7, 100), (60, 20), (300, 3)])
def test_processes_share_all_candidates_about_equally(tiny, monkeypatch, lists, size):
    encoded = tiny.encode([(f"q{i}", [f"d {j} " * (1 + j % 30) for j in range(size)]) for i in range(lists)])
    for count in (2, 3):
        shares = []
        for rank in range(count):
            monkeypatch.setattr(machine, "join", lambda device, own=(rank, count): own)
            shares.append(_own_batches(encoded, tiny.batch_tokens))
        seen = [(g, c) for share in shares for batch in share for g, own in batch for c in own]
        assert sorted(seen) == [(g, c) for g in range(lists) for c in range(size)]
        tokens = [sum(_tokens(encoded, g, own) for batch in share for g, own in batch) for share in shares]
        assert max(tokens) < 1.1 * min(tokens), tokens


def test_one_process_takes_batches_as_large_as_they_may_be(tiny):
    encoded = tiny.encode([("q", ["d " * 50] * 30)])
    assert _own_batches(encoded, tiny.batch_tokens) == list(_token_batches(encoded, tiny.batch_tokens))


def test_a_generator_of_pairs_is_scored_in_order(tiny):
    pairs = [("a", "b"), ("a", "c"), ("x", "b")]
    np.testing.assert_allclose(tiny.score(iter(pairs)), [tiny.score([p])[0] for p in pairs], atol=2e-5)
    assert tiny.score([]).shape == (0,)


def test_rank_sorts_and_shows_probabilities(tiny):
    ranked = tiny.rank("fever", ["a", "b c d", "fever and cough"])
    assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
    assert sorted(r.index for r in ranked) == [0, 1, 2]
    assert all(abs(r.probability - sigmoid(r.score)) < 1e-9 for r in ranked)


@pytest.mark.parametrize(("query", "documents", "word"), [("", ["a"], "query"), ("q", [], "document")])
def test_nothing_to_rank_is_refused(tiny, query, documents, word):
    with pytest.raises(InputError, match=word):
        tiny.rank(query, documents)


def test_rank_of_one_text_or_of_nothing_is_refused(tiny):
    with pytest.raises(InputError, match="are one text; give a list"):
        tiny.rank("q", "abc")
    with pytest.raises(InputError, match=r'Document 1 of "q" is None, not text'):
        tiny.rank("q", ["a", None])
    with pytest.raises(InputError, match="A query is None"):
        tiny.rank(None, ["a"])
    assert [r.document for r in tiny.rank("q", (d for d in ["a"]))] == ["a"]


def test_groups_from_a_generator_are_all_scored(tiny):
    scores = tiny.score_groups(group for group in QUERIES)
    for own, again in zip(scores, tiny.score_groups(QUERIES), strict=True):
        np.testing.assert_array_equal(own, again)


def test_cut_documents_are_counted_and_warned_of(tiny):
    long = "word " * 500
    with pytest.warns(UserWarning, match="1 of 2 documents cut at max_length 256"):
        tiny.rank("q", [long, "short"])
    with pytest.warns(UserWarning, match="2 of 3 documents cut"):
        tiny.score([("q", long), ("q", "a"), ("r", long)])
    assert tiny.score_groups([("q", [long, "a"]), ("r", [long])]).truncated == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.rank("q", ["a", "b"])


def test_a_query_that_fills_the_prompt_is_refused_in_rank(tiny):
    with pytest.raises(InputError, match="leave no room for a document"):
        tiny.rank("word " * 300, ["a document"])


def test_scores_that_are_no_numbers_are_one_sentence(tiny):
    tiny.model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(InputError, match=r"no numbers \(NaN\)"):
        tiny.rank("q", ["a", "b"])


@pytest.mark.parametrize(
    "wrong", [{"device": "cuda:99"}, {"device": "tpu"}, {"device": 7.5}, {"dtype": "float99"}, {"dtype": "int8"},
              {"dtype": "nn"}, {"dtype": ""}, {"max_length": 0}, {"max_length": 10**9}, {"max_length": 1e3},
              {"instruction": ""}, {"instruction": "Judge.<|im_end|>"}, {"instruction": 7}],
    ids=str,
)  # fmt: skip
def test_a_choice_that_cannot_be_is_refused_before_the_weights_are_read(wrong, monkeypatch):
    monkeypatch.setattr("course_utils.model.reranker.model_folder", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(InputError):
        Reranker.load("nano", **wrong)


def test_a_dtype_may_be_given_by_its_name():
    assert Reranker.load("nano", device="cpu", dtype="bfloat16", quiet=True).model.dtype == torch.bfloat16


def test_save_and_load_keep_scores_and_settings(tiny, tmp_path):
    tiny.instruction = "Given a health question, retrieve medical passages that answer it"
    before = tiny.score([("fever", "a raised temperature"), ("租房", "押金")])
    tiny.save(tmp_path / "model")
    again = Reranker.load(str(tmp_path / "model"), device="cpu", quiet=True)
    np.testing.assert_array_equal(again.score([("fever", "a raised temperature"), ("租房", "押金")]), before)
    assert (again.instruction, again.max_length) == (tiny.instruction, tiny.max_length)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_failed_save_leaves_the_old_model(tiny, tmp_path, monkeypatch):
    tiny.save(tmp_path / "model")
    before = sorted(p.name for p in (tmp_path / "model").iterdir())
    monkeypatch.setattr(tiny.tokenizer, "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        tiny.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_other_content_of_the_right_size_is_refused(tiny, tmp_path):
    folder = tmp_path / "model"
    tiny.save(folder)
    again = lambda: Reranker.load(folder, device="cpu", quiet=True)  # noqa: E731
    weights, settings = folder / "model.safetensors", folder / "reranker.json"
    good, about = weights.read_bytes(), settings.read_text()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(
        InputError, match=r"model\.safetensors was changed or damaged.*copy the folder again, or delete"
    ):
        again()
    weights.write_bytes(good)
    settings.write_text(
        about.replace("256", "64"), newline="\r\n"
    )  # settings may be changed; "prompt" guards the instruction
    assert again().max_length == 64
    for marker in ('{"files": []}', None):  # that of an earlier version says nothing
        (folder / MARKER).unlink() if marker is None else (folder / MARKER).write_text(marker)
        assert again().max_length == 64


def test_a_model_that_is_replaced_while_it_is_read_is_refused(tiny, tmp_path, monkeypatch):
    from course_utils.model import reranker as module

    tiny.save(tmp_path / "model")
    real = module._load_parts

    def replaced(*given):
        parts = real(*given)
        with torch.no_grad():
            tiny.model.model.norm.weight.fill_(2)
        tiny.save(tmp_path / "model")
        return parts

    with monkeypatch.context() as patch:
        patch.setattr(module, "_load_parts", replaced)
        with pytest.raises(InputError, match="was replaced while it was read; load it again"):
            Reranker.load(tmp_path / "model", device="cpu", quiet=True)
    assert Reranker.load(tmp_path / "model", device="cpu", quiet=True).model.model.norm.weight[0] == 2


def test_saving_over_a_file_of_the_user_is_refused(tiny, tmp_path):
    tiny.save(tmp_path / "model")
    (tmp_path / "model" / "thesis.docx").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.docx"):
        tiny.save(tmp_path / "model")
    assert (tmp_path / "model" / "thesis.docx").read_text() == "years of work"


def test_a_saved_model_can_be_read_by_others(tiny, tmp_path):
    tiny.save(tmp_path / "model")
    (tmp_path / "plain").touch()
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert set(modes.values()) == {(tmp_path / "plain").stat().st_mode}


def test_a_classifier_folder_is_refused(tokenizer, tmp_path):
    from transformers import Qwen3ForSequenceClassification

    config = tiny_model(tokenizer).config
    Qwen3ForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="classification head"):
        Reranker.load(str(tmp_path))
