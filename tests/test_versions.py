"""The folder of versions: write, load, roll back, refuse what is damaged, and survive a kill at every step."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from trades import FAST, small_reranker, stage, trade

from course_utils.errors import InputError
from course_utils.files import lock
from course_utils.training.freezing import freeze_all_but_last
from course_utils.training.trainer import TENSORS
from course_utils.training.weights import trained_tensors
from course_utils.updates.gate import Gate, update
from course_utils.updates.versions import (
    _RECORD,
    _begin,
    current_version,
    load_version,
    publish,
    rollback,
    version_table,
)

ROOT = Path(__file__).parent.parent
needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")


@pytest.fixture
def small(tokenizer):
    reranker = small_reranker(tokenizer)
    freeze_all_but_last(reranker.model, 1)
    return reranker


def fill(reranker, value):
    with torch.no_grad():
        reranker.model.model.norm.weight.fill_(value)


def held(reranker):
    return reranker.model.model.norm.weight[0].item()


@pytest.fixture
def folder(tmp_path, small):
    """A start, an accepted version (norm 2) and a refused one (norm 3)."""
    folder = tmp_path / "versions"
    first = _begin(folder, small)
    fill(small, 2)
    publish(folder, small, {"accepted": True, "reason": "better", "previous": first, "stage": "legal"})
    fill(small, 3)
    publish(folder, small, {"accepted": False, "reason": "worse, said the gate", "previous": current_version(folder)})
    return folder


def test_versions_load_and_roll_back_one_by_one(folder, small):
    record = load_version(folder, small)
    assert held(small) == 2 and record["reason"] == "better" and current_version(folder).startswith("v0001-")
    assert rollback(folder, small).startswith("v0000-")
    assert held(small) == 1 and current_version(folder).startswith("v0000-")
    with pytest.raises(InputError, match="nothing to go back to"):
        rollback(folder)
    name = publish(folder, small, {"accepted": True, "reason": "again", "previous": current_version(folder)}).name
    assert name.startswith("v0003-") and current_version(folder) == name


def test_a_refused_version_lies_aside_and_can_still_be_loaded(folder, small):
    (aside,) = (folder / "aside").iterdir()
    assert json.loads((aside / _RECORD).read_text(encoding="utf-8"))["reason"] == "worse, said the gate"
    load_version(folder, small, f"aside/{aside.name}")
    assert held(small) == 3


def test_the_table_tells_which_version_is_in_use(folder):
    rows = version_table(folder).splitlines()
    assert [row.split(" | ")[1] for row in rows[2:]] == ["kept", "**in use**", "aside"]
    assert rows[3].endswith("| legal |  | better |")


def test_loading_takes_the_instruction_along(folder, small):
    trained_with = small.instruction
    small.instruction = "Something else."
    load_version(folder, small)
    assert small.instruction == trained_with


def test_only_trained_tensors_are_kept(folder, small):
    size = sum(t.numel() * t.element_size() for t in trained_tensors(small.model).values())
    assert size <= (folder / current_version(folder) / TENSORS).stat().st_size < size + 10_000


def test_another_base_is_refused_and_left_unchanged(folder, tokenizer):
    from conftest import tiny_model

    from course_utils.model.reranker import Reranker

    other = Reranker(tiny_model(tokenizer, layers=2, seed=1), tokenizer, name="other")
    with pytest.raises(InputError, match="another base than other"):
        load_version(folder, other)
    assert held(other) == 1


def test_two_processes_do_not_write_into_one_folder(folder, small):
    with lock(folder):
        for work in (
            lambda: publish(folder, small, {"accepted": True, "reason": "", "previous": None}),
            lambda: rollback(folder, small),
        ):
            with pytest.raises(InputError, match="Another run is writing to"):
                work()
    assert held(small) == 3 and current_version(folder).startswith("v0001-")
    assert rollback(folder, small).startswith("v0000-") and not list(folder.glob(".*"))


def test_rolling_back_where_nothing_is_makes_no_folder(tmp_path):
    with pytest.raises(InputError, match="holds no versions"):
        rollback(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()


def test_the_files_of_a_version_have_the_mode_that_the_umask_asks_for(folder, tmp_path):
    place = folder / current_version(folder)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path, like in ((place, "folder"), (place / TENSORS, "file"), (place / _RECORD, "file")):
        assert path.stat().st_mode == (tmp_path / like).stat().st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_full_disk_is_a_sentence_and_leaves_the_version_in_use(folder, small, monkeypatch, error):
    def full(*_):
        raise error

    before = sorted(folder.rglob("*"))
    monkeypatch.setattr("course_utils.updates.versions.save_file", full)
    with pytest.raises(InputError, match=r"No space left on device.*version in use is as before.*: The gain is real"):
        publish(folder, small, {"accepted": True, "reason": "The gain is real.", "previous": None})
    assert sorted(folder.rglob("*")) == before and current_version(folder).startswith("v0001-")


def test_damage_is_refused(folder, small):
    path = folder / current_version(folder) / TENSORS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        load_version(folder, small)
    (folder / "current").write_text("../../etc", encoding="utf-8")
    with pytest.raises(InputError, match=r"no version here; write one of these into it: v0000-\S+, v0001-\S+\."):
        current_version(folder)
    with pytest.raises(InputError, match="no version"):
        load_version(folder, small, "../outside")
    with pytest.raises(InputError, match="holds no versions"):
        current_version(folder / "aside")


def test_an_edited_instruction_is_refused_and_a_record_of_an_earlier_version_loads(folder, small):
    path = folder / current_version(folder) / _RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    for wrong in ("Another task.", None):
        path.write_text(json.dumps({**record, "instruction": wrong}), encoding="utf-8")
        with pytest.raises(InputError, match=r"version\.json: the instruction is not the one.*put it back"):
            load_version(folder, small)
    del record["prompt"]
    path.write_text(json.dumps(record), encoding="utf-8")
    assert load_version(folder, small)["instruction"] == small.instruction


def test_rolling_back_to_a_damaged_version_changes_nothing(folder):
    now = current_version(folder)
    first = json.loads((folder / now / _RECORD).read_text(encoding="utf-8"))["previous"]
    (folder / first / TENSORS).unlink()
    with pytest.raises(InputError, match="damaged"):
        rollback(folder)
    assert current_version(folder) == now


def test_a_lost_current_is_refused_and_no_base_is_put_in_use(folder, small):
    now = current_version(folder)
    (folder / "current").unlink()
    for work in (lambda: _begin(folder, small), lambda: rollback(folder), lambda: version_table(folder)):
        with pytest.raises(InputError, match=r"current is missing.*write one of these into it: v0000-\S+, v0001-\S+\."):
            work()
    assert sum(path.is_dir() for path in folder.glob("v*")) == 2
    (folder / "current").write_text(now)
    assert _begin(folder, small) == now


def test_a_kill_of_the_first_start_before_current_is_written_is_mended(tmp_path, small):
    first = _begin(tmp_path, small)
    (tmp_path / "current").unlink()
    assert _begin(tmp_path, small) == first and len(list(tmp_path.glob("v*"))) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"figures": []}', '{"figures": {"target": {"before": "x"}}}', None])
def test_a_damaged_record_of_another_version_is_a_row_and_stops_nothing(folder, text):
    (aside,) = (folder / "aside").iterdir()
    if text is None:
        (aside / _RECORD).unlink()
    else:
        (aside / _RECORD).write_text(text)
    rows = version_table(folder).splitlines()
    assert rows[4].endswith("| aside |  |  | damaged: version.json cannot be read |") and "better" in rows[3]
    assert rollback(folder).startswith("v0000-")


def test_a_rollback_that_fails_on_its_way_moves_nothing(folder, small):
    now, seen = current_version(folder), []

    def full(name):
        seen.append((name, current_version(folder)))
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="the disk is full"):
        rollback(folder, small, before=full)
    assert seen[0][0].startswith("v0000-") and seen[0][1] == now == current_version(folder) and held(small) == 3


def test_a_version_is_not_loaded_over_an_attached_delta(folder, small):
    small.attached = object()
    with pytest.raises(InputError, match="detach it"):
        load_version(folder, small)


KILLER = textwrap.dedent("""
    # Publishes a version again and again; each time a forked child dies by SIGKILL before its next file operation.
    import json, os, signal, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from transformers import AutoTokenizer
    from course_utils.updates import versions
    from course_utils.model.hub import BUNDLED
    from trades import small_reranker
    from course_utils.training.freezing import freeze_all_but_last

    small = small_reranker(AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True))
    freeze_all_but_last(small.model, 1)
    folder = Path(sys.argv[1])
    good = versions._begin(folder, small)
    out, step = [], 0
    while True:
        pid = os.fork()
        if pid == 0:
            left = [step]
            def deadly(name, function):
                def wrapped(*args, **kwargs):
                    if left[0] == 0:
                        print(name, flush=True)
                        os.kill(os.getpid(), signal.SIGKILL)
                    left[0] -= 1
                    return function(*args, **kwargs)
                return wrapped
            versions.save_file = deadly("save", versions.save_file)
            versions.force_to_disk = deadly("force", versions.force_to_disk)
            versions.tempfile.mkdtemp = deadly("mkdtemp", versions.tempfile.mkdtemp)
            for name in ("rename", "replace", "write_text", "chmod", "mkdir"):
                setattr(Path, name, deadly(name, getattr(Path, name)))
            with torch.no_grad():
                small.model.model.norm.weight.fill_(5)
            versions._begin(folder, small)
            versions.publish(folder, small, {"accepted": True, "reason": "new", "previous": good})
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        with versions.lock(folder):
            name = versions._begin(folder, small)  # what the next start would see; also clears up
        versions.load_version(folder, small, name)
        out.append([os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, name == good,
                    float(small.model.model.norm.weight[0]), len(list(folder.glob(".*")))])
        if not os.WIFSIGNALED(status):
            break
        if name != good:
            versions.rollback(folder)
        step += 1
    print(json.dumps(out))
""")


@pytest.mark.slow
@needs_sigkill
def test_a_kill_before_any_file_operation_leaves_a_whole_version_in_use(tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path / "versions")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *operations, rows = done.stdout.splitlines()
    rows = json.loads(rows)
    assert {"mkdtemp", "save", "write_text", "rename", "replace", "force"} <= set(operations)
    assert len(rows) == len(operations) + 1 and rows[-1][0] == 0 and all(row[0] == signal.SIGKILL for row in rows[:-1])
    # The old version (norm 1) up to the step that replaces `current`, the new one (norm 5) after it, never a mixture.
    replaced = operations.index("replace")
    assert [row[1:3] for row in rows] == [[True, 1.0]] * (replaced + 1) + [[False, 5.0]] * (len(rows) - replaced - 1)
    assert all(row[3] == 0 for row in rows)


UPDATE = textwrap.dedent("""
    import sys
    from transformers import AutoTokenizer
    from course_utils.updates.gate import Gate, update
    from course_utils.model.hub import BUNDLED
    from trades import FAST, small_reranker, stage, trade

    small = small_reranker(AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True))
    gate = Gate(trade("legal", "test", 20), {"general": trade("general", "test", 20)}, least=20)
    update(sys.argv[1], small, stage("legal"), gate, strategy="plain", recipe=FAST.replace(epochs=10_000))
""")


@pytest.mark.slow
@needs_sigkill
def test_a_kill_while_an_update_trains_leaves_the_last_version_and_the_next_update_works(tmp_path, tokenizer):
    folder, small = tmp_path / "versions", small_reranker(tokenizer)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    environment["TMPDIR"] = str(tmp_path)  # what the killed one leaves behind
    process = subprocess.Popen(
        [sys.executable, "-c", UPDATE, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    )
    with process.stdout:
        reached = any(line.startswith("epoch  1") for line in process.stdout)
    process.kill()
    assert reached and process.wait() == -signal.SIGKILL
    before = current_version(folder)
    assert before.startswith("v0000-") and not list(folder.glob("**/v0001*"))
    load_version(folder, small)
    gate = Gate(trade("legal", "test", 20), {"general": trade("general", "test", 20)}, least=20)
    done = update(folder, small, stage("legal"), gate, strategy="plain", recipe=FAST.replace(epochs=1), quiet=True)
    assert done.version.startswith("v0001-")
    assert current_version(folder) == (done.version if done.accepted else before)
