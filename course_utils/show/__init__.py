"""Pictures and panels of all lessons: figures with alternative texts (plots), panels with a still copy, recorded figures.

Begin with ``from course_utils.show import plots``.
"""

from course_utils.show import plots
from course_utils.show.recorded import beside
from course_utils.show.widgets import freezing_panel, playground

__all__ = ["beside", "freezing_panel", "playground", "plots"]
