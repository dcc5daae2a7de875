"""Documents longer than the prompt: score overlapping pieces and keep the best, so that a late answer is seen.

A piece is scored as a document of its own. All pieces of a query stand in one list, so system text, instruction and query
are computed once. Method: MaxP of Dai and Callan, "Deeper Text Understanding for IR with Contextual Neural Language
Modeling", SIGIR 2019.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from course_utils.data.passages import pieces
from course_utils.errors import InputError
from course_utils.model import Counted, sigmoid
from course_utils.model.prompt import _as_lists, _Asked
from course_utils.model.reranker import Ranked, _check_asked


@dataclass(frozen=True)
class _RankedPiece(Ranked):
    """A document in a ranking with the piece that gave it its score; see ``Ranked``.

    Attributes:
        start: where the piece begins, in characters.
        end: where it ends.
    """

    start: int
    end: int

    @property
    def piece(self):
        """The text of the best piece."""
        return self.document[self.start : self.end]


def score_long(reranker, groups, size=120, overlap=1, progress=False):
    """Return scores of whole documents by their best piece, and where that piece lies.

    Args:
        reranker: the Reranker.
        groups: list of Group, or of (query, [document, ...]).
        size: words (Chinese: characters) of a piece at most; a document that is no longer is scored as it is.
        overlap: sentences that neighbouring pieces share.
        progress: show a bar with the time left.

    Returns:
        (Counted list of float32 arrays of logits, one a query, for ``evaluate_scores`` too; list of lists of
        (start, end) in characters). ``truncated`` counts pieces that were cut: then take a smaller ``size``.
    """
    groups, cuts, parts = _as_lists(groups), [], []
    for asked in groups:
        query, documents = asked
        own = [pieces(d, size, overlap) for d in documents]
        cuts.append(own)
        parts.append(_Asked((query, [d[a:b] for d, spans in zip(documents, own, strict=True) for a, b in spans])))
        parts[-1].instruction = asked.instruction
    found = reranker.score_groups(parts, progress=progress)
    scores, places = Counted(), []
    scores.truncated = found.truncated
    for own, flat in zip(cuts, found, strict=True):
        ends = np.cumsum([0, *map(len, own)])
        best = [int(a + np.argmax(flat[a:b])) for a, b in pairwise(ends)]
        scores.append(flat[best] if best else flat)
        places.append([spans[i - a] for spans, i, a in zip(own, best, ends[:-1], strict=True)])
    return scores, places


def _score_lists(reranker, groups, long_documents="cut", progress=False):
    """Return a Counted list of logits a query: of documents cut at the prompt's end, or of their best pieces."""
    _check_way(long_documents)
    if long_documents == "passages":
        return score_long(reranker, groups, progress=progress)[0]
    return reranker.score_groups(groups, **({"progress": True} if progress else {}))


def _check_way(long_documents):
    if long_documents not in ("cut", "passages"):
        raise InputError(
            'long_documents is "{long_documents}"; choose "cut" or "passages".', long_documents=long_documents
        )


def _best_pieces(reranker, groups, size=120, overlap=1):
    """Return the groups with each document as the piece of it that the reranker likes best.

    Of a right document that piece trains; the others, which may say nothing of the answer, stand in no list and so are not
    made wrong. Of a wrong document it is the piece most like an answer. Two documents with the same best piece: the
    better grade stays.
    """
    _, places = score_long(reranker, groups, size, overlap)
    out = []
    for g, own in zip(groups, places, strict=True):
        texts = [d[a:b].strip() or d for d, (a, b) in zip(g.documents, own, strict=True)]
        best = {}
        for i, text in enumerate(texts):
            if text not in best or g.relevance[i] > g.relevance[best[text]]:
                best[text] = i
        kept = g._pick(sorted(best.values()))
        out.append(replace(kept, documents=[texts[i] for i in sorted(best.values())]))
    return out


def rank_long(reranker, query, documents, top_k=None, size=120, overlap=1):
    """Return documents as _RankedPiece, best first; ``Reranker.rank`` for documents longer than the prompt.

    Arguments: see ``score_long``. ``top_k``: how many to return; default all.

    Raises:
        InputError: no document, or an empty query.
    """
    documents = list(documents)
    _check_asked(query, documents)
    (scores,), (places,) = score_long(reranker, [(query, documents)], size, overlap)
    order = np.argsort(-scores, kind="stable")[:top_k].tolist()
    return [_RankedPiece(documents[i], float(scores[i]), float(sigmoid(scores[i])), i, *places[i]) for i in order]
