"""Test collections: a corpus, queries and judgements in files of their own, as BEIR and TREC lay them out."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path

from course_utils.data.columns import _key, _text_of
from course_utils.data.decode import _decode
from course_utils.data.groups import Group
from course_utils.data.read import DataError
from course_utils.data.tables import _choose_part
from course_utils.errors import InputError
from course_utils.language import _, _later

_ROLES = {
    "corpus": ("corpus", "collection", "documents", "docs"),
    "queries": ("queries", "topics"),
    "qrels": ("qrels",),
}
# What the first line of a table of texts calls its ids.
_HEADS = {"id", "docid", "docno", "documentid", "passageid", "pid", "corpusid", "qid", "queryid", "topicid"}


def _parts(folder):
    """Return {"corpus": [files], "queries": [files], "qrels": [files], "runs": [files]} of a folder."""
    files = [p for p in sorted(Path(folder).rglob("*")) if p.is_file() and not p.name.startswith(".")]
    found = {
        role: [p for p in files if any(name in (p.name.split(".")[0].lower(), p.parent.name.lower()) for name in names)
               or p.name.lower().startswith(names)]
        for role, names in _ROLES.items()
    }  # fmt: skip
    found["qrels"] += [p for p in files if "qrel" in p.name.lower() and p not in found["qrels"]]
    for role in ("corpus", "queries"):
        found[role] = [p for p in found[role] if p not in found["qrels"]]
    found["runs"] = [
        p for p in files if p.suffix == ".run" or p.name.lower().startswith("run.") or p.parent.name == "runs"
    ]
    return found


def _is_collection(folder):
    """Return True for a folder that holds a corpus, queries and judgements."""
    found = _parts(folder)
    return bool(found["corpus"] and found["queries"] and found["qrels"])


def _read_collection(folder, part=None):
    """Return (list of Group, notes, Counter of what was dropped) of a folder in the layout of BEIR or TREC.

    A group holds the judged documents of a query; with a run file also those the run found, which nobody judged and which
    count as wrong. BEIR joins title and text with a space. Source: the README files of beir and trec_eval.

    Args:
        folder: holds corpus and queries as JSON lines (_id, title, text) or as tab-separated id and text, and qrels with
            three columns and a header (query-id, corpus-id, score) or TREC's four without.
        part: which qrels to take, for example "test", where there are several.

    Raises:
        InputError: several qrels and none named; lines that cannot be read; no judgement of a known document.
        DataError: ids that stand twice with different texts.
    """
    found = _parts(folder)
    names = {p.stem if p.parent.name == "qrels" or p.parent != Path(folder) else p.name: p for p in found["qrels"]}
    name = _choose_part(folder, names, part)
    judged, dropped = defaultdict(dict), Counter()
    corpus, queries = (_by_id(folder, found[role], dropped) for role in ("corpus", "queries"))
    for query, document, label in _judgements(names[name]):
        if query not in queries or not queries[query]:
            dropped[_later("judgements of a query that is not in the queries")] += 1
        elif document not in corpus or not corpus[document]:
            dropped[_later("judgements of a document that is not in the corpus")] += 1
        elif judged[query].get(document, label) != label:
            raise InputError(
                '{path}: query "{query}" and document "{document}" are judged {first} and {second}; keep one of the lines.',
                path=names[name], query=query, document=document, first=judged[query][document], second=label,
            )  # fmt: skip
        else:
            judged[query][document] = label
    notes = [_("judgements of {name}; corpus of {n_corpus:,} documents").format(name=names[name].name, n_corpus=len(corpus))]  # fmt: skip
    for path in found["runs"]:
        for query, document in _run(path):
            if query in judged and corpus.get(document):
                judged[query].setdefault(document, 0)
        notes.append(_("documents that {name} found and nobody judged count as wrong").format(name=path.name))
    if not judged:
        raise InputError("{folder}: no judgement of {name} names a query and a document that are there.", folder=folder, name=names[name].name)  # fmt: skip
    groups = [
        Group(queries[q], [corpus[d] for d in own], [max(0, label) for label in own.values()])
        for q, own in judged.items()
    ]
    return groups, notes, dropped


def _by_id(folder, files, dropped):
    """Return {id: text} of a corpus or of queries; the same text twice is counted in ``dropped``."""
    texts, places, problems = {}, {}, []
    for path in files:
        for i, key, text in _texts(path):
            if texts.setdefault(key, text) != text and places[key][0] != path:
                raise InputError("{folder}: {one} and {other} give different texts for the same ids, for example {key}; keep one of the two.", folder=folder, one=places[key][0].relative_to(folder), other=path.relative_to(folder), key=key[:40])  # fmt: skip
            if texts[key] != text:
                here, first = (_("{path}, line {number}").format(path=f.name, number=n) for f, n in ((path, i), places[key]))  # fmt: skip
                said = _('the id "{key}" stands with another text in {first}').format(key=key[:40], first=first)
                problems.append((here, _later("id of two texts"), said))
            elif places.setdefault(key, (path, i)) != (path, i):
                dropped[_later("texts that stand twice with their id")] += 1
    if problems:
        raise DataError(folder, problems)
    return texts


def _texts(path):
    """Yield (line, id, text) of a corpus or of queries."""
    text, _ = _decode(path.read_bytes(), path)
    for i, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if line.lstrip().startswith("{"):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError("{path}, line {i}: broken JSON: {error}.", path=path, i=i, error=error) from None
            key = next((row[k] for k in ("_id", "id", "docid", "doc_id", "query_id", "qid") if k in row), None)
            if key is None:
                raise InputError('{path}, line {i}: no field "_id"; the fields are: {row}.', path=path, i=i, row=", ".join(row))  # fmt: skip
            if "text" not in row:
                own = next((k for k in ("query", "contents", "content", "document", "passage") if k in row), None)
                row = {"text": row.get(own)}
            yield i, str(key), _text_of(row) or ""
        else:
            key, tab, rest = line.rstrip("\r").partition("\t")
            if not tab:
                raise InputError("{path}, line {i}: no tab between the id and the text.", path=path, i=i)
            if i > 1 or _key(key) not in _HEADS:
                yield i, key.strip(), " ".join(rest.split("\t")).strip()


def _judgements(path):
    """Yield (query id, document id, label) of a qrels file."""
    text, _ = _decode(path.read_bytes(), path)
    lines = [line.rstrip("\r") for line in text.split("\n")]
    tabs = any("\t" in line for line in lines[:1])
    for i, line in enumerate(lines, 1):
        cells = next(csv.reader([line], delimiter="\t"), []) if tabs else line.split()
        cells = [c.strip() for c in cells]
        if not any(cells):
            continue
        try:
            label = int(cells[-1].removesuffix(".0"))
        except ValueError:
            if i == 1:
                continue  # the header
            raise InputError('{path}, line {i}: the judgement "{cells}" is no whole number.', path=path, i=i, cells=cells[-1][:20]) from None  # fmt: skip
        if len(cells) not in (3, 4):
            raise InputError("{path}, line {i}: {n_cells} columns; qrels have three, or TREC's four.", path=path, i=i, n_cells=len(cells))  # fmt: skip
        yield cells[0], cells[1 if len(cells) == 3 else 2], label


def _run(path):
    """Yield (query id, document id) of a run in TREC's six columns."""
    text, _ = _decode(path.read_bytes(), path)
    for i, line in enumerate(text.split("\n"), 1):
        cells = line.split()
        if cells and len(cells) != 6:
            raise InputError("{path}, line {i}: {n_cells} columns; a run has six: query, Q0, document, rank, score, name.", path=path, i=i, n_cells=len(cells))  # fmt: skip
        if cells:
            yield cells[0], cells[2]
