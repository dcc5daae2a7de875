"""Read labelled pairs in the plain form and say what is wrong with them."""

import re
from collections import Counter
from numbers import Real
from pathlib import Path

from course_utils.data.groups import to_groups
from course_utils.data.records import FIELDS, _Problem, iter_rows
from course_utils.errors import InputError
from course_utils.language import _, _later


class DataError(InputError):
    """Labelled pairs that cannot be used as they are.

    Attributes:
        counts: number of problems of each kind.
        problems: one sentence per problem.
    """

    def __init__(self, source, problems):
        self.problems = [_("{where}: {text}").format(where=where, text=text) for where, _kind, text in problems]
        self.counts = dict(Counter(kind for _where, kind, _text in problems))
        counts = _(", ").join(f"{n} x {_(kind)}" for kind, n in self.counts.items())
        more = _(" (and {n_problems} more)").format(n_problems=len(problems) - 3) if len(problems) > 3 else ""
        super().__init__(
            _("{source}: {counts}. {names}{more}. Mend these rows and try again.").format(
                source=source, counts=counts, names=_("; ").join(self.problems[:3]), more=more
            )
        )


def _checked(rows, name):
    """Return a list of (where, record); raise DataError where one is broken or no record."""
    rows = list(rows)
    broken = [(where, *row) for where, row in rows if isinstance(row, _Problem)]
    broken += [
        (where, "not a record", _("a {kind}, not a record of named fields").format(kind=type(row).__name__))
        for where, row in rows
        if not isinstance(row, (dict, _Problem))
    ]
    if broken:
        raise DataError(name, broken)
    return rows


def check_row(row, max_relevance=1):
    """Return (query, document, relevance) of one record, or the list of its Problems."""
    if isinstance(row, _Problem):
        return [row]
    if not isinstance(row, dict):
        return [
            _Problem(
                "not a record",
                _("expected query, document and relevance by name, found {kind}").format(kind=type(row).__name__),
            )
        ]
    problems = []
    for field in FIELDS:
        if row.get(field) is None:
            problems.append(_Problem("missing field", _('field "{field}" is missing').format(field=field)))
    for field in FIELDS[:2]:
        value = row.get(field)
        if value is not None and not isinstance(value, str):
            problems.append(
                _Problem(
                    "wrong type",
                    _('field "{field}" is {kind}, not text').format(field=field, kind=type(value).__name__),
                )
            )
        elif isinstance(value, str) and not value.strip():
            problems.append(_Problem("empty text", _('field "{field}" is empty').format(field=field)))
        elif isinstance(value, str) and re.search(r"[\ud800-\udfff]", value):
            problems.append(_Problem("not UTF-8", _('field "{field}" holds half a character').format(field=field)))
    label = row.get("relevance")
    if label is not None and not (isinstance(label, Real) and 0 <= label <= max_relevance and label == int(label)):
        allowed = (
            _("0 or 1")
            if max_relevance == 1
            else _("a whole number from 0 to {max_relevance}").format(max_relevance=max_relevance)
        )
        # Neither a list nor a number of a thousand digits is worth showing.
        short = isinstance(label, (str, float)) or (isinstance(label, int) and label.bit_length() < 100)
        shown = repr(label)[:40] if short else _("a {kind}").format(kind=type(label).__name__)
        problems.append(
            _Problem(
                "wrong label", _('field "relevance" is {shown}, not {allowed}').format(shown=shown, allowed=allowed)
            )
        )
    return problems or (row["query"].strip(), row["document"].strip(), int(label))


def _highest_grade(source, allowed=1):
    """Return the highest relevance of a source whose labels above ``allowed`` are all grades up to 255, else 0."""
    labels = [row.get("relevance") for _where, row in iter_rows(source) if isinstance(row, dict)]
    high = [n for n in labels if isinstance(n, Real) and not isinstance(n, bool) and n > allowed]
    return int(max(high)) if high and all(n <= 255 and n == int(n) for n in high) else 0


def _twice(query, where, same):
    """Return (kind, text) of the problem of a pair that stands at ``where``, too; ``same``: with the same label."""
    text = _("same query and document as {where}").format(where=where) + ("" if same else _(", other relevance"))
    text = _('{text} (query "{query}")').format(text=text, query=query[:40])
    return _later("duplicate pair") if same else _later("contradictory pair"), text


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
            problems.append((where, *_twice(query, first, label == relevance)))
            continue
        seen[query, document] = (where, relevance)
        pairs.append(checked)
    name = source if isinstance(source, (str, Path)) else _("the data")
    if problems:
        raise DataError(name, problems)
    if not pairs:
        raise InputError("{name} holds no pairs.", name=name)
    return pairs


def read_groups(source, max_relevance=1, drop_repeated=False):
    """Read labelled pairs and return them as a list of Group; arguments and errors as in ``read_pairs``."""
    return to_groups(read_pairs(source, max_relevance, drop_repeated))
