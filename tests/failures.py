"""Every fault that is known: how it is made, what is said, what is there afterwards. Run by test_failures and by a script.

A Case is one call of the command line in a folder of its own with small files and a tiny model. All files that were there must
be the same afterwards, and nothing may be new but what the case names.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from course_utils.cli import main
from course_utils.files import MARKER

WORDS = ["fever", "cough", "rent", "lease", "bank", "loan", "salt", "sugar", "heart", "court", "wage", "tax", "fund",
         "knee", "sleep", "contract", "fish", "bread", "train", "river", "stone", "glass", "paper", "wool"]  # fmt: skip
EVALUATE = "evaluate --model model --data data.json --json r.json"
RANK = "rank --model model --query fever --documents docs.txt"
ADAPT = (
    "adapt --model model --train train.json --test test.json --out out --json r.json --no-replay --epochs 1 --layers 1"
)


class Case(NamedTuple):
    """One fault.

    Attributes:
        kind: the heading it stands under.
        fault: in words; the name of the test.
        command: the arguments, separated by spaces, or a list of them.
        says: a pattern that standard error (or, for code 0, all that is printed) must hold.
        code: the exit code.
        prepare: function of the folder that makes the fault.
        during: function that returns a context manager; the command runs in it.
        new: files that may be there afterwards, as patterns.
        shows: a pattern that standard output must hold, also where the command fails: what was computed is not lost.
    """

    kind: str
    fault: str
    command: str | list
    says: str
    code: int = 2
    prepare: Callable | None = None
    during: Callable | None = None
    new: tuple = ()
    shows: str = ""


def write(name, content):
    """Return a ``prepare`` that writes text, bytes or JSON to a file."""

    def prepare(folder):
        path = folder / name
        path.unlink(missing_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    return prepare


def rows(start, count, wrong=3):
    """Return labelled pairs of ``count`` queries, one right document each."""
    out = []
    for i in range(start, start + count):
        word, others = WORDS[i % len(WORDS)], [WORDS[(i + k) % len(WORDS)] for k in range(1, wrong + 1)]
        out.append({"query": f"what is {word} {i}", "document": f"{word} number {i} is told here", "relevance": 1})
        out += [
            {"query": f"what is {word} {i}", "document": f"{o} of {i} is something else", "relevance": 0}
            for o in others
        ]
    return out


def make_world(folder, model):
    """Put small files and a copy of the model folder into ``folder``."""
    shutil.copytree(model, folder / "model")
    write("docs.txt", "a page about fever\na page about rent\na page about salt\n")(folder)
    for name, start, count in (("train", 0, 8), ("test", 8, 6), ("dev", 14, 5), ("general", 19, 5), ("data", 8, 6)):
        write(f"{name}.json", rows(start, count))(folder)


def state(folder):
    """Return {name: hash} of everything in a folder."""
    out = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            out[name] = f"link to {path.readlink()}"
        elif path.is_file():
            out[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


class Outcome(NamedTuple):
    """What came of a case: exit code, what was printed, what changed, what is new and was not foreseen."""

    code: int
    out: str
    err: str
    changed: list
    litter: list


def run(case, folder):
    """Run a case in ``folder`` (made by ``make_world``) and return its Outcome."""
    if case.prepare:
        case.prepare(folder)
    before, here = state(folder), Path.cwd()
    out, err = io.StringIO(), io.StringIO()
    arguments = case.command.split() if isinstance(case.command, str) else case.command
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.ExitStack() as stack:
            if case.during:
                stack.enter_context(case.during())
            code = main(arguments)
    finally:
        os.chdir(here)
    after = state(folder)
    changed = [n for n in before if after.get(n) != before[n]]
    litter = [n for n in after if n not in before and not any(re.fullmatch(p, n) for p in case.new)]
    return Outcome(code, out.getvalue(), err.getvalue(), changed, litter)


def problems(case, found):
    """Return what of an Outcome is not as the case says, as sentences."""
    text = found.err if case.code else found.out + found.err
    wrong = []
    if found.code != case.code:
        wrong.append(f"exit code {found.code} and not {case.code}")
    if not re.search(case.says, text):
        wrong.append(f"{case.says!r} is not said")
    if not re.search(case.shows, found.out):
        wrong.append(f"{case.shows!r} is not shown")
    if "Traceback" in found.out + found.err:
        wrong.append("a traceback is shown")
    lines = found.err.splitlines()  # notes and bars stand before it
    if case.code == 2 and not (
        [line for line in lines if "error: " in line] == lines[-1:] and lines[-1].startswith("error: ")
    ):
        wrong.append("it is not one sentence")
    wrong += [f"{name} was changed" for name in found.changed]
    wrong += [f"{name} is left behind" for name in found.litter]
    return wrong


# --- ways to break things -------------------------------------------------------------------------------------------


def raising(target, error):
    """Return a ``during`` in which calling ``target`` raises ``error``."""
    return lambda: mock.patch(target, side_effect=error)


def unread():
    """Return a context manager in which reading the weights of a model fails: a fault must be found before that."""
    return mock.patch("course_utils.model.reranker._load_parts", side_effect=AssertionError("weights were read"))


def full(name):
    """Return a ``during`` in which the disk is full for what is written to the file ``name``."""
    opened = Path.open

    def patched(own, *arguments, **options):
        if own.name.startswith(f".{name}.") and own.name.endswith(".part"):
            return Terminal(error=system(errno.ENOSPC))
        return opened(own, *arguments, **options)

    return lambda: mock.patch("pathlib.Path.open", patched)


def slow(seconds=0.05, gives_up_at=None):
    """Return a ``during`` in which every move of a written file into its place is slow, as on a network drive.

    Args:
        seconds: before each move.
        gives_up_at: the number of the move at which the user presses Ctrl-C.
    """
    moves, replace = [], os.replace

    def patient(source, target, **options):
        moves.append(target)
        if len(moves) == gives_up_at:
            raise KeyboardInterrupt
        time.sleep(seconds)
        return replace(source, target, **options)

    @contextlib.contextmanager
    def during():
        moves.clear()
        with (
            mock.patch("os.replace", patient),
            mock.patch("pathlib.Path.replace", lambda own, target: patient(own, target) and own),
            mock.patch("pathlib.Path.rename", lambda own, target: patient(own, target) and own),
        ):
            yield

    return during


def environment(**values):
    """Return a ``during`` with environment variables set."""
    return lambda: mock.patch.dict(os.environ, values)


def change_json(name, **values):
    """Return a ``prepare`` that changes a JSON file; None removes a field."""

    def prepare(folder):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        content = {k: v for k, v in {**content, **values}.items() if v is not None}
        write(name, content)(folder)

    return prepare


def change_weights(change):
    """Return a ``prepare`` that changes the dict of tensors of the model."""

    def prepare(folder):
        from safetensors.torch import load_file, save_file

        path = folder / "model" / "model.safetensors"
        weights = {k: v.clone() for k, v in load_file(path).items()}
        change(weights)
        save_file(weights, path, metadata={"format": "pt"})
        (folder / "model" / MARKER).unlink(missing_ok=True)  # it holds the hash of the old ones

    return prepare


class Terminal(io.TextIOWrapper):
    """A standard output on bytes, of any code page, that may break."""

    def __init__(self, encoding="utf-8", error=None):
        super().__init__(_Broken(error) if error else io.BytesIO(), encoding=encoding, write_through=True)


class _Broken(io.RawIOBase):
    def __init__(self, error):
        self.error = error

    def writable(self):
        return True

    def write(self, data):
        raise self.error


@contextlib.contextmanager
def on_terminal(stream):
    """Put ``stream`` in place of standard output; show what reached it as text at the end."""
    kept = sys.stdout
    sys.stdout = stream
    try:
        yield
    finally:
        sys.stdout = kept
        if isinstance(stream, Terminal) and isinstance(stream.buffer, io.BytesIO):
            kept.write(stream.buffer.getvalue().decode("utf-8"))


def terminal(**options):
    """Return a ``during`` with a Terminal as standard output."""
    return lambda: on_terminal(Terminal(**options))


def system(number, name=None):
    """Return an OSError as the system raises it."""
    return OSError(number, os.strerror(number), name)
