"""What int8 products cost in nDCG@10 on real lists, the same queries for every kind."""

import numpy as np
import torch

from benchmarks.common import interval
from benchmarks.engines.here import in_int8
from course_utils.data.groups import subset
from course_utils.evaluation.metrics import ndcg_at_k
from course_utils.model.reranker import Reranker
from course_utils.text import markdown_table

KINDS = ("int8 torch", "int8 torchao")


def values(folder, kind, groups):
    """Return nDCG@10 of each of ``groups`` by the model of ``folder`` in ``kind``."""
    reranker = Reranker.load(folder, device="cpu", dtype=torch.float32, quiet=True)
    reranker.model = in_int8(reranker.model, kind)
    return [ndcg_at_k(s, g.relevance, 10) for s, g in zip(reranker.score_groups(groups), groups, strict=True)]


def losses(folder, queries, sets, kinds=KINDS):
    """Return {set: {kind: nDCG@10 of each query}} of fp32 and of ``kinds`` whose package is installed.

    Args:
        folder: of the model.
        queries: of each set at most.
        sets: {name: list of Group}.
        kinds: of ``here.in_int8``.
    """
    out = {}
    for name, groups in sets.items():
        own = out[name] = {}
        for kind in ("fp32", *kinds):
            try:
                own[kind] = [round(v, 6) for v in values(folder, kind, subset(groups, queries, 0))]
            except ImportError:
                continue
            print(f"{name} · {kind}: {np.mean(own[kind]):.4f}", flush=True)
    return out


def loss_of(found, kind):
    """Return the mean loss of a kind over all queries that ``losses`` measured for a model, or None."""
    pairs = [(a, b) for own in found.values() for a, b in zip(own["fp32"], own.get(kind, ()), strict=False)]
    return sum(a - b for a, b in pairs) / len(pairs) if pairs else None


def loss_table(found):
    """Return the table of {model: what ``losses`` found}: means, differences to fp32 with their intervals over queries."""
    rows = []
    for model, sets in found.items():
        pooled = {"all": {kind: [v for own in sets.values() for v in own.get(kind, ())] for kind in ("fp32", *KINDS)}}
        rows += [
            [model, name, len(own["fp32"]), f"{np.mean(own['fp32']):.4f}", kind, f"{np.mean(own[kind]):.4f}", interval(own["fp32"], own[kind])]
            for name, own in {**sets, **pooled}.items() for kind in KINDS if own.get(kind)
        ]  # fmt: skip
    return markdown_table(["model", "lists", "queries", "fp32", "kind", "nDCG@10", "difference"], rows)
