"""Batches of about equally many tokens, and a share of them for each process."""

import numpy as np
import torch

from course_utils import machine

_SHARED_TOKENS = 1024  # least tokens of a batch where several processes share the work


def _token_batches(encoded, batch_tokens):
    """Yield lists of (query index, [candidate index, ...]) of about ``batch_tokens`` tokens.

    Queries of similar length stand together; a list that is too long for one batch is split, longest apart.
    """
    sizes = [sum(len(ids) for ids in own) for own in encoded.candidates]
    order = sorted(range(len(encoded)), key=lambda g: (sizes[g] / max(1, len(encoded.candidates[g])), g))
    batch, used = [], 0
    for g in order:
        own = sorted(range(len(encoded.candidates[g])), key=lambda c: (len(encoded.candidates[g][c]), c))
        start = 0
        while start < len(own):
            if used >= batch_tokens:
                yield batch
                batch, used = [], 0
            used += len(encoded.prefixes[g])
            stop = start
            while stop < len(own) and (stop == start or used < batch_tokens):
                used += len(encoded.candidates[g][own[stop]])
                stop += 1
            batch.append((g, own[start:stop]))
            start = stop
    if batch:
        yield batch


def _own_batches(encoded, batch_tokens, device="cpu"):
    """Return those of ``token_batches`` that this process computes: all of them where there is one process.

    Several processes get about equally many tokens: each waits for the slowest. So batches are smaller then, four for a
    process where there is enough, and the largest go first, each to the process that has least.
    """
    rank, count = machine.join(device)
    if count == 1:
        return list(_token_batches(encoded, batch_tokens))
    tokens = sum(_tokens(encoded, g, range(len(own))) for g, own in enumerate(encoded.candidates))
    parts = max(1, min(4, tokens // (count * _SHARED_TOKENS)))  # one short list is divided, too, but only once
    batches = list(_token_batches(encoded, min(batch_tokens, tokens // (parts * count) + 1)))
    shares, given = [[] for _ in range(count)], [0] * count
    sizes = [sum(_tokens(encoded, g, own) for g, own in batch) for batch in batches]
    for i in sorted(range(len(batches)), key=lambda i: -sizes[i]):
        least = given.index(min(given))
        shares[least].append(i)
        given[least] += sizes[i]
    return [batches[i] for i in sorted(shares[rank])]


def _tokens(encoded, g, own):
    """Return the tokens of some candidates of query ``g``, the shared prefix counted once."""
    return len(encoded.prefixes[g]) + sum(len(encoded.candidates[g][c]) for c in own)


def _gather_scores(scores, device):
    """Return score arrays in which every process has filled in its share and left the rest 0."""
    if not machine.started() or not scores:
        return scores
    flat = machine.total(torch.from_numpy(np.concatenate(scores)).to(device)).cpu().numpy()
    return np.split(flat, np.cumsum([len(own) for own in scores])[:-1])


def _bucket_ends(lengths, bucket_tokens):
    """Return where buckets of documents of these rising ``lengths`` end, so that least is computed, padding included.

    A bucket costs as much as 32 tokens on a CPU, many more on a GPU, and holds at most two times ``bucket_tokens``.
    """
    extra = 32 if bucket_tokens <= 512 else bucket_tokens // 2
    best, last = {0: (0, ())}, 0  # where a bucket may end: the least computed up to there, the ends up to there
    for stop, length in enumerate(lengths, 1):
        most = max(1, 2 * bucket_tokens // max(1, length))
        if stop < len(lengths) and lengths[stop] == length and stop - last < most:
            continue  # documents of one length stay together until they fill a bucket
        cost, start = min((best[e][0] + (stop - e) * length + extra, e) for e in best if stop - e <= most)
        best[stop], last = (cost, (*best[start][1], stop)), stop
    return list(best[len(lengths)][1])
