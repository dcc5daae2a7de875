"""A query and its candidates: grouping, choosing, splitting without leaks."""

import random
from dataclasses import dataclass, field, replace
from numbers import Real

from course_utils.data.near import DOCUMENTS, QUERIES, _twinned, near_duplicates
from course_utils.errors import InputError
from course_utils.language import _
from course_utils.text import normalise


@dataclass(frozen=True)
class Group:
    """A query and its candidate documents.

    Attributes:
        query: the query text.
        documents: candidate texts.
        relevance: one label per document, 0 for not relevant; 1, or a higher grade, for relevant.
        topic: what the query is about, where known; splits can be made by it.
        scores: one score of a teacher per document, where known, else empty.
        instruction: the task of this query in a sentence, where it has its own, else "".

    Raises:
        InputError: a text that is no text, a single text for the documents, or labels that do not fit them.
    """

    query: str
    documents: tuple
    relevance: tuple
    topic: str = ""
    scores: tuple = ()
    instruction: str = ""

    def __post_init__(self):
        if not isinstance(self.query, str):
            raise InputError(
                "The query {query!r:.40} is {kind}, not text.", query=self.query, kind=type(self.query).__name__
            )
        for name in ("documents", "relevance", "scores"):
            value = getattr(self, name)
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise InputError(
                    'The {name} of "{query}" are one {kind}; give a list.',
                    name=name,
                    query=self.query[:40],
                    kind=type(value).__name__,
                )
            object.__setattr__(self, name, tuple(value))
        wrong = [type(d).__name__ for d in self.documents if not isinstance(d, str)]
        if wrong:
            raise InputError('A document of "{query}" is {wrong_0}, not text.', query=self.query[:40], wrong_0=wrong[0])
        if len(self.relevance) != len(self.documents) or len(self.scores) not in (0, len(self.documents)):
            raise InputError(
                '"{query}" has {n_documents} documents, {n_relevance} labels and {n_scores} scores; give one label a '
                "document, and one score or none.",
                query=self.query[:40],
                n_documents=len(self.documents),
                n_relevance=len(self.relevance),
                n_scores=len(self.scores),
            )
        if not all(isinstance(r, Real) and r == r for r in self.relevance):
            raise InputError(
                'A label of "{query}" is not a number; 0 is not relevant, 1 and more are.', query=self.query[:40]
            )

    @property
    def positives(self):
        """The relevant documents."""
        return [d for d, r in zip(self.documents, self.relevance, strict=True) if r > 0]

    def _pick(self, places):
        # The same query with the documents at these places alone.
        documents, relevance, scores = (
            tuple(own[i] for i in places) if own else () for own in (self.documents, self.relevance, self.scores)
        )
        return replace(self, documents=documents, relevance=relevance, scores=scores)


def to_groups(pairs):
    """Group (query, document, relevance) pairs by query, in order of first appearance.

    Args:
        pairs: iterable of triples.
    """
    rows = {}
    for query, document, relevance in pairs:
        rows.setdefault(query, []).append((document, relevance))
    return [Group(q, tuple(d for d, _ in own), tuple(r for _, r in own)) for q, own in rows.items()]


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
    if not abs(sum(fractions) - 1) <= 1e-6 or min(fractions) < 0:  # nor where one is no number
        raise InputError("The fractions {fractions} do not sum to 1.", fractions=fractions)
    if by not in ("query", "topic"):
        raise InputError('by is "{by}"; choose "query" or "topic".', by=by)
    if by == "topic" and not any(g.topic for g in groups):
        raise InputError('No query has a topic to split by; split by="query", or give topics.')
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
            "{n_groups} queries in {n_blocks} independent blocks are too few for {n_fractions} parts: queries with a "
            "relevant document in common stay together. Add others, or give each part as a file of its own.",
            n_groups=len(groups),
            n_blocks=len(blocks),
            n_fractions=len(fractions),
        )
    return [[groups[i] for i in sorted(p)] for p in parts]


def _split_twins(groups, fractions, seed=0, topics=None):
    """Split as ``split`` does, where right documents that are nearly the same count as one; ``topics``: one a group, to split by."""
    proxies = _twinned(groups)
    if topics is not None:
        proxies = [replace(proxy, topic=topic) for proxy, topic in zip(proxies, topics, strict=True)]
    place = {id(proxy): g for proxy, g in zip(proxies, groups, strict=True)}
    dealt = split(proxies, fractions, seed, "query" if topics is None else "topic")
    return [[place[id(proxy)] for proxy in own] for own in dealt]


@dataclass
class _Leaks:
    """What training data share with test data: lists of (text in train, text in test, similarity 0 to 1).

    Attributes:
        queries: the same query, up to case, punctuation and spaces.
        documents: the same relevant document.
        answers: a relevant document of the test that stands in a training list as a wrong one: a model that learns to
            say no to it looks worse than it is.
        near_queries, near_documents, near_answers: the same of texts that are nearly alike.
    """

    queries: list = field(default_factory=list)
    documents: list = field(default_factory=list)
    answers: list = field(default_factory=list)
    near_queries: list = field(default_factory=list)
    near_documents: list = field(default_factory=list)
    near_answers: list = field(default_factory=list)

    def __bool__(self):
        return any(vars(self).values())


def leaks(train, test, near=True, kinds=("queries", "documents", "answers")):
    """Return the Leaks between two lists of Group, train first.

    Args:
        train: list of Group that is learned from.
        test: list of Group that measures; dev as well.
        near: look for texts with a few words changed too (``near.near_duplicates``); False is quicker.
        kinds: which of the shared things to look for; the fewer, the quicker.
    """
    found = _Leaks()
    asked, right = dict.fromkeys(g.query for g in test), dict.fromkeys(d for g in test for d in g.positives)
    own = dict.fromkeys(d for g in train for d in g.positives)
    wrong = dict.fromkeys(d for g in train for d, r in zip(g.documents, g.relevance, strict=True) if r <= 0)
    sides = [
        ("queries", dict.fromkeys(g.query for g in train), asked, QUERIES),
        ("documents", own, right, DOCUMENTS),
        ("answers", wrong, right, DOCUMENTS),
    ]
    for kind, left, other, settings in sides:
        if kind not in kinds:
            continue
        plain = {}
        for text in other:
            plain.setdefault(normalise(text), []).append(text)
        getattr(found, kind).extend((text, twin, 1.0) for text in left for twin in plain.get(normalise(text), ()))
        if near:
            alike = near_duplicates(left, other, **settings)
            getattr(found, f"near_{kind}").extend(m for m in alike if normalise(m[0]) != normalise(m[1]))
    return found


def _nearly_shared(train, test):
    """Return how many queries and right documents of ``test`` are nearly the same as one of ``train``, but not the same."""
    found = leaks(train, test, kinds=("queries", "documents"))
    return len({twin for _text, twin, _share in found.near_queries + found.near_documents})


def check_no_leak(train, test, names=("train", "test")):
    """Raise InputError with examples when a query or a relevant document is in both lists of Group.

    A score on test data that was trained on shows memory, not skill. Right answers of the test among the wrong
    documents of the training lists are no error here: ``without_answers`` takes them out.
    """
    found = leaks(train, test, near=False, kinds=("queries", "documents"))
    shared = [
        text.format(n=len(items), first=items[0][:60])
        for text, matches in (
            (_('{n} queries (for example "{first}")'), found.queries),
            (_('{n} relevant documents (for example "{first}")'), found.documents),
        )
        if (items := list(dict.fromkeys(match[1] for match in matches)))
    ]
    if shared:
        raise InputError(
            "{names_0} and {names_1} share {shared}: the test would measure memory. Remove them from one side, or "
            "split again (data split).",
            names_0=names[0],
            names_1=names[1],
            shared=_(" and ").join(shared),
        )


def without_answers(train, held_out, near=False):
    """Return ``train`` without the documents that answer a query of ``held_out``; lists with no negative left go.

    Lists that were made before a split hold each other's right answers as negatives. A model that learned to say no to
    them looks worse on the part held out than it is on new data, and the wrong epoch is kept. Taking them out costs a
    few negatives and mends the fault, which is why it is not an error.

    Args:
        train: list of Group.
        held_out: list of Group that shares no relevant document with ``train``.
        near: take out near-duplicates of right answers too.
    """
    if near:
        found = leaks(train, held_out, kinds=("answers",))
        answers = {normalise(text) for text, _, _ in found.answers + found.near_answers}
    else:
        answers = {normalise(d) for g in held_out for d in g.positives}
    out = []
    for g in train:
        gone = [normalise(d) in answers and (r <= 0 or not near) for d, r in zip(g.documents, g.relevance, strict=True)]
        out.append(g._pick([i for i, x in enumerate(gone) if not x]) if any(gone) else g)
    return rankable(out)


def _apart_from(groups, held_out):
    """Return groups that share no query and no right answer with ``held_out``, without its answers as wrong documents."""
    known = {normalise(text) for g in held_out for text in (g.query, *g.positives)}
    groups = [g for g in groups if known.isdisjoint(normalise(text) for text in (g.query, *g.positives))]
    return without_answers(groups, held_out)


def shuffle_labels(groups, share=1.0, seed=0):
    """Return groups in which the labels of ``share`` of the queries are flipped: poisoned data for tests and lessons."""
    random_ = random.Random(seed)
    out = []
    for g in groups:
        flip = random_.random() < share
        out.append(replace(g, relevance=tuple(int(not r) for r in g.relevance)) if flip else g)
    return out
