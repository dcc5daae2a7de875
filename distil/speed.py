"""Seconds a token and a list at scoring, old and new model in turns.

python -m distil.speed --real FOLDER OLD NEW
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from course_utils.data import read_groups, subset
from course_utils.reranker import Reranker

SETS = ("medical-en", "legal-zh", "general-zh", "legal-en-tosdr")


def tokens_of(encoded):
    """Return how many tokens are computed: constant once, each query once, each document."""
    documents = sum(len(c) for own in encoded.candidates for c in own)
    return len(encoded.constant) + sum(map(len, encoded.prefixes)) + documents


def main():
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", required=True)
    parser.add_argument("--queries", type=int, default=12)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("models", nargs=2)
    a = parser.parse_args()
    torch.set_num_threads(1)
    groups = [g for n in SETS for g in subset(read_groups(Path(a.real) / n / "test.jsonl"), a.queries)]
    pairs = [(g.query, list(g.documents)) for g in groups]
    rerankers = [Reranker.load(m, quiet=True) for m in a.models]
    encoded = [r.encode(pairs) for r in rerankers]
    counts, seconds = [tokens_of(e) for e in encoded], [[], []]
    for _ in range(a.turns + 1):
        for n, (r, e) in enumerate(zip(rerankers, encoded, strict=True)):
            start = time.process_time()
            r.score_encoded(e)
            seconds[n].append(time.process_time() - start)
    medians = [float(np.median(s[1:])) for s in seconds]
    for name, count, s, all_ in zip(a.models, counts, medians, seconds, strict=True):
        shown = " ".join(f"{x:.2f}" for x in all_[1:])
        print(f"{name}: {count} tokens, {s:.3f} s of processor, {s / count * 1e6:.1f} microseconds a token ({shown})")
    a_token = medians[1] / counts[1] / (medians[0] / counts[0])
    print(f"new / old: {a_token:.2f} a token, {medians[1] / medians[0]:.2f} a text")


if __name__ == "__main__":
    main()
