"""Out of the course and into use (lesson 08): exports for other software, score files, search, a server.

Begin with ``export_causal_lm(reranker, folder)``, ``build_index(folder, out)`` or ``serve(reranker)``.
"""

from course_utils.data.long_documents import rank_long, score_long
from course_utils.ship.batching import Limits
from course_utils.ship.export import (
    LLAMA_CPP_FILE,
    export_causal_lm,
    export_sentence_transformers,
    export_sequence_classifier,
)
from course_utils.ship.folders import chat_template, wrap_pair
from course_utils.ship.onnx import export_onnx, load_onnx
from course_utils.ship.scoring import score_file
from course_utils.ship.search import SearchIndex, build_index, search
from course_utils.ship.server import serve
from course_utils.ship.serving import serving_lines

__all__ = [
    "LLAMA_CPP_FILE",
    "Limits",
    "SearchIndex",
    "build_index",
    "chat_template",
    "export_causal_lm",
    "export_onnx",
    "export_sentence_transformers",
    "export_sequence_classifier",
    "load_onnx",
    "rank_long",
    "score_file",
    "score_long",
    "search",
    "serve",
    "serving_lines",
    "wrap_pair",
]
