"""Helper package of the course "Teach a reranker a new trade".

One module per idea of the course, in the order of the lessons. Nothing is imported here, so that
``import course_utils`` stays quick; write ``from course_utils.reranker import Reranker``.
"""

__version__ = "0.1.0"
