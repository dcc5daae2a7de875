"""ONNX Runtime on what ``ship.export_onnx`` writes: fp32, and int8 weights with activations quantised as they come."""

from pathlib import Path

import torch

from benchmarks.common import in_own_process
from course_utils.model.reranker import Reranker
from course_utils.ship.onnx import export_onnx, load_onnx


def exported(folder, work):
    """Return the folder of the ONNX files of a model, fp32 and int8, written once under ``work``."""
    place = Path(work) / "onnx"
    if not place.is_dir():
        in_own_process(export, torch.get_num_threads(), folder, place)  # its memory is not that of scoring
    return place


def export(folder, place):
    """Write the ONNX files of the model in ``folder`` to ``place``."""
    export_onnx(Reranker.load(folder, device="cpu", dtype=torch.float32, max_length=2048, quiet=True), place, True)


def start(folder, kind, work):
    """Return (score, version); see ``here.start``. ``kind``: "fp32" or "int8"."""
    import onnxruntime

    name = "model_int8.onnx" if kind == "int8" else "model.onnx"
    score = load_onnx(exported(folder, work), name)
    version = f"onnxruntime {onnxruntime.__version__}"
    return lambda query, documents: score([(query, d) for d in documents], batch_size=16), version
