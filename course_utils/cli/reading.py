"""Labelled data and documents for a command: the plain form by its strict rules, any other shape as data convert reads it."""

import csv
import re
from contextlib import suppress
from itertools import islice
from pathlib import Path

from course_utils.cli.terminal import note
from course_utils.errors import InputError
from course_utils.language import _

_LOOK = 50  # records that tell whether a file is in the plain form
# What the strict reader would pass over in silence.
_MORE = {"score", "scores", "teacherscore", "instruction", "task", "指令"}


def add_reading(parser):
    """Add the options that say how a file of another shape is to be read."""
    own = parser.add_argument_group(_("files of other shapes than query, document, relevance"))
    add_table(own, _("which column is the query, the document, the relevance, ..."))
    own.add_argument("--part", help=_("split of a dataset, or which judgements of a collection"))
    own.add_argument("--threshold", type=float, metavar="X", help=_("the least label that means relevant"))


def add_table(parser, what, before=""):
    """Add ``--columns`` with the help ``what``, ``--sheet``, ``--encoding``, ``--separator``; ``before``: "passage-"."""
    parser.add_argument(f"--{before}columns", metavar="ROLE=COLUMN,...", help=what)
    parser.add_argument(f"--{before}sheet", metavar="NAME", help=_("of an Excel file"))
    parser.add_argument(f"--{before}encoding", metavar="NAME", help=_("of a text file, for example gb18030 or cp1252"))
    parser.add_argument(f"--{before}separator", metavar="MARK", help=_("of a CSV file"))


def _columns_of(text, option):
    """Return {role: column} of ``role=column,role=column``, with commas in columns; raise InputError for anything else."""
    parts = re.split(r",(?=\s*[\w-]+\s*=)", (text or "").strip(" ,"))
    pairs = [part.partition("=") for part in parts if part]
    if any(not mark or not role.strip() or not column.strip() for role, mark, column in pairs):
        raise InputError('{option} is "{text}"; write it as query=Question,document=Paragraph, or for a handbook id=Code,document=Text.', option=option, text=text)  # fmt: skip
    return {role.strip(): column.strip() for role, _, column in pairs}


def given(args, before=""):
    """Return the arguments of ``data.read_data`` that the options of ``add_reading`` or ``add_table`` ask for."""
    names = ("columns", "sheet", "encoding", "separator", "part", "threshold")
    found = {name: getattr(args, before + name, None) for name in names}
    option = "--" + before.replace("_", "-")
    found["columns"] = _columns_of(found["columns"], f"{option}columns")
    found["separator"] = mark = {"tab": "\t", "\\t": "\t"}.get(found["separator"], found["separator"])
    if mark is not None and len(mark) != 1:
        raise InputError('{option} is "{mark}"; give one character, or tab.', option=f"{option}separator", mark=mark)
    return {before + name: value for name, value in found.items() if value not in (None, {})}


def read(args, path):
    """Return the list of Group of a file, a folder or a dataset of the hub; what was taken for what is said in a line.

    Files of plain query, document, relevance keep their strict rules: one that is half right is refused row by row.
    An option that is for another kind of file, or for other columns, is left to the other files of the command; that is said.
    """
    from course_utils import data
    from course_utils.data.reading import _unused
    from course_utils.data.tables import _FITS

    how = given(args)
    for name in _unused(path, how):
        del how[name]
        what = _(_FITS[name][0])
        note(_("{path}: --{name} is for {what}, so it is not used here.").format(path=path, name=name, what=what))
    main = [getattr(args, name, None) for name in ("data", "train", "target")]  # columns are for this one, or a slip
    if path not in (*main, *getattr(args, "files", ())) and _keeps_its_names(path, how.get("columns", {})):
        text = _("{path} has the plain columns query, document, relevance and not those of --columns, so it is read as it is, without {options}.")  # fmt: skip
        note(text.format(path=path, options=_(", ").join(f"--{name}" for name in how)))
        how = {}
    if how or not is_plain(path):
        found = data.read_data(path, **how)
        note(str(found))
        return found.groups
    try:
        groups = data.read_groups(path, args.max_relevance)
        note_torn(path)
        return groups
    except data.DataError as error:
        grade = data.read._highest_grade(path, args.max_relevance) if "wrong label" in error.counts else 0
        if grade:
            raise InputError("{error} If these are grades, give the highest: --max-relevance {grade}.", error=error, grade=grade) from None  # fmt: skip
        raise


def _keeps_its_names(path, columns):
    """Return whether a file is in the plain form and has none of the ``columns``, {role: column}, but under its own name."""
    from course_utils.data import iter_rows

    others = {column for role, column in columns.items() if column != role}
    if not others or not Path(path).is_file() or not is_plain(path):
        return False
    with suppress(InputError):
        rows = [row for _where, row in islice(iter_rows(path, ()), _LOOK)]
        return bool(rows) and not any(isinstance(row, dict) and others & set(row) for row in rows)
    return False


def note_torn(path):
    """Say where a quote seems to be missing in a CSV or TSV file of the plain form; the strict reader has read it."""
    from course_utils.data.tables import _swallowed

    path = Path(path)
    if path.suffix.lower() not in (".csv", ".tsv"):
        return
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=mark, strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    for text in _swallowed(rows, mark, len(rows[0][1]) - 1):
        note(_("{where}: {text}").format(where=path, text=text))


def is_plain(path):
    """Return whether ``path`` is for the strict reader: the plain form, or nothing that any reader takes."""
    from course_utils.data import iter_rows

    path = Path(path)
    if str(path).startswith("hub:"):
        return False
    if path.is_dir():
        return (path / "config.json").is_file()  # a model: refused as no file
    if path.suffix.lower() in (".xlsx", ".txt") or not path.is_file():
        return not path.is_file()
    if path.suffix.lower() in (".csv", ".tsv"):
        return _plain_table(path, iter_rows)
    try:
        rows = [row for _, row in islice(iter_rows(path, ()), _LOOK)]
    except InputError:
        return True
    if not all(isinstance(row, dict) for row in rows):
        return True  # broken, which the strict reader names best
    labels = [row.get("relevance") for row in rows if row.get("relevance") is not None]
    if any(isinstance(x, str) or (isinstance(x, float) and abs(x) < 1e300 and not x.is_integer()) for x in labels):
        return False
    return not rows or _plain_names({name for row in rows for name in row})


def _plain_table(path, iter_rows):
    with path.open("rb") as file:
        head = file.readline().decode("utf-8-sig", "replace")
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    if not _plain_names({name.strip().strip('"') for name in head.split(mark)}):
        return False
    rows = [row for _, row in islice(iter_rows(path, ()), _LOOK)]
    labels = [str(row.get("relevance") or "0") for row in rows if isinstance(row, dict)]
    if not all(re.fullmatch(r"\s*-?\d+\s*", label) for label in labels):
        return False  # words, percentages, fractions
    return not any(getattr(row, "kind", "") == "not UTF-8" for row in rows)


def _plain_names(names):
    keys = {str(n).replace("_", "").replace(" ", "").lower() for n in names}
    return {"query", "document", "relevance"} <= set(names) and not keys & _MORE


def documents(args, path):
    """Return the documents of a table or a folder for ``rank``, each once; None where one document a line is meant."""
    from course_utils import data
    from course_utils.data.decode import _decode
    from course_utils.data.passages import _TABLES, _WHOLE

    path, how = Path(path), given(args)
    if (path / "config.json").is_file():
        raise InputError("{path} is a folder of a model; give texts.", path=path)
    if not path.is_dir() and path.suffix.lower() not in (*_TABLES, ".md", ".html", ".htm", ".pdf"):
        other = [name for name in how if name != "encoding"]
        if other:
            raise InputError("{option} is for tables, and {path} holds one document a line; leave it out.", option=f"--{other[0]}", path=path)  # fmt: skip
        if not how or not path.is_file():
            return None
        lines = _decode(path.read_bytes(), path, how["encoding"])[0].split("\n")
        return [line.strip(" \t\r") for line in lines if line.strip()]
    try:
        passages, said = data.read_passages(path, _WHOLE, 0, **how)
        parts = _("{where}: {text}").format(where=path, text=_("; ").join(said))
        texts, said = [p.text for p in passages], _("{parts}.").format(parts=parts)
    except InputError as error:
        if path.is_dir() or how:
            raise
        try:
            found = data.read_data(path)  # lists for queries: their documents
        except InputError:
            raise error from None
        texts, said = [d for g in found.groups for d in g.documents], str(found)
    note(said)
    return list(dict.fromkeys(texts))
