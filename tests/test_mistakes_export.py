"""Two mistakes of the usual recipe, shown to be mistakes: a random classification head, and no pad token for it."""

import numpy as np
import pytest
import torch
from conftest import tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_causal_lm, export_sequence_classifier

PAIRS = [
    ("fever in children", "A page about fever and sleep."),
    ("糖尿病症状", "糖尿病常见症状包括多饮、多尿。"),
    ("What is a lease?", "The court sets the wage."),
    ("股票基金", "基金的费用每年从资产中扣除，长期投资者应当留意。"),
    ("sleep", "sleep " * 20),
    ("rent", "A tenant pays rent on the first day of the month."),
]


@pytest.fixture(scope="module")
def reranker(tokenizer):
    """A tiny random reranker."""
    return Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="tiny")


@pytest.fixture(scope="module")
def folders(reranker, tmp_path_factory):
    """(causal folder, one-label folder)."""
    root = tmp_path_factory.mktemp("mistakes")
    return export_causal_lm(reranker, root / "causal"), export_sequence_classifier(reranker, root / "label")


def load_head(folder, seed):
    """What the recipe does: a classifier with one label on whatever the folder holds."""
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, local_files_only=True, output_loading_info=True
    )


@torch.inference_mode()
def classify(model, tokenizer, pairs=PAIRS):
    chats = [[{"role": "query", "content": q}, {"role": "document", "content": d}] for q, d in pairs]
    batch = tokenizer.apply_chat_template(chats, padding=True, return_tensors="pt", return_dict=True)
    return model.eval()(**batch).logits[:, 0].numpy()


def test_a_classifier_on_the_causal_folder_has_a_random_head(reranker, folders):
    tokenizer = AutoTokenizer.from_pretrained(folders[0], local_files_only=True)
    true = reranker.score(PAIRS)
    runs = []
    for seed in (0, 1):
        model, loading = load_head(folders[0], seed)
        assert set(loading["missing_keys"]) == {"score.weight"}  # the only sign; a log line that scrolls by
        runs.append(classify(model, tokenizer))
    spread = true.max() - true.min()
    assert np.abs(runs[0] - runs[1]).max() > 0.01 * spread  # two loads disagree
    for scores in runs:
        assert np.abs(scores - true).max() > 0.1 * spread  # and neither is the model's judgement
        assert list(np.argsort(scores)) != list(np.argsort(true))


def test_the_exported_classifier_has_the_models_own_head(reranker, folders):
    tokenizer = AutoTokenizer.from_pretrained(folders[1], local_files_only=True)
    true = reranker.score(PAIRS)
    for seed in (0, 1):
        model, loading = load_head(folders[1], seed)
        assert not loading["missing_keys"]
        assert np.abs(classify(model, tokenizer) - true).max() < 1e-4


def test_without_a_pad_token_a_batch_of_two_fails(reranker, folders):
    model, _ = load_head(folders[1], 0)
    tokenizer = AutoTokenizer.from_pretrained(folders[1], local_files_only=True)
    model.config.pad_token_id = None
    with pytest.raises(ValueError, match="Cannot handle batch sizes > 1 if no padding token is defined"):
        classify(model, tokenizer)
    one_by_one = np.concatenate([classify(model, tokenizer, [pair]) for pair in PAIRS])
    assert np.abs(one_by_one - reranker.score(PAIRS)).max() < 1e-4  # one at a time works, which hides the fault
    model.config.pad_token_id = tokenizer.pad_token_id
    assert np.abs(classify(model, tokenizer) - reranker.score(PAIRS)).max() < 1e-4


def test_a_reranker_without_pad_token_is_exported_with_one(reranker, folders):
    assert load_head(folders[1], 0)[0].config.pad_token_id == reranker.tokenizer.pad_token_id
