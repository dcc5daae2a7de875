"""How a command ends and what it prints on: every terminal, no traceback, exit code 0, 1, 2 or 130."""

import errno
import json
import os
import sys
import tempfile
import traceback
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

from course_utils.errors import InputError, _out_of_memory
from course_utils.files import check_ours
from course_utils.language import _
from course_utils.text import _columns, _padded

REASONS = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your quota of the disk is used up: free some space",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.EACCES: "you may not read or write it: change its mode or choose another",
    errno.EPERM: "you may not read or write it: change its mode or choose another",
    errno.EISDIR: "it is a folder: give a file",
    errno.ENOTDIR: "part of its path is a file: choose another folder",
    errno.ENOENT: "there is no such file or folder",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ELOOP: "its links lead round in a circle: give the file itself",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENOMEM: "memory is short: lower --batch-tokens or --max-length",
    errno.EIO: "the disk answers with an error: choose another disk",
}
# What torch and safetensors say in exceptions of their own when a disk is full.
FULL = ("No space left on device", "os error 28", "PytorchStreamWriter failed", "inline_container")
GONE = (errno.EPIPE, errno.EINVAL, errno.ESHUTDOWN)  # EINVAL: a closed pipe on Windows


class _Output:
    """Standard output whose reader may go (``| head -2``): the rest is then not printed, and the work goes on."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, text):
        with self._patient():
            self._stream.write(text)
        return len(text)

    def flush(self):
        with self._patient():
            self._stream.flush()

    @contextmanager
    def _patient(self):
        try:
            yield
        except OSError as error:
            _to_nowhere(self._stream)
            if error.errno not in GONE:
                reason = _(REASONS.get(error.errno, error.strerror))
                raise InputError("Standard output cannot be written: {reason}.", reason=reason) from None

    def __getattr__(self, name):
        return getattr(self._stream, name)


def _to_nowhere(stream):
    """Let what is still waiting in a broken stream go nowhere, so that it does not break again when Python ends."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream without a file
        pass


@contextmanager
def streams():
    """Make standard output and error fit for any text on any code page, closed or not; put them back at the end."""
    kept = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout = _Output(sys.stdout)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept


def messages(where):
    """Return a context in which messages go to standard error when the result itself goes to standard output."""
    return redirect_stdout(sys.stderr if where == "-" else sys.stdout)


def aligned(lines):
    """Return rows of cells as a plain table: columns padded to the same width, two spaces between."""
    widths = [max(map(_columns, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(_padded, row, widths)).rstrip() for row in lines)


def note(text):
    """Print a remark for people on standard error."""
    print(_("note: {text}").format(text=text), file=sys.stderr, flush=True)


def check_replaced(folder, file):
    """Raise InputError unless an output of the kind that holds ``file`` may be written to ``folder``; say that one goes."""
    check_ours(folder, [file])
    if Path(folder).is_dir() and any(Path(folder).iterdir()):
        note(_("{folder}: what an earlier run wrote there will be replaced.").format(folder=folder))


def check_result(path):
    """Raise InputError where ``path`` is there and holds no result of an earlier run, which alone may be replaced."""
    path = Path(path)
    if path.is_file() and path.stat().st_size and path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        found = {}
        with suppress(ValueError, OSError):
            found = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(found, dict) and {"run", "bm25_recall"} & set(found)):
            raise InputError("--json {path} is there and holds no result of an earlier run, so it would be lost; choose another name.", path=path)  # fmt: skip


def ended(work):
    """Run ``work()`` and return the exit code: what it returns (0 or 1), 2 with one sentence on standard error, 130 when stopped."""
    with streams():
        try:
            code = work() or 0
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            _complain(_("stopped by you; run the same command to go on"), "")
            return 130
        except BrokenPipeError:
            _to_nowhere(sys.stdout)
            return 0
        except Exception as error:
            _complain(str(error) if isinstance(error, InputError) else _sentence(error))
            return 2


def _complain(text, start=None):
    start = _("error: ") if start is None else start
    try:
        print(start + " ".join(text.split("\n")), file=sys.stderr, flush=True)
    except OSError:  # nobody listens
        _to_nowhere(sys.stderr)


def _sentence(error):
    """Return one sentence for an exception that nobody expected."""
    if os.environ.get("COURSE_DEBUG") == "1":
        traceback.print_exception(error)
    text = str(error)
    if _out_of_memory(error):
        return _("Memory is short: lower --batch-tokens or --max-length, or close other programs.")
    if any(word in text for word in FULL):
        return _("The disk is full: free some space and run the same command again.")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _("{where}{reason}.").format(where=where, reason=_(REASONS.get(error.errno, error.strerror or text)))
    what = f"{type(error).__name__}: {text.splitlines()[0][:200] if text else _('no message')}"
    return _("The program itself failed ({what}). {kept_traceback}").format(
        what=what, kept_traceback=_kept_traceback(error)
    )


def _kept_traceback(error):
    """Write the traceback to a file and return the sentence that names it."""
    try:
        handle, path = tempfile.mkstemp(prefix="reranker-course-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
        return _("The details are in {path}; please report them.").format(path=path)
    except OSError:
        return _("Run it again with COURSE_DEBUG=1 to see the details, and please report them.")
