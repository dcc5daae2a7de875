"""What a reranker is (lesson 01): prompt, weights from a folder or the hub, one shared forward pass, scores.

Begin with ``Reranker.load("nano")``.
"""

from course_utils import _unsearched

with _unsearched():
    from course_utils.model import prompt
    from course_utils.model.checkpoint import read_settings
    from course_utils.model.forward import pad_rows
    from course_utils.model.hub import BUNDLED, model_folder
    from course_utils.model.prompt import DEFAULT_INSTRUCTION, INSTRUCTIONS, content_text, prompt_text, yes_no_ids
    from course_utils.model.reranker import Counted, Ranked, Reranker, sigmoid

__all__ = [
    "BUNDLED",
    "DEFAULT_INSTRUCTION",
    "INSTRUCTIONS",
    "Counted",
    "Ranked",
    "Reranker",
    "content_text",
    "model_folder",
    "pad_rows",
    "prompt",
    "prompt_text",
    "read_settings",
    "sigmoid",
    "yes_no_ids",
]
