"""The engines beside ours: what a process does, what is kept, what is named as missing, and the page."""

import json
import sys

import numpy as np
import pytest
from conftest import tiny_model

from benchmarks.engines import __main__ as engines
from benchmarks.engines import llama, loss, page, worker
from course_utils.data.groups import Group
from course_utils.model.reranker import Reranker

LISTS = {"a": ["what is it", ["one two three", "four", "five six seven eight", "nine ten"]], "b": ["why", ["x", "y z"]]}


@pytest.fixture
def model(tokenizer, tmp_path):
    return Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=128).save(tmp_path / "tiny")


@pytest.fixture
def job(model, tmp_path):
    return {"folder": str(model), "work": str(tmp_path), "threads": 1, "lists": LISTS, "repeats": 2}


@pytest.mark.parametrize(
    ("engine", "kind", "near"),
    [("snippet", "fp32", 1e-4), ("cross_encoder", "fp32", 1e-4), ("here", "bf16", 0.5), ("here", "int8 torch", 2)],
)
def test_an_engine_gives_our_scores_as_near_as_its_precision_allows(job, engine, kind, near):
    ours = worker.work({**job, "engine": "here", "kind": "fp32"})
    found = worker.work({**job, "engine": engine, "kind": kind})
    for title, (_, documents) in LISTS.items():
        assert len(found["seconds"][title]) == len(found["cpu"][title]) == 2
        assert np.abs(np.subtract(found["scores"][title], ours["scores"][title])).max() < near
        assert len(found["scores"][title]) == len(documents)
    assert found["version"] and found["peak_mb"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "engine", "kind", "near"),
    [
        ("onnxruntime", "onnx", "fp32", 1e-3), ("openvino", "openvino", "fp32", 1e-3), ("llama_cpp", "llama", "f32", 1e-2),
        ("vllm", "vllm_cpu", "fp32", 1e-2), ("torchao", "here", "int8 torchao", 1),
    ],
)  # fmt: skip
def test_another_engine_gives_our_scores(job, package, engine, kind, near):
    pytest.importorskip(package)
    ours = worker.work({**job, "engine": "here", "kind": "fp32"})
    found = worker.work({**job, "engine": engine, "kind": kind})
    for title in LISTS:
        assert np.abs(np.subtract(found["scores"][title], ours["scores"][title])).max() < near


def test_names_of_weights_become_those_of_gguf():
    assert llama.gguf_name("model.embed_tokens.weight") == "token_embd.weight"
    assert llama.gguf_name("model.layers.12.self_attn.q_norm.weight") == "blk.12.attn_q_norm.weight"
    assert llama.gguf_name("model.layers.0.mlp.down_proj.weight") == "blk.0.ffn_down.weight"


def answers(monkeypatch, model, scores=(1.0, 2.0)):
    """Let the command see two ways, of which one is missing, without a process."""
    calls = []

    def run(job, python, at_most):
        calls.append((job["engine"], python))
        if job["engine"] == "onnx":
            return None, "not installed: onnxruntime"
        own = list(scores) if job["engine"] == "here" else list(scores)[::-1]
        seconds = {"100 short": [0.5 if job["engine"] == "here" else 1.0]}
        return {"version": "v", "start": 1.0, "load": 0.5, "seconds": seconds, "cpu": seconds, "scores": {"100 short": own}, "peak_mb": 7}, None  # fmt: skip

    monkeypatch.setattr(engines, "run", run)
    monkeypatch.setattr(engines, "quiet", lambda: None)
    monkeypatch.setattr(engines, "ALL", [("here", "fp32"), ("onnx", "int8"), ("snippet", "fp32")])
    monkeypatch.setattr(engines, "WAYS", {"nano": engines.ALL})
    monkeypatch.setattr(engines, "one_list", lambda *a: ("q", ["d", "e"]))
    return calls


def test_ways_take_turns_and_a_second_run_goes_on(monkeypatch, model, tmp_path, capsys):
    calls = answers(monkeypatch, model)
    command = [
        "--real",
        str(tmp_path),
        "--models",
        str(model),
        "--out",
        str(tmp_path / "e.json"),
        "--python",
        "snippet=/other",
    ]
    assert engines.main([*command, "--runs", "1"]) == 0
    assert calls == [("here", sys.executable), ("onnx", sys.executable), ("snippet", "/other")]
    text = (tmp_path / "e.md").read_text("utf-8")
    assert "onnx int8: not installed: onnxruntime" in text
    assert (
        "| the model card's snippet | fp32 | 100 short | 1 | 1.000 | 1.000 - 1.000 | 2.0 | 2.00 | 1.00 | 1.00 - 1.00 | 2.00 | 0.5 |"
        in text
    )
    assert "| 1.0e+00 | 100.0 |" in text  # both documents have changed places
    assert (
        "- 100 short: this package in fp32 takes 0.50 processor seconds, of the others in fp32 the model card's snippet (fp32) 2.00 times as many;"
        in text
    )
    assert engines.main([*command, "--runs", "2"]) == 0
    assert [c for c, _ in calls[3:]].count("here") == 1 and [c for c, _ in calls[3:]].count("snippet") == 1
    kept = json.loads((tmp_path / "e.json").read_text("utf-8"))["models"][str(model)]
    assert {way: len(cell["runs"]) for way, cell in kept.items()} == {"here fp32": 2, "onnx int8": 0, "snippet fp32": 2}


def test_figures_of_another_machine_are_not_mixed(monkeypatch, model, tmp_path, capsys):
    answers(monkeypatch, model)
    (tmp_path / "e.json").write_text(json.dumps({"machine": {"chip": "other"}, "models": {}}), encoding="utf-8")
    assert engines.main(["--real", str(tmp_path), "--models", str(model), "--out", str(tmp_path / "e.json")]) == 2
    assert "measured on another machine" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_says_what_is_missing_and_what_failed(job, tmp_path):
    assert engines.run({**job, "engine": "nowhere", "kind": "x"}, sys.executable) == (None, "not installed: benchmarks.engines.nowhere")  # fmt: skip
    found, why = engines.run({**job, "engine": "here", "kind": "fp32", "folder": str(tmp_path / "no")}, sys.executable)
    assert found is None and "no" in why
    found, why = engines.run({**job, "engine": "here", "kind": "fp32"}, sys.executable)
    assert why is None and set(found["scores"]) == set(LISTS)


def test_what_int8_loses_is_measured_on_the_same_queries(model):
    groups = [Group(f"question {i}", (f"answer {i}", "something else", "another thing"), (1, 0, 0)) for i in range(3)]
    found = loss.losses(model, 2, {"small": groups}, ("int8 torch",))
    assert {kind: len(v) for kind, v in found["small"].items()} == {"fp32": 2, "int8 torch": 2}
    table = loss.loss_table({"m": found})
    assert "| m | small | 2 |" in table and "| m | all | 2 |" in table


def test_inversions_are_counted_in_a_hundred_pairs():
    assert page.inversions(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])) == 0
    assert page.inversions(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == 100
    assert page.inversions(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0])) == pytest.approx(100 / 3)


def test_int8_is_judged_by_speed_and_loss():
    def cell(seconds):
        return {"runs": [{"cpu": {"a": [seconds]}}]}

    results = {
        "models": {"m": {"here bf16": cell(3.0), "here int8 torch": cell(1.0), "here int8 torchao": cell(2.5)}},
        "loss": {"m": {"s": {"fp32": [0.9, 0.8], "int8 torch": [0.9, 0.799], "int8 torchao": [0.9, 0.8]}}},
    }
    torch, torch_end, torchao, torchao_end = page.verdicts(results)
    assert torch == "m, a: int8 torch is 3.00 times as fast as bf16."
    assert torch_end == "int8 torch: loss of m: 0.0005 of nDCG@10. It fits."
    assert "1.20 times" in torchao and torchao_end.endswith("It does not fit.")
    results["loss"]["other"] = {"s": {"fp32": [0.9], "int8 torch": [0.8]}}  # one model that loses is enough
    assert list(page.verdicts(results))[1].endswith("loss of other: 0.1000 of nDCG@10. It does not fit.")
    results["loss"] = {}
    assert list(page.verdicts(results))[1] == "int8 torch: loss: not measured. Undecided."
    results["models"]["slow"] = {
        "here bf16": cell(1.0),
        "here int8 torch": cell(1.0),
    }  # and so is one that is not faster
    assert list(page.verdicts(results))[2].endswith("It does not fit.")
    results["models"]["m"]["here fp32"] = cell(2.0)  # where bf16 is slower, fp32 is what int8 must beat
    assert "2.00 times as fast as fp32" in next(page.verdicts(results))
