"""Pictures and panels of all lessons: figures with alternative texts (plots), interactive panels with a still copy.

Begin with ``from course_utils.show import plots``.
"""

from course_utils.show import plots
from course_utils.show.widgets import freezing_panel, playground

__all__ = ["freezing_panel", "playground", "plots"]
