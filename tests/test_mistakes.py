"""The thirteen mistakes of the usual recipe that concern code; others stand in the tests of their modules.

3: test_freezing. 4: test_prompt. 6 and 1 on exported folders: test_mistakes_export. 7, 9, 10: test_training.
"""

import time

import numpy as np
import pytest
import torch

from course_utils.data import load_domain
from course_utils.data.groups import subset
from course_utils.data.negatives import random_scores
from course_utils.evaluation.measure import evaluate, evaluate_scores
from course_utils.model import prompt
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker


@pytest.fixture(scope="module")
def lists():
    return subset(load_domain("general", "en", "test"), 40, 1)


@pytest.mark.slow
def test_mistake_1_a_classification_head_on_the_reranker_is_random(nano, lists):
    from transformers import AutoModelForSequenceClassification

    texts = [prompt.prompt_text(g.query, d) for g in lists[:6] for d in g.documents]
    inputs = nano.tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(BUNDLED["nano"], num_labels=1).eval()
        with torch.no_grad():
            scores.append(model(**inputs).logits[:, 0].numpy())
    assert not np.allclose(scores[0], scores[1]), "the head comes from the seed, not from the checkpoint"
    true = np.concatenate(nano.score_groups([(g.query, g.documents) for g in lists[:6]]))
    assert all(np.abs(s - true).mean() > 0.5 for s in scores), "neither gives the judgement that was trained"


@pytest.mark.slow
def test_mistake_2_a_home_made_prompt_ranks_worse_than_the_official_one(nano, lists):
    def own_prompt(query, document):
        return (
            "<|im_start|>system\n你是一个判断相关性的助手。<|im_end|>\n<|im_start|>user\n"
            f"<查询>{query}</查询><文档>{document}</文档><|im_end|>\n<|im_start|>assistant\n"
        )

    scores = []
    for g in lists:
        own = nano.tokenizer(
            [own_prompt(g.query, d) for d in g.documents], padding=True, return_tensors="pt", add_special_tokens=False
        )
        with torch.no_grad():
            logits = nano.model(**own).logits[:, -1]
        scores.append((logits[:, nano.yes_id] - logits[:, nano.no_id]).numpy())
    official = evaluate(nano, lists).summary["ndcg@10"]
    assert official > evaluate_scores(scores, lists).summary["ndcg@10"] + 0.05
    assert official > evaluate_scores(random_scores(lists), lists).summary["ndcg@10"] + 0.1


def test_mistake_5_padding_everything_to_one_length_computes_mostly_padding(nano, lists):
    encoded = nano.encode(lists)
    lengths = [len(encoded.full_ids(g, c)) for g in range(len(encoded)) for c in range(len(encoded.candidates[g]))]
    fixed = 512 * len(lengths)
    assert sum(lengths) / fixed < 0.5, "more than half of a map to 512 tokens is padding"
    shared = (
        len(encoded.constant) + sum(map(len, encoded.prefixes)) + sum(len(c) for own in encoded.candidates for c in own)
    )
    assert shared < 0.8 * sum(lengths), "sharing the prompt saves more"


@pytest.mark.slow
def test_mistake_13_one_pair_at_a_time_is_slower_and_gives_the_same_scores(nano, lists):
    pairs = [(g.query, d) for g in lists[:12] for d in g.documents]
    nano.score(pairs[:20])
    times = {"one": [], "batch": []}
    for _ in range(3):
        start = time.perf_counter()
        one = np.concatenate([nano.score([p]) for p in pairs])
        times["one"].append(time.perf_counter() - start)
        start = time.perf_counter()
        batch = nano.score(pairs)
        times["batch"].append(time.perf_counter() - start)
    np.testing.assert_allclose(one, batch, atol=1e-4)
    assert np.median(times["batch"]) < np.median(times["one"])


def test_the_bundled_model_is_the_same_in_transformers(nano):
    pairs = [("how is rice cooked", "Rinse the rice and boil it."), ("糖尿病症状", "多饮、多尿、多食和体重下降。")]
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"])
    model = AutoModelForCausalLM.from_pretrained(BUNDLED["nano"]).eval()
    inputs = tokenizer(
        [prompt.prompt_text(*p) for p in pairs], padding=True, return_tensors="pt", add_special_tokens=False
    )
    with torch.no_grad():
        logits = model(**inputs).logits[:, -1]
    np.testing.assert_allclose((logits[:, nano.yes_id] - logits[:, nano.no_id]).numpy(), nano.score(pairs), atol=1e-4)


def test_the_bundled_model_is_the_same_in_sentence_transformers(nano):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    pairs = [("how is rice cooked", "Rinse the rice and boil it."), ("糖尿病症状", "多饮、多尿、多食和体重下降。")]
    encoder = sentence_transformers.CrossEncoder(str(BUNDLED["nano"]), device="cpu")
    scores = encoder.predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(scores, nano.score(pairs), atol=1e-4)


def test_loading_prints_device_and_dtype(capsys):
    Reranker.load("nano", device="cpu")
    assert "on cpu in float32" in capsys.readouterr().out
