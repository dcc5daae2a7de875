"""What a reranker learns from (lesson 02): labelled pairs, groups of candidates, negatives, leaks, the course's own grid.

Begin with ``load_domain("medical", "en", "train")`` or ``read_groups("pairs.csv")``.
"""

from course_utils.data.cases import read_cases
from course_utils.data.counts import Counts, usable
from course_utils.data.course_sets import TRADES, load_domain
from course_utils.data.grid import (
    DOMAINS,
    LANGUAGES,
    grid_groups,
    make_splits,
    read_cells,
    read_grid,
)
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
from course_utils.data.lengths import token_lengths
from course_utils.data.near import near_duplicates
from course_utils.data.negatives import Bm25, bm25_scores, bm25_tokens, mine, random_scores
from course_utils.data.passages import pieces, read_passages
from course_utils.data.plan import Plan
from course_utils.data.prepare import prepare
from course_utils.data.read import DataError, check_row, read_groups, read_pairs
from course_utils.data.reading import convert, read_data
from course_utils.data.records import iter_rows
from course_utils.data.report import check_file, check_groups

__all__ = [
    "DOMAINS",
    "LANGUAGES",
    "TRADES",
    "Bm25",
    "Counts",
    "DataError",
    "Group",
    "Plan",
    "bm25_scores",
    "bm25_tokens",
    "check_file",
    "check_groups",
    "check_no_leak",
    "check_row",
    "convert",
    "grid_groups",
    "iter_rows",
    "leaks",
    "load_domain",
    "make_splits",
    "mine",
    "near_duplicates",
    "pieces",
    "prepare",
    "random_scores",
    "rankable",
    "read_cases",
    "read_cells",
    "read_data",
    "read_grid",
    "read_groups",
    "read_pairs",
    "read_passages",
    "shuffle_labels",
    "split",
    "subset",
    "to_groups",
    "token_lengths",
    "usable",
    "without_answers",
]
