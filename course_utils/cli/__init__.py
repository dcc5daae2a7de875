"""The command line: ``python -m course_utils``, or ``reranker-course``.

``parser`` holds the options, the other files what each command does.
"""

from course_utils.cli.parser import main

__all__ = ["main"]
