"""What the report on labelled pairs can say: the remarks, one finding of them, and the whole report for people."""

import unicodedata
from dataclasses import dataclass, field

from course_utils.data.lengths import _Lengths
from course_utils.language import _

# kind of remark -> (must be mended before use, what is counted, what to do)
REMARKS = {
    "unusable row": (True, "Rows that cannot be used", "Mend or delete them; other commands refuse the file."),
    "duplicate pair": (True, "Pairs that stand twice", "Delete the copies, or let data convert --drop-repeated (drop_repeated=True) keep the first of each."),
    "contradictory pair": (True, "Pairs labelled both relevant and not", "Decide which label is right."),
    "labelled both ways": (True, "Pairs that differ only in case or punctuation, one labelled relevant and one not",
        "Decide which label is right and delete the other row."),
    "query in test": (True, "Queries that are in the test file too",
        "Remove them from one side: the test would measure memory."),
    "document in test": (True, "Relevant documents that are relevant in the test file too",
        "Join the two files and split again with data split (data.split), which keeps such queries together."),
    "answer among negatives": (True, "Right answers of the test file that stand here as wrong documents",
        "A model learns to say no to them: data split and data prepare (data.without_answers) take them out."),
    "query too long": (True, "Queries that leave no room for a document", "Raise --max-length (max_length) or shorten the query."),
    "no relevant document": (True, "Pairs, not one of them relevant",
        "Without right answers there is nothing to learn."),
    "no other document": (True, "Pairs, all of them relevant",
        "A model would learn to say yes to everything: add negatives with data prepare (negatives.mine)."),
    "query nearly in test": (False, "Queries nearly the same as one in the test file",
        "If they ask the same thing, remove them from one side."),
    "document nearly in test": (False, "Relevant documents nearly the same as a relevant one in the test file",
        "If they are copies with a few words changed, keep their queries on one side."),
    "near answer among negatives": (False, "Wrong documents nearly the same as a right answer in the test file",
        "If they answer too, take them out: data split does (data.without_answers with near=True)."),
    "almost the same pair": (False, "Pairs that differ from another only in case or punctuation", "Keep one of each."),
    "query without relevant document": (False, "Queries without a relevant document",
        "They cannot be ranked right or wrong: add the right document, or leave them out of the test."),
    "query with relevant documents only": (False, "Queries with relevant documents only",
        "They cannot be ranked wrongly: add negatives with data prepare (negatives.mine)."),
    "frequent document": (False, "Documents that are relevant to very many queries",
        "Boilerplate, or a default label? Read a few of their queries."),
    "document is the query": (False, "Documents that repeat the query", "They teach matching words, not meaning."),
    "no words": (False, "Pairs with a text that has no letter or digit", "Was the text lost on the way?"),
    "prompt marks": (False, "Pairs whose text holds marks of the chat prompt, such as <|im_end|>",
        "The model takes them for the end of a message: remove them."),
    "cut document": (False, "Documents that would be cut",
        "What stands behind the cut is never read: raise --max-length (max_length) or split long documents into passages."),
    "few pairs": (False, "Few pairs for training",
        "1,000 to 5,000 a domain is the usual advice; with fewer, expect less."),
    "mostly relevant": (False, "Relevant pairs, more than half of all",
        "In use most candidates are wrong: add negatives with data prepare (negatives.mine), three to eight a query."),
    "hardly relevant": (False, "Relevant pairs, fewer than 1 in 50",
        "Most of the time would go into negatives: keep the hardest ten a query."),
    "length tells": (False, "Chances in 100 that a relevant document is longer than another",
        "A model could learn the length alone: take negatives from the same kind of text as the right answers."),
    "document tells": (False, "Documents betray their label; hundredths of nDCG@10 that a rule gains which never reads the query",
        "A gain from training up to this size is no sign that queries are read; choose wrong documents from the same source "
        "and style as right ones."),
}  # fmt: skip


def _excerpt(text, size=40):
    """Return text in one short line without control characters, for messages."""
    text = " ".join(text[: 4 * size].split())
    text = "".join("?" if unicodedata.category(c)[0] == "C" else c for c in text)
    return text if len(text) <= size else text[: size - 1] + "…"


@dataclass
class _Finding:
    """One remark: its kind (a key of REMARKS), how often it applies, examples, particulars, advice of its own."""

    kind: str
    count: int
    examples: list = field(default_factory=list)
    detail: str = ""
    advice: str = ""

    @property
    def mend(self):
        """True when the data should not be used before this is mended."""
        return REMARKS[self.kind][0]

    def __str__(self):
        text, advice = map(_, REMARKS[self.kind][1:])
        examples = _(" For example {examples}.").format(examples=_("; ").join(self.examples)) if self.examples else ""
        return _("- {what}: {count:,}{detail}.{examples} {advice}").format(
            what=text, count=self.count, detail=self.detail, examples=examples, advice=self.advice or advice
        )


@dataclass
class _Report:
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
        lengths: token counts, when a tokenizer was given.
        test: name of the test data, when given.
        said: a sentence on the rule that reads documents alone, where it was tried and found nothing.
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
    lengths: _Lengths = None
    test: str = ""
    said: str = ""

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
        ratio = _(", 1 to {ratio:.1f}").format(ratio=other / relevant) if relevant and other else ""
        lines = [
            _("{source}: {pairs:,} pairs, {queries:,} queries, {documents:,} documents.").format(
                source=self.source, pairs=self.pairs, queries=self.queries, documents=self.documents
            ),
            _(
                "Balance: {relevant:,} relevant, {other:,} not{ratio}; a query has on average {relevant_2:.1f} relevant "
                "and {other_2:.1f} other documents."
            ).format(
                relevant=relevant,
                other=other,
                ratio=ratio,
                relevant_2=relevant / self.queries,
                other_2=other / self.queries,
            ),
        ]
        if self.lengths:
            lines.append(_("Lengths: {lengths}.").format(lengths=self.lengths))
        if self.test:
            leaks = any(f.kind.endswith(("in test", "among negatives")) for f in self.findings)
            lines.append(
                _("Against {test}: {found}.").format(
                    test=self.test, found=_("see below") if leaks else _("nothing shared, nothing nearly the same")
                )
            )
        lines += [self.said] if self.said else []
        mend, look = [f for f in self.findings if f.mend], [f for f in self.findings if not f.mend]
        if mend:
            lines += [_("Mend this before you use it:"), *map(str, mend)]
        if look:
            lines += [_("Have a look at this:"), *map(str, look)]
        if not mend:
            lines.append(
                _("Nothing must be mended; look at what stands above before you use it.")
                if look
                else _("Nothing suspicious: go ahead.")
            )
        return "\n".join(lines)
