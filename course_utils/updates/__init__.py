"""New data without forgetting (lesson 07): streams, replay, the gate, versions and rollback.

Begin with ``learn_stream``.
"""

from course_utils.updates.forgetting import (
    Forgetting,
    average_forgetting,
    backward_transfer,
    forward_transfer,
    own_gain,
)
from course_utils.updates.gate import Gate, update
from course_utils.updates.stream import STRATEGIES, Stage, l2_sp, learn, learn_stream
from course_utils.updates.verdict import decide
from course_utils.updates.versions import current_version, load_version, publish, rollback, version_table

__all__ = [
    "STRATEGIES",
    "Forgetting",
    "Gate",
    "Stage",
    "average_forgetting",
    "backward_transfer",
    "current_version",
    "decide",
    "forward_transfer",
    "l2_sp",
    "learn",
    "learn_stream",
    "load_version",
    "own_gain",
    "publish",
    "rollback",
    "update",
    "version_table",
]
