"""Long lists: results appended as they come, stopped and resumed, in constant memory."""

import json
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from conftest import ROOT

from course_utils.errors import InputError
from course_utils.model.prompt import _queries_too_long
from course_utils.ship import scoring
from course_utils.ship.scoring import _read_pairs, score_file

PAIRS = [(f"query {i // 3}", f"document{' about fever' * (i % 5)} number {i}") for i in range(30)]


def write_pairs(path, pairs=PAIRS):
    rows = (json.dumps({"query": q, "document": d}) + "\n" for q, d in pairs)
    path.write_text("".join(rows), encoding="utf-8")
    return path


def scores_in(path):
    return [json.loads(line)["score"] for line in path.read_text().splitlines()]


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(scoring, "_FIRST", 7)
    monkeypatch.setattr(scoring, "_MOST", 7)


def test_a_file_of_pairs_is_scored_in_order(tiny, tmp_path, small_steps):
    source = write_pairs(tmp_path / "pairs.jsonl")
    assert score_file(tiny, source, tmp_path / "out" / "scores.jsonl", progress=False) == 30
    np.testing.assert_allclose(scores_in(tmp_path / "out" / "scores.jsonl"), tiny.score(PAIRS), atol=2e-5)
    about = json.loads((tmp_path / "out" / "scores.jsonl.about.json").read_text())
    assert about["instruction"] == tiny.instruction


def test_a_table_needs_no_labels_to_be_scored(tiny, tmp_path):
    source = tmp_path / "pairs.csv"
    source.write_text("query,document\n" + "".join(f"{q},{d}\n" for q, d in PAIRS[:4]))
    assert score_file(tiny, source, tmp_path / "scores.jsonl", progress=False) == 4
    np.testing.assert_allclose(scores_in(tmp_path / "scores.jsonl"), tiny.score(PAIRS[:4]), atol=2e-5)


def test_a_finished_file_is_left_as_it_is(tiny, tmp_path, monkeypatch):
    path = tmp_path / "scores.jsonl"
    score_file(tiny, PAIRS[:5], path, progress=False)
    before = path.read_bytes()
    monkeypatch.setattr(type(tiny), "score_groups", None)
    assert score_file(tiny, PAIRS[:5], path, progress=False) == 0
    assert path.read_bytes() == before


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from conftest import tiny_model
from transformers import AutoTokenizer
from course_utils.ship import scoring
from course_utils.ship.scoring import score_file
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker
tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)
reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256, name="tiny")
scoring._FIRST = scoring._MOST = 7
whole, calls = Reranker.score_groups, []
def counted(self, groups):
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(1)
    return whole(self, groups)
Reranker.score_groups = counted
score_file(reranker, sys.argv[1], sys.argv[2], progress=False)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_after_the_last_whole_line(tiny, tmp_path, small_steps):
    source, path = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "scores.jsonl"
    command = [sys.executable, "-c", KILLED.format(tests=str(ROOT / "tests")), str(source), str(path)]
    assert subprocess.run(command, cwd=ROOT, timeout=300, check=False).returncode == -signal.SIGKILL
    assert len(scores_in(path)) == 14
    with path.open("ab") as file:
        file.write(b'{"score": 0.12')  # as a kill in the middle of a write leaves it
    assert score_file(tiny, source, path, progress=False) == 16
    np.testing.assert_allclose(scores_in(path), tiny.score(PAIRS), atol=2e-5)


def test_a_generator_is_scored_and_resumed(tiny, tmp_path):
    path = tmp_path / "scores.jsonl"
    assert score_file(tiny, iter(PAIRS[:10]), path, progress=False) == 10
    assert score_file(tiny, iter(PAIRS), path, progress=False) == 20
    np.testing.assert_allclose(scores_in(path), tiny.score(PAIRS), atol=2e-5)


def test_progress_shows_pairs_done_and_time_left(tiny, tmp_path, capsys, small_steps):
    score_file(tiny, PAIRS, tmp_path / "scores.jsonl")
    shown = capsys.readouterr().err
    assert "30/30" in shown
    assert "<" in shown, "elapsed<left"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pairs(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tiny,
        "score_groups",
        lambda groups: [
            np.zeros(len(d), np.float32) for d in (g.documents if hasattr(g, "documents") else g[1] for g in groups)
        ],
    )
    monkeypatch.setattr(scoring, "_MOST", 64)
    peaks = []
    for count in (2_000, 20_000):
        pairs = (("a query", f"a document of about fifty characters, number {i:9d}") for i in range(count))
        tracemalloc.start()
        score_file(tiny, pairs, tmp_path / f"{count}.jsonl", progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: setattr(r, "instruction", "Find it"), "another instruction"),
        (lambda r: setattr(r, "max_length", 200), "another max length"),
        (lambda r: r.model.model.norm.weight.data.add_(1), "another weights"),
    ],
)
def test_results_of_another_model_are_refused(tiny, tmp_path, change, words):
    path = tmp_path / "scores.jsonl"
    score_file(tiny, PAIRS[:3], path, progress=False)
    before = path.read_bytes()
    change(tiny)
    with pytest.raises(InputError, match=words):
        score_file(tiny, PAIRS, path, progress=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize("other", [PAIRS[1:], [*PAIRS[:2], ("q", "d"), *PAIRS[3:]], PAIRS[:2]])
def test_results_of_other_pairs_are_refused(tiny, tmp_path, other):
    path = tmp_path / "scores.jsonl"
    score_file(tiny, PAIRS[:5], path, progress=False)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"line \d does not belong"):
        score_file(tiny, other, path, progress=False)
    assert path.read_bytes() == before


def test_a_file_of_unknown_origin_is_not_overwritten(tiny, tmp_path):
    path = tmp_path / "scores.jsonl"
    path.write_text('{"score": 1}\n')
    with pytest.raises(InputError, match="name another file"):
        score_file(tiny, PAIRS, path, progress=False)
    assert path.read_text() == '{"score": 1}\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"query": "q"}', 'line 2: field "document" is missing'),
        ("{", "line 2: "),
        ('{"query": "q", "document": 3}', "not text"),
        (json.dumps({"query": "fever " * 900, "document": "d"}), r"leave no room .* \(--max-length\)"),
    ],
)
def test_a_bad_row_is_named_before_anything_is_scored(tiny, tmp_path, line, words):
    source = write_pairs(tmp_path / "pairs.jsonl", PAIRS[:1])
    source.write_text(source.read_text() + line + "\n")
    with pytest.raises(InputError, match=words):
        score_file(tiny, source, tmp_path / "scores.jsonl", progress=False)
    assert not (tmp_path / "scores.jsonl").exists()


def test_a_long_query_is_scored_where_its_document_fits(tiny, tmp_path):
    query = "fever"
    while not _queries_too_long([query], tiny.tokenizer, tiny.instruction, tiny.max_length):
        query += " fever"
    source = write_pairs(tmp_path / "pairs.jsonl", [(query, "d"), ("q", "d " * 900)])
    assert score_file(tiny, source, tmp_path / "scores.jsonl", progress=False) == 2


@pytest.mark.parametrize("pair", ["text", ("q",), ("q", 3)])
def test_something_that_is_no_pair_is_named(pair):
    with pytest.raises(InputError, match="Pair 2"):
        list(_read_pairs([("q", "d"), pair]))
