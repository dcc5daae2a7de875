"""Passages of a handbook: from a folder or a file of texts to pieces of a length that a model reads whole."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tqdm.auto import tqdm

from course_utils.data.columns import (
    NAMES,
    _check_given,
    _choices,
    _key,
    _naming,
    _Null,
    _one_of,
    _text_in,
    _text_of,
    _Unsure,
)
from course_utils.data.pages import _TEXTS, _text
from course_utils.data.read import DataError
from course_utils.data.tables import SUFFIXES, _open_table, _refuse, _unfit
from course_utils.errors import InputError
from course_utils.files import MARKER
from course_utils.language import _, _later
from course_utils.text import _UNIT, _bare, _name, _units

_WHOLE = 10**9  # words of a piece with which documents stay as they are
_TABLES = tuple(s for s in SUFFIXES if s != ".txt")
# A sentence ends at a full stop with a space behind it, at a Chinese one, or at a line's end.
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？；])[”’」』）]*|\n+")
# Columns of a table that name its passages.
_IDS = set(["id", "docid", "passageid", "ref", "no", "nr", "编号", "序号"])


@dataclass(frozen=True)
class _Passage:
    """One piece of a document.

    Attributes:
        id: name of the document (a file's path in its folder, or an id of a row) and, where it was cut, "#1", "#2", ...
        text: the text.
        document: name of the document without the number of the piece.
        place: number of the piece in its document, from 0.
    """

    id: str
    text: str
    document: str
    place: int = 0


def read_passages(source, size=200, overlap=1, columns=None, named=(), skip=None, **how):
    """Return (list of Passage, sentences on what was read) of a folder or a file.

    In a folder each text, Markdown, HTML or PDF file is a document, and each row of a table; folders in it that this program
    wrote are left out. A single text file holds one document a paragraph where blank lines stand in it, else one a line.
    Documents are cut at sentences.

    Args:
        source: folder or file: .txt, .md, .html, .pdf (needs ``pypdf``), .csv, .xlsx, .jsonl, .json, .parquet.
        size: words (Chinese: characters) of a piece at most.
        overlap: sentences that neighbouring pieces share.
        columns: of tables: {"document": the one with the texts, "id": the one with the ids}; what is not given is found.
        named: texts that may be names of passages, as questions give them: a column that holds most of them has the ids.
        skip: file of the folder that is no part of the handbook, such as that of the questions.
        how: sheet, encoding and separator, as for ``read_data``.

    Raises:
        InputError: no such file, an unknown format, no text; a document that cannot be read is named.
    """
    path = Path(source)
    if not path.exists():
        raise InputError("There is no file or folder {path}.", path=path)
    if size < 10 or overlap < 0:
        raise InputError(
            "size is {size} and overlap {overlap}; give at least 10 words and 0 sentences.", size=size, overlap=overlap
        )
    files, said, other = _files(path, skip)
    suffixes = {f.suffix.lower() for f in files}
    _refuse(path, [*_unfit(suffixes & set(_TABLES), {"columns": columns}), *_unfit(suffixes, how)])
    rows, blank, tables = [], [], {}
    wanted = {_name(text) for text in named}
    for file in tqdm(files, unit="file", desc=_("reading"), disable=None, delay=2):
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        suffix = file.suffix.lower()
        if suffix in _TABLES:
            unfit = _unfit([suffix], how)  # is for other files of the folder
            own = {option: value for option, value in how.items() if option not in unfit}
            here = {w.removeprefix(f"{_name(name)} ") for w in wanted}  # "hr.csv 7" is the 7 of hr.csv
            try:
                found, told, certain = _rows(file, name, columns or {}, here, own)
            except DataError as error:
                if not path.is_dir() or suffix != ".json" or set(error.counts) - {"not a list", "not a record"}:
                    raise
                other[_later("JSON files that are no list of records")] += 1  # settings, such as _category_.json
                continue
            rows += [(name, i, text, certain) for i, text in found]
            tables[told] = None  # once for tables that are alike
        elif suffix in _TEXTS:
            text = _text(file, suffix, how.get("encoding"))
            own = [(name, text)] if path.is_dir() or suffix != ".txt" else _parts(name, text)
            blank += [] if text.strip() else [name]
            rows += [(name, i, t, False) for i, t in own if t.strip()]
        else:
            other[_("files of the unknown format {suffix}").format(suffix=suffix or _("(no suffix)"))] += 1
    documents, joined, several = _joined(rows)
    passages = [p for name, text in documents for p in _cut(name, text, size, overlap)]
    if not passages:
        raise InputError("{path} holds no text; known are {names}.", path=path, names=", ".join(dict.fromkeys(_TEXTS + _TABLES)))  # fmt: skip
    twice = [name for name, n in Counter(p.id for p in passages).items() if n > 1]
    if twice:
        raise InputError('{path}: the id "{twice_0}" stands twice. Name another column with the ids, or this one, if rows that share an id are one document: columns={{"id": "..."}} (--columns id=COLUMN).', path=path, twice_0=twice[0])  # fmt: skip
    counted = _("{n_documents:,} documents in {n_passages:,} passages of at most {size} words")
    counted = counted if size < _WHOLE else _("{n_documents:,} documents, each as it is")
    said = [counted.format(n_documents=len(documents), n_passages=len(passages), size=size), *said, *tables]
    said += [_("{n:,} rows joined to an earlier one with their id").format(n=joined)] if joined else []
    if several:
        text = _('{n:,} ids mean different texts in different files, so the name of the file was put before them: "{example}"')  # fmt: skip
        said.append(text.format(n=len(several), example=next(iter(several.values()))))
    other[_later("files without text")] += len(blank)
    said += [_("{n} {what} not read").format(n=n, what=_(what)) for what, n in other.items() if n]
    said += [_("without text: {names}").format(names=_(", ").join(blank[:3]))] if blank else []
    return passages, said


def _files(path, skip):
    """Return (files of a handbook, sentences on what was left out, Counter of what else was)."""
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    found = [p for p in found if not any(part.startswith((".", "~$")) for part in p.relative_to(path).parts)]
    ours = {p for p in found if (p / MARKER).is_file()}  # an index, a model: no part of the handbook
    found, other = [p for p in found if p in ours or not ours.intersection(p.parents)], Counter()
    other[_later("folders that this program wrote")] = sum(p in ours for p in found)
    other[_later("broken links")] = sum(p.is_symlink() and not p.exists() for p in found)
    files = [p for p in found if p.is_file()]
    kept = [p for p in files if skip is None or not path.is_dir() or p.resolve() != Path(skip).resolve()]
    return kept, [_("the file of the questions left out")] if kept != files else [], other


def _joined(rows):
    """Return ((name, text) of documents, how many rows were joined to another, {id: its new name} of several files).

    Rows (file, id, text, whether the id is certain) with one certain id are one document of their file. An id that has other
    texts in another file gets the file's name before it.
    """
    sure, own = {i for _file, i, _text, certain in rows if certain}, {}
    texts, files, out = defaultdict(set), defaultdict(set), {}
    for n, (file, name, text, _certain) in enumerate(rows):
        own.setdefault((file, name, None if name in sure else n), {})[text] = None
    for (file, name, _n), parts in own.items():
        texts[name].add(tuple(parts))
        files[name].add(file)
    several = {name: f"{min(files[name])} {name}" for name in files if len(files[name]) > 1 and len(texts[name]) > 1}
    for (file, name, n), parts in own.items():
        out.setdefault((f"{file} {name}" if name in several else name, n), {}).update(parts)
    return [(name, "\n\n".join(parts)) for (name, _n), parts in out.items()], len(rows) - len(out), several


def _parts(name, text):
    """Return (id, text) of the documents of one text file: paragraphs between blank lines, else lines."""
    lines = text.replace("\r\n", "\n")
    parts = re.split(r"\n\s*\n", lines.strip())
    parts = parts if len(parts) > 1 else lines.split("\n")
    return [(f"{name}:{i}", part.strip()) for i, part in enumerate(parts, 1) if part.strip()]


def _rows(file, name, columns, wanted, how):
    """Return ((id, text) of the rows of a table, a sentence on how it was read, whether the ids are certain)."""
    single = columns.get("document", NAMES["document"][0])
    records, said = _open_table(file, single=single, given=columns.values(), **how)
    names = list(dict.fromkeys(key for _where, row in records for key in row))
    with _naming(file, records, roles=("id", "document")):
        _check_given(columns, names, ("id", "document"))
        own = {"id", "document", "text"} <= set(names)  # what prepare writes: its documents are names
        free = ["text"] if own else [n for n in names if n not in ("title", columns.get("id"))]
        document = _one_of("document", free, {k: v for k, v in columns.items() if k == "document"}, needed=True)
        key, by_values = (columns["id"], False) if "id" in columns else _id_column(records, names, document, wanted)
    out, used = [], [*(["title"] if "title" in names and document != "title" else []), document]
    for where, row in records:
        cells = {n: None if isinstance(row.get(n), _Null) else row.get(n) for n in used}
        text = _text_of({"title": cells["title"], "text": cells[document]}) if len(used) > 1 else None
        text = text or _text_in(cells[document])
        if text:
            own = _text_of(row.get(key)) if key else ""
            number = re.findall(r"\d+", where)[-1]  # of "line 3"
            out.append((own or f"{name}:{number}", text))
    fields = dict.fromkeys(field for _where, row in records if isinstance(row.get(document), dict) for field in row[document])  # fmt: skip
    if fields and not out:
        raise InputError('{file}: no record in "{column}" has a text; its fields are: {fields}. Put the one with the text into a column of its own.', file=file, column=document, fields=_choices(fields))  # fmt: skip
    said += [_("rows without a text left out: {n:,}").format(n=len(records) - len(out))] * (len(out) < len(records))
    said += [_("NULL and the like are no text")] * any(isinstance(row.get(n), _Null) for _where, row in records for n in used)  # fmt: skip
    said.append(_("texts from {columns}").format(columns=_(", ").join(used)))
    ids = _("ids from {column}, whose values the questions name") if by_values else _("ids from {column}")
    said.append(ids.format(column=key) if key else _("no column of ids found"))
    rest = [n for n in names if n not in (*used, key)]
    said += [_("not used: {names}").format(names=_choices(rest))] if rest else []
    return out, _("; ").join(said), "id" in columns or by_values


def _id_column(records, names, document, wanted):
    """Return (column of the ids or None, whether its values tell): most of what is wanted, else a usual name.

    Raises:
        InputError: several columns hold as much of what is wanted.
    """
    cells = {n: [_name(t) for _where, row in records if (t := _text_of(row.get(n)))] for n in names}
    least, wanted = min(len(wanted), len(records)) / 2, wanted - set(cells.pop(document))
    hits = {n: len(wanted & set(own)) for n, own in cells.items()}
    if max(hits.values(), default=0) < max(least, 1):  # then 007 is meant by 7
        hits = {n: len(wanted & set(map(_bare, own))) for n, own in cells.items()}
    usual = [n for n in cells if _key(n).strip(".") in _IDS]
    top = [n for n in hits if hits[n] >= max(least, 1)]
    top = [n for n in top if len(set(cells[n])) == len(cells[n])] or top  # an id stands once
    top = [n for n in top if hits[n] == max(hits[n] for n in top)]
    top = [n for n in top if n in usual] or top
    if len(top) > 1:
        raise _Unsure("id", top, True)
    return (top[0], True) if top else (next(iter(usual), None), False)


def _sentences(text, size):
    """Return [(start, end), ...] of the sentences of a text; one that is longer than ``size`` is cut between words."""
    starts = [0, *(m.end() for m in _END.finditer(text)), len(text)]
    out = []
    for a, b in pairwise(starts):
        ends = [m.end() for m in _UNIT.finditer(text, a, b)]
        places = [a, *(ends[i] for i in range(size - 1, len(ends) - 1, size)), b]
        out += [(i, j) for i, j in pairwise(places) if text[i:j].strip()]
    return out


def pieces(text, size=200, overlap=1):
    """Return [(start, end), ...]: the places, in characters, of overlapping pieces of whole sentences.

    Args:
        text: the text; one that is short enough is one piece, as it is.
        size: words (Chinese: characters) of a piece at most.
        overlap: sentences at the end of a piece that the next one begins with, as far as they fit.
    """
    if _units(text) <= size:
        return [(0, len(text))]
    out, piece, used = [], [], 0
    for a, b in _sentences(text, size):
        n = _units(text[a:b])
        if piece and used + n > size:
            out.append((piece[0][0], piece[-1][1]))
            shared = piece[-overlap:] if overlap else []
            while shared and sum(_units(text[i:j]) for i, j in shared) + n > size:
                shared = shared[1:]
            piece, used = list(shared), sum(_units(text[i:j]) for i, j in shared)
        piece.append((a, b))
        used += n
    return [*out, (piece[0][0], piece[-1][1])]


def _cut(name, text, size=200, overlap=1):
    """Return the Passages of one document: itself where it is short enough, else its ``pieces``."""
    parts = [text[a:b].strip() for a, b in pieces(text, size, overlap)]
    if len(parts) == 1:
        return [_Passage(name, parts[0], name)]
    return [_Passage(f"{name}#{i}", part, name, i - 1) for i, part in enumerate(parts, 1)]
