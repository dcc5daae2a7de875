"""What a colleague would say about labelled pairs: counts, balance, leaks, lengths, suspicious labels.

The data are read once. What is kept of a row are excerpts and hashes of its texts; each remark is a function of the list
of rows. Of the test data the texts are kept.
"""

import re
from collections import Counter, defaultdict
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from course_utils.data.against import _Against
from course_utils.data.lengths import _Lengths
from course_utils.data.read import DataError, _highest_grade, check_row, iter_rows
from course_utils.data.remarks import REMARKS, _excerpt, _Finding, _Report
from course_utils.errors import InputError
from course_utils.language import _
from course_utils.text import normalise

EXAMPLES = 3
_LENGTHS_AT_ONCE = 256  # rows whose tokens are counted in one call of the tokenizer


class _Row(NamedTuple):
    # One usable row. Texts are as long as a file; their hashes and excerpts are not.
    where: str
    query: str  # excerpt
    document: str  # excerpt
    label: int
    pair: int  # hash of query and document as they stand
    alike: int  # hash of both without case and punctuation
    asked: int  # hash of the query
    told: int  # hash of the document without case and punctuation
    size: int  # characters of the document
    marks: tuple  # kinds of remark on this row alone

    def __str__(self):
        return f'{self.where} "{self.query}" / "{self.document}"'


def check_file(path, test=None, tokenizer=None, max_length=1024, max_relevance=1):
    """Read labelled pairs once and return a Report on them.

    Args:
        path: a file, a ``datasets.Dataset`` or a list of dicts, as for ``data.read_pairs``.
        test: test data of the same kind, to look for leaks.
        tokenizer: a fast tokenizer, to count tokens; None counts none.
        max_length: tokens of one prompt at which documents would be cut; give the one of the model that will read them.
        max_relevance: the highest grade, at most 255.

    Returns:
        Report. Rows that cannot be used are a finding of it.

    Raises:
        InputError: no such file, unknown format, not one usable row, a test file with unusable rows, grades above 255.
    """
    name = str(path) if isinstance(path, (str, Path)) else _("the data")
    if not 1 <= max_relevance <= 255:
        raise InputError("max_relevance is {max_relevance}; grades go from 0 to 255 at most.", max_relevance=max_relevance)  # fmt: skip
    against = None if test is None else _Against(test, max_relevance)
    lengths = _Lengths(tokenizer, max_length) if tokenizer else None
    rows, unusable = _read_rows(path, max_relevance, lengths, against)
    if not rows:
        if unusable:
            raise DataError(name, [(where, *p) for where, own in unusable for p in own])
        raise InputError("{name} holds no pairs.", name=name)
    report = _report(name, rows, unusable, lengths, against)
    grade = _highest_grade(path, max_relevance) if "wrong label" in report.problems else 0
    if grade:
        report.findings[0].advice = _("If the labels are grades, say so with --max-relevance {grade} (max_relevance={grade}); else mend or delete them.").format(grade=grade)  # fmt: skip
    return report


def check_groups(groups, test=None, tokenizer=None, max_length=1024, max_relevance=1):
    """Return the Report on a list of Group (``test``: another one); arguments as in ``check_file``."""
    rows, test = (part and _rows_of(part) for part in (groups, test))
    return check_file(rows, test, tokenizer, max_length, max_relevance)


def _rows_of(groups):
    """Return the rows of groups in the plain form."""
    rows = ((g.query, d, r) for g in groups for d, r in zip(g.documents, g.relevance, strict=True))
    return [{"query": q, "document": d, "relevance": r} for q, d, r in rows]


def _read_rows(source, max_relevance, lengths, against):
    """Return (list of _Row, list of (where, its Problems)); count tokens and compare with the test data on the way."""
    rows, unusable, seen, plain = [], [], set(), lru_cache(maxsize=64)(normalise)

    def usable():
        for where, row in iter_rows(source):
            checked = check_row(row, max_relevance)
            if isinstance(checked, list):
                unusable.append((where, checked))
                continue
            query, document, label = checked
            rows.append(_row(where, query, document, label, plain))
            if rows[-1].pair not in seen:
                seen.add(rows[-1].pair)
                if against:
                    against.compare(where, query, document, label)
                yield where, query, document

    stream = usable()
    while batch := list(islice(stream, _LENGTHS_AT_ONCE if lengths else 1)):
        if lengths:
            lengths.add(batch)
    return rows, unusable


def _row(where, query, document, label, plain):
    marks = []
    if plain(query) == plain(document):
        marks.append("document is the query")
    if not (re.search(r"\w", query) and re.search(r"\w", document)):
        marks.append("no words")
    if re.search(r"<\|\w+\|>|</?think>", f"{query} {document}"):
        marks.append("prompt marks")
    return _Row(
        where, _excerpt(query), _excerpt(document), label, hash((query, document)), hash((plain(query), plain(document))),
        hash(query), hash(plain(document)), len(document), tuple(marks),
    )  # fmt: skip


# Each of these yields (kind, count, examples) for a list of _Row; the first one sees repeated rows too.


def _seen_twice(rows, key, label, same, other):
    first, found = {}, defaultdict(list)
    for row in rows:
        one = first.setdefault(getattr(row, key), row)
        if one is not row:
            kind = same if label(one.label) == label(row.label) else other
            found[kind].append(_("{row} (compare {where})").format(row=row, where=one.where))
    yield from ((kind, len(own), own) for kind, own in found.items())


def _repeated(rows):
    yield from _seen_twice(rows, "pair", lambda n: n, "duplicate pair", "contradictory pair")


def _alike(rows):
    yield from _seen_twice(rows, "alike", lambda n: n > 0, "almost the same pair", "labelled both ways")


def _marked(rows):
    for kind in ("document is the query", "no words", "prompt marks"):
        own = [str(row) for row in rows if kind in row.marks]
        yield kind, len(own), own


def _lists(rows):
    relevant = sum(row.label > 0 for row in rows)
    if relevant in (0, len(rows)):
        yield "no other document" if relevant else "no relevant document", len(rows), []
        return
    queries = _by(rows, "asked")
    for kind, right in (("query without relevant document", False), ("query with relevant documents only", True)):
        own = [q[0] for q in queries if all((row.label > 0) == right for row in q)]
        yield kind, len(own), [f'{row.where} "{row.query}"' for row in own]


def _frequent(rows):
    many = max(10, len(_by(rows, "asked")) // 20)
    own = [d[0] for d in _by(rows, "told") if sum(row.label > 0 for row in d) > many]
    yield "frequent document", len(own), [f'{row.where} "{row.document}"' for row in own]


def _balance(rows):
    relevant = sum(row.label > 0 for row in rows)
    yield "few pairs", len(rows) * (len(rows) < 1000), []
    yield "mostly relevant", relevant * (len(rows) / 2 < relevant < len(rows)), []
    yield "hardly relevant", relevant * (0 < relevant < len(rows) / 50), []


def _length_tells(rows):
    right, other = (Counter(row.size for row in rows if (row.label > 0) == kind) for kind in (True, False))
    longer = _chance_longer(right, other)
    if min(right.total(), other.total()) >= 50 and not 0.25 <= longer <= 0.75:
        yield "length tells", round(100 * longer), []


def _by(rows, field):
    """Return the lists of rows that share a field, in order of first appearance."""
    groups = defaultdict(list)
    for row in rows:
        groups[getattr(row, field)].append(row)
    return list(groups.values())


def _chance_longer(left, right):
    """Return the chance that a draw from Counter ``left`` exceeds one from ``right``; equals count half."""
    below, total = 0, 0.0
    for size in sorted(left | right):
        total += left[size] * (below + right[size] / 2)
        below += right[size]
    return total / max(1, left.total() * below)


def _of_lengths(lengths):
    tokens, where = lengths.longest
    yield "cut document", lengths.cut, [_("{where} with {tokens:,} tokens").format(where=where, tokens=tokens)]
    yield "query too long", len(lengths.too_long), list(lengths.too_long.values())[:1]


def _report(name, rows, unusable, lengths, against):
    pairs = list({row.pair: row for row in reversed(rows)}.values())[::-1]  # the first of each
    problems = Counter(p.kind for _, own in unusable for p in own)
    broken = [_("{where}: {text}").format(where=where, text=own[0].text) for where, own in unusable]
    remarks = [("unusable row", len(unusable), broken)]
    remarks += _repeated(rows)
    for remark in (_alike, _marked, _lists, _frequent, _balance, _length_tells):
        remarks += remark(pairs)
    remarks += _of_lengths(lengths) if lengths else []
    remarks += [(kind, len(own), own) for kind, own in against.found.items()] if against else []
    found = {kind: (count, examples[:EXAMPLES]) for kind, count, examples in remarks if count}
    details = {
        "unusable row": _(" ({kinds})").format(
            kinds=_(", ").join(f"{n:,} x {_(kind)}" for kind, n in problems.most_common())
        )
    }
    if against:
        details["answer among negatives"] = _(" of {n_answers:,}, in {wrong_rows:,} rows").format(n_answers=len(against.answers), wrong_rows=against.wrong_rows)  # fmt: skip
    return _Report(
        source=name,
        rows=len(rows) + len(unusable),
        pairs=len(pairs),
        unusable=len(unusable),
        repeated=len(rows) - len(pairs),
        problems=dict(problems),
        queries=len(_by(pairs, "asked")),
        documents=len({row.told for row in pairs}),
        labels=dict(sorted(Counter(row.label for row in pairs).items())),
        findings=[_Finding(kind, *found[kind], details.get(kind, "")) for kind in REMARKS if kind in found],
        lengths=lengths,
        test=against.name if against else "",
    )
