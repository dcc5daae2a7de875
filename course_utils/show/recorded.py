"""Your figures beside recorded ones: the same lesson, run in the laptop profile with three seeds by ``benchmarks.record``."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_utils.errors import InputError
from course_utils.evaluation import paired_bootstrap
from course_utils.language import _
from course_utils.profile import RECORDED, Profile
from course_utils.text import _Markdown, markdown_table


@dataclass(frozen=True)
class _Beside(_Markdown):
    """Changes of nDCG@10, yours and recorded, shown as a table.

    Attributes:
        yours: {name: Difference}.
        recorded: one dict a name, with "mean", "low", "high", "seeds"; None while ``benchmarks.record`` runs the lesson.
        made: a line that says how the recorded figures were made.
    """

    yours: dict
    recorded: list
    made: str

    def __str__(self):
        head = ["", _("yours"), _("recorded"), _("recorded, by seed")]
        rows = []
        for (name, d), kept in zip(self.yours.items(), self.recorded, strict=True):
            own = [_shown(d.mean, d.low, d.high)]
            if kept:
                own += [_shown(kept["mean"], kept["low"], kept["high"]), " ".join(f"{x:+.3f}" for x in kept["seeds"])]
            rows.append([name, *own, *[""] * (3 - len(own))])
        return f"{markdown_table(head, rows, left=1)}\n\n{self.made}"


def beside(lesson, changes):
    """Return the changes of nDCG@10 that you measured beside those recorded for the lesson, for a cell to show.

    Args:
        lesson: its number, for example "05".
        changes: {name: (before, after)}; each an Evaluation or an array, one nDCG@10 a query.

    Raises:
        InputError: the file of recorded figures lacks the lesson, or holds another number of changes.
    """
    ends = {name: [_per_query(own) for own in pair] for name, pair in changes.items()}
    yours = {name: paired_bootstrap(*pair) for name, pair in ends.items()}
    if path := os.environ.get("COURSE_RECORD"):
        with Path(path).open("a", encoding="utf-8") as file:
            kept = {name: [list(map(float, own)) for own in pair] for name, pair in ends.items()}
            file.write(json.dumps({"lesson": lesson, "changes": kept}) + "\n")
        return _Beside(yours, [None] * len(yours), "")
    found = Profile.recorded(lesson)
    if len(found["changes"]) != len(yours):
        raise InputError(
            "{file} holds {kept} changes of lesson {lesson}, which shows {shown}: make them again with "
            "python -m benchmarks.record --lesson {lesson}.",
            file=RECORDED, kept=len(found["changes"]), lesson=lesson, shown=len(yours),
        )  # fmt: skip
    made = _("Recorded: {profile} profile, {seeds} seeds, {date}, {machine}.").format(
        **{**found, "seeds": len(found["seeds"])}
    )
    return _Beside(yours, list(found["changes"].values()), made)


def _per_query(own):
    return np.asarray(own.per_query() if hasattr(own, "per_query") else own, dtype=float)


def _shown(mean, low, high):
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
