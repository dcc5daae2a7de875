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

__version__ = "0.1.0"
