"""This package, and what it would be with int8 products: torch's dynamic int8 and torchao's."""

import torch

from course_utils.model.reranker import Reranker


def start(folder, kind, work):
    """Return (a function that scores (query, documents), the version of the library that int8 comes from).

    Args:
        folder: model folder.
        kind: "fp32", "bf16", "int8 torch" or "int8 torchao".
        work: folder for converted files; not used here.
    """
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    reranker = Reranker.load(folder, device="cpu", dtype=dtype, max_length=2048, quiet=True)
    reranker.model = in_int8(reranker.model, kind)
    return lambda query, documents: reranker.score_groups([(query, documents)])[0], f"torch {torch.__version__}"


def in_int8(model, kind):
    """Return ``model`` with the products of its layers in int8, weights a channel and activations as they come; or as it is."""
    layers = model.get_decoder().layers
    if kind == "int8 torch":
        from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

        torch.backends.quantized.engine = "x86"
        quantize_dynamic(layers, {torch.nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
    if kind == "int8 torchao":
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        quantize_(layers, Int8DynamicActivationInt8WeightConfig())
    return model
