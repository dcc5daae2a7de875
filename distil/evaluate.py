"""Compare rerankers on real test sets: BM25, any models, the teacher; intervals over queries.

    python -m distil.evaluate --real FOLDER --out FILE.json --models old=data/models/nano new=out/nano [--queries 120]

Scores are kept beside FILE.json as they come, so that a second call goes on where the first one stopped.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from course_utils.compare import evaluate_scores, paired_bootstrap
from course_utils.data import read_groups, subset
from course_utils.negatives import bm25_scores
from course_utils.reranker import Reranker

GOALS = [
    "medical-en", "medical-zh", "legal-zh", "legal-en-tosdr", "finance-en-tatqa", "general-zh", "general-zh-dureader",
]  # fmt: skip


def teacher_scores(teacher, groups):
    """Return the teacher's cosines, one array a group."""
    asked = teacher.query([g.query for g in groups], limit=128)
    texts = list(dict.fromkeys(d for g in groups for d in g.documents))
    told = dict(zip(texts, teacher.passage(texts, limit=512), strict=True))
    return [np.array([told[d] @ a for d in g.documents]) for a, g in zip(asked, groups, strict=True)]


def cached(path, make):
    """Return score arrays from ``path``, made and written there first where it is missing."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scores = make()
        np.savez(path, flat=np.concatenate(scores), sizes=[len(s) for s in scores])
    kept = np.load(path)
    return np.split(kept["flat"], np.cumsum(kept["sizes"])[:-1])


def row(name, groups, models, folder, teacher=None):
    """Return the figures of one set: nDCG@10 of each way and the differences to BM25 and to the first model."""
    ways = {"bm25": evaluate_scores(bm25_scores(groups), groups)}
    for label, path in models.items():
        file = folder / f"{name}-{label}-{len(groups)}.npz"
        scores = cached(file, lambda path=path: Reranker.load(path, quiet=True).score_groups(
            [(g.query, list(g.documents)) for g in groups]))  # fmt: skip
        ways[label] = evaluate_scores(scores, groups)
    if teacher:
        file = folder / f"{name}-teacher-{len(groups)}.npz"
        ways["teacher"] = evaluate_scores(cached(file, lambda: teacher_scores(teacher, groups)), groups)
    out = {"queries": len(groups)} | {k: round(float(e.summary["ndcg@10"]), 4) for k, e in ways.items()}
    labels = list(models)
    for before, after in [("bm25", labels[-1]), *([(labels[0], labels[-1])] if len(labels) > 1 else [])]:
        d = paired_bootstrap(ways[before].per_query(), ways[after].per_query())
        out[f"{after} - {before}"] = [round(float(x), 4) for x in (d.mean, d.low, d.high)]
    return out


def main():
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--teacher", action="store_true")
    parser.add_argument("--sets", nargs="*", default=GOALS)
    a = parser.parse_args()
    torch.set_num_threads(1)
    models, out, teacher = dict(m.split("=") for m in a.models), Path(a.out), None
    if a.teacher:
        from distil.teacher import Teacher

        teacher = Teacher()
    results = {}
    for name in a.sets:
        groups = read_groups(Path(a.real) / name / "test.jsonl")
        groups = subset(groups, a.queries) if a.queries and a.queries < len(groups) else groups
        results[name] = row(name, groups, models, out.with_suffix(""), teacher)
        print(name, json.dumps(results[name]), flush=True)
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
