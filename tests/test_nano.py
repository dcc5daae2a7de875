"""The bundled model: what it may see, how it is built, what it is."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, real_data

from course_utils.bonus import nano as recipe
from course_utils.data.grid import DOMAINS, LANGUAGES, read_grid
from course_utils.data.read import read_groups
from course_utils.model import prompt
from course_utils.model.hub import BUNDLED
from course_utils.text import normalise


def held_out_texts():
    """Queries and passages of every dev and test topic, and all of the three trades."""
    queries, passages = set(), set()
    for domain in DOMAINS:
        for language in LANGUAGES:
            grid = read_grid(domain, language)
            out = {t for t, s in grid.splits.items() if s != "train" or domain != "general"}
            queries |= {normalise(q.text) for q in grid.queries if q.topic in out}
            passages |= {normalise(p.text) for p in grid.passages.values() if p.topic in out}
    return queries, passages


def test_training_never_sees_a_dev_or_test_topic_or_a_trade_of_the_course():
    texts, groups = recipe.sources(None)
    queries, passages = held_out_texts()
    assert len(texts) > 300
    assert not {normalise(t) for t in texts} & passages
    assert not {normalise(g.query) for g in groups} & queries
    assert not {normalise(d) for g in groups for d in g.documents} & passages


def test_training_reads_train_files_only_and_labels_of_general_sets_only(tmp_path):
    for name in ("general-x", "medical-x"):
        (tmp_path / name).mkdir()
        for split in ("train", "test"):
            rows = [
                {"query": f"{name} {split} query", "document": f"{name} {split} right words here", "relevance": 1},
                {"query": f"{name} {split} query", "document": f"{name} {split} wrong words here", "relevance": 0},
            ]
            (tmp_path / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts, groups = recipe.sources(tmp_path)
    assert "medical-x train right words here" in texts
    assert not [t for t in texts if " test " in t and t.endswith("words here")]
    assert {g.query for g in groups if g.query.endswith(" query")} >= {"general-x train query"}
    assert "medical-x train query" not in {g.query for g in groups}


def test_no_real_test_query_or_answer_is_in_the_real_training_text():
    folder = real_data()
    texts, groups = recipe.sources(folder)
    texts, queries = {normalise(t) for t in texts}, {normalise(g.query) for g in groups}
    for path in folder.glob("*/test.jsonl"):
        for g in read_groups(path):
            assert normalise(g.query) not in queries
            assert not {normalise(d) for d in g.positives} & texts, path


def test_the_bundled_model_has_the_official_layout(nano):
    config = nano.model.config
    assert config.architectures == ["Qwen3ForCausalLM"]
    assert 6 <= config.num_hidden_layers <= 12
    assert config.tie_word_embeddings
    names = {n for n, _ in nano.model.named_parameters()}
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.q_norm.weight", "model.norm.weight"} <= names
    weights = list(BUNDLED["nano"].glob("*.safetensors"))
    assert sum(p.stat().st_size for p in weights) <= 20 * 2**20
    assert not [p for p in BUNDLED["nano"].iterdir() if p.suffix in {".bin", ".pt", ".pkl"}]


def test_its_chat_template_renders_the_official_prompt(nano):
    messages = [{"role": "query", "content": "糖尿病 症状"}, {"role": "document", "content": "a\n\nb  "}]
    assert nano.tokenizer.apply_chat_template(messages, tokenize=False) == prompt.prompt_text("糖尿病 症状", "a\n\nb  ")
    own = [{"role": "system", "content": "Given a legal question"}, *messages]
    text = nano.tokenizer.apply_chat_template(own, tokenize=False)
    assert text == prompt.prompt_text("糖尿病 症状", "a\n\nb  ", "Given a legal question")


def test_special_tokens_of_qwen_are_single_and_common_characters_too(nano):
    for token in recipe.SPECIALS:
        assert len(nano.tokenizer.encode(token, add_special_tokens=False)) == 1
    assert len(nano.tokenizer.encode("糖尿病的症状", add_special_tokens=False)) == 6


def test_dense_targets_mark_document_tokens_that_stand_in_the_query(nano):
    frame = recipe.Frame(nano.tokenizer)
    segments, labels = frame.segments([(np.array([500, 501]), [np.array([7, 501, 8]), np.array([9, 9, 500])], [1, 0])])
    found, mask = recipe.dense_targets(segments, len(frame.between), len(frame.tail))
    assert found[0, :3].tolist() == [0, 1, 0]
    assert found[1, :3].tolist() == [0, 0, 1]
    assert mask[:, :3].all()
    assert not mask[:, 3:].any()
    assert labels.tolist() == [1, 0]


def test_the_frame_of_training_is_the_prompt_of_scoring(nano):
    frame = recipe.Frame(nano.tokenizer)

    def ids(text):
        return nano.tokenizer.encode(text, add_special_tokens=False)

    query, document = "糖尿病 symptoms of Gout", "The big toe, 红肿 in 1998."
    made = [*frame.heads[0], *ids(" " + query), *frame.between, *ids(" " + document), *frame.tail]
    assert made == nano.encode([(query, [document])]).full_ids(0, 0)


def test_matching_puts_the_right_window_first():
    documents = [np.arange(i * 100, i * 100 + 60) + 300 for i in range(20)]
    groups = recipe.Matching(documents, 5000, seed=1).real(60, 4, 20, 30, noise=0.0)
    first = []
    for query, candidates, labels in groups:
        assert labels == [1, 0, 0, 0]
        assert len(candidates) == 4
        shared = [len(set(query.tolist()) & set(c.tolist())) for c in candidates]
        first.append(shared[0] == max(shared))
    # Now and then the query is a span that was taken out of its document, so it shares nothing with it.
    assert np.mean(first) > 0.7


def test_word_vectors_put_tokens_with_the_same_company_together():
    random_ = np.random.default_rng(0)
    documents = []
    for _ in range(400):
        base = 0 if random_.random() < 0.5 else 20
        documents.append(base + random_.integers(0, 20, 30))
    vectors = recipe.word_vectors(documents, 40, 8)
    alike = vectors @ vectors.T
    assert alike[:20, :20].mean() > alike[:20, 20:].mean() + 0.2


def test_the_next_token_loss_sees_only_text_and_falls_when_the_head_knows(nano):
    torch.manual_seed(0)
    heads = recipe.Heads(8)
    embedding = torch.eye(8)
    ids = torch.tensor([[1, 2, 3, 4, 0, 0]])
    documents = recipe._Segment(ids, torch.tensor([6]))
    knows = torch.zeros(1, 6, 8)
    for place, following in enumerate([2, 3, 4]):
        knows[0, place, following] = 1.0
    with torch.no_grad():
        heads.following[1].weight.copy_(20 * torch.eye(8))
        heads.following[1].bias.zero_()
    assert heads.next_token_loss(knows, documents, 2, embedding) < 1e-3
    wrong_in_the_tail = knows.clone()
    wrong_in_the_tail[0, 3:] = torch.randn(3, 8)
    assert torch.equal(
        heads.next_token_loss(wrong_in_the_tail, documents, 2, embedding),
        heads.next_token_loss(knows, documents, 2, embedding),
    )
    assert heads.next_token_loss(knows.roll(1, dims=1), documents, 2, embedding) > 5


def test_calibration_keeps_the_order_and_lowers_the_log_loss(tiny):
    from course_utils.data import load_domain
    from course_utils.evaluation.calibration import log_loss

    groups = load_domain("general", "en", "train")[:12]
    with torch.no_grad():
        tiny.model.model.norm.weight *= 30  # far too sure
    pairs = groups
    before = tiny.score_groups(pairs)
    # Labels drawn with the probability that a temperature of three gives: that is what must be found.
    random_ = np.random.default_rng(0)
    groups = [
        dataclasses.replace(g, relevance=tuple(int(random_.random() < 1 / (1 + np.exp(-s / 3))) for s in b))
        for g, b in zip(groups, before, strict=True)
    ]
    temperature = recipe.calibrate(tiny, groups)
    after = tiny.score_groups(pairs)
    assert 2 < temperature < 5
    labels = [g.relevance for g in groups]
    assert log_loss(after, labels) <= log_loss(before, labels) + 1e-6
    for b, a in zip(before, after, strict=True):
        assert np.allclose(np.asarray(b) / temperature, a, rtol=1e-3, atol=1e-4)


BUILD = """
import sys, torch
torch.set_num_threads(1)
from course_utils.bonus import nano
nano.build(None, sys.argv[1], minutes=float(sys.argv[2]), queries=2,
           shape={"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 32, "vocab_size": 4000})
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_a_small_build_ends_with_a_whole_model_also_after_a_kill(tmp_path, kill, monkeypatch):
    out = tmp_path / "nano"
    command = [
        sys.executable,
        "-c",
        BUILD.replace(
            "import sys, torch", "import sys, torch; import course_utils.bonus.nano as n; n.SAVE_SECONDS = 1"
        ),
        str(out),
        "0.15",
    ]
    if kill:
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        deadline = time.time() + 120
        while time.time() < deadline and not (tmp_path / "nano-work" / "state.json").exists():
            assert run.poll() is None
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert not out.exists()
        before = json.loads((tmp_path / "nano-work" / "state.json").read_text())["step"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert ("resuming at step" in run.stdout) == kill
    facts = json.loads((out / "training.json").read_text())
    assert facts["steps"] > (before if kill else 0)
    from course_utils.model.reranker import Reranker

    scores = Reranker.load(str(out), device="cpu", quiet=True).score([("a", "b"), ("rice", "boil the rice")])
    assert torch.isfinite(torch.tensor(scores)).all()
