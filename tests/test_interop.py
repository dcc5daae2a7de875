"""Adapt here, go on in sentence-transformers, come back; and evaluate there with the figures of this package."""

import copy
import json

import numpy as np
import pytest
import torch
from conftest import make_groups, tiny_model

from course_utils.evaluation.metrics import summary
from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_sentence_transformers

INSTRUCTION = "Given a word, find the page about it"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def adapted(tokenizer):
    """A tiny reranker after one epoch of this package's training."""
    from course_utils.training.adaptation import adapt
    from course_utils.training.recipe import Recipe

    reranker = Reranker(tiny_model(tokenizer, layers=2), tokenizer, INSTRUCTION, max_length=128, name="tiny")
    groups = make_groups(12, seed=1)
    before = copy.deepcopy(reranker.model.state_dict())
    adapt(reranker, groups[:9], groups[9:], Recipe(layers=1, epochs=1, learning_rate=1e-3), quiet=True)
    moved = any(not torch.equal(v, before[k]) for k, v in reranker.model.state_dict().items())
    if not moved:  # dev did not gain, so the start was kept: move it, or there is nothing to carry over
        with torch.no_grad():
            reranker.model.model.layers[-1].mlp.down_proj.weight.add_(0.01)
    return reranker


def pairs_of(groups):
    return [(g.query, d) for g in groups for d in g.documents]


def cross_encoder(folder):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", local_files_only=True)


def test_adapt_here_continue_there_and_come_back(adapted, tmp_path):
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    groups, pairs = make_groups(8, seed=2), pairs_of(make_groups(8, seed=3))
    model = cross_encoder(export_sentence_transformers(adapted, tmp_path / "out"))
    start = adapted.score(pairs)
    assert np.abs(model.predict(pairs) - start).max() < 1e-4
    rows = [(g.query, d, float(r)) for g in groups for d, r in zip(g.documents, g.relevance, strict=True)]
    data = Dataset.from_dict(dict(zip(("query", "document", "label"), map(list, zip(*rows, strict=True)), strict=True)))
    settings = CrossEncoderTrainingArguments(
        output_dir=str(tmp_path / "work"),
        max_steps=1,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        warmup_steps=0,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    CrossEncoderTrainer(model=model, args=settings, train_dataset=data, loss=BinaryCrossEntropyLoss(model)).train()
    model.save_pretrained(str(tmp_path / "back"))

    kept = json.loads((tmp_path / "back" / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    assert kept["prompts"][kept["default_prompt_name"]] == INSTRUCTION
    back = Reranker.load(tmp_path / "back", instruction=INSTRUCTION, max_length=128, device="cpu", quiet=True)
    scores = back.score(pairs)
    assert np.abs(scores - model.predict(pairs)).max() < 1e-4
    assert np.abs(scores - start).max() > 1e-2  # the step there is in the weights here


def test_evaluators_agree_where_no_scores_tie(adapted, tmp_path):
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator

    # Twelve and more candidates, one to three relevant: ranks beyond ten occur
    groups = []
    for i, group in enumerate(make_groups(10, candidates=14, seed=4)):
        relevance = list(group.relevance)
        for j in range(i % 3):
            relevance[(5 * j + i) % 14] = 1
        groups.append((group.query, list(group.documents), relevance))
    samples = [
        {
            "query": q,
            "positive": [d for d, r in zip(documents, labels, strict=True) if r],
            "negative": [d for d, r in zip(documents, labels, strict=True) if not r],
        }
        for q, documents, labels in groups
    ]
    scores = adapted.score_groups([(q, documents) for q, documents, _ in groups])
    assert all(np.diff(np.sort(s)).min() > 1e-5 for s in scores)  # no ties: the two treat ties differently
    here = summary(scores, [labels for _, _, labels in groups])
    model = cross_encoder(export_sentence_transformers(adapted, tmp_path / "out"))
    there = CrossEncoderRerankingEvaluator(samples, at_k=10, write_csv=False)(model)
    for name in ("mrr@10", "ndcg@10", "map"):
        assert abs(there[name] - here[name]) < 1e-6, name
    assert 0 < here["mrr@10"] < 1
