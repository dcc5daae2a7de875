"""OpenVINO on the same ONNX export: fp32, bf16 as its hint sets it, and weights in int8 by NNCF."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from benchmarks.common import in_own_process
from benchmarks.engines.onnx import exported
from course_utils.model import prompt


def converted(folder, work, int8):
    """Return the OpenVINO file of a model, written once under ``work``."""
    path = Path(work) / f"openvino{'-int8' if int8 else ''}" / "model.xml"
    if not path.is_file():
        in_own_process(convert, torch.get_num_threads(), exported(folder, work) / "model.onnx", path, int8)
    return path


def convert(source, path, int8):
    """Write the ONNX file ``source`` as an OpenVINO file to ``path``, on request with weights in int8."""
    import openvino

    model = openvino.convert_model(source)
    if int8:
        import nncf

        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, path, compress_to_fp16=False)


def start(folder, kind, work):
    """Return (score, version); see ``here.start``. ``kind``: "fp32", "bf16" or "int8"."""
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(), "DYNAMIC_QUANTIZATION_GROUP_SIZE": 32 if kind == "int8" else 0,
    }  # fmt: skip
    compiled = openvino.Core().compile_model(converted(folder, work, kind == "int8"), "CPU", options)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def score(query, documents, batch_size=16):
        encoded = prompt._encode_groups(tokenizer, [(query, [d]) for d in documents], max_length=2048)
        rows = [encoded.full_ids(i, 0) for i in range(len(documents))]
        scores = np.empty(len(rows))
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for begin in range(0, len(order), batch_size):
            chosen = order[begin : begin + batch_size]
            batch = tokenizer.pad({"input_ids": [rows[i] for i in chosen]}, return_tensors="np")
            feed = {k: batch[k].astype(np.int64) for k in ("input_ids", "attention_mask")}
            scores[chosen] = next(iter(compiled(feed).values()))[:, 0]
        return scores

    return score, f"openvino {openvino.__version__.split('-')[0]}"
