"""Open a file or a folder of records as people have them: any usual encoding and separator, Excel, Parquet, ``datasets``.

What was detected is said; what is not certain is an error that lists the choices.
"""

import csv
import io
import re
from itertools import zip_longest
from pathlib import Path

from course_utils.data.columns import NAMES, _blanks, _choices, _key, _Null
from course_utils.data.decode import _decode
from course_utils.data.pages import _without_tags
from course_utils.data.read import _checked
from course_utils.data.records import iter_rows
from course_utils.data.sheets import _excel_cells, _full, _header_at, _holds, _known_names, _skipped
from course_utils.errors import InputError
from course_utils.language import _, _later

SEPARATORS = {",": _later("comma"), ";": _later("semicolon"), "\t": _later("tab"), "|": _later("bar")}
SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".json", ".jsonl", ".ndjson", ".parquet")
_SEPARATED = (".csv", ".tsv", ".txt")
# Option: (the files that it is for, in words; their suffixes).
_FITS = {
    "columns": (_later("tables and lists"), SUFFIXES),
    "sheet": (_later("Excel files"), (".xlsx",)),
    "encoding": (_later("CSV and text files"), (*_SEPARATED, ".md", ".markdown", ".html", ".htm")),
    "separator": (_later("CSV files"), _SEPARATED),
    "part": (_later("datasets of several parts"), ()),
    "threshold": (_later("labels in a table or in lists"), SUFFIXES),
}


def _refuse(where, names):
    """Raise InputError for the first of the options that ``where`` has no use for, if there is one."""
    for name in names:
        what = _(_FITS[name][0])
        raise InputError("{name}=... (--{name}) is for {what}, and {where} is none; leave it out.", name=name, what=what, where=where)  # fmt: skip


def _unfit(suffixes, how):
    """Return the names of the options in ``how`` that are given and that no file with one of ``suffixes`` takes."""
    given = [n for n, value in how.items() if value not in (None, {}) and n in _FITS]
    return [n for n in given if not set(suffixes) & set(_FITS[n][1])]


def _split_cells(text, name, separator=None, single=None, given=()):
    """Return (header, list of (where, row of cells), separator, sentences on what was skipped) of the text of a CSV file.

    ``single``: what the one column of a file without separators is called; None refuses such a file. ``given``: see ``_header_at``.

    Raises:
        InputError: no separator or several give an even table; broken quotes.
    """
    tables, uneven = {}, None
    for mark in [separator] if separator else SEPARATORS:
        try:
            table, reader = [], csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
            table = [(reader.line_num, row) for row in reader if any(c.strip() for c in row)]
        except csv.Error as error:
            if separator:
                raise InputError("{name}: {error} near line {line_num}.", name=name, error=error, line_num=reader.line_num) from None  # fmt: skip
            continue
        start = _header_at(table, given)
        sure = start and (_known_names(table[start][1]) > 1 or (given and _holds(table[start][1], given)))
        if start and len(table[0][1]) == 1 and not (sure and table[start + 1 :]):
            start = 0  # a list of texts, of which one holds the mark
        width = len(table[start][1]) if table else 0
        if table and (separator or (width > 1 and all(len(r) == width for _n, r in table[start:]))):
            tables[mark] = (table[:start], table[start], table[start + 1 :])
        elif width > 1:
            uneven = uneven or _uneven(name, single, mark, *table[start:])
    if not tables and uneven:
        raise uneven
    if not tables and single:
        return (*_one_column(text, single), [])
    if len(tables) > 1:  # the one whose header has names that are known
        named = {m: _known_names(t[1][1]) for m, t in tables.items()}
        tables = {m: t for m, t in tables.items() if named[m] == max(named.values())}
    if len(tables) != 1:
        if not tables:
            raise InputError("{name}: no separator gives an even table of two or more columns. Delete what stands above the header, quote texts that hold the separator, or name it: separator=... (--separator).", name=name)  # fmt: skip
        which = _(", ").join(_(SEPARATORS[m]) for m in tables)
        raise InputError("{name}: {which} would each give an even table of two or more columns. Name the right one: separator=... (--separator), and quote texts that hold it.", name=name, which=which)  # fmt: skip
    mark, (title, (top, header), rows) = next(iter(tables.items()))
    said = _skipped(title, top) + _swallowed(rows, mark, len(header) - 1)
    rows = [(_("line {number}").format(number=n), row) for n, row in rows]
    return [_blanks(c) for c in header], rows, mark, said


def _uneven(name, single, mark, top, *rows):
    """Return an InputError on the first row with more or fewer cells than the header, or None where no header is certain.

    Commas stand in prose, too: there a header is single words, and in a file of texts one with a known name.
    """
    header, even = top[1], [len(row) == len(top[1]) for _n, row in rows]
    word, trusted = (r"[\w-]+\.?", not single) if mark == "," else (r"[\w-]+\.?( [\w-]+){0,3}", True)
    sure = (single and _known_names(header)) or (trusted and sum(even) * 2 > len(even))
    short = all(len(c) <= 40 and re.fullmatch(word, c) for c in header)
    if not (sure and short) or all(len(row) == 1 for _n, row in rows):
        return None
    n, row = rows[even.index(False)]
    return InputError("{name}, line {n}: {cells} cells, and the header has {width} ({header}); quote texts that hold the separator.", name=name, n=n, cells=len(row), width=len(header), header=_choices(header))  # fmt: skip


def _swallowed(rows, mark, usual):
    """Return sentences on quoted texts with a line in them that looks like a row: ``usual`` separators, no blank after one."""
    odd = [
        (n - cell.count("\n"), cell.count("\n") + 1)
        for n, row in rows
        for cell in row
        if any(line.count(mark) == usual > 0 and f"{mark} " not in line for line in cell.split("\n")[1:])
    ]
    text = _("line {n}: a quoted text runs over {m} lines and holds the separator: is a quote missing?")
    return [text.format(n=n, m=m) for n, m in odd[:3]]


def _one_column(text, single):
    """Return what ``_split_cells`` returns for one column: its first line is a header where it is a known name."""
    quoted = list(csv.reader(io.StringIO(text, newline="")))
    lines = text.replace("\r\n", "\n").split("\n")
    # A comma stands in a text that is not quoted: then a line is a text.
    cells = [(i, row[0]) for i, row in enumerate(quoted, 1)] if all(len(r) <= 1 for r in quoted if r) else [*enumerate(lines, 1)]  # fmt: skip
    table = [(_("line {number}").format(number=i), [cell.strip()]) for i, cell in cells if cell.strip()]
    header = bool(table) and _key(table[0][1][0]) in {single, *NAMES["document"]}
    return ([table[0][1][0]], table[1:], None) if header else ([single], table, None)


def _open_table(source, sheet=None, encoding=None, separator=None, part=None, single=None, given=()):
    """Return (records, notes): a list of (where, dict) and sentences on what was detected.

    Args:
        source: a file, a folder of a saved dataset, a ``datasets.Dataset`` or a list of dicts.
        sheet: of an Excel file.
        encoding: of a text file; None finds out.
        separator: of a CSV file; None finds out.
        part: of a dataset with several splits.
        single: name of the column of a CSV file that has one; None refuses it.
        given: names of columns that the header holds.

    Raises:
        InputError: no such file, an unknown format, anything uncertain, rows that are no records.
    """
    if not isinstance(source, (str, Path)):
        return _checked(iter_rows(source, ()), _("the data")), []
    if str(source).startswith("hub:"):
        return _hub(str(source).removeprefix("hub:"), part)
    path = Path(source)
    if path.is_dir():
        how = {"sheet": sheet, "encoding": encoding, "separator": separator}
        return _dataset(path, part, how, given)
    if not path.is_file():
        raise InputError("There is no file or folder {path}.", path=path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError("{path}: unknown format {value}; use {suffixes}.", path=path, value=path.suffix or _("(no suffix)"), suffixes=", ".join(SUFFIXES))  # fmt: skip
    if suffix == ".xlsx":
        header, table, said = _excel_cells(path, sheet, given)
        records, more = _named(path, header, table)
        return records, said + more
    if suffix in _SEPARATED:
        text, encoding = _decode(path.read_bytes(), path, encoding)
        separator = separator or ("\t" if suffix == ".tsv" else None)
        header, table, mark, said = _split_cells(text, path, separator, single, given)
        how = (_("separated by {separators}").format(separators=_(SEPARATORS.get(mark, mark))) if mark else _("one column"))  # fmt: skip
        records, more = _named(path, header, table)
        return records, [_(", ").join([encoding.replace("_", "-"), how]), *said, *more]
    return _checked(iter_rows(path, ()), path), []


def _named(path, header, table):
    """Return (the records of a table, without columns that are empty altogether; sentences on what was changed)."""
    columns = [c for c in zip_longest(header, *(row for _w, row in table)) if any(map(_full, c))]
    header, *rows = zip(*columns, strict=True) if columns else [header, *([] for _row in table)]
    table = list(zip((where for where, _row in table), rows, strict=True))
    while header and not header[-1]:
        header = header[:-1]
    twice = next((h for h in header if header.count(h) > 1), None)
    if twice is not None:
        raise InputError('{path}: the column "{twice}" stands twice; give every column its own name.', path=path, twice=twice)  # fmt: skip
    long = next((where for where, row in table if any(map(_full, row[len(header) :]))), None)
    if long and path.suffix.lower() == ".xlsx":
        raise InputError("{path}, {long}: more cells than the header names ({header}); delete what stands above the header or beside the table.", path=path, long=long, header=_choices(header))  # fmt: skip
    if long:
        raise InputError("{path}, {long}: more cells than the header names ({header}); quote text with separators in it, or delete what stands above the header.", path=path, long=long, header=_choices(header))  # fmt: skip
    words = _Null.EXCEL if path.suffix.lower() == ".xlsx" else _Null.WORDS
    records, repeated, tagged = [], 0, 0
    for where, row in table:
        if all((_blanks(c) if _full(c) else "") == name for c, name in zip(row, header, strict=False)):
            repeated += 1
            continue
        plain = [_without_tags(c) for c in row]
        tagged += sum(new is not old for new, old in zip(plain, row, strict=True))
        cells = [_Null(c) if isinstance(c, str) and c.strip() in words else c for c in plain]
        records.append((where, dict(zip(header, cells, strict=False))))
    said = [_("rows that repeat the header left out: {n:,}").format(n=repeated)] if repeated else []
    return records, said + ([_("HTML tags taken out of {n:,} cells").format(n=tagged)] if tagged else [])


def _is_saved(path):
    """Return whether a folder is one that ``datasets`` saved."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _dataset(path, part, how, given):
    """Return (records, notes) of a folder that ``datasets`` saved, or of one that holds one data file a split, read by ``how``."""
    if _is_saved(path):
        import datasets

        found = datasets.load_from_disk(str(path))
        parts = dict(found) if isinstance(found, datasets.DatasetDict) else {part or "all": found}
        name = _choose_part(path, parts, part)
        return _checked(iter_rows(parts[name], ()), path), [_("a saved dataset, {name}").format(name=name)]
    files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and p.suffix != ".txt"]
    if not files:
        raise InputError("{path} holds no file that can be read; known are {suffixes}.", path=path, suffixes=", ".join(SUFFIXES))  # fmt: skip
    parts = {str(p.relative_to(path)): p for p in files}
    matching = [name for name in parts if part and Path(name).stem.split("-")[0] == part]
    chosen = matching or [_choose_part(path, parts, part)]
    records, notes = [], [_(", ").join(chosen)]
    for name in chosen:
        unfit = _unfit([parts[name].suffix.lower()], how)
        own, more = _open_table(parts[name], **{k: v for k, v in how.items() if k not in unfit}, given=given)
        records += [(f"{name} {where}", row) for where, row in own]
        notes += more
    return records, notes


def _hub(name, part):
    """Return (records, notes) of a dataset of the hub, "owner/name" or "owner/name@revision"."""
    import datasets

    name, _at, revision = name.partition("@")
    try:
        found = datasets.load_dataset(name, revision=revision or None)
    except Exception as error:  # of the network, the hub and the loaders, each of its own kind
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError("The dataset {name} cannot be loaded from the hub: {text}", name=name, text=text) from None
    parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"all": found}
    chosen = _choose_part(name, parts, part)
    where = _("the hub's {name} at revision {value}").format(name=name, value=revision or _("main, which may change: name one as hub:NAME@REVISION"))  # fmt: skip
    return _checked(iter_rows(parts[chosen], ()), name), [f"{where}, {chosen}"]


def _choose_part(path, parts, part):
    if part in parts:
        return part
    if part is None and len(parts) == 1:
        return next(iter(parts))
    said = _("has several parts") if part is None else _('has no part "{part}"').format(part=part)
    raise InputError("{path} {said}: {choices}. Name one: part=... (--part).", path=path, said=said, choices=_choices(parts))  # fmt: skip
