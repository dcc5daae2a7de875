"""Read labelled pairs from JSON, JSON lines, CSV, TSV and Parquet, and say what is wrong with them."""

import csv
import json
import re
from collections import Counter
from numbers import Real
from pathlib import Path
from typing import NamedTuple

from course_utils.data.groups import to_groups
from course_utils.errors import InputError

FIELDS = ("query", "document", "relevance")


class Problem(NamedTuple):
    """What is wrong with a row: the kind, for counting, and a sentence."""

    kind: str
    text: str


class DataError(InputError):
    """Labelled pairs that cannot be used as they are.

    Attributes:
        counts: number of problems of each kind.
        problems: one sentence per problem.
    """

    def __init__(self, source, problems):
        self.problems = [f"{where}: {text}" for where, _, text in problems]
        self.counts = dict(Counter(kind for _, kind, _ in problems))
        counts = ", ".join(f"{n} x {kind}" for kind, n in self.counts.items())
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        super().__init__(f"{source}: {counts}. {'; '.join(self.problems[:3])}{more}. Mend these rows and try again.")


def iter_rows(source):
    """Yield (where, row) for each record of a file, a ``datasets.Dataset`` or a list of dicts, one at a time.

    JSON lines, CSV, TSV and Parquet are streamed, so the file may be larger than memory; a JSON array is not.
    A row that cannot be read is yielded as a Problem in place of a dict.

    Raises:
        InputError: when there is no such file, it may not be read, or its format is unknown.
    """
    if not isinstance(source, (str, Path)):
        if hasattr(source, "keys") or not hasattr(source, "__iter__"):
            raise InputError(
                f"The data is a {type(source).__name__}, not a file or a list of records; of several splits, give one."
            )
        for i, row in enumerate(source, 1):
            yield f"row {i}", row
        return
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path} is a folder; give a file." if path.is_dir() else f"There is no file {path}.")
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
        raise InputError(f"{path}: unknown format {path.suffix or '(no suffix)'}; use {', '.join(readers)}.")
    try:
        yield from reader(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None


def _decode(line):
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem("not UTF-8", f"byte {error.start + 1} is not UTF-8; save the file as UTF-8")


def _record(items):
    # json.loads keeps the last of two equal names and says nothing.
    record = dict(items)
    if len(record) < len(items):
        twice = next(k for k, n in Counter(k for k, _ in items).items() if n > 1)
        raise ValueError(f'field "{twice[:40]}" stands twice')
    return record


def _parse(text):
    try:
        return json.loads(text, object_pairs_hook=_record)
    except json.JSONDecodeError as error:
        return Problem("broken JSON", f"{error.msg} at line {error.lineno} column {error.colno}")
    except RecursionError:
        return Problem("broken JSON", "nested too deeply")
    except ValueError as error:
        return Problem("broken JSON", str(error))


def _json_rows(path):
    text = _decode(path.read_bytes())
    if isinstance(text, Problem):
        yield "the file", text
        return
    rows = _parse(text)
    if isinstance(rows, Problem):
        hint = " (one record a line? then name the file .jsonl)" if "Extra data" in rows.text else ""
        yield "the file", Problem(rows.kind, rows.text + hint)
    elif not isinstance(rows, list):
        yield "the file", Problem("not a list", "a .json file holds one list of records")
    else:
        for i, row in enumerate(rows, 1):
            yield f"row {i}", row


def _json_lines(path):
    with path.open("rb") as file:
        for i, line in enumerate(file, 1):
            text = _decode(line)
            if isinstance(text, Problem):
                yield f"line {i}", text
            elif text.strip():
                yield f"line {i}", _parse(text)


def _csv_rows(path):
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
                yield f"line {reader.line_num}", Problem("broken CSV", f"{error}; what follows was not read")
                return
            where = f"line {reader.line_num}"
            if not cells:
                continue
            if header is None:
                header = [c.strip() for c in cells]
                problem = _column_problem(header, "broken CSV")
                if problem:
                    yield where, problem
                    return
            elif len(cells) > len(header):
                yield where, Problem("broken CSV", "more cells than the header names; quote text with separators in it")
            elif any(re.search(r"[\udc80-\udcff]", c) for c in cells):
                yield where, Problem("not UTF-8", "a byte is not UTF-8; save the file as UTF-8")
            else:
                row = dict(zip(header, cells, strict=False))
                # A column with gaps is written with "1.0" for 1. Only short text: int("9" * 5000) fails.
                if re.fullmatch(r"\s*[0-9]{1,9}(\.0+)?\s*", row.get("relevance", "")):
                    row["relevance"] = int(float(row["relevance"]))
                yield where, row


def _column_problem(names, kind):
    # One sentence about the columns instead of three about every row.
    if any(re.search(r"[\ud800-\udfff]", c) for c in names):
        return Problem("not UTF-8", "the header is not UTF-8; save the file as UTF-8")
    absent = [f for f in FIELDS if f not in names]
    if absent:
        found = ", ".join(c[:40] for c in names[:5])
        return Problem("missing field", f'no column is named "{absent[0]}"; the columns are: {found}')
    twice = [f for f in FIELDS if names.count(f) > 1]
    return Problem(kind, f'the column "{twice[0]}" stands twice') if twice else None


def _parquet_rows(path):
    import pyarrow
    import pyarrow.parquet

    i = 0
    try:
        file = pyarrow.parquet.ParquetFile(path)
        problem = _column_problem(file.schema_arrow.names, "broken Parquet")
        if problem:
            yield "the file", problem
            return
        for batch in file.iter_batches(batch_size=128, columns=list(FIELDS)):
            for row in batch.to_pylist():
                i += 1
                yield f"row {i}", row
        if i != file.metadata.num_rows:
            yield "the file", Problem("broken Parquet", f"{i} rows where {file.metadata.num_rows} are announced")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        yield "the file", Problem("broken Parquet", f"{text} (after row {i})" if i else text)


def check_row(row, max_relevance=1):
    """Return (query, document, relevance) of one record, or the list of its Problems."""
    if isinstance(row, Problem):
        return [row]
    if not isinstance(row, dict):
        return [Problem("not a record", f"expected query, document and relevance by name, found {type(row).__name__}")]
    problems = []
    for field in FIELDS:
        if row.get(field) is None:
            problems.append(Problem("missing field", f'field "{field}" is missing'))
    for field in FIELDS[:2]:
        value = row.get(field)
        if value is not None and not isinstance(value, str):
            problems.append(Problem("wrong type", f'field "{field}" is {type(value).__name__}, not text'))
        elif isinstance(value, str) and not value.strip():
            problems.append(Problem("empty text", f'field "{field}" is empty'))
        elif isinstance(value, str) and re.search(r"[\ud800-\udfff]", value):
            problems.append(Problem("not UTF-8", f'field "{field}" holds half a character'))
    label = row.get("relevance")
    if label is not None and not (isinstance(label, Real) and 0 <= label <= max_relevance and label == int(label)):
        allowed = "0 or 1" if max_relevance == 1 else f"a whole number from 0 to {max_relevance}"
        # Neither a list nor a number of a thousand digits is worth showing.
        short = isinstance(label, (str, float)) or (isinstance(label, int) and label.bit_length() < 100)
        shown = repr(label)[:40] if short else f"a {type(label).__name__}"
        problems.append(Problem("wrong label", f'field "relevance" is {shown}, not {allowed}'))
    return problems or (row["query"].strip(), row["document"].strip(), int(label))


def read_pairs(source, max_relevance=1, drop_repeated=False):
    """Read labelled pairs and check every one.

    Args:
        source: a JSON array, JSON lines, CSV, TSV or Parquet file with query, document, relevance; a
            ``datasets.Dataset``; or a list of dicts. Further fields are ignored.
        max_relevance: the highest grade; 1 for plain relevant or not.
        drop_repeated: keep the first of pairs that stand twice instead of refusing them.

    Returns:
        A list of (query, document, relevance).

    Raises:
        DataError: names file, row and field and counts each kind of problem: missing field, wrong type, empty text,
            wrong label, not a record, not a list, broken JSON, broken CSV, broken Parquet, not UTF-8, duplicate pair,
            contradictory pair.
        InputError: no such file, unknown format, no pairs.
    """
    pairs, problems, seen = [], [], {}
    for where, row in iter_rows(source):
        checked = check_row(row, max_relevance)
        if isinstance(checked, list):
            problems += [(where, *problem) for problem in checked]
            continue
        query, document, relevance = checked
        if (query, document) in seen:
            if drop_repeated:
                continue
            first, label = seen[query, document]
            kind = "duplicate pair" if label == relevance else "contradictory pair"
            text = f"same query and document as {first}" + ("" if label == relevance else ", other relevance")
            problems.append((where, kind, f'{text} (query "{query[:40]}")'))
            continue
        seen[query, document] = (where, relevance)
        pairs.append(checked)
    name = source if isinstance(source, (str, Path)) else "the data"
    if problems:
        raise DataError(name, problems)
    if not pairs:
        raise InputError(f"{name} holds no pairs.")
    return pairs


def read_groups(source, max_relevance=1, drop_repeated=False):
    """Read labelled pairs and return them as a list of Group; arguments and errors as in ``read_pairs``."""
    return to_groups(read_pairs(source, max_relevance, drop_repeated))
