"""What a reranker is (lesson 01): prompt, weights from a folder or the hub, one shared forward pass, scores.

Begin with ``Reranker.load("nano")``.
"""

from course_utils.model import prompt
from course_utils.model.batches import gather_scores, own_batches, token_batches
from course_utils.model.checkpoint import read_header, read_json, read_settings
from course_utils.model.forward import (
    Segment,
    bucket_size,
    build_segments,
    decoder_of,
    pad_rows,
    shared_forward,
    supports_sharing,
    yes_minus_no,
)
from course_utils.model.hub import BUNDLED, model_folder
from course_utils.model.prompt import (
    DEFAULT_INSTRUCTION,
    INSTRUCTIONS,
    EncodedGroups,
    as_lists,
    encode_groups,
    prompt_text,
    yes_no_ids,
)
from course_utils.model.reranker import Counted, Ranked, Reranker, sigmoid

__all__ = [
    "BUNDLED",
    "DEFAULT_INSTRUCTION",
    "INSTRUCTIONS",
    "Counted",
    "EncodedGroups",
    "Ranked",
    "Reranker",
    "Segment",
    "as_lists",
    "bucket_size",
    "build_segments",
    "decoder_of",
    "encode_groups",
    "gather_scores",
    "model_folder",
    "own_batches",
    "pad_rows",
    "prompt",
    "prompt_text",
    "read_header",
    "read_json",
    "read_settings",
    "shared_forward",
    "sigmoid",
    "supports_sharing",
    "token_batches",
    "yes_minus_no",
    "yes_no_ids",
]
