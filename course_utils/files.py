"""Where the course lies, and how a file or a folder is written whole or not at all."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from course_utils.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def replace_folder(temporary, folder):
    """Put the finished folder ``temporary`` at ``folder``; the old one stays until the new one is there."""
    folder = Path(folder)
    if folder.exists():
        old = folder.with_name(f".{folder.name}-old-{os.getpid()}")
        folder.rename(old)
        Path(temporary).rename(folder)
        shutil.rmtree(old)
    else:
        Path(temporary).rename(folder)


def check_writable(path):
    """Raise InputError when ``path`` cannot be written, before an hour of training finds out."""
    folder = Path(path).resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} is not writable.")


def write_json(path, value):
    """Write ``value`` to ``path`` under a temporary name, then rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def force_to_disk(path):
    """Wait until a file or a folder's list of names is on the disk, so that a power cut cannot undo the order of steps."""
    if os.name == "nt" and Path(path).is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDWR if Path(path).is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path):
    """Return the SHA-256 of a file as hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
