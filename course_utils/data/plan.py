"""The choices of ``prepare`` and what it gives back."""

from dataclasses import dataclass, field

from course_utils.errors import InputError
from course_utils.language import _

PARTS = ("train", "dev", "test")
# Standard deviation of the change of a query's nDCG@10: measured 0.19 and 0.20 on two sets of this course, 0.14 on a handbook.
_CHANGE = 0.2
_DEPTHS = (10, 20, 50)


@dataclass(frozen=True)
class Plan:
    """The choices of ``prepare``.

    Attributes:
        fractions: shares of train, dev and test.
        by: what stays together in one part: "topic", "document" (the file that a right passage stands in), "query", or
            "auto": topics where all questions have one, else documents where most are cut into pieces, else queries.
        hard: BM25 negatives a training query; dev and test get twice as many.
        random_negatives: random negatives a query.
        ranks: BM25 ranks that they come from, see ``mine``.
        margin: for the reranker's filter, see ``mine``.
        size: words (Chinese: characters) of a passage at most.
        overlap: sentences that neighbouring passages share.
        seed: for splits and draws.
    """

    fractions: tuple = (0.7, 0.1, 0.2)
    by: str = "auto"
    hard: int = 5
    random_negatives: int = 2
    ranks: tuple = (0, 50)
    margin: float = 0.95
    size: int = 200
    overlap: int = 1
    seed: int = 0

    def __post_init__(self):
        if self.by not in ("auto", "topic", "document", "query"):
            raise InputError('by is "{by}"; choose "auto", "topic", "document" or "query".', by=self.by)
        if len(self.fractions) != 3 or min(self.fractions) <= 0:
            raise InputError(
                "The fractions {fractions} are not three shares above 0, for train, dev and test.",
                fractions=self.fractions,
            )
        if self.hard < 0 or self.random_negatives < 0 or self.hard + self.random_negatives < 1:
            raise InputError(
                "hard is {hard} and random_negatives {random_negatives}; ask for one at least.",
                hard=self.hard,
                random_negatives=self.random_negatives,
            )


@dataclass
class _Prepared:
    """Lists for train, dev and test, and what to know about them; ``str(prepared)`` is for people.

    Attributes:
        parts: {"train": list of Group, "dev": ..., "test": ...}.
        passages: list of Passage: the handbook in pieces.
        recall: {10: share, 20: share, 50: share} of questions with a right passage among the first of BM25 over all
            passages: what no reranker can mend. 0 where no right text is a passage.
        suspects: list of (question, passage, right passage): passages that may be right answers too, to be read.
        dropped: candidates that the reranker's margin left out.
        more_questions: how many more test questions an interval of +-0.03 in nDCG@10 would need.
        notes: sentences on what was read, split and left out.
        first: the first stage that hard negatives, recall and suspects come from.
    """

    parts: dict
    passages: list
    recall: dict
    suspects: list
    dropped: int
    more_questions: int
    notes: list = field(default_factory=list)
    first: str = "BM25"

    def __str__(self):
        lines = list(self.notes)
        for part, groups in self.parts.items():
            right = sum(len(g.positives) for g in groups)
            other = sum(len(g.documents) for g in groups) - right
            lines.append(
                _("{part}: {n_groups} questions, {right} right and {other} other passages, 1 to {other_2:.1f}.").format(
                    part=part, n_groups=len(groups), right=right, other=other, other_2=other / right
                )
            )
        shares = [_("{share:.0%} among the first {k}").format(share=share, k=k) for k, share in self.recall.items()]
        said = _(
            "{first} over all {n_passages:,} passages finds a right one for {found}; the others no reranker mends."
        )
        lines.append(said.format(first=self.first, n_passages=len(self.passages), found=_(", ").join(shares)))
        if self.dropped:
            lines.append(
                _("{dropped} candidates that the reranker likes as much as a right answer are no negatives.").format(
                    dropped=self.dropped
                )
            )
        if self.suspects:
            lines.append(
                _("{n_suspects} passages may be right answers that nobody marked. Read them, for example:").format(
                    n_suspects=len(self.suspects)
                )
            )
            lines += [f'- "{q[:80]}": "{p[:120]}"' for q, p, _ in self.suspects[:3]]
        queries = len(self.parts["test"])
        half = 1.96 * _CHANGE / queries**0.5
        lines.append(
            _("With {queries} test questions a gain is known to about +-{half:.2f}; ").format(
                queries=queries, half=half
            )
            + (
                _("for +-0.03 add about {more_questions}.").format(more_questions=self.more_questions)
                if self.more_questions
                else _("that is enough for +-0.03.")
            )
        )
        return "\n".join(lines)

    def as_dict(self):
        """Return the figures under the names of a result file."""
        return {
            "queries": {part: len(groups) for part, groups in self.parts.items()},
            "pairs": {part: sum(len(g.documents) for g in groups) for part, groups in self.parts.items()},
            "passages": len(self.passages),
            "bm25_recall": {str(k): share for k, share in self.recall.items()},
            "suspects": len(self.suspects),
            "dropped_by_margin": self.dropped,
            "more_questions": self.more_questions,
            "notes": self.notes,
        }
