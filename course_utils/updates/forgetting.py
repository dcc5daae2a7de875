"""The forgetting matrix: every test set before training and after each stage, and what can be read from it."""

from dataclasses import dataclass, field

import numpy as np

from course_utils.domains.merging import _named
from course_utils.language import _
from course_utils.text import _Markdown, markdown_table


@dataclass
class Forgetting(_Markdown):
    """The forgetting matrix: nDCG@10 of every test set before training and after each stage.

    Attributes:
        rows: "base" and the names of the stages, in the order of time.
        columns: names of the test sets; a stage's own set has its name.
        values: nDCG@10 [rows, columns].
        strategy: what it was learned with.
        log: what ``learn`` returned, a dict a stage.
        queries: {(row, column): nDCG@10 of each query}, for paired intervals between strategies.
    """

    rows: list
    columns: list
    values: np.ndarray
    strategy: str = ""
    log: list = field(default_factory=list)
    queries: dict = field(default_factory=dict)

    def at(self, row, column):
        """Return nDCG@10 on test set ``column`` after stage ``row``."""
        return float(self.values[self.rows.index(row), self.columns.index(column)])

    def __str__(self):
        """Return a Markdown table, a stage's own set in bold, and a line of figures."""
        rows = [
            [
                _named(row),
                *(f"**{v:.3f}**" if row == c else f"{v:.3f}" for c, v in zip(self.columns, values, strict=True)),
            ]
            for row, values in zip(self.rows, self.values, strict=True)
        ]
        table = markdown_table([_("after"), *self.columns], rows)
        transfer = ""
        if len(self.rows) > 2:
            transfer = _(", backward transfer {backward:+.3f}, forward transfer {forward:+.3f}").format(
                backward=backward_transfer(self), forward=forward_transfer(self)
            )
        facts = _("average forgetting {average_forgetting:.3f}{transfer}, gain {own_gain:+.3f}").format(
            average_forgetting=average_forgetting(self), transfer=transfer, own_gain=own_gain(self)
        )
        return "\n".join([table, "", f"{self.strategy + ': ' if self.strategy else ''}{facts}"])


def average_forgetting(matrix):
    """Return the mean fall from the best earlier nDCG@10 of a test set to its last, over all but the last stage's set.

    Source: Chaudhry et al., "Riemannian walk for incremental learning", arXiv 1801.10112, section 3; here sets
    without a stage (general ones) count too, from the base on.
    """
    keep = [i for i, c in enumerate(matrix.columns) if c != matrix.rows[-1]]
    values = matrix.values[:, keep]
    return float((values[:-1].max(axis=0) - values[-1]).mean()) if keep else 0.0


def backward_transfer(matrix):
    """Return the mean of (nDCG@10 at the end - right after learning it) over the stages but the last.

    Negative is forgetting. Source: Lopez-Paz and Ranzato, arXiv 1706.08840, equation 3.
    """
    return float(np.mean([matrix.at(matrix.rows[-1], s) - matrix.at(s, s) for s in matrix.rows[1:-1]]))


def forward_transfer(matrix):
    """Return the mean of (nDCG@10 just before learning a stage - of the base) over the stages but the first.

    Positive: earlier stages helped it. Source: arXiv 1706.08840, equation 4; the base stands for its random start.
    """
    rows = matrix.rows
    return float(np.mean([matrix.at(rows[i - 1], rows[i]) - matrix.at(rows[0], rows[i]) for i in range(2, len(rows))]))


def own_gain(matrix):
    """Return the mean over the stages of nDCG@10 on the own set right after learning it, less that of the base."""
    return float(np.mean([matrix.at(s, s) - matrix.at(matrix.rows[0], s) for s in matrix.rows[1:]]))
