"""Batches of about equally many tokens, and a share of them for each process."""

import numpy as np
import torch

from course_utils import machine


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
    """Return those of ``token_batches`` that this process computes: all of them where there is one process."""
    rank, count = machine.join(device)
    if count > 1:
        tokens = sum(len(ids) for own in encoded.candidates for ids in own)
        batch_tokens = min(batch_tokens, tokens // count + 1)  # one short list is divided, too
    return list(_token_batches(encoded, batch_tokens))[rank::count]


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
