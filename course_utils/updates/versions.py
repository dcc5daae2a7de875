"""Versions of an adapted reranker in a folder that a person can read; rolling back; surviving a kill.

    versions/current                      one line: the name of the version in use
    versions/v0001-20260102-030405/       trained.safetensors, version.json (figures, reason, where it came from)
    versions/aside/v0002-20260103-.../    a version that was refused, with the reason

A version is written under a temporary name, forced to disk and renamed; then ``current`` is replaced in one step. A kill
at any moment leaves ``current`` naming a whole version. A lock keeps a second process out of the folder.
"""

import json
import os
import re
import shutil
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from course_utils.domains.delta import _attached, _rounded_hash
from course_utils.errors import InputError
from course_utils.files import force_to_disk, lock, sha256
from course_utils.language import _
from course_utils.model.checkpoint import _read_json
from course_utils.model.prompt import _fingerprint
from course_utils.text import markdown_table
from course_utils.training.trainer import TENSORS
from course_utils.training.weights import load_tensors, trained_tensors

_RECORD, _CURRENT, _ASIDE = "version.json", "current", "aside"
_NAME = r"v\d{4,}-\d{8}-\d{6}"


def _begin(folder, reranker):
    """Return the name of the current version; in a new folder first write the reranker as it is as that version.

    What a kill left half written is removed. A kill of the very first call can leave one version and no ``current``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left in (*folder.glob(".writing-*"), *folder.glob(".current-*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    kept = _kept(folder)
    if len(kept) == 1 and not (folder / _CURRENT).exists():
        _set_current(folder, kept[0])
    if not kept and not (folder / _CURRENT).exists():
        _publish(
            folder, reranker, {"accepted": True, "reason": _("The start: nothing was learned yet."), "previous": None}
        )
    return current_version(folder)


def current_version(folder):
    """Return the name of the version in use; raise InputError when there is none."""
    path, known = Path(folder) / _CURRENT, ", ".join(_kept(folder)) or "none"
    if not path.is_file():
        if _kept(folder):
            raise InputError("{path} is missing, so nothing says which version is in use; write one of these into it: {known}.", path=path, known=known)  # fmt: skip
        raise InputError("{folder} holds no versions: there is no file {name} in it.", folder=folder, name=path.name)
    name = path.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(_NAME, name) or not (Path(folder) / name / _RECORD).is_file():
        raise InputError(
            '{path} says "{name}", which is no version here; write one of these into it: {known}.',
            path=path,
            name=name[:60],
            known=known,
        )
    return name


def publish(folder, reranker, record):
    """Write the trainable tensors of the reranker as a new version, in use if ``record`` says accepted; return its folder.

    Args:
        folder: the folder of versions.
        reranker: a Reranker; parameters with requires_grad are the version.
        record: accepted, reason and what else should stand in version.json.

    Raises:
        InputError: another process works in the folder, or it cannot be written to.
    """
    with lock(folder):
        return _publish(folder, reranker, record)


def _publish(folder, reranker, record):
    folder, tensors = Path(folder), trained_tensors(reranker.model)
    number = 1 + max((int(p.name[1:].split("-")[0]) for p in _version_folders(folder)), default=-1)
    made = datetime.now(UTC)
    name = f"v{number:04d}-{made:%Y%m%d-%H%M%S}"
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        save_file(tensors, temporary / TENSORS)
        record = {
            "version": name,
            "made": made.isoformat(timespec="seconds"),
            **record,
            "base": _frozen_hash(reranker.model, tensors),
            "instruction": reranker.instruction,
            "prompt": _fingerprint(reranker.instruction),
            "sha256": sha256(temporary / TENSORS),
            "tensors": sorted(tensors),
        }
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (temporary / _RECORD).write_text(text, encoding="utf-8")
        mode = stat.S_IMODE((temporary / _RECORD).stat().st_mode)  # what the umask asks for
        (temporary / TENSORS).chmod(mode)
        temporary.chmod(mode | (mode & 0o444) >> 2)
        for path in (temporary / TENSORS, temporary / _RECORD, temporary):
            force_to_disk(path)
        place = folder / name if record["accepted"] else folder / _ASIDE / name
        place.parent.mkdir(exist_ok=True)
        temporary.rename(place)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, (OSError, SafetensorError, ValueError)):
            raise InputError(
                "{folder} cannot be written to: {error}. The version in use is as before. What was decided: {reason}",
                folder=folder, error=error, reason=record.get("reason", "")
            ) from None  # fmt: skip
        raise
    for path in {place.parent, folder}:
        force_to_disk(path)
    if record["accepted"]:
        _set_current(folder, name)
    return place


def _set_current(folder, name):
    """Make ``current`` name another version, in one step."""
    temporary = Path(folder) / f".current-{os.getpid()}"
    temporary.write_text(name + "\n", encoding="utf-8")
    force_to_disk(temporary)
    temporary.replace(Path(folder) / _CURRENT)
    force_to_disk(folder)


def load_version(folder, reranker, name=None):
    """Put a version, its instruction included, into the reranker and return its record.

    Args:
        folder: the folder of versions.
        reranker: a Reranker on the same base.
        name: the version; default: the current one. "aside/v0002-..." loads a refused one.

    Raises:
        InputError: no such version, a damaged one, another base. The reranker is unchanged then.
    """
    if _attached(reranker) is not None:
        raise InputError("A delta is attached to this reranker; detach it before a version is loaded.")
    record, path = _check_version(folder, name or current_version(folder))
    tensors = load_file(path)
    if _frozen_hash(reranker.model, tensors) != record.get("base"):
        raise InputError(
            "{path} was made for another base than {value}; load that base first (--model).",
            path=path,
            value=reranker.name or _("this reranker"),
        )
    load_tensors(reranker.model, tensors)
    reranker.instruction = record["instruction"]
    return record


def _check_version(folder, name):
    """Return (record, path of the tensors) of a version; raise InputError when it is missing or damaged."""
    place = Path(folder) / str(name)
    if not re.fullmatch(rf"({_ASIDE}/)?{_NAME}", str(name)) or not (place / _RECORD).is_file():
        raise InputError('{folder} has no version "{name}".', folder=folder, name=str(name)[:60])
    record, path = _read_json(place / _RECORD), place / TENSORS
    mark = _fingerprint(str(record.get("instruction")))
    if not record.get("instruction") or record.get("prompt", mark) != mark:  # old ones have no "prompt"
        raise InputError("{path}: the instruction is not the one that this version was made with; put it back, or use another version.", path=place / _RECORD)  # fmt: skip
    if not path.is_file() or sha256(path) != record.get("sha256"):
        raise InputError(
            "{path} is damaged: its content is not what {record} says. Use another version.", path=path, record=_RECORD
        )
    return record, path


def rollback(folder, reranker=None, before=None):
    """Put the version before the current one in use again and return its name; ``reranker``, if given, gets it loaded.

    ``before``, if given, is called with that name before anything changes: where it fails, nothing does.

    Raises:
        InputError: nothing comes before the current version, what does is damaged, or another process works in the folder;
            nothing is changed then.
    """
    current_version(folder)  # a folder without versions is not made by the lock
    with lock(folder):
        now = current_version(folder)
        previous = _read_json(Path(folder) / now / _RECORD).get("previous")
        if not previous:
            raise InputError(
                "{now} is the first version in {folder}: there is nothing to go back to.", now=now, folder=folder
            )
        _check_version(folder, previous)
        if before is not None:
            before(previous)
        if reranker is not None:
            load_version(folder, reranker, previous)
        _set_current(folder, previous)
    return previous


def _version_folders(folder):
    """Return the folders of all versions, the refused ones too, oldest first."""
    found = [*Path(folder).glob("v*"), *(Path(folder) / _ASIDE).glob("v*")]
    return sorted((p for p in found if re.fullmatch(_NAME, p.name)), key=lambda p: p.name)


def _kept(folder):
    return [p.name for p in _version_folders(folder) if p.parent.name != _ASIDE]


def version_table(folder, now=None):
    """Return a Markdown table of all versions: name, whether it is in use, gain on its target, reason.

    ``now``: the name of the one in use; default: the current one. A damaged record is a row that says so.
    """
    now, rows = now or current_version(folder), []
    for path in _version_folders(folder):
        state = _("**in use**") if path.name == now else _("aside") if path.parent.name == _ASIDE else _("kept")
        try:
            r = _read_json(path / _RECORD)
            gain = r.get("figures", {}).get("target")
            shown = _("{before:.3f} to {after:.3f}").format(**gain) if gain else ""
            told = [str(r.get("stage", "")), shown, str(r.get("reason", ""))]
        except (InputError, OSError, AttributeError, KeyError, TypeError, ValueError):
            told = ["", "", _("damaged: {name} cannot be read").format(name=_RECORD)]
        rows.append([path.name, state, *told])
    return markdown_table([_("version"), _("state"), _("learned"), _("target"), _("reason")], rows)


def _frozen_hash(model, trained):
    """Return the hash of all parameters that are not in ``trained``: a version fits only where these are the same."""
    return _rounded_hash((n, p) for n, p in model.named_parameters() if n not in trained)
