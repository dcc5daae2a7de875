"""A rerank server that others wrote answers over HTTP with the scores of the package, where one is installed.

Infinity cannot live beside transformers 5; see the first lines of benchmarks/export_matrix.py for how to install it apart.
"""

import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model

from benchmarks.exports import servers
from course_utils.model import prompt
from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_sequence_classifier
from course_utils.ship.serving import serving_lines

PAIRS = [
    ("糖尿病症状", "糖尿病常见症状包括多饮、多尿。"),
    ("糖尿病症状", "A page about fever." * 8),  # no blank at its end: Infinity strips texts
    ("糖尿病症状", "高血压饮食建议：低盐。"),
    ("What is a lease?", "A lease is a contract for land."),
]


def test_infinity_gives_the_same_scores_over_http(tokenizer, tmp_path):
    python = os.environ.get("COURSE_INFINITY")
    if not python:
        pytest.skip("COURSE_INFINITY does not name a Python that has infinity-emb")
    port = servers.free_port()
    reranker = Reranker(tiny_model(tokenizer, layers=2), tokenizer, prompt.INSTRUCTIONS["medical"], max_length=256)
    folder = export_sequence_classifier(reranker, tmp_path / "one")
    command = shlex.split(serving_lines(one_label=folder, port=port)["Infinity"].split("\n#")[0])
    command[0] = str(Path(python).parent / command[0])
    command += ["--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer"]
    got = servers.serve(
        command, port, {"OMP_NUM_THREADS": "1"}, tmp_path / "log", lambda: servers.ask_infinity(port, PAIRS)
    )
    assert np.abs(got - reranker.score(PAIRS)).max() < 1e-4


def test_a_server_that_does_not_start_is_reported_with_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r"did not start; see .*log"):
        servers.serve(["false"], servers.free_port(), {}, tmp_path / "log", lambda: None)
