"""The command line: ``python -m course_utils``, or ``reranker-course``; a file a command.

``parser`` puts the commands together, ``terminal`` ends them, ``record`` says how a result came about.
"""

from course_utils.cli.parser import main

__all__ = ["main"]
