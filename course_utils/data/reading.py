"""One reader for files as people have them, and the plain form that everything else reads."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from course_utils.data.columns import _check_given, _choices, _naming
from course_utils.data.groups import Group
from course_utils.data.labels import _number_of
from course_utils.data.qrels import _is_collection, _read_collection
from course_utils.data.read import DataError, _twice
from course_utils.data.shapes import _items
from course_utils.data.tables import _is_saved, _open_table, _refuse, _unfit
from course_utils.errors import InputError
from course_utils.files import check_outputs, whole
from course_utils.language import _, _joined, _later

_NO_WRONG = _later("No document is wrong: add negatives before training, with data prepare (or mine).")


@dataclass
class _Reading:
    """What was read; ``str(reading)`` says it in one paragraph.

    Attributes:
        source: name of the data.
        groups: list of Group; ``relevance`` may be a grade above 1, ``scores`` and ``instruction`` are set where known.
        shape: what the records turned out to be, for example "pairs (Question, Paragraph)".
        notes: sentences on what was detected or taken for granted.
        dropped: Counter of what was left out.
        ignored: columns that were not used.
    """

    source: str
    groups: list
    shape: str
    notes: list = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)
    ignored: list = field(default_factory=list)

    def __str__(self):
        right = sum(len(g.positives) for g in self.groups)
        total = sum(len(g.documents) for g in self.groups)
        parts = [
            _("{source}: read as {names}.").format(source=self.source, names=_("; ").join([self.shape, *self.notes])),
            _("{n_groups:,} queries, {total:,} documents, {right:,} right and {total_2:,} not.").format(
                n_groups=len(self.groups), total=total, right=right, total_2=total - right
            ),
        ]
        if any(g.scores for g in self.groups):
            parts.append(_("Scores of a teacher are kept."))
        if any(g.instruction for g in self.groups):
            parts.append(
                _("{n_value} instructions stand in the rows.").format(
                    n_value=len({g.instruction for g in self.groups if g.instruction})
                )
            )
        dropped = [f"{n:,} {_(what)}" for what, n in self.dropped.items() if n]
        if dropped:
            parts.append(_("Dropped: {dropped}.").format(dropped=_(", ").join(dropped)))
        if self.ignored:
            parts.append(_("Not used: {names}.").format(names=_(", ").join(map(str, self.ignored[:8]))))
        if right == total:
            parts.append(_(_NO_WRONG))
        return _joined(parts)


def read_data(
    source, columns=None, *, sheet=None, encoding=None, separator=None, part=None, threshold=None, drop_repeated=False
):
    """Read labelled data of any usual shape, and say what was read, dropped and taken for what.

    Knows pairs under any sensible column names, right answers alone, triplets and n-tuples, lists with labels, chats,
    passages with marks, grades, a teacher's scores, an instruction a row (see ``shapes``), and folders with a corpus,
    queries and judgements (see ``qrels``); as JSON, JSON lines, CSV, Excel, Parquet, a saved dataset or one of the hub. What is not
    certain is an error that lists the choices; the arguments decide it.

    Args:
        source: a file, a folder, "hub:owner/name@revision", a ``datasets.Dataset`` or a list of dicts.
        columns: {role: column}, for example {"query": "Question", "document": "Paragraph"}; further roles are relevance,
            score, instruction, topic, positive and negative.
        sheet: of an Excel file.
        encoding: of a text file.
        separator: of a CSV file.
        part: which split or which judgements, where there are several.
        threshold: the least label that means relevant.
        drop_repeated: keep the first of pairs that stand twice instead of refusing them.

    Returns:
        Reading.

    Raises:
        InputError: no such file, an unknown format or shape, anything uncertain.
        DataError: rows that cannot be used, each named.
    """
    name = str(source) if isinstance(source, (str, Path)) else _("the data")
    table = {"columns": columns, "sheet": sheet, "encoding": encoding, "separator": separator}
    _refuse(name, _unused(source, {**table, "part": part, "threshold": threshold}))
    if isinstance(source, (str, Path)) and Path(source).is_dir() and _is_collection(source):
        groups, notes, dropped = _read_collection(source, part)
        return _Reading(name, groups, _("a collection of corpus, queries and judgements"), notes, dropped)
    records, notes = _open_table(source, sheet, encoding, separator, part, given=(columns or {}).values())
    if not records:
        raise InputError("{name} holds no pairs.", name=name)
    names = list(dict.fromkeys(key for _, row in records for key in row))
    columns = dict(columns or {})
    with _naming(source if isinstance(source, (str, Path)) else None, records):
        _check_given(columns, names)
        found = _items(records, columns, name, threshold)
    groups = _groups(found, name, drop_repeated)
    ignored = [n for n in names if n and n not in found.used]
    unlabelled = found.pairs and not any(item.cells for item in found.items)
    if unlabelled and not any(r <= 0 for g in groups for r in g.relevance):
        _ask_for_label(name, records, ignored)
    return _Reading(name, groups, found.shape, notes + found.said, found.dropped, ignored)


def _ask_for_label(name, records, ignored):
    """Raise InputError where no document is wrong and a column that is not used seems to hold labels.

    It holds nothing but 0 and 1, yes and no; or 0 to 4 and has the name of a grade.
    """
    for column in ignored:
        cells = [row.get(column) for _, row in records]
        values = {_number_of(c) for c in cells if c is not None and str(c).strip()}
        grades = re.search(
            r"(?i)grade|rating|\bstars?\b|relev|label|judg|useful|helpful|quality|gold|correct|match|score|[评打得]?分|等级|星|相关|匹配|质量|标注|标签",
            str(column),
        )
        if values == {0, 1} or (grades and 0 in values and len(values) > 1 and values <= {0, 1, 2, 3, 4}):
            raise InputError(
                '{name}: no column was taken for labels, but "{column}" holds only {values}. If it says what is right, name it: '
                'columns={{"relevance": "{column}"}} (--columns "relevance={column}"); if not, take it out of the file.',
                name=name, column=column, values=_choices(sorted({str(c) for c in cells if _number_of(c) is not None}, key=_number_of)),
            )  # fmt: skip


def _unused(source, how):
    """Return the names of the options in ``how`` that are given and that reading ``source`` has no use for."""
    if not _unfit((), how):  # nothing is given
        return []
    hub = str(source).startswith("hub:")
    path = Path(source) if isinstance(source, (str, Path)) and not hub else None
    folder = path is not None and path.is_dir()
    if folder and _is_collection(path):
        suffixes = set()
    elif path is None or (folder and _is_saved(path)):
        suffixes = {".jsonl"}  # records that somebody else has read
    else:
        suffixes = {p.suffix.lower() for p in (path.rglob("*") if folder else [path])}
    return [n for n in _unfit(suffixes, how) if not ((hub or folder) and n == "part")]


def _groups(found, name, drop_repeated):
    """Return the Groups of all items: one a query and instruction, in order of first appearance."""
    rows, topics, problems, pairs = {}, {}, [], found.pairs
    for item in found.items:
        own = rows.setdefault((item.query, item.instruction), {})
        topics.setdefault((item.query, item.instruction), item.topic)
        for i, (document, label) in enumerate(zip(item.documents, item.labels, strict=True)):
            if re.search(r"[\ud800-\udfff]", item.query + document):
                problems.append((item.where, "not UTF-8", _("a text holds half a character")))
                continue
            where, known, _score = own.get(document, (None, None, None))
            if where is None:
                own[document] = item.where, label, item.scores[i] if item.scores else None
            elif known == label and (drop_repeated or not pairs):
                found.dropped[_later("pairs that stand twice")] += 1
            elif pairs and not drop_repeated:
                problems.append((item.where, *_twice(item.query, where, known == label)))
            else:  # in a list: what is right once is right
                found.dropped[_later("documents both right and wrong for a query, kept as right")] += 1
                own[document] = where, max(known, label), None
    if problems:
        raise DataError(name, problems)
    groups = []
    for (query, instruction), own in rows.items():
        labels, scores = [label for _, label, _ in own.values()], [score for _, _, score in own.values()]
        scores = () if None in scores else scores
        groups.append(Group(query, list(own), labels, topics[query, instruction], scores, instruction))
    if not any(g.documents for g in groups):
        raise InputError("{name} holds no pairs.", name=name)
    return groups


def _as_rows(groups):
    """Yield the plain records of groups: query, document, relevance, and score, instruction and topic where known."""
    for g in groups:
        for i, (document, label) in enumerate(zip(g.documents, g.relevance, strict=True)):
            row = {"query": g.query, "document": document, "relevance": label}
            if g.scores:
                row["score"] = g.scores[i]
            row |= {k: v for k, v in (("instruction", g.instruction), ("topic", g.topic)) if v}
            yield row


def convert(source, out, columns=None, overwrite=False, **options):
    """Read ``source`` as ``read_data`` does and write it to ``out`` as plain JSON lines; return the Reading.

    Args:
        source: as for ``read_data``.
        out: a file name; one that ends in .jsonl.
        columns: as for ``read_data``.
        overwrite: whether a file that is there and holds other lines is replaced.
        options: the further arguments of ``read_data``.

    Raises:
        InputError: as for ``read_data``; an output that is the input, holds other lines or cannot be written.
    """
    if Path(out).suffix.lower() not in (".jsonl", ".ndjson"):
        raise InputError("{out}: the plain form is JSON lines; name the file .jsonl.", out=out)
    check_outputs([out], [source] if isinstance(source, (str, Path)) else [])
    found = read_data(source, columns, **options)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _as_rows(found.groups))
    if not overwrite and Path(out).is_file() and Path(out).read_bytes() not in (b"", lines.encode()):
        raise InputError("{out} is there and holds other lines, which would be lost; choose another name, delete it, or give overwrite=True (--overwrite).", out=out)  # fmt: skip
    with whole(out) as file:
        file.write(lines)
    return found
