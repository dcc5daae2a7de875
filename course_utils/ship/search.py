"""Search in two steps: BM25 finds passages in an index on disk, the reranker puts them in order.

``build_index("handbook/", "handbook.index")`` once, then ``search("handbook.index", question, reranker)``. The index is
memory-mapped: a question reads the parts it needs. First stage: bm25s (Lù, "BM25S", arXiv 2407.03618), with the course's
tokens and, in Chinese, single characters, too: a question in lay words often shares no pair of them with its answer.
"""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_utils.data import read_passages
from course_utils.data.negatives import _SearchBm25
from course_utils.errors import InputError
from course_utils.files import check_outputs, whole_folder, write_json
from course_utils.language import _
from course_utils.model import sigmoid
from course_utils.ship.dense import _VECTORS, _dense_top, _encoder, _fused, _vectors

_ABOUT, _TEXTS, _ENDS, _IDS = "index.json", "texts.bin", "ends.npy", "ids.json"


@dataclass(frozen=True)
class _Hit:
    """A passage that was found.

    Attributes:
        text: the passage.
        score: logit of the reranker; without one that of BM25, or of the ranks where an index has vectors, too.
        probability: sigmoid of the logit; None without a reranker.
        id: the passage's id: its document and "#" with the number of the piece, where the document was cut.
        document: the file in the indexed folder, or the id of a row.
        place: number of the piece in its document, from 0.
    """

    text: str
    score: float
    probability: float | None
    id: str
    document: str
    place: int


def build_index(source, out, size=200, overlap=1, dense=None, **how):
    """Write a search index of a file or of all files below a folder to ``out``, whole or not at all.

    Args:
        source: what ``data.read_passages`` reads: texts, Markdown, HTML, PDF, tables, or a folder of them.
        out: folder of the index.
        size: words (Chinese: characters) of a passage at most.
        overlap: sentences that neighbouring passages share.
        dense: a sentence-transformers model, folder or hub name, whose vectors find passages beside BM25; None for none.
        how: of tables, as for ``read_passages``: columns, sheet, encoding, separator.

    Returns:
        (number of passages, list of sentences on what was read). A passage that stands twice is kept once.

    Raises:
        InputError: nothing to read, or a place that cannot be written to or holds other files.
    """
    check_outputs((), [source], folders=[out])
    passages, said = read_passages(source, size, overlap, **how)
    kept = {}
    for p in passages:
        kept.setdefault(p.text, p)
    if twice := len(passages) - len(kept):
        text = (
            _("{twice:,} passages that stand twice left out")
            if twice > 1
            else _("1 passage that stands twice left out")
        )
        said = [*said, text.format(twice=twice)]
    kept = list(kept.values())
    first = _SearchBm25(p.text for p in kept).index
    raw = [p.text.encode() for p in kept]
    vectors = _vectors(_encoder(dense), [p.text for p in kept]) if dense else None
    with whole_folder(out) as folder:
        first.save(folder / "bm25", show_progress=False)
        (folder / _TEXTS).write_bytes(b"".join(raw))
        np.save(folder / _ENDS, np.cumsum([0, *map(len, raw)], dtype=np.int64))
        write_json(folder / _IDS, [[p.id, p.document, p.place] for p in kept])
        if dense:
            np.save(folder / _VECTORS, vectors)
        more = {"build": uuid.uuid4().hex, **({"dense": str(dense)} if dense else {})}
        write_json(folder / _ABOUT, {"passages": len(kept), "size": size, "overlap": overlap, **more})
    return len(kept), said


class SearchIndex:
    """An index on disk, opened; keep it for several questions. Another build may take its place meanwhile.

    Raises:
        InputError: the folder holds no whole index.
    """

    def __init__(self, folder):
        folder, self.encoder = Path(folder), None
        if not any(self._open(folder) for _try in range(3)):
            raise InputError("{folder} is no search index, or a damaged one; make it with index (build_index).", folder=folder)  # fmt: skip

    def _open(self, folder):
        """Open the files of the index and return whether they are whole, and of one build: another may come meanwhile."""
        import bm25s

        try:
            about = json.loads(build := (folder / _ABOUT).read_text(encoding="utf-8"))
            self.size, self.dense = about["passages"], about.get("dense")
            self.vectors = np.load(folder / _VECTORS, mmap_mode="r") if self.dense else None
            self.first = bm25s.BM25.load(folder / "bm25", mmap=True, show_progress=False)
            self.ends = np.load(folder / _ENDS, mmap_mode="r")
            self.texts = np.memmap(folder / _TEXTS, dtype=np.uint8, mode="r")
            self.ids = json.loads((folder / _IDS).read_text(encoding="utf-8"))
            whole = self.vectors is None or len(self.vectors) == self.size
            whole = whole and len(self.ids) == self.size == len(self.ends) - 1 and self.ends[-1] == len(self.texts)
            return whole and build == (folder / _ABOUT).read_text(encoding="utf-8")
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def text(self, i):
        """Return passage ``i``."""
        return bytes(self.texts[self.ends[i] : self.ends[i + 1]]).decode()

    def first_stage(self, question, k):
        """Return ([number, ...], [score, ...]): as ``top``, with the ``k`` nearest vectors too where the index has them."""
        numbers, scores = self.top(question, k)
        if self.dense is None:
            return numbers, scores
        if self.encoder is None:
            self.encoder = _encoder(self.dense)
        return _fused(numbers, _dense_top(self.vectors, _vectors(self.encoder, [question])[0], k))

    def top(self, question, k):
        """Return ([number, ...], [BM25 score, ...]) of the ``k`` best passages that share a word with the question."""
        tokens = [t for t in _SearchBm25.tokens(question) if t in self.first.vocab_dict]
        if not tokens:
            return [], []
        scores = self.first.get_scores(tokens)
        # First all passages as good as the k-th, so that equal scores keep the order of the files.
        best = np.flatnonzero((scores >= np.partition(scores, -k)[-k] if k < self.size else True) & (scores > 0))
        best = best[np.argsort(-scores[best], kind="stable")][:k]
        return best.tolist(), scores[best].tolist()


def search(index, question, reranker=None, top_k=5, first=50):
    """Return the passages that answer a question as Hits, best first.

    Args:
        index: a SearchIndex, or the folder of one.
        question: what is looked for.
        reranker: the Reranker; None gives the order of BM25 alone.
        top_k: passages to return.
        first: passages that each first stage hands to the reranker; what is not among them cannot be found.

    Raises:
        InputError: an empty question, numbers below 1, or no index.
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError("The question is empty; write what you are looking for.")
    if top_k < 1 or first < 1:
        raise InputError("top_k is {top_k} and first {first}; both are 1 at least.", top_k=top_k, first=first)
    index = index if isinstance(index, SearchIndex) else SearchIndex(index)
    numbers, scores = index.first_stage(question, first if reranker else top_k)
    texts = [index.text(i) for i in numbers]
    if reranker and texts:
        scores = reranker.score_groups([(question, texts)])[0].tolist()
    order = sorted(range(len(texts)), key=lambda j: -scores[j])[:top_k]  # equal scores keep BM25's order
    chance = [float(sigmoid(s)) if reranker else None for s in scores]
    return [_Hit(texts[j], scores[j], chance[j], *index.ids[numbers[j]]) for j in order]
