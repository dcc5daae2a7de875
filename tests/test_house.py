"""The house stays small: bounds on files, functions, names, and the direction of imports."""

import ast
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "course_utils"
# From top to bottom: a room imports only rooms that stand before it.
ORDER = ["language", "errors", "text", "files", "machine", "profile", "model", "data", "evaluation", "training", "domains", "updates", "ship", "show", "bonus", "checks", "cli"]  # fmt: skip
FILE, FUNCTION, PARAMETERS, PUBLIC = 300, 60, 8, 180  # PUBLIC: functions and classes of all rooms
# The package was drawn at 7,600 lines and 1,150 of checks. Since then it reads every shape of file that people have in every
# command, prepares lists from a handbook, keeps families of passages for three trades, has commands for delta, gate, rollback
# and models side by side, refuses outputs that would destroy, keeps a record of each result, catches the wrong answers that
# people gave in exercises, and distils its base from a teacher: what is here now and a little more. Who adds a feature says
# here what for.
# Checks: and one that judges five reports (lesson 05), one that judges three starts of five programs (lesson 01),
# one that judges leads and prices of five ways (lesson 03). Package: layer-wise rates and recorded figures (lesson 03).
# Messages that can be said in two languages name their fields, which takes lines: a quarter more in checks, a twentieth elsewhere.
# Lesson 09 has a server that runs behind a notebook, and prepare finds negatives by vectors, too; four checks of its own.
# Imports leave the garbage collector out (a command takes 0.90 of the time, an import with its exit 0.67): 30 lines.
# The build of the base goes on from an earlier one with text drawn anew, one history of both; search, prepare and every
# baseline count BM25 alike: 80 lines.
# Adapting can keep the weights half of the way to its last epoch, with a gain of its own, and says what it kept; a build
# goes on from what it began with alone: 50 lines. A run takes that by itself where it was measured to be best, and warns of harm: 15 lines.
# A handbook's ids are found by their values, sheets are read with titles and merged cells, labels in five languages; no file that
# somebody changed is replaced; a file of pairs is split by a command; adapt, evaluate and gate stand beside a rule that reads no
# query, and adapt says how many queries trained; versions writes the one in use: 670 lines.
# A title above the header of a CSV file is skipped and told, an option for another kind of file is refused or said; rows of a
# handbook that share an id are one document; what a search finds is counted over right texts that it holds: 120 lines.
# Processes share scoring evenly; adapting draws fewer negatives where that is as good, and keeps the states of drawn documents alone: 60 lines.
# A folder or file of another kind is not replaced; lists in cells, clicks, Excel's errors and wrong sizes, torn quotes are read right or refused,
# in both languages alike; passages that hold or copy a right answer are never wrong ones, cells with several ids are read: 145 lines.
# Models and deltas are checked by hashes when they are read; the server honours instructions, tells cut documents, busy times and which
# weights; versions move last; a gate adds small falls up; what is held out, replayed or mined is kept apart from near copies; Greek to
# Vietnamese encodings, database blanks, glued cells, ids of several files, repeated headers are read right or said: 515 lines, after 290 were cut.
LINES, CHECKS = 19_450, 1_965


def tracked(*patterns):
    """Return the files that git knows, or would after ``git add``."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return sorted({ROOT / n for n in names.split("\0") if n and (ROOT / n).exists()})


FILES = [p for p in tracked("course_utils") if p.suffix == ".py"]
TREES = {p: ast.parse(p.read_text(encoding="utf-8")) for p in FILES}


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def is_checks(path):
    return name(path).startswith("checks/")  # exercises are judged in long rows of plain conditions


def functions():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name(path)}:{node.name}", node, path


def code_lines(node):
    """Return the lines of a function without its docstring."""
    total = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= first.end_lineno - first.lineno + 1
    return total


def test_no_file_is_longer_than_300_lines():
    long = {name(p) for p in FILES if len(p.read_text(encoding="utf-8").splitlines()) > FILE}
    assert long == set()


def test_no_function_is_longer_than_60_lines():
    long = {where for where, node, path in functions() if code_lines(node) > FUNCTION and not is_checks(path)}
    assert long == set()


def test_no_function_has_more_than_8_parameters():
    many = set()
    for where, node, _ in functions():
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if len([a for a in arguments if a not in ("self", "cls")]) > PARAMETERS:
            many.add(where)
    assert many == set()


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree):
    """Yield the modules of the package that a file imports, at its start or later."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("course_utils"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_utils"):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(dotted):
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else None


def test_every_room_has_its_place_in_the_order():
    assert {room(module(p)) for p in FILES} - {None, "__main__"} == set(ORDER)


def test_no_room_imports_a_room_below_it():
    upward = set()
    for path, tree in TREES.items():
        own = room(module(path))
        if own in ORDER:
            for other in {room(m) for m in imports(tree)} & set(ORDER):
                if ORDER.index(other) > ORDER.index(own):
                    upward.add(f"{name(path)} -> {other}")
    assert upward == set()


def test_no_import_goes_round_in_a_circle():
    modules = {module(p): set(imports(tree)) - {module(p)} for p, tree in TREES.items()}
    inits = {module(p) for p in FILES if p.name == "__init__.py"}  # a room's front door, which its own files do not use
    graph = {m: {i for i in found if i in modules and i not in inits} for m, found in modules.items() if m not in inits}
    done, waiting = set(), []

    def visit(m):
        if m in waiting:
            pytest.fail(" -> ".join([*waiting[waiting.index(m) :], m]))
        if m not in done:
            waiting.append(m)
            for other in sorted(graph[m]):
                visit(other)
            done.add(waiting.pop())

    for m in graph:
        visit(m)


def public(tree):
    """Return the names in ``__all__`` of a parsed ``__init__``, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return None


def test_the_public_names_are_few_and_said():
    rooms = {
        p.parent.name: public(tree) for p, tree in TREES.items() if p.name == "__init__.py" and p.parent != PACKAGE
    }
    assert [r for r, names in rooms.items() if names is None and r != "checks"] == []
    ground = 0
    for path, tree in TREES.items():
        if path.parent == PACKAGE and path.name not in ("__init__.py", "__main__.py"):
            ground += sum(isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_" for n in tree.body)
    counted = {r: len([n for n in names or () if not n.isupper()]) for r, names in rooms.items()}
    assert ground + sum(counted.values()) <= PUBLIC, (ground, counted)


def test_the_package_is_small():
    size = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
    checks = sum(n for p, n in size.items() if is_checks(p))
    assert checks <= CHECKS
    assert sum(size.values()) - checks <= LINES


def test_what_few_commands_need_is_loaded_where_it_is_used():
    """Together these cost every command seconds and 100 MB (measured with ``evaluate``)."""
    heavy = {"bm25s", "datasets", "openpyxl", "pandas", "peft", "pypdf", "scipy", "sentence_transformers", "sklearn"}
    for path, tree in TREES.items():
        found = {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        found |= {n.module for n in tree.body if isinstance(n, ast.ImportFrom)}
        assert not {m.partition(".")[0] for m in found} & heavy, name(path)


def test_every_room_says_what_it_is_for():
    for path, tree in TREES.items():
        assert ast.get_docstring(tree), f"{name(path)} has no first lines"


def test_order_is_as_the_architecture_says():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## What a room may import")[2]
    places = [
        text.index(f"`{r}`" if r in ("language", "errors", "text", "files", "machine", "profile") else f"`{r}/`")
        for r in ORDER
    ]
    assert all(a < b for a, b in pairwise(places))
