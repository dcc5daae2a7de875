"""Every fault that is known ends as the table of failure_cases says; on a full disk, killed, and twice at once for real too."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, tiny_model
from failure_cases import CASES
from failures import ADAPT, EVALUATE, RANK, make_world, problems, run, state

from course_utils.cli import main
from course_utils.cli.parser import build_parser
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
        for line, shown in (
            (ADAPT.replace("--out out", "--out disk/out"), "before: nDCG@10 0."),
            (ADAPT, '"delta_ndcg@10": '),
            (EVALUATE, '"ndcg@10": '),
            (f"{RANK} --json r.json", '"ranking": '),
        ):
            arguments = line.replace("r.json", "disk/r.json").split()
            with (disk / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while "disk/out" not in line:
                    file.write(bytes(4096))
            done = subprocess.run(command(*arguments), cwd=world, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 2, done.stderr
            assert "Traceback" not in done.stderr and "error: " in done.stderr.splitlines()[-1]
            assert shown in done.stdout, line
            assert not (disk / "r.json").exists()
            assert not (disk / "out" / "model").exists()
            shutil.rmtree(disk / "out", ignore_errors=True)
    finally:
        subprocess.run(["umount", disk], check=False)


@pytest.mark.slow
def test_a_second_training_into_one_folder_is_refused_while_the_first_is_at_work(world, env, monkeypatch, capsys):
    monkeypatch.chdir(world)
    arguments = ADAPT.replace("--epochs 1", "--epochs 40").split()
    with subprocess.Popen(command(*arguments), cwd=world, env=env, stdout=subprocess.DEVNULL) as first:
        until = time.monotonic() + 240
        while time.monotonic() < until and first.poll() is None and not list(world.glob("out/.*.lock")):
            time.sleep(0.05)
        code = main([*ADAPT.replace("r.json", "r2.json").split(), "--seed", "1"])
        assert first.poll() is None, "the first must still be at work"
        said = capsys.readouterr().err.splitlines()
        assert code == 2 and said == [
            "error: Another run is writing to out; wait until it is done or choose another folder."
        ]
        assert not (world / "r2.json").exists()
        assert first.wait(timeout=400) == 0
    after = json.loads((world / "r.json").read_text())["after"]["ndcg@10"]
    assert main(["evaluate", "--model", "out/model", "--data", "test.json", "--json", "e.json"]) == 0
    assert json.loads((world / "e.json").read_text())["ndcg@10"] == after, "the model is that of the run that wrote it"


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


def test_the_help_of_a_command_lists_every_command_below_it():
    def check(parser):
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for action in below:
            told = {choice.dest: choice.help for choice in action._choices_actions}
            assert set(told) == set(action.choices) and all(told.values()), parser.prog
            assert all(re.search(rf"(?m)^    {name}( |$)", parser.format_help()) for name in told), parser.prog
            for own in action.choices.values():
                check(own)
        return below

    assert check(build_parser())
    assert {"check", "convert", "prepare", "split", "build", "table"} == set(
        build_parser()._subparsers._group_actions[0].choices["data"]._subparsers._group_actions[0].choices
    )


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
                "versions",
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
