"""A trade's own lists: families of passages that only knowledge of the trade tells apart, read from Markdown.

Every passage is the right answer of its own queries and a trap for those of its siblings, and stands equally often in
the lists of others. So a document betrays nothing: only a query read with the trade in mind does.
``data/README.md`` describes the file.
"""

import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from course_utils.data.grid import DATA, SPLITS, _dealt, _stable_random
from course_utils.data.groups import Group
from course_utils.data.negatives import Bm25
from course_utils.errors import InputError
from course_utils.language import _

SLICES = ("lay words", "acronym", "exception", "population", "jurisdiction", "numbers", "direction", "style", "table")
MESSY = ("long", "typo", "mixed", "traditional", "none")
PARTS = (*SPLITS, "questions")
SAME_TOPIC, BM25, CHANCE = 2, 2, 3  # candidates beside the family; with its three passages a list holds ten
_QUERY = re.compile(rf"- (?:~({'|'.join(MESSY)}) )?([^{{}}]+?)((?:\s*\{{(?:also|partly) [\d.]+\}})*)")
_MARK = re.compile(r"\{(also|partly) (?:(\d+)\.)?(\d+)\}")  # {also 2}: of the family; {also 3.2}: of the topic's third
_TOPIC = re.compile(r"# ([^{}]+?)(?:\s*\{with ([^{}]+)\})?")


@dataclass(frozen=True)
class _Passage:
    """A passage: its topic, the number of its family in the file, the family's slice as the reader calls it, what it turns on."""

    text: str
    topic: str
    family: int
    slice: str
    knowledge: tuple


@dataclass(frozen=True)
class _Query:
    """A query, its place among those of its passage, its kind ("" or one of MESSY), grades by passage index."""

    text: str
    passage: int
    place: int
    kind: str
    grades: dict


@dataclass
class _Cases:
    """Passages and queries of one trade in one language; ``siblings`` are topics that belong into one split."""

    domain: str
    language: str
    passages: list = field(default_factory=list)
    queries: list = field(default_factory=list)
    siblings: list = field(default_factory=list)
    splits: dict = field(default_factory=dict)

    def topics(self):
        """Return the topics in file order."""
        return list(dict.fromkeys(p.topic for p in self.passages))

    def part(self, part):
        """Return (queries, indices of passages) of "train", "dev", "test" or "questions".

        In topics of training the last plain query of each passage, and all messy ones, are kept for "questions": new
        questions to known documents. Queries that nothing answers are in no part.
        """
        split = "train" if part == "questions" else part
        pool = [i for i, p in enumerate(self.passages) if self.splits[p.topic] == split]
        last = {q.passage: q.text for q in self.queries if not q.kind}
        inside, chosen = set(pool), []
        for q in self.queries:
            asked = bool(q.kind) or last[q.passage] == q.text
            if q.passage in inside and q.kind != "none" and (split != "train" or asked == (part == "questions")):
                chosen.append(q)
        return chosen, pool

    def groups(self, part):
        """Return one Group of ten candidates for each query of ``part``; see ``_groups``."""
        return _groups(self, part)

    def slices(self):
        """Return {query: slice, in the reader's language}; messy queries are slices of their own, "messy: typo"."""
        kinds = {kind: _("messy: {kind}").format(kind=_(kind)) for kind in MESSY}
        return {q.text: kinds.get(q.kind) or self.passages[q.passage].slice for q in self.queries}


def _parse(text, where):
    """Return _Cases of a file's text; see ``data/README.md`` for its form.

    Raises:
        InputError: a line out of place, an unknown slice, a mark that points nowhere, a query that stands twice.
    """
    found, topic, head, members, seen = _Cases("", ""), None, None, [], {}
    for number, line in enumerate(text.split("\n"), 1):
        line, at = line.strip(), f"{where} line {number}"
        if not line:
            continue
        if line.startswith("## "):
            name, _colon, known = line[3:].partition(":")
            if topic is None or name.strip() not in SLICES:
                raise InputError(
                    '{at}: "{line}" is no slice under a topic; slices: {slices}.',
                    at=at,
                    line=line[:40],
                    slices=", ".join(SLICES),
                )
            known = tuple(k.strip() for k in re.split("[,，、;；]", known) if k.strip())
            head, members = (_(name.strip()), known), []
        elif match := _TOPIC.fullmatch(line):
            topic, head = match[1], None
            if match[2]:
                found.siblings.append((topic, match[2]))
        elif line.startswith("= ") and head:
            members.append(len(found.passages))
            found.passages.append(_Passage(line[2:].strip(), topic, members[0], *head))
        elif members and head and (match := _QUERY.fullmatch(line)):
            if match[2] in seen:
                raise InputError(
                    "{at}: the query stands already in line {seen}: {match_2}",
                    at=at,
                    seen=seen[match[2]],
                    match_2=match[2],
                )
            seen[match[2]] = number
            marks = _MARK.findall(match[3])
            found.queries.append((at, topic, members[-1], match[1] or "", match[2], marks))
        else:
            raise InputError("{at}: neither # topic, ## slice, = passage nor - query: {line}", at=at, line=line[:40])
    found.queries = _graded(found.queries, found.passages)
    if not found.queries:
        raise InputError("{where} holds no queries.", where=where)
    return found


def _graded(rows, passages):
    """Return the _Query of each (place in file, topic, passage, kind, text, marks)."""
    families, out, counts = defaultdict(dict), [], Counter()
    for i, p in enumerate(passages):
        families[p.topic].setdefault(p.family, []).append(i)
    for at, topic, passage, kind, text, marks in rows:
        right = 2 if any(word == "partly" for word, *_numbers in marks) else 1
        grades = {passage: right}
        for word, family, n in marks:
            own = (
                list(families[topic].values())[int(family) - 1 :]
                if family
                else [families[topic][passages[passage].family]]
            )
            if not own or not 1 <= int(n) <= len(own[0]) or own[0][int(n) - 1] == passage:
                raise InputError(
                    "{at}: {{{word} {word_2}{n}}} names no other passage of the topic.",
                    at=at,
                    word=word,
                    word_2=family + "." if family else "",
                    n=n,
                )
            grades[own[0][int(n) - 1]] = 1 if word == "partly" else right
        out.append(_Query(text, passage, counts[passage], kind, {} if kind == "none" else grades))
        counts[passage] += 1
    return out


def _make_splits(cases, fractions=(0.6, 0.13, 0.27), seed=0):
    """Return {"train": [topic, ...], "dev": ..., "test": ...}; topics declared as siblings stay together."""
    group = {t: {t} for t in cases.topics()}
    for pair in cases.siblings:
        if unknown := [t for t in pair if t not in group]:
            raise InputError('There is no topic "{unknown_0}" to be a sibling of.', unknown_0=unknown[0])
        joined = group[pair[0]] | group[pair[1]]
        for topic in joined:
            group[topic] = joined
    blocks = [sorted(b) for b in {frozenset(b) for b in group.values()}]
    random.Random(seed).shuffle(blocks := sorted(blocks))
    return _dealt(sorted(blocks, key=len, reverse=True), fractions)


def read_cases(domain, language, folder=None, splits=True):
    """Return the passages, queries and recorded splits (unless ``splits`` is False) of a trade.

    Raises:
        InputError: when ``cases.md`` or ``cases_splits.json`` is missing or broken.
    """
    place = Path(folder or DATA) / domain / language
    path, recorded = place / "cases.md", place / "cases_splits.json"
    try:
        cases = _parse(path.read_text(encoding="utf-8"), str(path))
        names = json.loads(recorded.read_text(encoding="utf-8")) if splits else _make_splits(cases)
        cases.splits = {topic: split for split in SPLITS for topic in names[split]}
    except FileNotFoundError as error:
        raise InputError(
            "There is no {filename}; see data/README.md for how to write one.", filename=error.filename
        ) from None
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "{place}: cases.md or cases_splits.json cannot be read: {error}.", place=place, error=error
        ) from None
    if missing := [t for t in cases.topics() if t not in cases.splits]:
        raise InputError(
            '{recorded} gives no split for the topic "{missing_0}".', recorded=recorded, missing_0=missing[0]
        )
    cases.domain, cases.language = domain, language
    return cases


def _evenly(wanted, count, capacity, used):
    """Return the first ``count`` of ``wanted`` that are used less than ``capacity`` times (the least used, if too few)."""
    free = [i for i in wanted if used[i] < capacity][:count]
    rest = sorted((i for i in wanted if i not in free), key=lambda i: used[i])
    chosen = free + rest[: count - len(free)]
    used.update(chosen)
    return chosen


def _groups(cases, part):
    """Return one Group of ten candidates for each query of ``part``, in file order.

    The family of the query, two more passages of its topic, two of the best BM25 matches and three random passages of
    other topics of the same split; each passage is used about equally often, so that its number of lists says nothing. A passage that answers in part
    has grade 1 beside grade 2 of the right one; training lists leave it out.
    """
    queries, pool = cases.part(part)
    texts = [cases.passages[i].text for i in pool]
    index, place = Bm25(texts), {t: i for t, i in zip(texts, pool, strict=True)}
    by_topic = defaultdict(list)
    for i in pool:
        by_topic[cases.passages[i].topic].append(i)
    near, far, out = Counter(), Counter(), {}
    shares = [-(-len(queries) * n // max(1, len(pool))) for n in (BM25, BM25 + CHANCE)]
    order = sorted(queries, key=lambda q: _stable_random(q.text).random())
    for q in order:
        own = cases.passages[q.passage]
        family = [i for i in by_topic[own.topic] if cases.passages[i].family == own.family]
        others = _stable_random(q.text, "topic").sample(by_topic[own.topic], len(by_topic[own.topic]))
        others = [i for i in others if i not in family]
        others = sorted(others, key=lambda i: (i not in q.grades, near[i]))[:SAME_TOPIC]  # right answers stay
        near.update(others)
        best = [place[t] for t in index.top(q.text, min(60, len(texts))) if cases.passages[place[t]].topic != own.topic]
        rest = [
            i for i in _stable_random(q.text, "rest").sample(pool, len(pool)) if cases.passages[i].topic != own.topic
        ]
        chosen = [*family, *others, *_evenly([*dict.fromkeys([*best, *rest])], BM25, shares[0], far)]
        chosen += _evenly([i for i in rest if i not in chosen], CHANCE, shares[1], far)
        if part == "train":
            chosen = [i for i in chosen if q.grades.get(i) != 1 or max(q.grades.values()) == 1]
        chosen = _stable_random(q.text, "order").sample(chosen, len(chosen))
        labels = tuple(q.grades.get(i, 0) for i in chosen)
        if part == "train":
            labels = tuple(int(r > 0) for r in labels)
        out[q.text] = Group(q.text, tuple(cases.passages[i].text for i in chosen), labels, own.topic)
    return [out[q.text] for q in queries]
