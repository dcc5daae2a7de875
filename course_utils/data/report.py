"""What a colleague would say about labelled pairs: counts, balance, leaks, lengths, suspicious labels.

A file is read as a stream. What stays in memory are hashes of its texts, and the texts of the test file.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

from course_utils.data.near import DOCUMENTS, QUERIES, near_index
from course_utils.data.read import DataError, check_row, iter_rows
from course_utils.errors import InputError
from course_utils.model import prompt
from course_utils.text import normalise

EXAMPLES = 3

# kind of remark -> (must be mended before use, what is counted, what to do)
REMARKS = {
    "unusable row": (True, "Rows that cannot be used", "Mend or delete them; data.read_pairs refuses the file."),
    "duplicate pair": (True, "Pairs that stand twice", "Delete the copies, or read with drop_repeated=True."),
    "contradictory pair": (True, "Pairs labelled both relevant and not", "Decide which label is right."),
    "labelled both ways": (
        True,
        "Pairs that differ only in case or punctuation, one labelled relevant and one not",
        "Decide which label is right and delete the other row.",
    ),
    "query in test": (
        True,
        "Queries that are in the test file too",
        "Remove them from one side: the test would measure memory.",
    ),
    "document in test": (
        True,
        "Relevant documents that are relevant in the test file too",
        "Join the two files and split again with data.split, which keeps such queries together.",
    ),
    "query too long": (
        True,
        "Queries that leave no room for a document",
        "Raise max_length or shorten the query.",
    ),
    "no relevant document": (
        True,
        "Pairs, not one of them relevant",
        "Without right answers there is nothing to learn.",
    ),
    "no other document": (
        True,
        "Pairs, all of them relevant",
        "A model would learn to say yes to everything: add negatives with negatives.mine.",
    ),
    "query nearly in test": (
        False,
        "Queries nearly the same as one in the test file",
        "If they ask the same thing, remove them from one side.",
    ),
    "document nearly in test": (
        False,
        "Relevant documents nearly the same as a relevant one in the test file",
        "If they are copies with a few words changed, keep their queries on one side.",
    ),
    "almost the same pair": (
        False,
        "Pairs that differ from another only in case or punctuation",
        "Keep one of each.",
    ),
    "query without relevant document": (
        False,
        "Queries without a relevant document",
        "They cannot be ranked right or wrong: add the right document, or leave them out of the test.",
    ),
    "query with relevant documents only": (
        False,
        "Queries with relevant documents only",
        "They cannot be ranked wrongly: add negatives with negatives.mine.",
    ),
    "frequent document": (
        False,
        "Documents that are relevant to very many queries",
        "Boilerplate, or a default label? Read a few of their queries.",
    ),
    "document is the query": (False, "Documents that repeat the query", "They teach matching words, not meaning."),
    "no words": (False, "Pairs with a text that has no letter or digit", "Was the text lost on the way?"),
    "prompt marks": (
        False,
        "Pairs whose text holds marks of the chat prompt, such as <|im_end|>",
        "The model takes them for the end of a message: remove them.",
    ),
    "cut document": (
        False,
        "Documents that would be cut",
        "What stands behind the cut is never read: raise max_length or split long documents into passages.",
    ),
    "few pairs": (
        False,
        "Few pairs for training",
        "1,000 to 5,000 a domain is the usual advice; with fewer, expect less.",
    ),
    "mostly relevant": (
        False,
        "Relevant pairs, more than half of all",
        "In use most candidates are wrong: add negatives with negatives.mine, three to eight a query.",
    ),
    "hardly relevant": (
        False,
        "Relevant pairs, fewer than 1 in 50",
        "Most of the time would go into negatives: keep the hardest ten a query.",
    ),
    "length tells": (
        False,
        "Chances in 100 that a relevant document is longer than another",
        "A model could learn the length alone: take negatives from the same kind of text as the right answers.",
    ),
}


def excerpt(text, size=40):
    """Return text in one short line without control characters, for messages."""
    text = " ".join(text[: 4 * size].split())
    text = "".join("?" if unicodedata.category(c)[0] == "C" else c for c in text)
    return text if len(text) <= size else text[: size - 1] + "…"


class Lengths:
    """Tokens of whole prompts, counted as they come.

    Attributes:
        counts: Counter from number of tokens to number of pairs.
        cut: pairs whose document is truncated at ``max_length``.
        longest: (tokens, where) of the longest prompt.
        too_long: where the first queries stand that leave no room for a document.
    """

    def __init__(self, tokenizer, max_length=1024, instruction=prompt.DEFAULT_INSTRUCTION):
        self.tokenizer, self.max_length, self.instruction = tokenizer, max_length, instruction
        self.frame = sum(map(len, self._ids([prompt.PREFIX, prompt.SUFFIX])))
        self.counts, self.cut, self.longest, self.too_long = Counter(), 0, (0, ""), {}

    def _ids(self, texts):
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def add(self, rows):
        """Count a list of (where, query, document)."""
        texts = [prompt.content_text(q, d, self.instruction) for _, q, d in rows]
        for (where, query, _), ids in zip(rows, self._ids(texts) if texts else [], strict=True):
            tokens = self.frame + len(ids)
            self.counts[tokens] += 1
            if tokens > self.longest[0]:
                self.longest = (tokens, where)
            if tokens > self.max_length:
                self.cut += 1
                used = len(self._ids([prompt.content_text(query, "", self.instruction)])[0])
                # The same margin as in prompt.encode_groups.
                if used + 8 > self.max_length - self.frame:
                    self.too_long.setdefault(hash(query), where)

    def quantile(self, share):
        """Return the number of tokens that ``share`` of the prompts do not exceed."""
        left = share * self.counts.total()
        for tokens in sorted(self.counts):
            left -= self.counts[tokens]
            if left <= 1e-9:
                break
        return tokens

    def __str__(self):
        if not self.counts:
            return "no prompts"
        share = self.cut / self.counts.total()
        return (
            f"a whole prompt has {self.quantile(0.5):,} tokens at the median, {self.quantile(0.95):,} at the 95th "
            f"percentile, {self.longest[0]:,} at most; at max_length {self.max_length:,} "
            + (f"{self.cut:,} documents ({share:.1%}) would be cut" if self.cut else "nothing is cut")
        )


def token_lengths(groups, tokenizer, max_length=1024, instruction=prompt.DEFAULT_INSTRUCTION):
    """Return the Lengths of all prompts of a list of Group: what would be cut at ``max_length`` tokens."""
    lengths = Lengths(tokenizer, max_length, instruction)
    for i, g in enumerate(groups, 1):
        lengths.add([(f"query {i}", g.query, d) for d in g.documents])
    return lengths


@dataclass
class Finding:
    """One remark: its kind (a key of REMARKS), how often it applies, examples, particulars."""

    kind: str
    count: int
    examples: list = field(default_factory=list)
    detail: str = ""

    @property
    def mend(self):
        """True when the data should not be used before this is mended."""
        return REMARKS[self.kind][0]

    def __str__(self):
        _, text, advice = REMARKS[self.kind]
        examples = f" For example {'; '.join(self.examples)}." if self.examples else ""
        return f"- {text}: {self.count:,}{self.detail}.{examples} {advice}"


@dataclass
class Report:
    """What ``check_file`` found; ``str(report)`` is for people.

    Attributes:
        source: name of the data.
        rows: records read; rows = pairs + unusable + repeated.
        pairs: usable, different pairs; all other numbers are about these.
        unusable: records that cannot be used.
        repeated: further copies of a pair, whatever their label.
        problems: number of problems of each kind in unusable records.
        queries: different queries.
        documents: different documents, up to case and punctuation.
        labels: number of pairs of each relevance.
        findings: list of Finding.
        lengths: Lengths, when a tokenizer was given.
        test: name of the test data, when given.
    """

    source: str
    rows: int
    pairs: int
    unusable: int
    repeated: int
    problems: dict
    queries: int
    documents: int
    labels: dict
    findings: list
    lengths: Lengths = None
    test: str = ""

    @property
    def ok(self):
        """True when nothing has to be mended before the data are used."""
        return not any(f.mend for f in self.findings)

    @property
    def counts(self):
        """{kind: count} of all findings."""
        return {f.kind: f.count for f in self.findings}

    def __str__(self):
        relevant = sum(n for label, n in self.labels.items() if label > 0)
        other = self.pairs - relevant
        ratio = f", 1 to {other / relevant:.1f}" if relevant and other else ""
        lines = [
            f"{self.source}: {self.pairs:,} pairs, {self.queries:,} queries, {self.documents:,} documents.",
            f"Balance: {relevant:,} relevant, {other:,} not{ratio}; a query has on average "
            f"{relevant / self.queries:.1f} relevant and {other / self.queries:.1f} other documents.",
        ]
        if self.lengths:
            lines.append(f"Lengths: {self.lengths}.")
        if self.test:
            leaks = any(f.kind.endswith("in test") for f in self.findings)
            lines.append(f"Against {self.test}: {'see below' if leaks else 'nothing shared, nothing nearly the same'}.")
        mend, look = [f for f in self.findings if f.mend], [f for f in self.findings if not f.mend]
        if mend:
            lines += ["Mend this before you use it:", *map(str, mend)]
        if look:
            lines += ["Have a look at this:", *map(str, look)]
        lines += [] if mend else ["Nothing stands in the way of using it." if look else "Nothing suspicious: go ahead."]
        return "\n".join(lines)


def check_file(path, test=None, tokenizer=None, max_length=1024, max_relevance=1):
    """Read labelled pairs as a stream and return a Report on them.

    Args:
        path: a file, a ``datasets.Dataset`` or a list of dicts, as for ``data.read_pairs``.
        test: test data of the same kind, to look for leaks; its queries and relevant documents are held in memory.
        tokenizer: a fast tokenizer, to count tokens; None counts none.
        max_length: tokens of one prompt at which documents would be cut.
        max_relevance: the highest grade, at most 255.

    Returns:
        Report. Rows that cannot be used are a finding of it.

    Raises:
        InputError: no such file, unknown format, not one usable row, a test file with unusable rows, grades above 255.
    """
    name = str(path) if isinstance(path, (str, Path)) else "the data"
    if not 1 <= max_relevance <= 255:
        raise InputError(f"max_relevance is {max_relevance}; grades go from 0 to 255 at most.")
    notes = _Notes(max_relevance, Lengths(tokenizer, max_length) if tokenizer else None)
    if test is not None:
        notes.read_test(test)
    for number, (where, row) in enumerate(iter_rows(path)):
        notes.add(number, where, row)
    if not notes.labels:
        if notes.first_problems:
            raise DataError(name, notes.first_problems)
        raise InputError(f"{name} holds no pairs.")
    return notes.report(name, path)


def check_groups(groups, test=None, tokenizer=None, max_length=1024, max_relevance=1):
    """Return the Report on a list of Group (``test``: another one); arguments as in ``check_file``."""
    rows, test = (
        part
        and [
            {"query": g.query, "document": d, "relevance": r}
            for g in part
            for d, r in zip(g.documents, g.relevance, strict=True)
        ]
        for part in (groups, test)
    )
    return check_file(rows, test, tokenizer, max_length, max_relevance)


class _Notes:
    """What is remembered while rows go by: hashes, counts, row numbers and a few examples, but no texts."""

    def __init__(self, max_relevance, lengths):
        self.max_relevance, self.lengths, self.waiting = max_relevance, lengths, []
        self.rows, self.problems, self.first_problems = 0, Counter(), []
        self.labels, self.found, self.examples = Counter(), Counter(), defaultdict(list)
        self.exact, self.alike = {}, {}  # hash of a pair -> 256 x number of its row + label, one integer for memory
        self.first = defaultdict(list)  # number of a row -> (kind, place in examples) of later rows like it
        self.queries, self.documents = {}, {}  # hash -> [relevant, other, number of its first row]
        self.sizes = {True: Counter(), False: Counter()}  # characters of relevant and of other documents
        self.test = ""
        self.normalise = lru_cache(maxsize=64)(normalise)

    def read_test(self, test):
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
        self.test_texts = {"query": list(queries), "document": list(documents)}
        self.finders = {"query": near_index(queries, **QUERIES), "document": near_index(documents, **DOCUMENTS)}

    def note(self, kind, example, first=None):
        self.found[kind] += 1
        if len(self.examples[kind]) < EXAMPLES:
            if first is not None:
                self.first[first // 256].append((kind, len(self.examples[kind])))
            self.examples[kind].append(example)

    def add(self, number, where, row):
        self.rows += 1
        checked = check_row(row, self.max_relevance)
        if isinstance(checked, list):
            self.note("unusable row", f"{where}: {checked[0].text}")
            self.problems.update(p.kind for p in checked)
            # Enough for an error message if no row is good.
            self.first_problems += [(where, *p) for p in checked] if len(self.first_problems) < 1000 else []
            return
        query, document, label = checked
        right, shown = label > 0, f'{where} "{excerpt(query)}" / "{excerpt(document)}"'
        first = self.exact.get(hash((query, document)))
        if first is not None:
            self.note("duplicate pair" if first % 256 == label else "contradictory pair", shown, first)
            return
        packed = self.exact[hash((query, document))] = 256 * number + label
        plain = self.normalise(query), self.normalise(document)
        first = self.alike.setdefault(hash(plain), packed)
        if first != packed:
            same = (first % 256 > 0) == right
            self.note("almost the same pair" if same else "labelled both ways", shown, first)
        if plain[0] == plain[1]:
            self.note("document is the query", shown)
        if not (re.search(r"\w", query) and re.search(r"\w", document)):
            self.note("no words", shown)
        if re.search(r"<\|\w+\|>|</?think>", f"{query} {document}"):
            self.note("prompt marks", shown)
        self.labels[label] += 1
        self.sizes[right][len(document)] += 1
        seen = self.queries.setdefault(hash(query), [0, 0, number])
        if self.test and not sum(seen[:2]):
            self.compare("query", where, query)
        seen[not right] += 1
        seen = self.documents.setdefault(hash(plain[1]), [0, 0, number])
        if self.test and right and not seen[0]:
            self.compare("document", where, document)
        seen[not right] += 1
        if self.lengths:
            self.waiting.append((where, query, document))
            if len(self.waiting) == 256:
                self.flush()

    def compare(self, kind, where, text):
        matches = [(self.test_texts[kind][i], similarity) for i, similarity in self.finders[kind](text)]
        for other, _ in matches:
            if normalise(other) == self.normalise(text):
                return self.note(f"{kind} in test", f'{where} "{excerpt(text)}"')
        if matches:
            other, similarity = max(matches, key=lambda m: m[1])
            self.note(f"{kind} nearly in test", f'{where} "{excerpt(text)}" and "{excerpt(other)}" ({similarity:.0%})')

    def flush(self):
        if self.waiting:
            self.lengths.add(self.waiting)
            self.waiting = []

    def report(self, name, source):
        pairs, relevant = self.labels.total(), sum(n for label, n in self.labels.items() if label > 0)
        many = max(10, len(self.queries) // 20)
        rare = {  # kind -> numbers of the rows to show, all in all how many
            "query without relevant document": [n for r, _, n in self.queries.values() if not r],
            "query with relevant documents only": [n for _, o, n in self.queries.values() if not o],
            "frequent document": [n for r, _, n in self.documents.values() if r > many],
        }
        if not relevant or relevant == pairs:
            self.found["no other document" if relevant else "no relevant document"] = pairs
            rare = {"frequent document": rare["frequent document"]}
        self.show(rare, source)
        if self.lengths:
            self.flush()
            for kind, count, where in (
                ("cut document", self.lengths.cut, self.lengths.longest),
                ("query too long", len(self.lengths.too_long), next(iter(self.lengths.too_long.values()), "")),
            ):
                if count:
                    self.found[kind] = count
                    self.examples[kind] = [f"{where[1]} with {where[0]:,} tokens" if kind == "cut document" else where]
        if pairs < 1000:
            self.found["few pairs"] = pairs
        if pairs / 2 < relevant < pairs:
            self.found["mostly relevant"] = relevant
        if 0 < relevant < pairs / 50:
            self.found["hardly relevant"] = relevant
        longer = _chance_longer(self.sizes[True], self.sizes[False])
        if min(relevant, pairs - relevant) >= 50 and not 0.25 <= longer <= 0.75:
            self.found["length tells"] = round(100 * longer)
        unusable = self.found["unusable row"]
        problems = f" ({', '.join(f'{n:,} x {kind}' for kind, n in self.problems.most_common())})"
        return Report(
            name,
            self.rows,
            pairs,
            unusable,
            self.rows - pairs - unusable,
            dict(self.problems),
            len(self.queries),
            len(self.documents),
            dict(sorted(self.labels.items())),
            [
                Finding(k, self.found[k], self.examples[k], problems if k == "unusable row" else "")
                for k in REMARKS
                if self.found[k]
            ],
            self.lengths,
            self.test,
        )

    def show(self, rare, source):
        """Note row numbers under their kind; the texts of the first few are read again from ``source``."""
        wanted = defaultdict(list)
        for kind, numbers in rare.items():
            self.found[kind] = len(numbers)
            for n in sorted(numbers)[:EXAMPLES]:
                wanted[n].append(kind)
        last = max([*wanted, *self.first], default=-1)
        for number, (where, row) in enumerate(islice(iter_rows(source), last + 1)):
            for kind in wanted.get(number, ()):
                text = row["document" if kind == "frequent document" else "query"]
                self.examples[kind].append(f'{where} "{excerpt(text)}"')
            for kind, place in self.first.get(number, ()):
                self.examples[kind][place] += f" (compare {where})"


def _chance_longer(left, right):
    """Return the chance that a draw from Counter ``left`` exceeds one from ``right``; equals count half."""
    below, total = 0, 0.0
    for size in sorted(left | right):
        total += left[size] * (below + right[size] / 2)
        below += right[size]
    return total / max(1, left.total() * below)
