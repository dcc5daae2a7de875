"""Fixtures shared by the tests: a tiny random reranker and small lists of groups. Everything runs offline.

What is heavy is imported where it is used: of the processes of a run, one only hands the tests out.
"""

import gc
import os
import random

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["COURSE_LANGUAGE"] = "en"  # whatever the machine speaks; tests of the Chinese texts set it themselves

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection():
    """Import the tests without the garbage collector, whose passes take a quarter of that; their fixture turns it on."""
    gc.disable()


def tiny_model(tokenizer, layers=4, seed=0, **shape):
    """Return a random Qwen3ForCausalLM small enough for a test, with grouped key-value heads like the 0.6B."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        **{
            "hidden_size": 48,
            "num_hidden_layers": layers,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "tie_word_embeddings": True,
            "max_position_embeddings": 2048,
            "initializer_range": 0.2,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            **shape,
        }
    )
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tokenizer():
    """The bundled model's tokenizer."""
    from transformers import AutoTokenizer

    from course_utils.model.hub import BUNDLED

    return AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)


@pytest.fixture
def tiny(tokenizer):
    """A tiny random Reranker, new for each test."""
    from course_utils.model.reranker import Reranker

    return Reranker(tiny_model(tokenizer), tokenizer, max_length=256, name="tiny")


@pytest.fixture(scope="session")
def nano():
    """The bundled reranker; tests must not change it."""
    from course_utils.model.reranker import Reranker

    return Reranker.load("nano", device="cpu", quiet=True)


@pytest.fixture(scope="module")
def one_thread():
    """Tiny matrices: threads only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def nothing_old_is_searched_again():
    """Let the garbage collector pass over torch and its friends: each training asks for a whole search at its end."""
    gc.collect()
    gc.freeze()
    gc.enable()


WORDS = [
    "fever",
    "cough",
    "rent",
    "lease",
    "bank",
    "loan",
    "salt",
    "sugar",
    "heart",
    "court",
    "wage",
    "tax",
    "fund",
    "knee",
    "sleep",
    "contract",
]


def make_groups(count=12, candidates=4, seed=0):
    """Return groups in which the right document repeats the query's word."""
    from course_utils.data.groups import Group

    random_ = random.Random(seed)
    groups = []
    for i in range(count):
        word = WORDS[i % len(WORDS)]
        others = [w for w in WORDS if w != word]
        documents = [f"a page about {word} number {i}, and {random_.choice(others)}"]
        documents += [f"a page about {w} number {i}" for w in random_.sample(others, candidates - 1)]
        order = random_.sample(range(candidates), candidates)
        groups.append(
            Group(
                f"what is {word} {i}",
                tuple(documents[j] for j in order),
                tuple(int(j == 0) for j in order),
                word,
            )
        )
    return groups


@pytest.fixture
def groups():
    """Twelve small groups."""
    return make_groups()


def real_data():
    """Return the folder of real ranking sets, or skip the test with the reason."""
    folder = os.environ.get("COURSE_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("COURSE_REAL_DATA does not name a folder of real ranking sets")
    return Path(folder)
