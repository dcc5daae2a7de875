"""Out of the course and into use (lesson 08): exports for other software, score files, servers.

Begin with ``export_causal_lm(reranker, folder)``.
"""

from course_utils.ship.export import (
    LLAMA_CPP_FILE,
    export_causal_lm,
    export_sentence_transformers,
    export_sequence_classifier,
)
from course_utils.ship.folders import chat_template, markup_of, plain, wrap_pair
from course_utils.ship.onnx import export_onnx, load_onnx
from course_utils.ship.scoring import score_file
from course_utils.ship.serving import serving_lines

__all__ = [
    "LLAMA_CPP_FILE",
    "chat_template",
    "export_causal_lm",
    "export_onnx",
    "export_sentence_transformers",
    "export_sequence_classifier",
    "load_onnx",
    "markup_of",
    "plain",
    "score_file",
    "serving_lines",
    "wrap_pair",
]
