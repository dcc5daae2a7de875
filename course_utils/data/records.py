"""From a file to its records: JSON, JSON lines, CSV, TSV, Parquet."""

import ast
import csv
import io
import json
import re
import tokenize
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from course_utils.errors import InputError
from course_utils.language import _

FIELDS = ("query", "document", "relevance")
# The default of 131,072 characters a cell is less than a long document. The limit belongs to the module csv: one for all.
csv.field_size_limit(2**31 - 1)


class _Problem(NamedTuple):
    """What is wrong with a row: the kind, for counting, and a sentence."""

    kind: str
    text: str


def iter_rows(source, fields=FIELDS):
    """Yield (where, row) for each record of a file, a ``datasets.Dataset`` or a list of dicts, one at a time.

    JSON lines, CSV, TSV and Parquet are streamed, so the file may be larger than memory; a JSON array is not.
    A row that cannot be read is yielded as a Problem in place of a dict.

    Args:
        source: the file, dataset or list.
        fields: columns that a table must have; () takes any.

    Raises:
        InputError: when there is no such file, it may not be read, or its format is unknown.
    """
    if not isinstance(source, (str, Path)):
        if hasattr(source, "keys") or not hasattr(source, "__iter__"):
            raise InputError("The data is a {kind}, not a file or a list of records; of several splits, give one.", kind=type(source).__name__)  # fmt: skip
        for i, row in enumerate(source, 1):
            yield _("row {number}").format(number=i), row
        return
    path = Path(source)
    if not path.is_file():
        raise InputError(_("{path} is a folder; give a file.").format(path=path) if path.is_dir() else _("There is no file {path}.").format(path=path))  # fmt: skip
    readers = {
        ".json": _json_rows,
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError("{path}: unknown format {value}; use {readers}; data convert reads more.", path=path, value=path.suffix or _("(no suffix)"), readers=", ".join(readers))  # fmt: skip
    try:
        yield from reader(path, fields)
    except OSError as error:
        raise InputError("{path} cannot be read: {value}.", path=path, value=error.strerror or error) from None


# What json says of a broken text; the catalogue has its Chinese.
_JSON_SAYS = (
    "Expecting value", "Expecting ',' delimiter", "Expecting ':' delimiter", "Extra data", "Invalid control character at",
    "Expecting property name enclosed in double quotes", "Unterminated string starting at",
    "Illegal trailing comma before end of object", "Illegal trailing comma before end of array",
)  # fmt: skip


def _decode(line):
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _Problem("not UTF-8", _("byte {start} is not UTF-8; save the file as UTF-8").format(start=error.start + 1))  # fmt: skip


def _record(items):
    # json.loads keeps the last of two equal names and says nothing.
    record = dict(items)
    if len(record) < len(items):
        twice = next(k for k, n in Counter(k for k, _ in items).items() if n > 1)
        raise ValueError(_('field "{twice}" stands twice').format(twice=twice[:40]))
    return record


def _parse(text):
    try:
        return json.loads(text, object_pairs_hook=_record)
    except json.JSONDecodeError as error:
        return _Problem("broken JSON", _("{msg} at line {lineno} column {colno}").format(msg=_(error.msg), lineno=error.lineno, colno=error.colno))  # fmt: skip
    except RecursionError:
        return _Problem("broken JSON", _("nested too deeply"))
    except ValueError as error:
        return _Problem("broken JSON", str(error))


def _json_rows(path, fields):
    text = _decode(path.read_bytes())
    if isinstance(text, _Problem):
        yield _("the file"), text
        return
    rows = _parse(text)
    if isinstance(rows, _Problem):
        hint = _(" (one record a line? then name the file .jsonl)") if _("Extra data") in rows.text else ""
        yield _("the file"), _Problem(rows.kind, rows.text + hint)
    elif not isinstance(rows, list):
        yield _("the file"), _Problem("not a list", _("a .json file holds one list of records"))
    else:
        for i, row in enumerate(rows, 1):
            yield _("row {number}").format(number=i), row


def _json_lines(path, fields):
    with path.open("rb") as file:  # bytes are split at newlines alone, never at U+2028
        for i, line in enumerate(file, 1):
            text = _decode(line)
            if isinstance(text, _Problem):
                yield _("line {number}").format(number=i), text
            elif text.strip():
                yield _("line {number}").format(number=i), _parse(text)


def _csv_rows(path, fields):
    # Undecodable bytes become surrogates here so that reading goes on; they are reported row by row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        header = None
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield (_("line {number}").format(number=reader.line_num), _Problem("broken CSV", _("{error}; what follows was not read").format(error=error)))  # fmt: skip
                return
            where = _("line {number}").format(number=reader.line_num)
            if not cells:
                continue
            if header is None:
                header = [c.strip() for c in cells]
                problem = _column_problem(header, fields, "broken CSV")
                if problem:
                    yield where, problem
                    return
            elif len(cells) > len(header):
                yield (where, _Problem("broken CSV", _("more cells than the header names; quote text with separators in it")))  # fmt: skip
            elif any(re.search(r"[\udc80-\udcff]", c) for c in cells):
                yield where, _Problem("not UTF-8", _("a byte is not UTF-8; save the file as UTF-8"))
            else:
                row = dict(zip(header, cells, strict=False))
                # A column with gaps is written with "1.0" for 1. Only short text: int("9" * 5000) fails.
                if re.fullmatch(r"\s*[0-9]{1,9}(\.0+)?\s*", row.get("relevance", "")):
                    row["relevance"] = int(float(row["relevance"]))
                yield where, row


def _written_list(text):
    """Return the texts of a list that was written into a cell as JSON or Python writes it, else None."""
    if text[:1] + text[-1:] != "[]":
        return None
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        found = json.loads(text)
        return found if all(isinstance(t, str) for t in found) else None
    with suppress(ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
        if all(isinstance(t, str) for t in ast.literal_eval(text)):
            # Each by itself: numpy writes no comma between them, and Python joins such strings.
            parts = tokenize.generate_tokens(io.StringIO(text).readline)
            return [ast.literal_eval(t.string) for t in parts if t.type == tokenize.STRING]
    return None


def _column_problem(names, fields, kind):
    # One sentence about the columns instead of three about every row.
    if any(re.search(r"[\ud800-\udfff]", c) for c in names):
        return _Problem("not UTF-8", _("the header is not UTF-8; save the file as UTF-8"))
    absent = [f for f in fields if f not in names]
    if absent:
        found = ", ".join(c[:40] for c in names[:5])
        return _Problem("missing field", _('no column is named "{absent_0}"; the columns are: {found}; data convert reads other names, separators and shapes').format(absent_0=absent[0], found=found))  # fmt: skip
    twice = [f for f in fields or names if names.count(f) > 1]
    return _Problem(kind, _('the column "{twice_0}" stands twice').format(twice_0=twice[0])) if twice else None


def _parquet_rows(path, fields):
    import pyarrow
    import pyarrow.parquet

    i = 0
    try:
        file = pyarrow.parquet.ParquetFile(path)
        problem = _column_problem(file.schema_arrow.names, fields, "broken Parquet")
        if problem:
            yield _("the file"), problem
            return
        for batch in file.iter_batches(batch_size=128, columns=list(fields) or None):
            for row in batch.to_pylist():
                i += 1
                yield _("row {number}").format(number=i), row
        if i != file.metadata.num_rows:
            yield (_("the file"), _Problem("broken Parquet", _("{i} rows where {num_rows} are announced").format(i=i, num_rows=file.metadata.num_rows)))  # fmt: skip
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        yield (_("the file"), _Problem("broken Parquet", _("{text} (after row {i})").format(text=text, i=i) if i else text))  # fmt: skip
