"""Read labelled pairs in the plain form and say what is wrong with them."""

import re
from collections import Counter
from numbers import Real
from pathlib import Path

from course_utils.data.groups import to_groups
from course_utils.data.records import FIELDS, _Problem, iter_rows
from course_utils.errors import InputError


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


def check_row(row, max_relevance=1):
    """Return (query, document, relevance) of one record, or the list of its Problems."""
    if isinstance(row, _Problem):
        return [row]
    if not isinstance(row, dict):
        return [_Problem("not a record", f"expected query, document and relevance by name, found {type(row).__name__}")]
    problems = []
    for field in FIELDS:
        if row.get(field) is None:
            problems.append(_Problem("missing field", f'field "{field}" is missing'))
    for field in FIELDS[:2]:
        value = row.get(field)
        if value is not None and not isinstance(value, str):
            problems.append(_Problem("wrong type", f'field "{field}" is {type(value).__name__}, not text'))
        elif isinstance(value, str) and not value.strip():
            problems.append(_Problem("empty text", f'field "{field}" is empty'))
        elif isinstance(value, str) and re.search(r"[\ud800-\udfff]", value):
            problems.append(_Problem("not UTF-8", f'field "{field}" holds half a character'))
    label = row.get("relevance")
    if label is not None and not (isinstance(label, Real) and 0 <= label <= max_relevance and label == int(label)):
        allowed = "0 or 1" if max_relevance == 1 else f"a whole number from 0 to {max_relevance}"
        # Neither a list nor a number of a thousand digits is worth showing.
        short = isinstance(label, (str, float)) or (isinstance(label, int) and label.bit_length() < 100)
        shown = repr(label)[:40] if short else f"a {type(label).__name__}"
        problems.append(_Problem("wrong label", f'field "relevance" is {shown}, not {allowed}'))
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
        raise InputError("{name} holds no pairs.", name=name)
    return pairs


def read_groups(source, max_relevance=1, drop_repeated=False):
    """Read labelled pairs and return them as a list of Group; arguments and errors as in ``read_pairs``."""
    return to_groups(read_pairs(source, max_relevance, drop_repeated))
