"""From records of any known shape to lists for one query each: pairs, triplets, n-tuples, lists, chats, passages.

Shapes and where they are described: FlagEmbedding (query, pos, neg), ms-swift (response and rejected_response; messages,
positive_messages and negative_messages), sentence-transformers (pairs, triplets, n-tuples, labelled lists), MTEB reranking
(query, positive, negative), Tevatron and DPR (positive_passages, negative_ctxs), MS MARCO (passages with is_selected).
"""

from collections import Counter
from dataclasses import dataclass, field
from numbers import Real

from course_utils.data.columns import NAMES, _key, _Null, _numbered, _one_of, _text_in, _text_of
from course_utils.data.labels import _column_numbers, _number_of, _read_labels, _settle
from course_utils.data.records import _written_list
from course_utils.language import _, _later

_NULL = _later("rows with NULL or the like in place of a text")


@dataclass
class _Items:
    # What one record says: a query and documents with a label each, and where they stand.
    where: str
    query: str
    documents: list
    labels: list
    scores: list
    instruction: str = ""
    topic: str = ""
    cells: list = ()  # what stands for the labels, to be quoted


@dataclass
class _Found:
    # What the records of a source turned out to be.
    shape: str
    items: list
    said: list
    dropped: Counter = field(default_factory=Counter)
    used: set = field(default_factory=set)
    pairs: bool = False


def _items(records, columns, name, threshold=None):
    """Return the _Found of a list of (where, dict).

    Raises:
        InputError: the columns or the labels do not say for certain what they are; the choices are listed.
        DataError: rows without a text or with a label that cannot be read.
    """
    names = list(dict.fromkeys(key for _, row in records for key in row))
    some = {n: next((row[n] for _, row in records if row.get(n) not in (None, "", [])), None) for n in names}
    for reader in (_chats, _passages, _lists, _sides, _pairs):
        found = reader(records, names, some, columns)
        if found:
            break
    _settle(found, name, threshold)
    return found


def _list(value):
    """Return a cell's list; one that should be a list and is not holds one thing that is no text."""
    return [] if value is None else value if isinstance(value, list) else [None]


def _shared(found, names, columns, row):
    """Return {instruction, topic} of a row, where there are columns for them."""
    out = {}
    for role in ("instruction", "topic"):
        free = [n for n in names if n not in columns.values()]  # a column means one thing
        fit = [role] if role in free else [n for n in free if _key(n) in NAMES[role]]
        fit = ["prompt"] if role == "instruction" and not fit and "prompt" in free else fit
        fit = [columns[role]] if role in columns else fit
        column = fit[0] if len(fit) == 1 else None  # several: nobody needs it, so nobody is asked
        if column is not None:
            found.used.add(column)
            out[role] = _text_of(row.get(column)) or ""
    return out


def _chats(records, names, some, columns):
    """ms-swift: the last message of the user asks, each of the lists answers; a message of the system instructs."""
    if not {"messages", "positive_messages"} <= set(names):
        return None
    found = _Found("ms-swift (messages, positive_messages, negative_messages)", [], [])
    found.used |= {"messages", "positive_messages", "negative_messages"}
    for where, row in records:
        chat = [m for m in _list(row.get("messages")) if isinstance(m, dict)]
        asked = [_text_of(m.get("content")) for m in chat if m.get("role") == "user"]
        system = [_text_of(m.get("content")) for m in chat if m.get("role") == "system"]
        sides = [[_text_of(m) for m in _list(row.get(f"{kind}_messages"))] for kind in ("positive", "negative")]
        labels = [1.0] * len(sides[0]) + [0.0] * len(sides[1])
        query = asked[-1] if asked else ""
        found.items.append(_Items(where, query, sides[0] + sides[1], labels, [], "".join(system[:1])))
    return found


def _passages(records, names, some, columns):
    """MS MARCO: a list of passages with is_selected, or a table of two lists."""
    column = next((n for n in ("passages", "candidates", "documents", "docs") if isinstance(some.get(n), (list, dict))), None)  # fmt: skip
    value = some.get(column)
    if isinstance(value, dict) and "is_selected" in value:
        texts = next((k for k in ("passage_text", "text", "texts") if k in value), None)
    elif isinstance(value, list) and isinstance(value[0], dict):
        texts = None
    else:
        return None
    query = _one_of("query", names, columns, needed=True)
    found = _Found(_("passages with labels ({query}, {column})").format(query=query, column=column), [], [], used={query, column})  # fmt: skip
    label = ("is_selected", "relevance", "label", "score", "is_relevant")
    for where, row in records:
        own = row.get(column)
        if isinstance(own, dict):
            documents = [_text_of(t) for t in _list(own.get(texts))]
            cells = _list(own.get("is_selected"))
        else:
            own = [p if isinstance(p, dict) else {} for p in _list(own)]
            documents = [_text_of(p) for p in own]
            cells = [next((p[k] for k in label if k in p), None) for p in own]
        item = _Items(where, _text_of(row.get(query)), documents, [], [], **_shared(found, names, columns, row))
        item.cells = cells
        found.items.append(item)
    _read_labels(found)
    return found


def _lists(records, names, some, columns):
    """sentence-transformers: a list of documents and a list of labels a query."""
    documents, labels = (
        next((n for n in names if isinstance(some[n], list) and n == _one_of(role, [n], {})), None)
        for role in ("documents", "labels")
    )
    if documents is None or labels is None:
        return None
    query = _one_of("query", names, columns, needed=True)
    found = _Found(_("lists ({columns})").format(columns=f"{query}, {documents}, {labels}"), [], [], used={query, documents, labels})  # fmt: skip
    for where, row in records:
        own = [_text_of(d) for d in _list(row.get(documents))]
        item = _Items(where, _text_of(row.get(query)), own, [], [], **_shared(found, names, columns, row))
        item.cells = _list(row.get(labels))
        found.items.append(item)
    _read_labels(found)
    return found


def _sides(records, names, some, columns):
    """Right and wrong documents in columns of their own: one text, several columns, or lists."""
    wrong = _numbered("negative", names, columns)
    right = columns.get("positive") or _one_of("positive", [n for n in names if n not in wrong], columns)
    lists = isinstance(some.get(right), list)
    # "answer" and "response" are documents of plain pairs where no column holds wrong ones.
    if right is None or not (wrong or lists or "positive" in columns or _key(right) in ("positive", "pos")):
        return None
    if not wrong and not lists and _one_of("relevance", names, columns):
        return None
    query = _one_of("query", names, columns, needed=True)
    teachers = [_one_of(f"{kind}_scores", names, {}) for kind in ("positive", "negative")]
    found = _Found(_("right{word} documents ({names})").format(word=_(" and wrong") if wrong else "", names=", ".join([query, right, *wrong])), [], [])  # fmt: skip
    found.used |= {query, right, *wrong, *(t for t in teachers if t)}
    for where, row in records:
        if isinstance(row.get(query), _Null):
            found.dropped[_NULL] += 1
            continue
        sides = [_many(row.get(right)), [d for n in wrong for d in _many(row.get(n))]]
        labels = [1.0] * len(sides[0]) + [0.0] * len(sides[1])
        scores = [_number_of(x) for t in teachers if t for x in _list(row.get(t))]
        if scores and len(scores) != len(labels):
            found.dropped[_later("teacher scores that do not fit the documents")] += 1
            scores = []
        found.items.append(_Items(where, _text_in(row.get(query)), sides[0] + sides[1], labels, scores, **_shared(found, names, columns, row)))  # fmt: skip
    return found


def _many(value):
    """Return the texts of a cell that holds one or a list of them."""
    if isinstance(value, list) and not (value and isinstance(value[0], dict) and "role" in value[0]):
        return [_text_of(v) for v in value]
    text = _text_in(value)
    return [] if text == "" else [text] if not text or (found := _written_list(text)) is None else found


def _pairs(records, names, some, columns):
    """One document a row, with a label or without."""
    query = _one_of("query", names, columns, needed=True)
    given = {**columns, "query": query}
    # A column "score" is a teacher's where another one holds the labels.
    sure = [n for n in names if _key(n) not in NAMES["score"] or n == columns.get("relevance")]
    label = _one_of("relevance", sure, given) or _one_of("relevance", [n for n in names if n != query], given)
    if label is None and "document" not in columns and "answer" in names and "text" not in names:
        given.setdefault("document", "answer")
    document = _one_of("document", names, given, needed=True)
    given["document"] = document
    teacher = _one_of("score", [n for n in names if n != label], given) if label else None
    shown = [query, document, *([label] if label else []), *([teacher] if teacher else [])]
    found = _Found(_("pairs ({columns})").format(columns=", ".join(shown)), [], [], used=set(shown), pairs=True)
    if not label:
        found.said.append(_("no column says what is wrong, so every row is a right answer"))
    if any(isinstance(row.get(n), Real) for _, row in records for n in (query, document)):
        found.said.append(_("numbers in the place of texts are read as text"))
    marks = iter(_column_numbers([row.get(teacher) for _, row in records])[0] if teacher else ())
    for where, row in records:
        score = [next(marks)] if teacher else []
        if all(_text_of(row.get(n)) == "" for n in shown):
            found.dropped[_later("empty rows")] += 1
            continue
        if any(isinstance(row.get(n), _Null) for n in (query, document)):
            found.dropped[_NULL] += 1
            continue
        texts = _text_in(row.get(query)), [_text_in(row.get(document))]
        item = _Items(where, *texts, [1.0], score, **_shared(found, names, given, row))
        item.cells = [row.get(label)] if label else ()
        found.items.append(item)
    if label:
        _read_labels(found)
    return found
