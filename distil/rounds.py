"""Evaluate in rounds of a few queries a set, so that a figure is there whenever time runs out.

    python -m distil.rounds --real FOLDER --out FILE.json OLD NEW
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch

from course_utils.compare import paired_bootstrap
from course_utils.data import read_groups
from course_utils.metrics import ndcg_at_k
from course_utils.negatives import bm25_scores
from course_utils.reranker import Reranker
from distil.demo import DEMO
from distil.evaluate import GOALS


def main():
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--step", type=int, default=4)
    parser.add_argument("models", nargs="+")
    a = parser.parse_args()
    torch.set_num_threads(1)
    rerankers = [Reranker.load(m, quiet=True) for m in a.models]
    for query, documents in DEMO.items():
        for m, r in zip(a.models, rerankers, strict=True):
            scores = r.score([(query, d) for d in documents])
            print(m, query, [(d, round(float(s), 2)) for d, s in zip(documents, scores, strict=True)], flush=True)
    sets = {n: read_groups(Path(a.real) / n / "test.jsonl") for n in GOALS}
    for groups in sets.values():
        random.Random(0).shuffle(groups)
    values = {n: [] for n in GOALS}  # rows of (BM25, each model)
    for start in range(0, 10_000, a.step):
        for name, groups in sets.items():
            for g in groups[start : start + a.step]:
                pair = [(g.query, list(g.documents))]
                scores = [bm25_scores([g])[0], *(r.score_groups(pair)[0] for r in rerankers)]
                values[name].append([float(ndcg_at_k(s, g.relevance)) for s in scores])
        flat = np.array([v for own in values.values() for v in own])
        means = {n: [len(v), *np.mean(v, axis=0).round(3).tolist()] for n, v in values.items() if v}
        pooled = [str(paired_bootstrap(flat[:, i], flat[:, -1])) for i in range(flat.shape[1] - 1)]
        print(time.strftime("%H:%M:%S"), len(flat), flat.mean(0).round(3).tolist(), pooled, flush=True)
        Path(a.out).write_text(json.dumps({"sets": means, "values": values}), encoding="utf-8")
        if all(start + a.step >= len(groups) for groups in sets.values()):
            break


if __name__ == "__main__":
    main()
