"""A query and its candidates: grouping, choosing, splitting without leaks."""

import random
from dataclasses import dataclass

from course_utils.errors import InputError
from course_utils.text import normalise


@dataclass(frozen=True)
class Group:
    """A query and its candidate documents.

    Attributes:
        query: the query text.
        documents: candidate texts.
        relevance: one label per document, 0 for not relevant; 1, or a higher grade, for relevant.
        topic: what the query is about, where known; splits can be made by it.
    """

    query: str
    documents: tuple
    relevance: tuple
    topic: str = ""

    @property
    def positives(self):
        """The relevant documents."""
        return [d for d, r in zip(self.documents, self.relevance, strict=True) if r > 0]


def to_groups(pairs, topics=None):
    """Group (query, document, relevance) pairs by query, in order of first appearance.

    Args:
        pairs: iterable of triples.
        topics: optional dict from query to topic.
    """
    rows = {}
    for query, document, relevance in pairs:
        rows.setdefault(query, []).append((document, relevance))
    topics = topics or {}
    return [Group(q, tuple(d for d, _ in own), tuple(r for _, r in own), topics.get(q, "")) for q, own in rows.items()]


def rankable(groups):
    """Return the groups that hold both a relevant and a non-relevant document: only these can be ranked wrongly."""
    return [g for g in groups if any(r > 0 for r in g.relevance) and any(r <= 0 for r in g.relevance)]


def subset(groups, queries, seed=0):
    """Return ``queries`` groups chosen at random with ``seed`` (all of them when there are fewer), in file order."""
    if queries is None or queries >= len(groups):
        return list(groups)
    chosen = sorted(random.Random(seed).sample(range(len(groups)), queries))
    return [groups[i] for i in chosen]


def split(groups, fractions=(0.7, 0.1, 0.2), seed=0, by="query"):
    """Split groups into parts so that no query (or topic) is in two of them.

    Queries that differ only in case, punctuation or spaces, or that share a relevant document, stay together.

    Args:
        groups: list of Group.
        fractions: share of each part; they sum to 1.
        seed: for the shuffle.
        by: "query" or "topic".

    Returns:
        One list of Group a fraction, each in the original order.

    Raises:
        InputError: fractions that do not sum to 1, an unknown ``by``, or too few groups for a part.
    """
    if abs(sum(fractions) - 1) > 1e-6 or min(fractions) < 0:
        raise InputError(f"The fractions {fractions} do not sum to 1.")
    if by not in ("query", "topic"):
        raise InputError(f'by is "{by}"; choose "query" or "topic".')
    parent = {}

    def root(x):
        while parent.setdefault(x, x) != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for g in groups:
        keys = [("query", normalise(g.query))] + [("document", normalise(d)) for d in g.positives]
        if by == "topic":
            keys.append(("topic", g.topic or normalise(g.query)))
        for key in keys[1:]:
            parent[root(keys[0])] = root(key)
    blocks = {}
    for i, g in enumerate(groups):
        blocks.setdefault(root(("query", normalise(g.query))), []).append(i)
    blocks = list(blocks.values())
    random.Random(seed).shuffle(blocks)
    parts = [[] for _ in fractions]
    for block in blocks:
        gaps = [f * len(groups) - len(p) for f, p in zip(fractions, parts, strict=True)]
        parts[gaps.index(max(gaps))] += block
    if any(f > 0 and not p for f, p in zip(fractions, parts, strict=True)):
        raise InputError(
            f"{len(groups)} queries in {len(blocks)} independent blocks are too few for {len(fractions)} parts."
        )
    return [[groups[i] for i in sorted(p)] for p in parts]


def without_answers(train, held_out):
    """Return ``train`` without the documents that answer a query of ``held_out``; lists with no negative left go.

    Lists that were made before a split hold each other's right answers as negatives. A model that learned to say no to
    them looks worse on the part held out than it is on new data, and the wrong epoch is kept.

    Args:
        train: list of Group.
        held_out: list of Group that shares no relevant document with ``train``.
    """
    answers, out = {normalise(d) for g in held_out for d in g.positives}, []
    for g in train:
        pairs = [(d, r) for d, r in zip(g.documents, g.relevance, strict=True) if normalise(d) not in answers]
        out.append(Group(g.query, tuple(d for d, _ in pairs), tuple(r for _, r in pairs), g.topic))
    return rankable(out)


def leaks(train, test):
    """Return (shared queries, shared relevant documents) between two lists of Group, as texts of ``test``."""
    queries = {normalise(g.query) for g in train}
    documents = {normalise(d) for g in train for d in g.positives}
    shared_queries = [g.query for g in test if normalise(g.query) in queries]
    shared_documents = list(dict.fromkeys(d for g in test for d in g.positives if normalise(d) in documents))
    return shared_queries, shared_documents


def check_no_leak(train, test, names=("train", "test")):
    """Raise InputError with examples when a query or a relevant document is in both lists of Group.

    A score on test data that was trained on shows memory, not skill.
    """
    queries, documents = leaks(train, test)
    found = [
        f'{len(items)} {kind} (for example "{items[0][:60]}")'
        for kind, items in (("queries", queries), ("relevant documents", documents))
        if items
    ]
    if found:
        raise InputError(
            f"{names[0]} and {names[1]} share {' and '.join(found)}: the test would measure memory. "
            "Remove them from one side, or split again by query."
        )


def shuffle_labels(groups, share=1.0, seed=0):
    """Return groups in which the labels of ``share`` of the queries are flipped: poisoned data for tests and lessons."""
    random_ = random.Random(seed)
    out = []
    for g in groups:
        flip = random_.random() < share
        out.append(
            type(g)(g.query, g.documents, tuple(int(not r) for r in g.relevance) if flip else g.relevance, g.topic)
        )
    return out
