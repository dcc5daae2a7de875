"""The model card's snippet, on transformers: every pair computed whole, logits of the whole vocabulary."""

import torch
import transformers

from benchmarks import ways


def start(folder, kind, work):
    """Return (score, version); see ``here.start``. ``kind``: "fp32" or "bf16"."""
    model, tokenizer = ways.load(folder, torch.bfloat16 if kind == "bf16" else torch.float32)
    version = f"transformers {transformers.__version__}"
    return lambda query, documents: ways.official_scores(model, tokenizer, [(query, d) for d in documents]), version
