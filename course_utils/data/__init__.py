"""What a reranker learns from (lesson 02): labelled pairs, groups of candidates, negatives, leaks, the course's own grid.

Begin with ``load_domain("medical", "en", "train")`` or ``read_groups("pairs.csv")``.
"""

from course_utils.data.counts import Counts, usable
from course_utils.data.grid import DOMAINS, LANGUAGES, grid_groups, load_domain, read_grid
from course_utils.data.groups import (
    Group,
    check_no_leak,
    leaks,
    rankable,
    shuffle_labels,
    split,
    subset,
    to_groups,
    without_answers,
)
from course_utils.data.negatives import Bm25, bm25_scores, mine, random_scores
from course_utils.data.read import DataError, check_row, read_groups, read_pairs
from course_utils.data.records import iter_rows, read_lines
from course_utils.data.report import check_file, check_groups, token_lengths

__all__ = [
    "DOMAINS",
    "LANGUAGES",
    "Bm25",
    "Counts",
    "DataError",
    "Group",
    "bm25_scores",
    "check_file",
    "check_groups",
    "check_no_leak",
    "check_row",
    "grid_groups",
    "iter_rows",
    "leaks",
    "load_domain",
    "mine",
    "random_scores",
    "rankable",
    "read_grid",
    "read_groups",
    "read_lines",
    "read_pairs",
    "shuffle_labels",
    "split",
    "subset",
    "to_groups",
    "token_lengths",
    "usable",
    "without_answers",
]
