"""What a colleague would say about labelled pairs: counts, balance, leaks, lengths, suspicious labels.

A file is read as a stream. What stays in memory are hashes of its texts, and the texts of the test file.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from pathlib import Path

from course_utils import prompt
from course_utils.data import CJK, DataError, check_row, iter_rows, normalise
from course_utils.errors import InputError

# Passages count as near-duplicates from 0.7 on three neighbouring words; queries are short, so from 0.8 on two.
DOCUMENTS = {"threshold": 0.7, "width": 3}
QUERIES = {"threshold": 0.8, "width": 2}
EXAMPLES = 3


def shingles(text, width=3):
    """Return the set of hashes of all ``width`` neighbouring words (in Chinese: characters) of the normalised text."""
    units = re.findall(rf"[{CJK}]|[^\s{CJK}]+", normalise(text))
    return {hash(tuple(units[i : i + width])) for i in range(max(1, len(units) - width + 1))}


def near_index(texts, threshold=0.7, width=3):
    """Return a function that finds, for a text, all of ``texts`` with a Jaccard similarity of at least ``threshold``.

    Two sets that alike must share one of their rarest shingles; only those are indexed and looked up, and the result
    is exact. Source: Bayardo, Ma and Srikant, "Scaling up all pairs similarity search", WWW 2007.

    Args:
        texts: list of str.
        threshold: shared shingles / all shingles of both texts, above 0.
        width: words (Chinese: characters) a shingle.

    Returns:
        ``find(text)``, which returns a list of (index into ``texts``, similarity).
    """
    sets = [shingles(t, width) for t in texts]
    frequency = Counter(h for own in sets for h in own)
    places = defaultdict(list)

    def rarest(own):
        order = sorted(own, key=lambda h: (frequency[h], h))
        return order[: len(own) - ceil(threshold * len(own) - 1e-9) + 1]

    for i, own in enumerate(sets):
        for h in rarest(own):
            places[h].append(i)

    def find(text):
        own, found = shingles(text, width), []
        for i in sorted({i for h in rarest(own) for i in places.get(h, ())}):
            shared = len(own & sets[i])
            similarity = shared / (len(own) + len(sets[i]) - shared)
            if similarity >= threshold:
                found.append((i, similarity))
        return found

    return find


def near_duplicates(left, right, threshold=0.7, width=3):
    """Return (text of ``left``, text of ``right``, similarity) of all near-duplicates; arguments as in near_index."""
    right = list(right)
    find = near_index(right, threshold, width)
    return [(text, right[j], similarity) for text in left for j, similarity in find(text)]


@dataclass
class Leakage:
    """What training data share with test data: lists of (text in train, text in test, similarity).

    Attributes:
        queries: the same query, up to case, punctuation and spaces.
        documents: the same relevant document.
        near_queries: nearly the same query.
        near_documents: nearly the same relevant document.
    """

    queries: list = field(default_factory=list)
    documents: list = field(default_factory=list)
    near_queries: list = field(default_factory=list)
    near_documents: list = field(default_factory=list)

    def __bool__(self):
        return bool(self.queries or self.documents or self.near_queries or self.near_documents)

    def add(self, kind, text, other, similarity):
        """Record a pair of near-duplicates; ``kind`` is "queries" or "documents"."""
        exact = normalise(text) == normalise(other)
        getattr(self, kind if exact else f"near_{kind}").append((text, other, similarity))


def leakage(train, test):
    """Return the Leakage between two lists of Group: queries and relevant documents, exact and near-duplicate.

    ``data.check_no_leak`` is the quick, exact check; this one also finds texts with a few words changed.
    """
    found = Leakage()
    for kind, texts, settings in (
        ("queries", lambda groups: dict.fromkeys(g.query for g in groups), QUERIES),
        ("documents", lambda groups: dict.fromkeys(d for g in groups for d in g.positives), DOCUMENTS),
    ):
        for match in near_duplicates(texts(train), texts(test), **settings):
            found.add(kind, *match)
    return found


class Lengths:
    """Tokens of whole prompts, counted as they come.

    Attributes:
        counts: Counter from number of tokens to number of pairs.
        cut: pairs whose document is truncated at ``max_length``.
        too_long: pairs whose query leaves no room for a document.
        longest: (tokens, where) of the longest prompt.
    """

    def __init__(self, tokenizer, max_length=1024, instruction=prompt.DEFAULT_INSTRUCTION):
        self.tokenizer, self.max_length, self.instruction = tokenizer, max_length, instruction
        self.frame = len(self._ids([prompt.PREFIX])[0]) + len(self._ids([prompt.SUFFIX])[0])
        self.counts, self.cut, self.too_long, self.longest = Counter(), 0, 0, (0, "")

    def _ids(self, texts):
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def add(self, rows):
        """Count a list of (where, query, document)."""
        texts = [prompt.content_text(q, d, self.instruction) for _, q, d in rows]
        for (where, query, _), ids in zip(rows, self._ids(texts) if texts else [], strict=True):
            tokens = self.frame + len(ids)
            self.counts[tokens] += 1
            self.longest = max(self.longest, (tokens, where), key=lambda pair: pair[0])
            if tokens > self.max_length:
                self.cut += 1
                used = len(self._ids([prompt.content_text(query, "", self.instruction)])[0])
                # The same margin as in prompt.encode_groups.
                self.too_long += used + 8 > self.max_length - self.frame

    def quantile(self, share):
        """Return the number of tokens that ``share`` of the prompts do not exceed."""
        left = share * self.counts.total()
        for tokens in sorted(self.counts):
            left -= self.counts[tokens]
            if left <= 1e-9:
                return tokens
        return 0

    def __str__(self):
        text = (
            f"a whole prompt has {self.quantile(0.5):,} tokens at the median, {self.quantile(0.95):,} at the 95th "
            f"percentile, {self.longest[0]:,} at most; "
        )
        if not self.cut:
            return f"{text}nothing is cut at {self.max_length:,}"
        share = self.cut / self.counts.total()
        return f"{text}{_count(self.cut, 'document')} ({share:.1%}) would be cut at {self.max_length:,}"


def token_lengths(groups, tokenizer, max_length=1024, instruction=prompt.DEFAULT_INSTRUCTION):
    """Return the Lengths of all prompts of a list of Group: what would be cut at ``max_length`` tokens."""
    lengths = Lengths(tokenizer, max_length, instruction)
    for i, g in enumerate(groups, 1):
        lengths.add([(f"query {i}", g.query, d) for d in g.documents])
    return lengths


@dataclass
class Finding:
    """One remark: what, how often, examples, what to do. ``mend``: the data cannot be used as they are."""

    kind: str
    count: int
    text: str
    advice: str
    examples: list = field(default_factory=list)
    mend: bool = False

    def __str__(self):
        examples = f" For example {'; '.join(self.examples)}." if self.examples else ""
        return f"- {self.text}.{examples} {self.advice}"


@dataclass
class Report:
    """What ``check_file`` found. ``str(report)`` is for people.

    Attributes:
        source: name of the data.
        rows: records read; rows = pairs + unusable + repeated.
        pairs: usable, different pairs.
        unusable: records that cannot be used.
        repeated: further copies of a pair, whatever their label.
        queries: different queries.
        documents: different documents, up to case and punctuation.
        labels: number of pairs of each relevance.
        findings: list of Finding.
        lengths: Lengths, when a tokenizer was given.
        test: name of the test data, if given.
    """

    source: str
    rows: int = 0
    pairs: int = 0
    unusable: int = 0
    repeated: int = 0
    queries: int = 0
    documents: int = 0
    labels: Counter = field(default_factory=Counter)
    findings: list = field(default_factory=list)
    lengths: Lengths = None
    test: str = ""

    @property
    def ok(self):
        """True when nothing has to be mended before the data are used."""
        return not any(f.mend for f in self.findings)

    def counts(self):
        """Return {kind: count} of all findings."""
        return {f.kind: f.count for f in self.findings}

    def __str__(self):
        relevant = sum(n for label, n in self.labels.items() if label > 0)
        other = self.pairs - relevant
        ratio = f": 1 to {other / relevant:.1f}" if relevant and other else ""
        lines = [
            f"{self.source}: {_count(self.pairs, 'pair')}, {_count(self.queries, 'query', 'queries')}, "
            f"{_count(self.documents, 'document')}.",
            f"Balance: {relevant:,} relevant, {other:,} not{ratio}; "
            f"{relevant / max(1, self.queries):.1f} relevant and {other / max(1, self.queries):.1f} other documents "
            "a query.",
        ]
        if self.lengths:
            lines.append(f"Lengths: {self.lengths}.")
        if self.test:
            leaks = [f for f in self.findings if "test" in f.kind]
            lines.append(f"Against {self.test}: {'see below' if leaks else 'nothing shared, nothing nearly the same'}.")
        mend, look = [f for f in self.findings if f.mend], [f for f in self.findings if not f.mend]
        if mend:
            lines += ["Mend this before you use the file:", *map(str, mend)]
        if look:
            lines += ["Have a look at this:", *map(str, look)]
        if not self.findings:
            lines.append("Nothing suspicious: go ahead.")
        elif not mend:
            lines.append("Nothing stands in the way of using it.")
        return "\n".join(lines)


def check_file(path, test=None, tokenizer=None, max_length=1024, max_relevance=1):
    """Read labelled pairs once, as a stream, and return a Report on them.

    Args:
        path: a file, a ``datasets.Dataset`` or a list of dicts, as for ``data.read_pairs``.
        test: test data of the same kind, to look for leaks; its queries and relevant documents are held in memory.
        tokenizer: a fast tokenizer, to count tokens; None counts none.
        max_length: tokens of one prompt at which documents would be cut.
        max_relevance: the highest grade.

    Returns:
        Report. Rows that cannot be used are a finding of it.

    Raises:
        InputError: no such file, unknown format, or not one usable row.
    """
    notes = Notes(max_relevance, Lengths(tokenizer, max_length) if tokenizer else None)
    if test is not None:
        notes.read_test(test)
    for number, (where, row) in enumerate(iter_rows(path)):
        notes.add(number, where, row)
    name = str(path) if isinstance(path, (str, Path)) else "the data"
    if not notes.labels:
        if notes.problems:
            raise DataError(name, notes.first_problems)
        raise InputError(f"{name} holds no pairs.")
    return notes.report(name, path)


def check_groups(groups, test=None, tokenizer=None, max_length=1024, max_relevance=1):
    """Return the Report on a list of Group (``test``: another); arguments as in ``check_file``."""
    rows, test = _rows(groups), None if test is None else _rows(test)
    return check_file(rows, test, tokenizer, max_length, max_relevance)


def _rows(groups):
    return [
        {"query": g.query, "document": d, "relevance": r}
        for g in groups
        for d, r in zip(g.documents, g.relevance, strict=True)
    ]


class Notes:
    """What is remembered while the rows go by: hashes, counts, the number of a row to show, a few examples."""

    def __init__(self, max_relevance, lengths):
        self.max_relevance, self.lengths = max_relevance, lengths
        self.rows = self.unusable = 0
        self.problems, self.first_problems = Counter(), []
        self.labels, self.seen = Counter(), Counter()
        self.examples = defaultdict(list)
        self.exact, self.alike = {}, {}  # hash of a pair -> number of its row and label, in one integer
        self.queries, self.documents = {}, {}  # hash -> [relevant, other, number of the first row]
        self.sizes = {True: Counter(), False: Counter()}  # characters of relevant and other documents
        self.waiting, self.test, self.leaks = [], "", Leakage()
        self.normalise = lru_cache(maxsize=4096)(normalise)

    def read_test(self, test):
        """Index the queries and relevant documents of the test data."""
        self.test = str(test) if isinstance(test, (str, Path)) else "the test data"
        queries, documents, problems = {}, {}, []
        for where, row in iter_rows(test):
            checked = check_row(row, self.max_relevance)
            if isinstance(checked, list):
                problems += [(where, *problem) for problem in checked]
                continue
            queries[checked[0]] = None
            if checked[2] > 0:
                documents[checked[1]] = None
        if problems:
            raise DataError(self.test, problems)
        if not queries:
            raise InputError(f"{self.test} holds no pairs.")
        self.test_queries, self.test_documents = list(queries), list(documents)
        self.find_query = near_index(self.test_queries, **QUERIES)
        self.find_document = near_index(self.test_documents, **DOCUMENTS)

    def note(self, kind, example):
        """Count a finding and keep the first few examples."""
        self.seen[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append(example)

    def add(self, number, where, row):
        """Take in one record."""
        self.rows += 1
        checked = check_row(row, self.max_relevance)
        if isinstance(checked, list):
            self.unusable += 1
            for problem in checked:
                self.problems[problem.kind] += 1
                if len(self.first_problems) < 1000:
                    self.first_problems.append((where, *problem))
            return
        query, document, relevance = checked
        right, packed = relevance > 0, number * 256 + min(relevance, 255)
        shown = f'{where} "{excerpt(query)}" / "{excerpt(document)}"'
        exact = hash((query, document))
        first = self.exact.setdefault(exact, packed)
        if first != packed:
            self.note("duplicate pair" if first % 256 == relevance else "contradictory pair", shown)
            return
        plain_query, plain_document = self.normalise(query), self.normalise(document)
        alike = self.alike.setdefault(hash((plain_query, plain_document)), packed)
        if alike != packed:
            both = (alike % 256 > 0) != right
            self.note("labelled both ways" if both else "almost the same pair", shown)
        if plain_query == plain_document:
            self.note("document is the query", shown)
        if not (re.search(r"\w", query) and re.search(r"\w", document)):
            self.note("no words", shown)
        if re.search(r"<\|[a-z_]+\|>|</?think>", f"{query} {document}"):
            self.note("prompt marks", shown)
        self.labels[relevance] += 1
        self.sizes[right][len(document)] += 1
        new_query = self._count(self.queries, hash(query), right, number) == 1
        self._count(self.documents, hash(plain_document), right, number)
        if self.test:
            if new_query:
                for i, similarity in self.find_query(query):
                    self.leaks.add("queries", f"{where} {query}", self.test_queries[i], similarity)
            if right and self.documents[hash(plain_document)][0] == 1:
                for i, similarity in self.find_document(document):
                    self.leaks.add("documents", document, self.test_documents[i], similarity)
        if self.lengths:
            self.waiting.append((where, query, document))
            if len(self.waiting) == 256:
                self.lengths.add(self.waiting)
                self.waiting = []
