"""Pictures and panels of all lessons.

Begin with ``from course_utils.show import plots``.
"""

from course_utils.show import plots
from course_utils.show.widgets import freezing_panel, playground

__all__ = ["freezing_panel", "playground", "plots"]
