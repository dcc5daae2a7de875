"""What int8 products cost in nDCG@10: nano on the course's own lists, the same queries for every kind."""

import numpy as np
import torch

from benchmarks.common import interval
from benchmarks.engines.here import in_int8
from benchmarks.lists import course_sets
from course_utils.data.groups import subset
from course_utils.evaluation.metrics import ndcg_at_k
from course_utils.model.reranker import Reranker
from course_utils.text import markdown_table

SETS = ("course medical-en", "course legal-zh", "course financial-en", "course general-zh")
KINDS = ("int8 torch", "int8 torchao")


def values(kind, groups):
    """Return nDCG@10 of each of ``groups`` by nano in ``kind``."""
    reranker = Reranker.load("nano", device="cpu", dtype=torch.float32, quiet=True)
    reranker.model = in_int8(reranker.model, kind)
    return [ndcg_at_k(s, g.relevance, 10) for s, g in zip(reranker.score_groups(groups), groups, strict=True)]


def losses(queries=150, kinds=KINDS, sets=None):
    """Return {set: {kind: nDCG@10 of each query}} of fp32 and of ``kinds`` whose package is installed.

    Args:
        queries: of each set at most.
        kinds: of ``here.in_int8``.
        sets: {name: list of Group}; default: the test lists of SETS.
    """
    sets = sets or {name: course_sets()[name].test for name in SETS}
    out = {}
    for name, groups in sets.items():
        own = out[name] = {}
        for kind in ("fp32", *kinds):
            try:
                own[kind] = values(kind, subset(groups, queries, 0))
            except ImportError:
                continue
            print(f"{name} · {kind}: {np.mean(own[kind]):.4f}", flush=True)
    return out


def loss_table(found):
    """Return the table of what ``losses`` found: means, differences to fp32 with their intervals over queries."""
    pooled = {"all": {kind: [v for own in found.values() for v in own.get(kind, ())] for kind in ("fp32", *KINDS)}}
    rows = [
        [name, len(own["fp32"]), f"{np.mean(own['fp32']):.4f}", kind, f"{np.mean(own[kind]):.4f}", interval(own["fp32"], own[kind])]
        for name, own in {**found, **pooled}.items() for kind in KINDS if own.get(kind)
    ]  # fmt: skip
    return markdown_table(["lists", "queries", "fp32", "kind", "nDCG@10", "difference"], rows)
