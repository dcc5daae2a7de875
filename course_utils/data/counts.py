"""The one rule for queries that cannot be measured, and the count of what it left out and what was cut."""

from dataclasses import dataclass, replace

from course_utils.errors import InputError
from course_utils.language import _
from course_utils.model import prompt


@dataclass(frozen=True)
class Counts:
    """What was left out of a measurement or a training, and what was cut.

    Attributes:
        queries: queries that were given.
        without_right: left out, because no document is relevant: no ranking of them is right or wrong.
        only_right: left out, because all documents are relevant: every ranking of them is right.
        too_long: left out, because prompt and query leave no room for a document.
        documents: documents of the queries that stay.
        cut: those of them that are longer than the model reads; their end counts for nothing.
        max_length: tokens of a prompt at most, where known; 0 else.
    """

    queries: int = 0
    without_right: int = 0
    only_right: int = 0
    too_long: int = 0
    documents: int = 0
    cut: int = 0
    max_length: int = 0

    @property
    def kept(self):
        """Queries that stay."""
        return self.queries - self.without_right - self.only_right - self.too_long

    def as_dict(self):
        """Return the counts under the names that result files use."""
        return {
            "queries": self.queries,
            "queries_kept": self.kept,
            "queries_without_right_document": self.without_right,
            "queries_with_right_documents_only": self.only_right,
            "queries_too_long": self.too_long,
            "documents": self.documents,
            "documents_cut": self.cut,
        }

    def sentence(self):
        """Return one sentence on what was left out and cut, or "" where that is nothing."""
        reasons = [
            _("{count} {reason}").format(count=count, reason=reason)
            for count, reason in (
                (self.without_right, _("without a right document")),
                (self.only_right, _("with right documents only")),
                (
                    self.too_long,
                    _("too long for max_length {max_length}, see --max-length").format(max_length=self.max_length),
                ),
            )
            if count
        ]
        parts = [
            _("{queries} of {queries_2} queries are left out ({reasons})").format(
                queries=self.queries - self.kept, queries_2=self.queries, reasons=_(", ").join(reasons)
            )
        ]
        parts = parts if reasons else []
        if self.cut:
            parts.append(
                _("{cut} of {documents} documents are cut at max_length {max_length}").format(
                    cut=self.cut, documents=self.documents, max_length=self.max_length
                )
            )
        return _("{parts}.").format(parts=_("; ").join(parts)) if parts else ""


def usable(groups, reranker=None):
    """Return (the groups that can be ranked wrongly and fit into the prompt, the Counts of the others).

    ``data check``, ``evaluate``, ``adapt`` and the gate all use this rule. Cut documents are not counted here, since
    that takes a tokenizer run over all texts; who encodes them puts ``cut`` in with ``dataclasses.replace``.

    Args:
        groups: list of Group.
        reranker: whose tokenizer, instruction and max_length say which queries are too long; None: none is.

    Raises:
        InputError: no group is left; the message says why.
    """
    groups = list(groups)
    without = [g for g in groups if not any(r > 0 for r in g.relevance)]
    only = [g for g in groups if g.relevance and all(r > 0 for r in g.relevance)]
    kept = [g for g in groups if any(r > 0 for r in g.relevance) and any(r <= 0 for r in g.relevance)]
    counts = Counts(len(groups), len(without), len(only))
    if hasattr(reranker, "tokenizer"):
        long = {
            (query, told)
            for told in {g.instruction for g in kept}
            for query in prompt._queries_too_long(
                {g.query for g in kept if g.instruction == told},
                reranker.tokenizer, told or reranker.instruction, reranker.max_length,
            )
        }  # fmt: skip
        fitting = [g for g in kept if (g.query, g.instruction) not in long]
        counts = replace(counts, too_long=len(kept) - len(fitting), max_length=reranker.max_length)
        kept = fitting
    counts = replace(counts, documents=sum(len(g.documents) for g in kept))
    if not kept:
        why = f" {counts.sentence()}" if groups else ""
        why += _(" Add wrong documents with data prepare.") if only and not without else ""
        raise InputError(
            "No query has both a relevant and a non-relevant document: there is nothing to rank.{why}", why=why
        )
    return kept, counts
