"""sentence-transformers' CrossEncoder, with its own batch size."""

import torch

from benchmarks import ways


def start(folder, kind, work):
    """Return (score, version); see ``here.start``. ``kind``: "fp32" or "bf16"."""
    import sentence_transformers

    encoder = ways.cross_encoder(folder, torch.bfloat16 if kind == "bf16" else torch.float32)
    version = f"sentence-transformers {sentence_transformers.__version__}"
    return lambda query, documents: ways.cross_encoder_scores(encoder, [(query, d) for d in documents]), version
