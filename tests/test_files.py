"""Files and folders are written whole or not at all, and never over what is not ours."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from conftest import ROOT

from course_utils.errors import InputError
from course_utils.files import MARKER, check_ours, check_outputs, lock, whole, whole_folder, write_json


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_whole_or_not_there(tmp_path):
    with whole(tmp_path / "new" / "x.txt") as file:
        file.write("one\r\n中文")
        assert left(tmp_path / "new") != ["x.txt"]
    assert (tmp_path / "new" / "x.txt").read_bytes() == "one\r\n中文".encode()
    with pytest.raises(KeyError), whole(tmp_path / "new" / "x.txt") as file:
        file.write("half")
        raise KeyError
    assert (tmp_path / "new" / "x.txt").read_bytes() == "one\r\n中文".encode()
    assert left(tmp_path / "new") == ["x.txt"]


def test_a_device_is_written_through_and_stays_a_device():
    write_json("/dev/null", [1])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


def test_a_pipe_is_written_through(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    write_json(tmp_path / "pipe", {"a": 1})
    assert json.loads(reader.communicate(timeout=20)[0]) == {"a": 1}
    assert left(tmp_path) == ["pipe"]


def test_dash_is_standard_output(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json("-", {"a": "é"})
    assert json.loads(capsys.readouterr().out) == {"a": "é"}
    assert left(tmp_path) == []


def test_a_link_keeps_pointing_where_it_did(tmp_path):
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("real.json")
    write_json(tmp_path / "link.json", [1])
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text()) == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_written(tmp_path, value):
    with pytest.raises(InputError, match="NaN or infinite"):
        write_json(tmp_path / "x.json", {"a": [value]})
    assert left(tmp_path) == []


def test_files_have_the_mode_of_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_json(tmp_path / "x.json", 1)
        with whole_folder(tmp_path / "model") as folder:
            (folder / "secret").touch(0o600)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "model" / "secret").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o750


def test_a_killed_writer_leaves_nothing_for_long(tmp_path):
    code = f"""
import os, signal
from course_utils.files import whole, whole_folder
with whole({str(tmp_path / "x.txt")!r}) as file, whole_folder({str(tmp_path / "m")!r}) as folder:
    (folder / "a").write_text("half"); file.write("half"); file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(left(tmp_path)) == 2
    with whole(tmp_path / "x.txt") as file, whole_folder(tmp_path / "m"):
        file.write("new")
    assert left(tmp_path) == ["m", "x.txt"]


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"cannot be written.*No space left"), whole(tmp_path / "x") as file:
        file.write("half")
        raise OSError(28, "No space left on device")
    with pytest.raises(InputError, match=r"cannot be written.*No space left"), whole_folder(tmp_path / "m"):
        raise OSError(28, "No space left on device")
    assert left(tmp_path) == []


def write(folder, *names):
    with whole_folder(folder) as new:
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text("x")


def test_a_folder_of_ours_is_replaced_whole(tmp_path):
    write(tmp_path / "m", "a", "sub/b")
    write(tmp_path / "m", "c")
    assert left(tmp_path / "m") == [MARKER, "c"]
    with pytest.raises(KeyError), whole_folder(tmp_path / "m") as new:
        (new / "d").write_text("x")
        raise KeyError
    assert left(tmp_path / "m") == [MARKER, "c"]
    assert left(tmp_path) == ["m"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "a")


def test_a_folder_with_a_file_of_the_user_is_refused_and_kept(tmp_path):
    write(tmp_path / "m", "a", "sub/b")
    (tmp_path / "m" / "sub" / "thesis.docx").write_text("years of work")
    with pytest.raises(InputError, match=r"holds sub/thesis\.docx, which was not written by this program"):
        write(tmp_path / "m", "a")
    assert (tmp_path / "m" / "sub" / "thesis.docx").read_text() == "years of work"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_ours(tmp_path / "own")
    with pytest.raises(InputError, match="is a file"):
        check_ours(tmp_path / "own" / "notes.txt")
    (tmp_path / "m" / "sub" / "thesis.docx").unlink()
    (tmp_path / "m" / ".DS_Store").write_text("")
    write(tmp_path / "m", "a")


def test_a_model_folder_of_the_first_version_is_known_by_its_settings(tmp_path):
    for name in ("reranker.json", "config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("x")
    check_ours(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_ours(tmp_path)


def test_without_an_exchange_in_one_step_a_folder_is_replaced_in_two(tmp_path, monkeypatch):
    from course_utils import files

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    test_a_folder_of_ours_is_replaced_whole(tmp_path)


def test_outputs_that_would_destroy_or_fail_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jsonl").write_text("{}")
    os.link("t.jsonl", "hard.jsonl")
    (tmp_path / "soft.jsonl").symlink_to("t.jsonl")
    (tmp_path / "nowhere").symlink_to("gone/x")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "in.jsonl").write_text("{}")
    for name in ("t.jsonl", "./t.jsonl", "d/../t.jsonl", "hard.jsonl", "soft.jsonl", tmp_path / "t.jsonl"):
        with pytest.raises(InputError, match="which is read"):
            check_outputs([name], ["t.jsonl"])
    with pytest.raises(InputError, match="which is read"):
        check_outputs([], ["d/in.jsonl"], folders=["d"])
    for name, words in [("d", "is a folder"), ("new/", "is a folder"), ("", "empty"), ("nowhere", "does not exist"),
                        ("t.jsonl/x", "is a file and not a folder")]:  # fmt: skip
        with pytest.raises(InputError, match=words):
            check_outputs([name])
    with pytest.raises(InputError, match="a folder is to be written"):
        check_outputs([], folders=["t.jsonl"])
    with pytest.raises(InputError, match="two outputs"):
        check_outputs(["x.json", "./x.json"])
    check_outputs([None, "-", "/dev/null", "new/deep/x.json", "t2.jsonl"], ["t.jsonl", None], folders=["d", "e/f"])
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, kind: False)
    with pytest.raises(InputError, match="is not writable"):
        check_outputs([tmp_path / "x.json"])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can make a file")  # noqa: PTH112
def test_a_place_where_not_even_root_can_write_is_refused():
    for name in ("/proc/nowhere/r.json", "/proc/r.json"):
        with pytest.raises(InputError, match="cannot be written"):
            check_outputs([name])
    with pytest.raises(InputError, match="cannot be written"):
        check_outputs([], folders=["/proc/nowhere/model"])


def test_a_second_run_is_kept_out_and_a_killed_one_is_not_in_the_way(tmp_path):
    code = f"""
import sys
from course_utils.files import lock
with lock({str(tmp_path / "o")!r}):
    print("in", flush=True); sys.stdin.read()
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    other = subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"in\n"
    with pytest.raises(InputError, match=f"Another run is writing to {tmp_path / 'o'}"), lock(tmp_path / "o"):
        pass
    other.kill()
    other.wait()
    with lock(tmp_path / "o"):
        with pytest.raises(InputError, match="Another run"), lock(tmp_path / "o"):
            pass
        (tmp_path / "o" / "x").write_text("x")
    assert left(tmp_path / "o") == ["x"]
    with lock(tmp_path / "new"):
        pass
    assert left(tmp_path) == ["o"]
