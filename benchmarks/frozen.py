"""Scores of test lists from states that are computed once, for all seeds of a base of which only the last layers learn.

``adapt`` keeps the states of its training and dev lists in its ``work_dir``, where the next seed finds them if its dev lists
are the same. This keeps those of the test lists beside them: a seed then costs the last layers alone.
"""

from contextlib import nullcontext

import torch

from course_utils.machine import _fast_products
from course_utils.training.batch import Source
from course_utils.training.freezing import decoder_layers
from course_utils.training.scorer import GroupScorer
from course_utils.training.trunk import build_trunk


@torch.inference_mode()
def scores(reranker, groups, layers, folder):
    """Return one array of logits a query, as ``Reranker.score_groups`` gives them, from states kept in ``folder``.

    Args:
        reranker: the Reranker.
        groups: list of Group.
        layers: how many of the last layers are computed anew.
        folder: where the states below them are, or will be.
    """
    first = len(decoder_layers(reranker.model)[1]) - layers
    source = Source(groups, reranker.encode(groups))
    scorer = GroupScorer(reranker, first).eval()
    with _fast_products(reranker.device):
        source.trunk = build_trunk(reranker.model, source.encoded, first, folder, reranker.batch_tokens, quiet=True)
        return scorer.score_source(source, reranker.batch_tokens, reranker.device, nullcontext)
