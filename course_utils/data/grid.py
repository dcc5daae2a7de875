"""The course's own data: a grid of topics and aspects, read from Markdown, turned into candidate lists.

The grid gives hard negatives by construction: the same topic under another aspect, the same aspect of another topic.
``data/README.md`` describes the file and how to add a domain.
"""

import hashlib
import json
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from course_utils.data.groups import Group
from course_utils.errors import InputError
from course_utils.files import data_folder

DATA = data_folder()
DOMAINS = ("general", "medical", "legal", "financial")
LANGUAGES = ("en", "zh")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class _Passage:
    """One cell of the grid: what a topic says under an aspect."""

    topic: str
    aspect: str
    text: str


@dataclass(frozen=True)
class _Query:
    """A query, the cell it was written for, and all aspects of its topic that answer it."""

    text: str
    topic: str
    aspects: tuple


@dataclass
class _Grid:
    """Passages and queries of one domain in one language.

    Attributes:
        domain: for example "medical".
        language: "en" or "zh".
        passages: dict from (topic, aspect) to Passage.
        queries: list of Query.
        splits: dict from topic to "train", "dev" or "test".
    """

    domain: str
    language: str
    passages: dict = field(default_factory=dict)
    queries: list = field(default_factory=list)
    splits: dict = field(default_factory=dict)

    def topics(self, split=None):
        """Return the topics of ``split`` (of all splits by default) in file order."""
        names = dict.fromkeys(t for t, _ in self.passages)
        return [t for t in names if split is None or self.splits[t] == split]


def _parse_grid(text, where="grid.md"):
    """Return (passages, queries) of a grid in Markdown.

    ``# topic``, ``## aspect``, one line of text, then ``- query`` lines; a query that further aspects of its topic
    answer too ends in ``{aspect, aspect}``.

    Raises:
        InputError: a line out of place, a cell without text or with two texts, an unknown aspect in braces, stray
            braces, a query that stands twice.
    """
    passages, queries, topic, aspect, lines, cells = {}, [], None, None, {}, {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        at = f"{where} line {number}"
        if not line:
            continue
        if line.startswith("## "):
            aspect = line[3:].strip()
            if topic is None:
                raise InputError("{at}: an aspect stands before the first topic.", at=at)
            cells[topic, aspect] = at
        elif line.startswith("# "):
            topic, aspect = line[2:].strip(), None
        elif aspect is None:
            raise InputError("{at}: text stands before an aspect (## ...).", at=at)
        elif line.startswith("- "):
            if (topic, aspect) not in passages:
                raise InputError(
                    "{at}: a query stands before the text of {topic} / {aspect}.", at=at, topic=topic, aspect=aspect
                )
            match = re.fullmatch(r"- ([^{}]+?)(?:\s*\{([^{}]*)\})?", line)
            if match is None:
                raise InputError(
                    "{at}: braces stand only at the end of a query, around aspects: {{aspect, aspect}}.", at=at
                )
            also = tuple(a.strip() for a in match[2].split(",")) if match[2] else ()
            query = match[1].strip()
            if query in lines:
                raise InputError(
                    "{at}: the query stands already in line {lines}: {query}", at=at, lines=lines[query], query=query
                )
            lines[query] = number
            queries.append(_Query(query, topic, tuple(dict.fromkeys((aspect, *also)))))
        elif (topic, aspect) in passages:
            raise InputError(
                "{at}: {topic} / {aspect} has a second text; write it in one line.", at=at, topic=topic, aspect=aspect
            )
        else:
            passages[topic, aspect] = _Passage(topic, aspect, line)
    for cell, at in cells.items():
        if cell not in passages:
            raise InputError("{at}: {cell_0} / {cell_1} has no text.", at=at, cell_0=cell[0], cell_1=cell[1])
    for q in queries:
        for a in q.aspects:
            if (q.topic, a) not in passages:
                raise InputError(
                    "{where} line {lines}: {topic} has no aspect {a}.",
                    where=where,
                    lines=lines[q.text],
                    topic=q.topic,
                    a=a,
                )
    if not passages:
        raise InputError("{where} holds no passages.", where=where)
    return passages, queries


def read_grid(domain, language, folder=None):
    """Return the Grid of a domain and language, its recorded splits included.

    Args:
        domain: a folder of ``data/``, for example "medical".
        language: "en" or "zh".
        folder: the data folder; default: the course's own.

    Raises:
        InputError: when files are missing or broken, or a topic has no split or two.
    """
    grid = read_cells(domain, language, folder)
    path = Path(folder or DATA) / domain / language / "splits.json"
    if not path.is_file():
        raise InputError(
            "There is no {path}; make it with: python -m course_utils data split {domain} {language}",
            path=path,
            domain=domain,
            language=language,
        )
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        topics = [(str(t), s) for s, names in recorded.items() for t in names]
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            "{path} is not a JSON object of three lists of topics: {error}.", path=path, error=error
        ) from None
    grid.splits = dict(topics)
    missing = [t for t in grid.topics() if grid.splits.get(t) not in SPLITS]
    if missing:
        raise InputError(
            '{path} gives no split for {n_missing} topics, for example "{missing_0}".',
            path=path,
            n_missing=len(missing),
            missing_0=missing[0],
        )
    if len(topics) > len(grid.splits):
        twice = next(t for t, n in Counter(t for t, _ in topics).items() if n > 1)
        raise InputError(
            '{path} names the topic "{twice}" twice; a topic belongs to one split.', path=path, twice=twice
        )
    return grid


def read_cells(domain, language, folder=None):
    """Return the Grid of a domain and language without its splits; arguments as in ``read_grid``."""
    path = Path(folder or DATA) / domain / language / "grid.md"
    if not path.is_file():
        raise InputError("There is no {path}; see data/README.md for how to add a domain.", path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            "{path}: byte {start} is not UTF-8; save the file as UTF-8.", path=path, start=error.start + 1
        ) from None
    return _Grid(domain, language, *_parse_grid(text, str(path)))


def make_splits(grid, fractions=(0.62, 0.13, 0.25), seed=0):
    """Return {"train": [topic, ...], "dev": ..., "test": ...}, stratified by the set of aspects a topic has."""
    random_ = random.Random(seed)
    kinds = {}
    for topic in grid.topics():
        kinds.setdefault(sorted(a for t, a in grid.passages if t == topic)[0], []).append(topic)
    order = []
    for kind in sorted(kinds):
        random_.shuffle(kinds[kind])
        order += kinds[kind]
    return _dealt([[topic] for topic in order], fractions)


def _dealt(blocks, fractions):
    """Return {"train": [topic, ...], "dev": ..., "test": ...}: each block of topics goes where most is lacking."""
    parts = {s: [] for s in SPLITS}
    for block in blocks:
        dealt = sum(map(len, parts.values())) + len(block)
        gaps = [f * dealt - len(part) for f, part in zip(fractions, parts.values(), strict=True)]
        parts[SPLITS[gaps.index(max(gaps))]] += block
    return {s: sorted(topics) for s, topics in parts.items()}


def _stable_random(*parts):
    """Return a random.Random that depends on the text of ``parts`` alone: one more query changes no other's draw."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


# Training lists are a little shorter, so that a domain's file stays under 5,000 pairs.
LISTS = {
    "train": {"same_topic": 3, "same_aspect": 1, "bm25": 2, "other": 1},
    "dev": {"same_topic": 4, "same_aspect": 2, "bm25": 2, "other": 2},
    "test": {"same_topic": 4, "same_aspect": 2, "bm25": 2, "other": 2},
}


def _candidate_list(grid, query, split, kinds, index=None):
    """Return the Group of a query: its right passages and negatives, all from topics of ``split``, shuffled.

    Harder negatives teach more and are more often right answers that nobody marked; random ones keep the level of the
    scores. In a grid the first two kinds are hard and known to be wrong.

    Args:
        grid: a Grid.
        query: one of its queries.
        split: the split whose passages may appear.
        kinds: how many of each kind, as in LISTS: "same_topic", at most so many other aspects of the query's topic;
            "same_aspect", passages of the query's aspect from other topics; "bm25", best BM25 matches from other topics
            (needs ``index``); "other", random passages of other topics.
        index: a ``negatives.Bm25`` over the passages of ``split``.
    """
    random_ = _stable_random(0, grid.domain, grid.language, query.text)  # the 0 keeps lists as they were drawn first
    right = [grid.passages[query.topic, a].text for a in query.aspects]
    pool = [p for p in grid.passages.values() if grid.splits[p.topic] == split]
    chosen = dict.fromkeys(right)

    def add(passages, n):
        fresh = [p.text for p in passages if p.text not in chosen]
        chosen.update(dict.fromkeys(fresh[:n]))

    def shuffled(passages):
        return random_.sample(passages, len(passages))

    add(shuffled([p for p in pool if p.topic == query.topic]), kinds["same_topic"])
    add(shuffled([p for p in pool if p.topic != query.topic and p.aspect in query.aspects]), kinds["same_aspect"])
    if index is not None and kinds["bm25"]:
        topic_of = {p.text: p.topic for p in pool}
        best = [t for t in index.top(query.text, 10 * kinds["bm25"]) if topic_of[t] != query.topic and t not in chosen]
        chosen.update(dict.fromkeys(best[: kinds["bm25"]]))
    add(shuffled([p for p in pool if p.topic != query.topic]), kinds["other"])
    documents = shuffled(list(chosen))
    return Group(query.text, tuple(documents), tuple(int(d in right) for d in documents), query.topic)


def grid_groups(grid, split, **kinds):
    """Return one Group for each query of ``split``; ``kinds`` change the numbers of LISTS, see ``_candidate_list``."""
    from course_utils.data.negatives import Bm25

    index = Bm25([p.text for p in grid.passages.values() if grid.splits[p.topic] == split])
    kinds = {**LISTS[split], **kinds}
    return [_candidate_list(grid, q, split, kinds, index) for q in grid.queries if grid.splits[q.topic] == split]
