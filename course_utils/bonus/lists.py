"""What the student trains on: lists labelled by the teacher, and windows of text that need no label."""

import json
from pathlib import Path

import numpy as np
import torch

from course_utils.bonus.vocabulary import MEANING

TEMPERATURE = 0.025  # of the teacher's cosines: within a list they lie close together
WORDS = 0.05  # share of lists whose query is a single word
HELD = 150  # queries kept out of training, for choices


def neighbours(vectors, usable, count=8, floor=0.5):
    """Return the nearest tokens of each token [tokens, count]; itself where none is as near as ``floor``.

    Args:
        vectors: teacher's vectors, rows of length 1 [tokens, MEANING].
        usable: which tokens have a meaning of their own [tokens].
    """
    out = np.tile(np.arange(len(vectors))[:, None], (1, count))
    table = torch.tensor(vectors[usable])
    ids = np.flatnonzero(usable)
    for part in np.array_split(np.arange(len(ids)), 24):
        near = table[part] @ table.T
        near[torch.arange(len(part)), torch.tensor(part)] = 0
        value, index = near.topk(count, dim=1)
        own = ids[part][:, None]
        out[ids[part]] = np.where(value.numpy() >= floor, ids[index.numpy()], own)
    return out


def bm25_rivals(queries, documents, vocabulary, count=20, k1=1.2, b=0.75):
    """Return the best documents of each query by BM25 over token ids [queries, count]."""
    from scipy.sparse import csr_matrix

    def matrix(rows):
        at = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
        counts = csr_matrix((np.ones(len(at), np.float32), (at, np.concatenate(rows))), (len(rows), vocabulary))
        counts.sum_duplicates()
        return counts

    held, asked = matrix(documents), matrix(queries)
    length = np.asarray(held.sum(1)).ravel()
    seen = np.bincount(held.indices, minlength=vocabulary)
    idf = np.log1p((len(documents) - seen + 0.5) / (seen + 0.5)).astype(np.float32)
    rows = np.repeat(np.arange(len(documents)), np.diff(held.indptr))
    held.data = held.data * (k1 + 1) / (held.data + k1 * (1 - b + b * length[rows] / length.mean())) * idf[held.indices]
    held, out = held.T.tocsr(), []
    for i in range(0, len(queries), 500):
        scores = (asked[i : i + 500] @ held).toarray()
        out.append(np.argpartition(-scores, count, axis=1)[:, :count].copy())  # a view would keep all of it
    return np.concatenate(out)


class Pool:
    """Queries and passages with the teacher's vectors.

    Args:
        folder: shards written by ``label.label_items``.
        tokenizer: the student's.
        seed: for everything drawn.
        words: (ids [words], the teacher's vectors [words, 384]) of single tokens that serve as queries too: they were
            embedded for the vocabulary anyway, so their labels are free.
    """

    def __init__(self, folder, tokenizer, seed=0, words=None):
        self.random, items, asked, told = np.random.default_rng(seed), [], [], []
        self.shards = sorted(Path(folder).glob("[0-9]*.npz"))
        for path in self.shards:
            with path.with_suffix(".jsonl").open(encoding="utf-8") as file:
                items += [json.loads(line) for line in file]
            with np.load(path) as vectors:
                asked.append(vectors["queries"])
                told.append(vectors["passages"])

        def ids(texts):
            rows = tokenizer([" " + t for t in texts], add_special_tokens=False)["input_ids"]
            return [np.array(r) for r in rows]

        self.passages = ids([i["passage"] for i in items])
        self.queries = [q[:40] for q in ids([q for i in items for q in i["queries"]])]
        self.own = np.array([n for n, i in enumerate(items) for _ in i["queries"]])
        self.asked = np.concatenate(asked).astype(np.float32)
        self.told = np.concatenate(told).astype(np.float32)
        self.meant = self.told - self.told.mean(0)
        self.language = np.array([i["language"] for i in items])
        self.near = {k: np.flatnonzero(self.language == k) for k in ("en", "zh")}
        self.sentences = len(self.queries)
        if words is not None:  # a word has no passage of its own: it takes the one that the teacher finds nearest
            self.queries += [np.array([w]) for w in words[0]]
            self.asked = np.concatenate([self.asked, words[1].astype(np.float32)])
        self.lexical = bm25_rivals(self.queries, self.passages, len(tokenizer))
        told = torch.tensor(self.told).T
        near = [(part @ told).topk(40, dim=1).indices for part in torch.tensor(self.asked).split(1000)]
        self.semantic = torch.cat(near).numpy()
        self.own = np.concatenate([self.own, self.semantic[self.sentences :, 0]])
        self.lengths = np.array([len(p) for p in self.passages])

    def rivals(self, query, lexical, semantic, other, longest):
        """Return passages beside the right one: by shared words, by the teacher, and at random."""
        own = self.own[query]
        language = self.language[own]
        if self.random.random() < 0.12:
            language = "en" if language == "zh" else "zh"
        sources = [(self.lexical[query], lexical), (self.semantic[query], semantic), (self.near[language], other)]
        out = []
        for source, count in sources:
            allowed = source[self.lengths[source] <= longest]
            allowed = allowed if len(allowed) > count + 1 else source
            fresh = [int(d) for d in self.random.permutation(allowed)[: count + 8] if d != own and d not in out]
            out += fresh[:count]
        return out

    def batch(self, lists, longest=400):
        """Return (groups, document indices [lists, 5], cosines [lists, 5]); the own passage is first.

        Args:
            lists: number of queries.
            longest: passages of more tokens are left to later stages.
        """
        allowed = np.flatnonzero(self.lengths[self.own] <= longest)
        phrases, words = allowed[(allowed >= HELD) & (allowed < self.sentences)], allowed[allowed >= self.sentences]
        few = int(self.random.binomial(lists, WORDS)) if len(words) else 0
        drawn = [self.random.choice(part, n, replace=False) for part, n in ((phrases, lists - few), (words, few)) if n]
        groups, index, cosines = [], [], []
        for q in np.concatenate(drawn):
            rivals = self.rivals(q, 2, 1, 1, longest)
            while len(rivals) < 4:
                rivals.append(int(self.random.integers(len(self.passages))))
            chosen = [int(self.own[q]), *rivals]
            index.append(chosen)
            cosines.append(self.told[chosen] @ self.asked[q])
            groups.append((self.queries[q], [self.passages[d][:longest] for d in chosen]))
        return groups, np.array(index), torch.tensor(np.stack(cosines))

    def held_out(self):
        """Return HELD lists of ten as (query ids, [document ids]); the own passage is first."""
        state, self.random = self.random, np.random.default_rng(5)
        out = []
        for q in range(HELD):
            rivals = self.rivals(q, 6, 0, 3, 10**6)
            out.append((self.queries[q], [self.passages[d] for d in (self.own[q], *rivals)]))
        self.random = state
        return out


class Windows:
    """Draws queries from windows of token ids: the window a query came from is its right document.

    Args:
        documents: list of 1-D id arrays.
        near: neighbours of each token [tokens, count]; some query tokens are replaced by one.
        usable: ids of tokens with a meaning of their own.
        seed: for everything drawn.
    """

    def __init__(self, documents, near, usable, seed=0):
        self.documents = [d for d in documents if len(d) >= 10]
        self.near, self.usable, self.random = near, usable, np.random.default_rng(seed)

    def renamed(self, tokens, share):
        """Return ``tokens`` with about ``share`` of them replaced by a neighbour in meaning."""
        drawn = self.near[tokens, self.random.integers(0, self.near.shape[1], len(tokens))]
        return np.where(self.random.random(len(tokens)) < share, drawn, tokens)

    def synthetic(self, queries, documents, length):
        """Return lists of random tokens: the right document holds the query's tokens or neighbours of them."""
        out = []
        for _ in range(queries):
            rows = self.usable[self.random.integers(0, len(self.usable), (documents, length))]
            n = int(self.random.integers(2, 6))
            query = self.renamed(self.random.choice(rows[0], n, replace=False), 0.4)
            if documents > 2:  # a rival that holds half of the query
                rows[1, self.random.permutation(length)[: n // 2]] = query[: n // 2]
            out.append((query, list(rows)))
        return out

    def window(self, size):
        """Return (document, start, ids) of a random window."""
        document = self.documents[int(self.random.integers(len(self.documents)))]
        start = int(self.random.integers(0, max(1, len(document) - size)))
        return document, start, document[start : start + size]

    def real(self, queries, documents, low, high):
        """Return lists of windows of real text, with rivals that share words or stand beside the right window."""
        size, out = int(self.random.integers(low, high + 1)), []  # one length a batch: little padding
        pool = [self.window(size)[2] for _ in range(48)]
        for _ in range(queries):
            document, start, window = self.window(size)
            query, right = self.query_from(window)
            after = document[start + size : start + 2 * size]
            rivals = [after] if len(after) > size // 2 else []
            wanted = set(query.tolist())
            overlap = [len(wanted & set(p.tolist())) + self.random.random() * 0.9 for p in pool]
            rivals += [pool[b] for b in np.argsort(overlap)[::-1][: max(1, documents - 2 - len(rivals))]]
            while len(rivals) < documents - 1:
                rivals.append(pool[int(self.random.integers(len(pool)))])
            out.append((query, [right, *rivals[: documents - 1]]))
        return out

    def query_from(self, window):
        """Return (query, document): scattered tokens, a span, or a span taken out of the document; some renamed."""
        kind, document = self.random.random(), window
        if kind < 0.5:
            n = int(self.random.integers(2, min(9, len(window))))
            query = window[np.sort(self.random.permutation(len(window))[:n])]
        else:
            n = int(self.random.integers(3, min(13, len(window) - 2)))
            at = int(self.random.integers(0, len(window) - n + 1))
            query = window[at : at + n]
            if kind > 0.85 and len(window) > 3 * n:
                document = np.concatenate([window[:at], window[at + n :]])
        query = self.renamed(query, 0.3 * self.random.random())
        wrong = self.random.random(len(query)) < 0.3 * self.random.random()
        return np.where(wrong, self.random.choice(self.window(12)[2], len(query)), query), document


def token_weights(counts):
    """Return how much a match of each token proves, 0.05 (in every text) to 1 (rare) [tokens]."""
    share = (counts + 1) / counts.sum()
    return np.clip(np.log(share / 0.02) / np.log(2e-6 / 0.02), 0.05, 1).astype(np.float32)


def meanings(embedding):
    """Return the teacher's part of the start of the embedding, rows of length 1 [tokens, MEANING]."""
    part = np.asarray(embedding)[:, :MEANING]
    return part / np.maximum(1e-6, np.linalg.norm(part, axis=1, keepdims=True))
