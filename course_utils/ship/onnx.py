"""A reranker as an ONNX file, in fp32 and with int8 weights, and a function that scores with it.

Exported by torch itself. The field's tool, ``optimum``, asks for transformers below 4.58 (optimum-onnx 0.1.0) and so cannot
be installed beside transformers 5 (optimum-onnx 0.1.0 asks for transformers below 4.58).
"""

import copy
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from course_utils.errors import InputError
from course_utils.files import whole_folder
from course_utils.language import _later
from course_utils.model import prompt
from course_utils.model.checkpoint import read_settings
from course_utils.ship.export import _one_label_model
from course_utils.ship.folders import _finish_files, _write_readme

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

_ONNX_README = _later("""\
`model.onnx` takes input_ids and attention_mask (int64) and gives logits [rows, 1] in fp32; `model_int8.onnx`, where
present, is smaller and its scores differ. Weights in `model.onnx.data` or `model_int8.onnx.data` belong to the `.onnx` file
of the same name: keep the two together. The prompt is not part of the model: render `chat_template.jinja`.
""")


def export_onnx(reranker, folder, int8=False):
    """Write ``model.onnx`` in fp32 with input_ids and attention_mask as inputs and one logit a row, tokenizer beside it.

    Uses torch's own exporter on ``export_sequence_classifier``'s model: rows may be padded on either side, batch and length are free.

    Args:
        reranker: a Reranker on the CPU or elsewhere; it is copied in fp32.
        folder: where to write.
        int8: also write ``model_int8.onnx``, weights of the matrix products in int8, activations quantised as they
            come. Smaller and often faster on CPUs; scores move: measure the loss before use.

    Raises:
        InputError: when onnx, onnxscript or onnxruntime is not installed; else see ``export_causal_lm``.
    """
    _need_onnx()
    source = _one_label_model(reranker)
    with whole_folder(Path(folder).expanduser()) as temporary:
        source.config.save_pretrained(temporary)
        _finish_files(reranker, temporary)
        model = copy.deepcopy(source).to("cpu", torch.float32)
        ids = torch.arange(32).view(2, 16)
        mask = torch.ones_like(ids)
        mask[0, :4] = 0
        names = ("input_ids", "attention_mask")
        axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Logits(model).eval(),
                (ids, mask),
                temporary / "model.onnx",
                input_names=list(names),
                output_names=["logits"],
                dynamic_shapes=dict.fromkeys(names, axes),
                dynamo=True,
                verbose=False,
            )
        if int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            big = sum(p.numel() for p in model.parameters()) > 4e8  # protobuf stops at 2 GB
            quantize_dynamic(
                temporary / "model.onnx",
                temporary / "model_int8.onnx",
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["MatMul"],
                reduce_range=True,  # 7 bits: the products of 8 overflow on processors without VNNI
                use_external_data_format=big,
            )
        _write_readme(reranker, temporary, "onnx", _ONNX_README)
    return Path(folder)


class _Logits(torch.nn.Module):
    """The classifier as the exporter wants it: tensors in, one tensor out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


def load_onnx(folder, name="model.onnx", threads=None):
    """Return a function that maps a list of (query, document) pairs to a float32 array of logits.

    Args:
        folder: what ``export_onnx`` wrote.
        name: "model.onnx" or "model_int8.onnx".
        threads: CPU threads; default: as many as torch uses.

    Raises:
        InputError: when the file is missing or ONNX Runtime is not installed.
    """
    _need_onnx()
    import onnxruntime
    from transformers import AutoTokenizer

    path = Path(folder) / name
    if not path.is_file():
        raise InputError("There is no {path}; write it with export_onnx.", path=path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    settings = read_settings(folder)

    def score(pairs, batch_size=32):
        """Score pairs, those of similar length together. ``batch_size``: pairs computed at once."""
        encoded = prompt._encode_groups(tokenizer, [(q, [d]) for q, d in pairs], **settings)
        rows = [encoded.full_ids(i, 0) for i in range(len(pairs))]
        scores = np.empty(len(pairs), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [rows[i] for i in chosen]}, return_tensors="np")
            feed = {k: batch[k].astype(np.int64) for k in ("input_ids", "attention_mask")}
            scores[chosen] = session.run(None, feed)[0][:, 0]
        return scores

    return score


def _need_onnx():
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError("ONNX needs packages that are not installed: pip install {missing}", missing=" ".join(missing))
