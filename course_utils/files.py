"""Where the course lies, and how a file or a folder is written: whole, over nothing that is not ours, or not at all."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from course_utils.errors import InputError
from course_utils.language import _

ROOT = Path(__file__).resolve().parent.parent
MARKER = ".reranker-course"  # lists the files that we wrote into a folder
_LOCK, _LITTER = ".reranker-course.lock", {".DS_Store", "Thumbs.db", "desktop.ini"}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
# What transformers writes beside reranker.json; folders of the course's first version have no marker.
_MODEL_FILES = {"config.json", "generation_config.json", "reranker.json", "tokenizer.json", "tokenizer_config.json",
                "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
                "README.md", "model.safetensors.index.json"}  # fmt: skip
# Tell the kinds of output apart; the first that a folder has counts. README.md: an export; reranker.json: a model alone.
_SIGNS = ("delta.json", "index.json", "passages.jsonl", "train.jsonl", "README.md", "reranker.json")


def data_folder():
    """Return the folder of the course's data and of the bundled model: data/ of the project, bundled/ in an installed wheel."""
    bundled = Path(__file__).resolve().parent / "bundled"
    return bundled if bundled.is_dir() else ROOT / "data"


def _part(path):
    """Return the temporary name beside ``path`` of this process and thread; remove what killed processes left there."""
    import psutil

    for old in path.parent.glob(f".{path.name}.*-*.part"):
        pid = old.name.removeprefix(f".{path.name}.").partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")


def _refusal(path, error):
    return InputError("{path} cannot be written: {value}. Free space or choose another place.", path=path, value=error.strerror or error)  # fmt: skip


@contextmanager
def whole(path, mode="w"):
    """Open ``path`` for writing so that it is there whole or not at all; folders above it are made.

    Written beside and renamed at the end, with the mode that the umask asks for. A link keeps pointing where it did.
    What is no regular file (a pipe, /dev/null) is written to as it is, and "-" is standard output.

    Args:
        path: a file name, or "-".
        mode: "w" for text (UTF-8, line ends as given) or "wb" for bytes.

    Raises:
        InputError: when the place cannot be written to, or the disk is full.
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    if str(path) == "-":
        yield sys.stdout if text else sys.stdout.buffer
        sys.stdout.flush()
        return
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open(mode, **text) as file:
            yield file
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _part(path)
        file = part.open(mode, **text)
    except OSError as error:
        raise _refusal(path, error) from None
    try:
        with file:
            yield file
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _DISK:
            raise _refusal(path, error) from None
        raise


def write_json(path, value):
    """Write ``value`` to ``path`` through ``whole``; raise InputError when it holds NaN or infinity, which JSON has not."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    except ValueError:
        raise InputError("{path} is not written: a number in it is NaN or infinite, so the calculation before it went wrong.", path=path) from None  # fmt: skip
    with whole(path) as file:
        file.write(text + "\n")


def _write_lines(path, rows):
    """Write ``rows`` to ``path`` through ``whole``, one JSON value a line."""
    with whole(path) as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir() or p.is_symlink()}


def check_ours(folder, files=None):
    """Raise InputError unless ``folder`` may be replaced: not there, empty, or with nothing in it but what we wrote.

    With ``files``, names of what will be written, it must be of the same kind as what is there, too (``_SIGNS``).
    """
    folder = Path(folder)
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise InputError("{folder} is a file, and a folder is to be written there; choose another name.", folder=folder)  # fmt: skip
        return
    names, ours, hashes = _names(folder), set(), {}
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        ours, hashes = set(marker["files"]), dict(marker.get("sha256", {}))
    if not ours and "reranker.json" in names:
        ours = names & _MODEL_FILES | {n for n in names if n.startswith("model") and n.endswith(".safetensors")}
    foreign = sorted(n for n in names - ours - {MARKER, _LOCK} if n.rpartition("/")[2] not in _LITTER)
    if foreign:
        raise InputError("{folder} holds {foreign_0}, which was not written by this program, and would be replaced; choose another folder or move its files away.", folder=folder, foreign_0=foreign[0])  # fmt: skip
    changed = next((n for n in sorted(names & ours & hashes.keys()) if sha256(folder / n) != hashes[n]), None)
    if changed:
        raise InputError("{path} was changed since this program wrote it, and would be replaced; choose another folder or move the file away.", path=folder / changed)  # fmt: skip
    there, new = (next((n for n in _SIGNS if n in written), None) for written in (ours, files or ()))
    if files is not None and names & ours and there != new:
        raise InputError("{folder} holds another kind of output ({there}), which would be lost; choose another folder.", folder=folder, there=there or min(names & ours))  # fmt: skip


@contextmanager
def whole_folder(folder, hashed=False):
    """Yield a temporary folder that takes the place of ``folder`` when the block ends well, else goes away.

    The old folder stays until the new one is there. A marker file lists what was written; with it the next call knows
    what it may replace (``check_ours``): where it is ``hashed``, no file that people changed since. All files get the
    mode that the umask asks for.

    Raises:
        InputError: when ``folder`` holds what is not ours, or the place cannot be written to.
    """
    folder = Path(os.path.realpath(folder) if Path(folder).is_symlink() else folder)
    check_ours(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = _part(folder)
        temporary.mkdir()
    except OSError as error:
        raise _refusal(folder, error) from None
    try:
        yield temporary
        names = sorted(_names(temporary))
        check_ours(folder, names)
        hashes = {"sha256": {name: sha256(temporary / name) for name in names}} if hashed else {}
        (temporary / MARKER).write_text(json.dumps({"files": names, **hashes}), encoding="utf-8")
        mode = stat.S_IMODE((temporary / MARKER).stat().st_mode)
        for path in temporary.rglob("*"):  # safetensors writes files that only their owner can read
            if path.is_file() and not path.is_symlink():
                path.chmod(mode)
        replace_folder(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _DISK:
            raise _refusal(folder, error) from None
        raise


def replace_folder(temporary, folder):
    """Put the finished folder ``temporary`` at ``folder``; the old one stays until the new one is there."""
    folder = Path(folder)
    if folder.exists() and not _exchange(temporary, folder):
        old = folder.with_name(f".{folder.name}.{os.getpid()}-old.part")
        folder.rename(old)
        Path(temporary).rename(folder)
        shutil.rmtree(old)
    elif folder.exists():
        shutil.rmtree(temporary)  # now the old one
    else:
        Path(temporary).rename(folder)


def _exchange(one, other):
    """Let two names change places in one step, so that a kill cannot come between; False where the system cannot."""
    with suppress(OSError, AttributeError, TypeError):
        names = [os.fsencode(path.absolute()) for path in (Path(one), Path(other))]
        return ctypes.CDLL(None).renameat2(-100, names[0], -100, names[1], 2) == 0  # AT_FDCWD, RENAME_EXCHANGE
    return False


def check_outputs(outputs, inputs=(), folders=(), ends=(".json", ".jsonl", ".ndjson")):
    """Raise InputError when an output cannot be written or would destroy an input; call it before any work.

    Args:
        outputs: files that will be written; None is skipped, "-" is standard output.
        inputs: files and folders that are read.
        folders: folders that will be written; whether their content is ours is asked by ``check_ours``.
        ends: how the name of a file ends that may be replaced; () for a caller that knows its own files.
    """
    inputs = [Path(path) for path in inputs if path is not None and Path(path).exists()]
    seen = {}
    for name, is_folder in [*((n, False) for n in outputs), *((n, True) for n in folders)]:
        if name is None or (str(name) == "-" and not is_folder):
            continue
        if not str(name).strip():
            raise InputError("The name of an output is empty; give a file name.")
        path, full = Path(name), Path(os.path.realpath(name))
        if path.is_symlink() and not path.exists():
            raise InputError("{path} is a link to {readlink}, which does not exist; remove it or name the file.", path=path, readlink=path.readlink())  # fmt: skip
        if is_folder and path.exists() and not path.is_dir():
            raise InputError("{path} is a file, and a folder is to be written there; choose another name.", path=path)
        if not is_folder and (path.is_dir() or str(name).endswith(("/", os.sep))):
            raise InputError("{path} is a folder; give the name of a file in it.", path=path)
        for given in inputs:
            read = Path(os.path.realpath(given))
            over = read.is_relative_to(full) if is_folder else full.exists() and full.is_relative_to(read)
            if over or full == read or (full.exists() and full.samefile(given)):
                raise InputError("{path} would be written over {given}, which is read; choose another name.", path=path, given=given)  # fmt: skip
        if ends and not is_folder and full.is_file() and full.stat().st_size and full.suffix.lower() not in ends:
            raise InputError("{path} exists and would be lost; choose another name, which ends in {ends}.", path=path, ends=ends[0])  # fmt: skip
        if full in seen and (path.is_file() or not path.exists()):
            raise InputError("{path} is named for two outputs; give each its own name.", path=path)
        seen[full] = path
        above = next(p for p in (full if path.exists() else full.parent, *full.parents) if p.exists())
        if not path.exists() and not above.is_dir():
            raise InputError("{path} cannot be written: {above} is a file and not a folder.", path=path, above=above)
        if not os.access(above, os.W_OK):
            raise InputError("{path} cannot be written: {above} is not writable; choose another place.", path=path, above=above)  # fmt: skip
        if (place := full.parent if full.is_file() else above).is_dir():
            try:
                tempfile.TemporaryFile(dir=place).close()  # os.access lets root write anywhere
            except OSError as error:
                raise _refusal(path, error) from None


@contextmanager
def lock(place, beside=False):
    """Keep other runs out of a folder (made if need be) while the block runs; a killed run leaves no lock behind.

    With ``beside`` the place is a file, which is kept to one run. Raises InputError when another run is at work there.
    """
    folder = Path(place).parent if beside else Path(place)
    path, made = folder / (f".{Path(place).name}.lock" if beside else _LOCK), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise _refusal(folder, error) from None
    with file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # taken, as flock and msvcrt say; a file system without locks says something else
            free = error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
        else:  # the run before may have removed the file between our open and our lock
            free = os.name == "nt" or (path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino)
        if not free:
            raise InputError("Another run is writing to {place}; wait until it is done or choose another {kind}.", place=place, kind=_("file") if beside else _("folder"))  # fmt: skip
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
                if made:
                    folder.rmdir()  # only when nothing was written


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
