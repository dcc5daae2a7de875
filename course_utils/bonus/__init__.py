"""How the bundled model was made (lesson 09).

Begin with ``python -m course_utils.bonus.nano --help``.
"""

from course_utils.bonus import nano
from course_utils.bonus.nano import CHAT_TEMPLATE

__all__ = ["CHAT_TEMPLATE", "nano"]
