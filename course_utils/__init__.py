"""Helper package of the course "Teach a reranker a new trade", in rooms by lesson.

| room | lesson | room | lesson |
|---|---|---|---|
| ``model`` | 01 | ``updates`` | 07 |
| ``data`` | 02 | ``ship`` | 08 |
| ``training`` | 03, 04 | ``show`` | pictures and panels |
| ``evaluation`` | 05 | ``bonus`` | 10 |
| ``domains`` | 06 | ``checks`` | what exercises are judged by |

Nothing is imported here, so that ``import course_utils`` stays quick; write ``from course_utils.model import Reranker``.
"""

import gc
import sys
from contextlib import contextmanager

__version__ = "0.1.0"


@contextmanager
def _unsearched(unless=""):
    """Make what is made in the block without the garbage collector, and let it search none of it later.

    For what stays as long as the process does, like torch and transformers: a million objects, whose searches take a fifth
    of the import, 0.2 s of each training and most of the exit. Where the module ``unless`` is loaded there is nothing to spare, and the block is a plain one: what is
    made later stays in the collector's sight. Source: gc.freeze.
    """
    if unless in sys.modules:
        yield
        return
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if on:
            gc.enable()
