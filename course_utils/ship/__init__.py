"""Out of the course and into use (lesson 08): exports for other software, score files, servers.

Begin with ``export_causal_lm(reranker, folder)``.
"""

from course_utils.ship.export import (
    LLAMA_CPP_FILE,
    export_causal_lm,
    export_sentence_transformers,
    export_sequence_classifier,
    from_sentence_transformers,
)
from course_utils.ship.folders import chat_template, wrap_pair
from course_utils.ship.onnx import export_onnx, load_onnx
from course_utils.ship.serving import serving_lines

__all__ = [
    "LLAMA_CPP_FILE",
    "chat_template",
    "export_causal_lm",
    "export_onnx",
    "export_sentence_transformers",
    "export_sequence_classifier",
    "from_sentence_transformers",
    "load_onnx",
    "serving_lines",
    "wrap_pair",
]
