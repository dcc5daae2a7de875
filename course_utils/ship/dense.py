"""An optional second first stage: vectors of a sentence-transformers model beside the BM25 of an index; off by default."""

import sys
from pathlib import Path

import numpy as np

from course_utils.data.negatives import _SearchBm25
from course_utils.errors import InputError

_VECTORS = "dense.npy"
_DAMP = 60  # of reciprocal rank fusion: Cormack, Clarke and Büttcher, SIGIR 2009


def _encoder(name):
    """Return the sentence-transformers model of a folder or a hub name, "owner/name" or "owner/name@revision"."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise InputError('A dense first stage needs: pip install "reranker-course[interop]".') from None
    local = Path(name).exists()
    name, _, revision = (str(name), "", "") if local else str(name).partition("@")
    try:
        return SentenceTransformer(name, revision=revision or None, trust_remote_code=False)
    except Exception as error:  # of the network, the hub and the loaders, each of its own kind
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            "The model {name} of the dense first stage cannot be loaded: {text}", name=name, text=text
        ) from None


def _vectors(encoder, texts):
    """Return float32 vectors of length 1 [texts, width]."""
    bar = len(texts) > 1 and sys.stderr.isatty()
    found = encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=bar)
    return np.asarray(found, dtype=np.float32)


def _dense_top(vectors, question, k):
    """Return the numbers of the ``k`` passages nearest to a question's vector, best first."""
    near = vectors @ question
    return np.argsort(-near, kind="stable")[:k].tolist()


def _fused(*orders):
    """Return (numbers, scores) of several orders put together by reciprocal rank, best first."""
    scores = {}
    for order in orders:
        for place, number in enumerate(order, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (_DAMP + place)
    best = sorted(scores, key=lambda n: -scores[n])
    return best, [scores[n] for n in best]


class _Both:
    """BM25 and vectors of one encoder as one first stage over ``texts``, with the ``top`` of ``data.Bm25``."""

    def __init__(self, encoder, known, texts):
        self.bm25, self.encoder = _SearchBm25(texts), encoder
        self.texts = self.bm25.texts
        if new := [t for t in self.texts if t not in known]:
            known.update(zip(new, _vectors(encoder, new), strict=True))
        self.vectors = np.stack([known[t] for t in self.texts])

    def top(self, query, k):
        """Return the ``k`` best texts by reciprocal rank in both orders, best first."""
        words = [self.bm25.place[t] for t in self.bm25.top(query, k)]
        near = _dense_top(self.vectors, _vectors(self.encoder, [query])[0], k)
        return [self.texts[i] for i in _fused(words, near)[0][:k]]


def _both_stages(name):
    """Return what ``data.prepare`` takes as its ``first_stage``; a text's vector is computed once."""
    encoder, known = _encoder(name), {}
    return lambda texts: _Both(encoder, known, texts)
