"""Where a model comes from: bundled, a local folder, or the hub at a pinned revision.

Downloads go into the hub's own cache, so other tools find them (layout: https://huggingface.co/docs/hub/local-cache).
They are done here and not by ``snapshot_download``, for what benchmarks/hub_failures.md measures with huggingface_hub
2.4.0: a download that is cut off starts again from nothing (2,170 KB sent again where 868 KB were missing; of the 1.2 GB
of the 0.6B model, all), changed weights are not noticed, and a hub that is broken or cannot be reached is waited for
23 to 25 s instead of 0.3 to 4.3 s, a busy one as long as it asks, five times over.
"""

import hashlib
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from course_utils.errors import InputError
from course_utils.files import data_folder
from course_utils.model.checkpoint import INDEX, WEIGHTS, check_folder, inside, no_weights
from course_utils.model.hub_errors import asked_wait, explain, offline_way, status_of
from course_utils.profile import HUB_MODEL

BUNDLED = {"nano": data_folder() / "models" / "nano"}

# A name can be moved to other weights at any time; a commit cannot. The checksum also covers a mirror.
REVISIONS = {HUB_MODEL: "e61197ed45024b0ed8a2d74b80b4d909f1255473"}
CHECKSUMS = {HUB_MODEL: {"model.safetensors": "27cd75a405b9c1b46b59abfd88aaa209e6fed2a1972cde9b70e7659537c5e65b"}}
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")

NEEDED_MB = 1500  # assumed where the hub does not tell sizes
SPARE_MB = 100  # left free after a download
PAUSES = (1, 3)  # seconds before the second and the third try; counted anew after each new byte
PATIENCE = 10  # seconds that a busy hub may ask for; with more to wait, the reader decides


class RemoteFile(NamedTuple):
    """A file on the hub: name, size in bytes or None, and its sha256 (weights) or git hash (small files) or None."""

    name: str
    size: int | None
    digest: str | None


def model_folder(name, revision=None, quiet=False):
    """Return the local folder that holds model ``name``; download it when it is a hub name.

    Args:
        name: "nano", a local folder, or a hub name such as "Qwen/Qwen3-Reranker-0.6B".
        revision: commit on the hub; the default is pinned for the course's own model. For other names the commit
            that was taken is printed, so that it can be given the next time.
        quiet: print nothing and show no bar.

    Returns:
        pathlib.Path of a folder with config, tokenizer and safetensors.

    Raises:
        InputError: for an unknown name, a folder that ``check_folder`` refuses, no network, a missing or gated
            repository, a busy hub, a broken download, or too little disk space.
    """
    if str(name) in BUNDLED:
        path = BUNDLED[str(name)]
        if not path.is_dir():
            raise InputError(
                f'The bundled model "{name}" is not at {path}; get the whole project again, with its data.'
            )
        return check_folder(path)
    try:
        path = Path(name).expanduser()
        here = path.exists()
    except (OSError, RuntimeError, ValueError, TypeError):  # a name that is no path on this system
        here = None
    if here:
        return check_folder(path)
    owner, slash, _ = str(name).replace("\\", "/").partition("/")
    if slash and here is not None and (not HUB_NAME.fullmatch(str(name)) or Path(owner).exists()):
        raise InputError(
            f'There is no folder "{str(name)[:200]}"; check the path, or give a hub name as "{HUB_MODEL}".'
        )
    if not HUB_NAME.fullmatch(str(name)) or ".." in str(name) or "--" in str(name):
        raise InputError(
            f'No model "{str(name)[:200]}": it is neither "nano", nor a folder that exists, nor a hub name such as '
            f'"{HUB_MODEL}".'
        )
    return _hub_folder(str(name), revision or REVISIONS.get(str(name)), quiet)


def _hub_folder(name, revision, quiet):
    """Return the folder of ``name`` in the hub's cache, fetched first if need be; print which commit was taken."""
    from huggingface_hub import constants

    store = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    ref = inside(store / "refs", revision or "main")
    commit = revision or ""
    if not COMMIT.fullmatch(commit) and ref.is_file():
        commit = ref.read_text(errors="replace").strip()
    folder = store / "snapshots" / commit if COMMIT.fullmatch(commit) else None
    source, reason = "from the local cache", None
    try:
        if folder is None or not (folder / "config.json").is_file():
            raise InputError("its download was never finished" if store.exists() else "it was never downloaded")
        check_folder(folder)
    except InputError as error:
        reason = str(error).rstrip(".")
    if reason and constants.HF_HUB_OFFLINE:
        way = offline_way(name, revision)
        raise InputError(f"{name} is not ready in the local cache ({reason}) and HF_HUB_OFFLINE is set. {way}")
    if reason:  # aloud, also where quiet: nobody should run a stranger's model because of a slip in a path
        print(f"{name} is no folder here: fetching it from the hub, {constants.ENDPOINT}", file=sys.stderr)
        folder, source = check_folder(download(name, revision, store, quiet)), "from the hub"
    if folder.name != revision and not quiet:
        asked = f'revision "{revision}"' if revision else "no revision given"
        print(f'{name}: {asked}, commit {folder.name} taken {source}; revision="{folder.name}" gets the same again')
    return folder


def download(name, revision, store, quiet=False):
    """Fetch ``name`` at ``revision`` into ``store`` and return its folder.

    A file gets its final name when it is whole and its checksum is right; config.json comes last, so a folder that
    has one is whole. What is cut off stays as blobs/*.incomplete and is continued by the next call.
    """
    from huggingface_hub.utils import WeakFileLock

    try:
        commit, files = _list_files(name, revision)
        folder, parts = store / "snapshots" / commit, store / "blobs"
        for place in (parts, store.parent / ".locks" / store.name):
            place.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(store.parent / ".locks" / store.name / "course.lock"):  # two notebooks at once
            missing = [file for file in files if not _is_whole(folder / file.name, file)]
            part = {file: parts / f"{file.digest or f'{commit}-{file.name}'}.incomplete" for file in missing}
            done = {file: part[file].stat().st_size if part[file].exists() else 0 for file in missing}
            _check_disk(name, parts, missing, done)
            total = sum(file.size or 0 for file in missing)
            look = {"unit": "B", "unit_scale": True, "desc": name, "disable": quiet}
            with tqdm(total=total or None, initial=sum(done.values()), **look) as bar:
                for file in missing:
                    fetch(name, commit, file, part[file], bar)
                    folder.mkdir(parents=True, exist_ok=True)
                    part[file].replace(inside(folder, file.name))
            if revision != commit:
                ref = inside(store / "refs", revision or "main")
                ref.parent.mkdir(parents=True, exist_ok=True)
                temporary = ref.with_name(f".{ref.name}-{os.getpid()}")
                temporary.write_text(commit)
                temporary.replace(ref)
    except OSError as error:
        raise InputError(
            f"{name} cannot be written to {store.parent}: {error.strerror or error}; free space there, or set "
            "HF_HOME to a folder that you may write to. What has arrived is kept."
        ) from None
    return folder


def _list_files(name, revision):
    """Ask the hub for the commit of ``revision`` and for the files that a reranker needs.

    Returns:
        (commit, list of RemoteFile): small files, then weights, then config.json.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError

    asked = {"revision": revision, "files_metadata": True, "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    for tries in range(len(PAUSES) + 1):
        try:
            info = HfApi().model_info(name, **asked)
            break
        except (HTTPError, ConnectionError, ValueError, TypeError, KeyError, AttributeError) as error:
            wait = pause(error, tries) if status_of(error) else None  # no answer at all: say so at once
            if wait is None:
                raise InputError(explain(error, name, revision)) from None
            time.sleep(wait)
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit) or (COMMIT.fullmatch(revision or "") and commit != revision):
        raise InputError(f"The answer for {name} does not come from a hub (commit {commit[:60]!r}): check HF_ENDPOINT.")
    pinned = CHECKSUMS.get(name, {}) if revision == REVISIONS.get(name) else {}
    files = {}
    for sibling in info.siblings or []:
        file, size = str(sibling.rfilename), sibling.size
        digest = str(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or pinned.get(file, ""))
        if digest and pinned.get(file, digest) != digest:
            raise InputError(f"{file} of {name} is not the file that the course pins; check HF_ENDPOINT.")
        if "/" not in file and "\\" not in file:
            known = re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", digest)
            files[file] = RemoteFile(file, size if type(size) is int else None, digest if known else None)
    weights = [WEIGHTS] if WEIGHTS in files else sorted(filter(SHARD.fullmatch, files))
    if not weights:
        raise InputError(f"{name} on the hub {no_weights(files)} Nothing was downloaded.")
    small = [n for n in files if n.endswith((".json", ".txt", ".jinja", ".model")) or n in ("README.md", "LICENSE")]
    skipped = {"config.json", "pytorch_model.bin.index.json", INDEX if weights == [WEIGHTS] else ""}
    order = [*sorted(set(small) - skipped), *weights, "config.json"]
    return commit, [files[n] for n in order if n in files]


def _check_disk(name, place, files, done):
    """Raise InputError when ``files`` (RemoteFile, of which ``done`` bytes are here) do not fit on the disk."""
    sizes = [None if file.size is None else max(0, file.size - done[file]) for file in files]
    need = (NEEDED_MB if None in sizes else 0) + sum(size or 0 for size in sizes) / 2**20
    free = shutil.disk_usage(place).free / 2**20
    if need and free < need + SPARE_MB:
        raise InputError(
            f"{name} needs {need:.0f} MB (and {SPARE_MB} MB to spare) and {place} has {free:.0f} MB free; free some "
            "space or set HF_HOME to a folder on a larger disk."
        )


def fetch(name, commit, file, part, bar):
    """Bring ``part`` to the whole content of a RemoteFile, going on where it stops, and check it.

    Gives up after three tries without a new byte; ``part`` stays for the next call, unless its checksum is wrong.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HTTPError

    part.touch()
    if file.size is None or part.stat().st_size > file.size:  # no way to tell where it stops
        part.write_bytes(b"")
    url, tries, most = hf_hub_url(name, file.name, revision=commit), 0, part.stat().st_size
    while file.size is None or part.stat().st_size < file.size:
        try:
            _receive(url, part, file.size, bar)
            break
        except (HTTPError, ConnectionError) as error:
            have = part.stat().st_size
            tries, most = (0, have) if have > most else (tries + 1, most)
            wait = pause(error, tries)
            if wait is None:
                sizes = f"{have / 2**20:.1f} of {(file.size or have) / 2**20:.1f} MB"
                kept = f"{sizes} of {file.name} are kept and the next call goes on from there." if have else ""
                raise InputError(explain(error, name, commit, kept)) from None
            time.sleep(wait)
    if not _is_whole(part, file):
        part.unlink()
        raise InputError(
            f"{file.name} of {name} arrived with a wrong checksum and was thrown away; try again, and if that does not "
            "help, something on the way (a proxy, a mirror) changes what is sent."
        )


def _receive(url, part, size, bar):
    """Append to ``part`` what the hub sends of ``url`` after the bytes that are there; one try.

    Raises ConnectionError when fewer than ``size`` bytes (None: not known) have come at the end of the answer.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    have = part.stat().st_size
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
        if answer.status_code >= 400:
            answer.read()
        hf_raise_for_status(answer)
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):  # all of it is sent again
            bar.update(-have)
            have = 0
        with part.open("ab" if have else "wb") as out:
            for chunk in answer.iter_bytes():
                out.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if size is not None and have > size:
                    return  # its checksum cannot be right
    if size is not None and have < size:
        raise ConnectionError(f"the answer ended after {have} of {size} bytes")


def _is_whole(path, file):
    """Return whether ``path`` has the size and checksum of a RemoteFile, as far as the hub told them."""
    if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    if file.digest is None:
        return True
    if len(file.digest) == 64:
        digest = hashlib.sha256()
    else:  # git's name for a file of this content
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest() == file.digest


def pause(error, tries):
    """Return the seconds to wait before the next try, or None when another try does not help."""
    status = status_of(error)
    if tries >= len(PAUSES) or (status is not None and status < 500 and status not in (408, 429)):
        return None
    asked = asked_wait(error)
    return PAUSES[tries] if asked is None else (asked if asked <= PATIENCE else None)
