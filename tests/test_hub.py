"""Models from the hub: good downloads, and every fault of tests/fake_hub.py, against a local stand-in for the hub."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from conftest import ROOT, tiny_model
from failures import make_world, unread
from fake_hub import COMMIT, FAULTS, NAME, closed_port, point_to, serve, state
from huggingface_hub import constants, get_session, snapshot_download, utils

from course_utils.cli import main
from course_utils.errors import InputError
from course_utils.model import hub
from course_utils.model.checkpoint import _check_folder
from course_utils.model.hub import model_folder
from course_utils.model.reranker import Reranker

TIMEOUT = hub.TIMEOUT


@pytest.fixture(scope="module")
def repository(tokenizer, tmp_path_factory):
    """A folder as a repository on the hub holds it: a tiny random Qwen3 with nano's tokenizer."""
    folder = tmp_path_factory.mktemp("repository")
    tiny_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository):
    with serve(repository) as running:
        yield running


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def fake(server, cache, monkeypatch):
    """The fake hub, in good health, with an empty cache."""
    server.heal()
    point_to(server.url, cache, monkeypatch, timeout=10, sleep=lambda _: None)
    return server


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_good_download_is_whole_needs_no_token_and_loads(fake, cache, repository):
    ranker = Reranker.load(NAME, device="cpu", quiet=True)
    folder = cache / "models--course--tiny" / "snapshots" / COMMIT
    assert contents(folder) == contents(repository)
    assert list(cache.rglob("*.incomplete")) == []
    here = Reranker.load(repository, device="cpu", quiet=True)
    pairs = [("fever", "a page about fever"), ("rent", "a page about salt")]
    assert ranker.score(pairs).tolist() == here.score(pairs).tolist()
    assert not any("authorization" in headers for _, headers in fake.log)


def test_second_load_asks_the_network_nothing(fake):
    model_folder(NAME, quiet=True)
    asked = len(fake.log)
    model_folder(NAME, quiet=True)
    assert len(fake.log) == asked


def test_commit_is_printed_when_no_revision_was_given_and_not_when_one_was(fake, capsys):
    model_folder(NAME)
    assert f'no revision given, commit {COMMIT} taken from the hub; revision="{COMMIT}"' in capsys.readouterr().out
    model_folder(NAME)
    assert f"commit {COMMIT} taken from the local cache" in capsys.readouterr().out
    model_folder(NAME, revision=COMMIT)
    assert capsys.readouterr().out == ""
    model_folder(NAME, revision="main")
    assert f'revision "main", commit {COMMIT}' in capsys.readouterr().out


def test_a_training_takes_the_model_once_and_refuses_layers_that_it_has_not_before_it_is_loaded(fake, tmp_path, capsys):
    make_world(tmp_path, fake.folder)
    words = f"adapt --model {NAME} --train train.json --test test.json --out out --json r.json --no-replay --estimate"
    with contextlib.chdir(tmp_path):
        with unread():
            assert main([*words.split(), "--layers", "99"]) == 2
        assert "the model has 4 layers" in capsys.readouterr().err
        asked = len(fake.log)
        assert main(words.split()) == 0
    assert len(fake.log) == asked and capsys.readouterr().out.count("no revision given") == 1


def test_own_model_is_asked_for_at_its_pinned_commit(fake):
    with pytest.raises(InputError):
        model_folder(hub.HUB_MODEL)
    assert f"/revision/{hub.REVISIONS[hub.HUB_MODEL]}?" in fake.log[0][0]
    assert "blobs=true" in fake.log[0][0]  # sizes and checksums


def test_weights_that_differ_from_the_pinned_checksum_are_refused(fake, monkeypatch):
    monkeypatch.setitem(hub.REVISIONS, NAME, COMMIT)
    monkeypatch.setitem(hub.CHECKSUMS, NAME, {"model.safetensors": "0" * 64})
    with pytest.raises(InputError, match="not the file that the course pins"):
        model_folder(NAME)
    assert fake.asked("/resolve/") == []
    monkeypatch.setattr(hub, "CHECKSUMS", {})
    monkeypatch.setattr(fake, "flip", True)
    with pytest.raises(InputError, match="wrong checksum"):
        model_folder(NAME, quiet=True)
    with pytest.raises(InputError, match="wrong checksum"):  # thrown away, so fetched again
        model_folder(NAME, quiet=True)
    assert fake.sent == 2 * (fake.folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_one_sentence_leaves_nothing_half_written_and_heals(
    fault, fake, cache, repository, monkeypatch, capfd
):
    for key, value in fault.answers.items():
        setattr(fake, key, value)
    began = time.perf_counter()
    with monkeypatch.context() as patch:
        if fault.says == "in time":
            patch.setattr(hub, "TIMEOUT", 0.5)
        if fault.here:
            fault.here(patch)
        with pytest.raises(InputError) as caught:
            model_folder(fault.repository, fault.revision, quiet=True)
    message = str(caught.value)
    assert fault.says in message
    assert "\n" not in message
    assert len(message) < 600
    assert ("--local-dir FOLDER" in message) is fault.offline_way
    assert caught.value.__suppress_context__ or not caught.value.__context__  # no stack of the libraries below
    assert time.perf_counter() - began < 20  # 2 s when the machine is idle
    assert len(fake.log) < 20
    assert "Traceback" not in capfd.readouterr().err
    after = state(cache, repository)
    assert "BROKEN" not in after
    if fault.keeps == "nothing":
        assert after == "nothing"
    for piece in fault.keeps.split("; "):
        assert piece in after
    with monkeypatch.context() as patch:  # what lies there is not taken for a model
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(InputError, match="not ready in the local cache"):
            model_folder(NAME, quiet=True)
    if cache.is_file():
        cache.unlink()
    fake.heal()
    folder = model_folder(NAME, quiet=True)
    assert contents(folder) == contents(repository)
    assert state(cache, repository) == "the whole model"


def test_failure_matrix_of_the_benchmark_has_every_fault():
    table = (ROOT / "benchmarks" / "hub_failures.md").read_text(encoding="utf-8").split("## Beside")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")]
    assert rows[1:] == [fault.name for fault in FAULTS]
    assert "BROKEN" not in table


def test_cut_download_starts_the_weights_again_and_keeps_the_small_files(fake, repository):
    fake.cut = 0.6
    with pytest.raises(InputError, match="whole files are kept, a half one starts anew"):
        model_folder(NAME, quiet=True)
    fake.heal()
    model_folder(NAME, quiet=True)
    assert fake.sent == (repository / "model.safetensors").stat().st_size
    assert not [path for path, _ in fake.asked("/resolve/") if path.endswith("/config.json")]


def test_one_cut_is_mended_within_the_call_and_goes_on_where_it_stopped(fake, cache, repository, monkeypatch):
    fake.cut = 0.3
    waits = []

    def heal(seconds):
        waits.append(seconds)
        fake.cut = None

    point_to(fake.url, cache, monkeypatch, timeout=10, sleep=heal)
    monkeypatch.setitem(hub.MEANWHILE, "DOWNLOAD_CHUNK_SIZE", 2**16)
    assert contents(model_folder(NAME, quiet=True)) == contents(repository)
    assert waits == [1]
    assert 0 <= fake.sent - (repository / "model.safetensors").stat().st_size < 2**16


def test_short_fault_at_the_files_is_mended_within_the_call(fake, repository):
    fake.file_status, fake.good_after = 503, 4  # two listings, two tries at the first file
    assert contents(model_folder(NAME, quiet=True)) == contents(repository)


@pytest.mark.parametrize("silent", ["mute", "dumb", "stall"])
def test_hub_that_falls_silent_is_given_up_within_half_a_minute(silent, fake, cache, monkeypatch):
    """Counted with a short timeout: seconds of silence and of pauses, as they are with the real one."""
    waits = []
    point_to(fake.url, cache, monkeypatch, timeout=0.3, sleep=waits.append)
    setattr(fake, silent, 1)
    fake.cut = 0.5 if silent == "stall" else None
    with pytest.raises(InputError, match="did not answer in time"):
        model_folder(NAME, quiet=True)
    asked = Counter((path, headers[":method"]) for path, headers in fake.log)
    assert max(asked.values()) * TIMEOUT + sum(waits) <= 30


def test_busy_hub_that_asks_for_a_long_rest_is_not_waited_for(fake, cache, monkeypatch):
    waits = []
    point_to(fake.url, cache, monkeypatch, timeout=10, sleep=waits.append)
    fake.file_status, fake.headers = 429, {"Retry-After": "300"}
    with pytest.raises(InputError, match="again in 300 s"):
        model_folder(NAME, quiet=True)
    assert sum(waits) == 0


def test_settings_of_huggingface_hub_are_as_before_after_a_download(fake, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)

    def settings():
        return (
            get_session().event_hooks,
            utils.are_progress_bars_disabled(),
            [vars(constants)[k] for k in hub.MEANWHILE],
        )

    before = settings()
    model_folder(NAME, quiet=True)
    assert settings() == before
    fake.status = 500
    with pytest.raises(InputError):
        model_folder(NAME, revision="v3", quiet=True)
    assert settings() == before


def test_needed_space_is_what_the_hub_tells_less_what_is_here(fake, cache, monkeypatch):
    class Disk:
        free = 99 * 2**20

    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: Disk)
    with pytest.raises(InputError, match=r"needs 6 MB \(and 100 MB to spare\) and .* has 99 MB free; .*HF_HOME"):
        model_folder(NAME)
    assert state(cache, fake.folder) == "nothing"
    Disk.free = 200 * 2**20
    (model_folder(NAME, quiet=True) / "config.json").unlink()
    Disk.free = 100.1 * 2**20  # enough for what is missing
    model_folder(NAME, quiet=True)


def test_token_is_sent_to_the_hub_and_not_to_the_storage_it_redirects_to(fake, monkeypatch, repository):
    fake.redirect = True
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert contents(model_folder(NAME, quiet=True)) == contents(repository)
    storage = fake.asked("/cdn/")
    assert len(storage) == 1
    assert "authorization" not in storage[0][1]
    assert all(headers.get("authorization") == "Bearer hf_secret" for path, headers in fake.log if "/cdn/" not in path)


def test_partial_folder_of_another_tool_is_completed(fake, cache, repository):
    folder = cache / "models--course--tiny" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes((repository / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes((repository / "model.safetensors").read_bytes()[:1000])
    assert contents(model_folder(NAME, COMMIT, quiet=True)) == contents(repository)


def test_folder_that_snapshot_download_fetched_is_used_as_it_is(fake):
    """A cache that the hub's own tool has filled must not be fetched again."""
    folder = snapshot_download(NAME)
    fake.log.clear()
    assert str(model_folder(NAME, quiet=True)) == folder
    assert fake.log == []


def test_snapshot_download_finds_what_was_fetched_here(fake):
    folder = model_folder(NAME, quiet=True)
    assert snapshot_download(NAME, local_files_only=True) == str(folder)


def test_two_notebooks_at_once_fetch_the_weights_once(fake, repository):
    found = []
    threads = [threading.Thread(target=lambda: found.append(model_folder(NAME, quiet=True))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [contents(folder) for folder in found] == [contents(repository)] * 3
    assert fake.sent == (repository / "model.safetensors").stat().st_size


def environment(url, cache, **more):
    """Return the environment of a fresh process that knows the hub by its variables alone."""
    kept = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_TOKEN")}
    return {**kept, "HF_ENDPOINT": url, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT), **more}


@pytest.mark.slow
def test_killed_process_leaves_no_model_and_the_next_call_fetches_it(fake, tmp_path, repository, monkeypatch):
    fake.cut, fake.stall = 0.5, 30
    code = f"from course_utils.model.hub import model_folder; model_folder({NAME!r})"
    env = environment(fake.url, tmp_path, HF_HUB_DOWNLOAD_TIMEOUT="30")
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not fake.sent and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert fake.sent, "the download of the weights did not begin"
    assert not [*tmp_path.rglob("*.safetensors")]
    fake.heal()
    point_to(fake.url, tmp_path / "hub", monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(InputError, match="never finished"):
            model_folder(NAME, quiet=True)
    assert contents(model_folder(NAME, quiet=True)) == contents(repository)


def test_offline_with_the_cache_filled_works(fake, monkeypatch, repository):
    model_folder(NAME, quiet=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fake.log.clear()
    assert contents(model_folder(NAME, quiet=True)) == contents(repository)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        model_folder(NAME, revision="v2")
    assert fake.log == []


def test_no_network_with_the_cache_filled_works(fake, monkeypatch, repository):
    model_folder(NAME, quiet=True)
    monkeypatch.setattr(constants, "ENDPOINT", closed_port())
    assert contents(model_folder(NAME, quiet=True)) == contents(repository)


def test_repository_with_only_a_pickle_is_refused_before_anything_is_fetched(fake, tmp_path, monkeypatch):
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    monkeypatch.setattr(fake, "folder", folder)
    with pytest.raises(InputError, match=r"only as pytorch_model.bin, a pickle.*Nothing was downloaded"):
        model_folder(NAME)
    assert fake.asked("/resolve/") == []


def test_file_names_of_a_hostile_hub_stay_in_the_folder(fake, cache, repository):
    fake.extra = ("../../../evil.json", "..\\evil.json", "sub/config.json", "/etc/evil.json", "..")
    folder = model_folder(NAME, quiet=True)
    assert contents(folder) == contents(repository)
    assert not list(cache.parent.rglob("*evil*"))


@pytest.mark.parametrize(
    "name", ["", "no-such-folder", "a/b/c", "../x", "~nobody/x", "a/..", "a--b/c", "a\0/b", "x" * 5000, 7, "http://x/y"]
)
def test_name_that_is_nothing_is_told_so_without_asking_the_hub(name, fake):
    with pytest.raises(InputError):
        model_folder(name)
    assert fake.log == []


@pytest.mark.parametrize(
    "name", ["adapted/model", "./model", "adapted/out/model", "/no/such/folder", "adapted/", "adapted\\model"]
)
def test_mistyped_path_is_said_to_be_no_folder_and_the_hub_is_not_asked(name, fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapted").mkdir()
    monkeypatch.setattr(hub, "_download", lambda *_: pytest.fail("the hub is asked"))
    with pytest.raises(InputError, match=r"no folder|not a folder|no config\.json"):
        model_folder(name)
    assert fake.log == []


def test_download_is_said_aloud_also_where_quiet(fake, capsys):
    model_folder(NAME, quiet=True)
    assert f"{NAME} is no folder here: fetching it from the hub" in capsys.readouterr().err
    model_folder(NAME, quiet=True)
    assert capsys.readouterr().err == ""


def test_revision_cannot_lead_out_of_the_cache(fake):
    with pytest.raises(InputError, match="leads out of"):
        model_folder(NAME, revision="../../../../etc/passwd")
    assert fake.log == []


def test_bundled_model_that_is_missing_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setitem(hub.BUNDLED, "nano", tmp_path / "nano")
    with pytest.raises(InputError, match="get the whole project again"):
        model_folder("nano")


def test_bundled_model_passes_its_own_checks():
    assert _check_folder(hub.BUNDLED["nano"]) == hub.BUNDLED["nano"]
