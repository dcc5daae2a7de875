"""The GPU script's whole path at a tiny size on this machine's processor."""

import ast
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.floors import operations
from course_utils.model.reranker import Reranker


@pytest.fixture
def on_this_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_whole_path_at_a_tiny_size(tmp_path, capsys, on_this_processor):
    assert gpu.main(["--shape", "tiny", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    ways = {(r["part"].split(",")[0], r["way"]) for r in found["rows"]}
    assert {
        ("adapting", f"{gpu.HERE}, frozen states kept"),
        ("adapting", f"{gpu.HERE}, frozen states not kept"),
    } <= ways
    assert {("scoring", gpu.HERE), ("scoring", gpu.OFFICIAL), ("scoring", gpu.ENCODER)} <= ways
    exact = [r for r in found["rows"] if r["dtype"] == "float32" and r["difference"] is not None]
    assert {r["part"] for r in exact} == {"scoring, 100 short", "scoring, 30 long"}
    assert all(r["difference"] < 1e-4 for r in exact)
    assert all(len(r["seconds"]) == 3 and r["share"] > 0 and r["peak_mb"] > 0 for r in exact)
    text = capsys.readouterr().out
    assert text.count("\n| ") == len(found["rows"]) + 2 and found["minutes"] > 0
    assert all(f"Left out: {reason}" in text for reason in found["left_out"])


def test_no_part_begins_when_the_time_is_over(tmp_path, capsys, on_this_processor):
    assert gpu.main(["--shape", "tiny", "--minutes", "0.01", "--out", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert not found["rows"] and any(t.startswith("adapting") for t in found["left_out"])
    assert any(t.startswith("scoring") for t in found["left_out"]) and any("vLLM" in t for t in found["left_out"])


def test_what_must_be_computed_is_counted_as_in_the_other_benchmarks(tiny):
    lists = {"a": ["one two", "three four five"], "b": ["six", "seven eight"]}
    encoded = tiny.encode(list(lists.items()))
    ours, tokens = gpu.operations(tiny.model.config, encoded, 4)
    assert ours == operations(tiny.model.config, encoded, 4)
    assert tokens == len(encoded.constant) + sum(
        map(len, [*encoded.prefixes, *(c for own in encoded.candidates for c in own)])
    )


def test_the_snippet_gives_the_scores_of_the_package(tiny):
    tiny.tokenizer.padding_side = "left"
    documents = ["one two", "three four five six", "seven"]
    found = gpu.official_scores(tiny.model, tiny.tokenizer, "what", documents, batch_size=2)
    ours = Reranker(tiny.model, tiny.tokenizer, max_length=2048).score([("what", d) for d in documents])
    assert abs(found - ours).max() < 1e-4


def test_the_file_stands_alone():
    tree = ast.parse(Path(gpu.__file__).read_text("utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    others = {n.split(".")[0] for n in names} - set(sys.stdlib_module_names)
    assert others == {"numpy", "torch", "transformers", "course_utils", "sentence_transformers", "vllm"}
