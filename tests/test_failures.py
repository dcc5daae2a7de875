"""Every fault that is known ends as the table of failure_cases says; on a full disk, killed, and twice at once for real too."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, tiny_model
from failure_cases import CASES
from failures import ADAPT, make_world, problems, run, state

from course_utils.cli import main
from course_utils.files import sha256
from course_utils.model.reranker import Reranker


@pytest.fixture(scope="session")
def model(tokenizer, tmp_path_factory):
    """A folder with a tiny model."""
    folder = tmp_path_factory.mktemp("world") / "model"
    Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="tiny").save(folder)
    return folder


@pytest.fixture
def world(model, tmp_path):
    """A folder with small files and the tiny model."""
    make_world(tmp_path, model)
    return tmp_path


def test_the_table_is_long_and_every_fault_stands_once():
    assert len(CASES) >= 80
    assert len({(case.kind, case.fault) for case in CASES}) == len(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.fault}")
def test_fault(case, world):
    assert problems(case, run(case, world)) == []


def command(*arguments):
    return [sys.executable, "-m", "course_utils", *arguments]


@pytest.fixture
def env():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting needs Linux and root")
def test_a_disk_that_is_really_full(world, env):
    disk = world / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        arguments = ADAPT.replace("--out out", "--out disk/out").replace("r.json", "disk/r.json").split()
        done = subprocess.run(command(*arguments), cwd=world, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert not (disk / "r.json").exists()
        assert not (disk / "out" / "model").exists()
    finally:
        subprocess.run(["umount", disk], check=False)


@pytest.mark.slow
def test_a_killed_run_leaves_no_lock_and_is_gone_on_with(world, env):
    before = state(world)
    arguments = ADAPT.replace("--epochs 1", "--epochs 40").split()
    with subprocess.Popen(command(*arguments), cwd=world, env=env, stdout=subprocess.DEVNULL) as process:
        checkpoints = world / "out" / "work" / "checkpoints"
        until = time.monotonic() + 240
        while (
            time.monotonic() < until
            and process.poll() is None
            and not list(checkpoints.glob("checkpoint-*/history.json"))
        ):
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert not (world / "r.json").exists()
    assert not (world / "out" / "model").exists()
    done = subprocess.run(command(*arguments), cwd=world, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stdout
    assert (world / "r.json").exists()
    assert not (world / "out" / "work").exists()
    after = state(world)
    assert all(after[name] == before[name] for name in before)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or not shutil.which("sh"), reason="needs a shell")
@pytest.mark.parametrize("how", ["| head -n 1", ">&-", "2>&- >/dev/null", "</dev/null >/dev/null"])
def test_a_shell_that_closes_what_we_write_to(world, env, how):
    line = f"{sys.executable} -m course_utils rank --model model --query fever --documents docs.txt {how}"
    done = subprocess.run(["sh", "-c", line], cwd=world, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_the_record_says_how_a_result_came_about(world, monkeypatch, capsys):
    monkeypatch.chdir(world)
    train = json.loads((world / "train.json").read_text())
    train[0]["document"] += " and so on" * 300
    train += [{"query": "who", "document": "nobody", "relevance": 0}]
    (world / "train.json").write_text(json.dumps(train))
    assert main(ADAPT.split()) == 0
    found = json.loads((world / "r.json").read_text())
    record = found["run"]
    assert record["recipe"]["layers"] == 1 and record["recipe"]["learning_rate"] > 0
    assert record["data"]["train"]["queries"] == 9 and record["data"]["train"]["queries_without_right_document"] == 1
    assert record["data"]["train"]["documents_cut"] == 1
    assert record["data"]["test"]["sha256"] == sha256(world / "test.json")
    assert len(record["model"]["weights_sha256"]) == 64
    assert record["versions"]["torch"] and record["device"] and record["seconds"] > 0 and record["peak_memory_mb"] > 0
    said = "".join(capsys.readouterr())
    assert all(warning in said for warning in record["warnings"])
    for words in ("1 of 9 queries are left out", "1 of 32 documents were cut", "6 test queries are few"):
        assert any(words in warning for warning in record["warnings"]), (words, record["warnings"])
    assert main(["evaluate", "--model", "out/model", "--data", "test.json", "--json", "-"]) == 0
    captured = capsys.readouterr()
    again = json.loads(captured.out)
    assert again["ndcg@10"] == found["after"]["ndcg@10"] and "ndcg@10" in captured.err


def test_every_command_explains_itself_with_an_example(capsys):
    commands = [
        [],
        *(
            [c]
            for c in (
                "doctor",
                "rank",
                "adapt",
                "evaluate",
                "data",
                "course",
                "export",
                "score",
                "index",
                "search",
                "serve",
                "delta",
                "gate",
                "rollback",
            )
        ),
    ]
    for words in [
        *commands,
        *(["data", c] for c in ("check", "split", "build", "table")),
        *(["delta", c] for c in ("make", "apply")),
    ]:
        with pytest.raises(SystemExit) as end:
            main([*words, "--help"])
        assert end.value.code == 0
        assert "example: python -m course_utils" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "reranker-course" in capsys.readouterr().out
