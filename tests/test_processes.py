"""Two processes that share the work give what one gives."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, make_groups

from course_utils import machine
from course_utils.errors import InputError
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe

SCRIPT = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
import torch
torch.set_num_threads(1)
from conftest import make_groups, tiny_model
from transformers import AutoTokenizer
from course_utils import machine
from course_utils.ship.scoring import score_file
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe
out = Path(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)
reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
pairs = [("what is fever 3", "a page about " + word) for word in "fever rent loan bank".split()] + [("rent", "lease")]
before = reranker.score(pairs).tolist()
work = None if len(sys.argv) < 3 else sys.argv[2]
done = adapt(reranker, make_groups(20), None, Recipe(layers=2, epochs=2, learning_rate=3e-3, seed=3), work_dir=work, quiet=True)
ranked = [r.index for r in reranker.rank("what is fever 3", [d for _, d in pairs])]
score_file(reranker, pairs, out / "scores.jsonl", progress=False)
rank, count = machine.join()
files = sorted(str(p.relative_to(work)) for p in Path(work).rglob("*") if p.is_file()) if work else []
weights = [float(p.detach().double().sum()) for p in reranker.model.parameters()]
(out / f"{{rank}}-of-{{count}}.json").write_text(json.dumps(dict(
    before=before, losses=done.batch_losses, history=done.history, best=done.best_epoch, ranked=ranked,
    after=reranker.score(pairs).tolist(), files=files, weights=weights)))
"""


def launch(folder, count, *arguments):
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT.format(root=str(ROOT), tests=str(ROOT / "tests")))
    command = [sys.executable, str(script)]
    if count > 1:
        # "--cpu" would start one process only (accelerate 1.15); the script itself says that it works on the CPU.
        command[1:1] = [
            "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", str(count),
            "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        ]  # fmt: skip
    subprocess.run([*command, str(folder), *map(str, arguments)], cwd=folder, timeout=500, check=True)
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"*-of-{count}.json"))]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch cannot talk to other processes")
def test_two_processes_train_and_rank_as_one_does(tmp_path):
    (one,) = launch(tmp_path / "one", 1, tmp_path / "work1")
    two = launch(tmp_path / "two", 2, tmp_path / "work2")
    assert len(two) == 2
    assert two[0] == two[1], "every process holds the same result"
    np.testing.assert_allclose(two[0]["before"], one["before"], atol=2e-5)
    np.testing.assert_allclose(two[0]["losses"], one["losses"], atol=1e-4)
    assert len(one["losses"]) >= 8
    assert [r["epoch"] for r in two[0]["history"]] == [0, 1, 2]
    for key in ("loss", "dev_loss", "ndcg@10"):
        for a, b in zip(two[0]["history"], one["history"], strict=True):
            assert a[key] == pytest.approx(b[key], abs=1e-4)
    assert two[0]["best"] == one["best"]
    assert two[0]["ranked"] == one["ranked"]
    np.testing.assert_allclose(two[0]["after"], one["after"], atol=2e-3)
    np.testing.assert_allclose(two[0]["weights"], one["weights"], rtol=1e-3, atol=1e-3)
    lines = [json.loads(line) for line in (tmp_path / "two" / "scores.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([row["score"] for row in lines], two[0]["after"], atol=2e-5)
    names = {name.split("/")[-1] for name in two[0]["files"]}
    assert sum("done-" in name for name in two[0]["files"]) == 4, "each process built a share of train and of dev"
    assert {"trained.safetensors", "states.bin", "start.safetensors"} <= names


def test_one_process_joins_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert machine.join() == (0, 1)
    machine.wait()
    assert machine.total(torch.ones(2)).tolist() == [1, 1]
    assert machine.from_main("x") == "x"


@pytest.mark.parametrize(
    ("count", "queries", "words"), [(3, 12, "shared by 3 processes"), (2, 3, "fewer than batch_queries")]
)
def test_queries_that_cannot_be_shared_are_refused(tiny, monkeypatch, count, queries, words):
    monkeypatch.setattr(machine, "join", lambda device=None: (0, count))
    groups = make_groups(12)
    with pytest.raises(InputError, match=words):
        adapt(tiny, groups[:queries], make_groups(16)[12:], Recipe(batch_queries=4), quiet=True)


def test_several_machines_need_a_folder_that_all_see(tiny, monkeypatch):
    monkeypatch.setattr(machine, "join", lambda device=None: (0, 4))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="give a work_dir"):
        adapt(tiny, make_groups(12), None, Recipe(batch_queries=4), quiet=True)
