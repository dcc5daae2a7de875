"""The course's own lists by name."""

from pathlib import Path

from course_utils.data.cases import PARTS, read_cases
from course_utils.data.grid import DATA, SPLITS, grid_groups, read_grid
from course_utils.errors import InputError

TRADES = ("medical", "legal", "financial")


def load_domain(domain, language, split, folder=None, source=None, **kinds):
    """Return the candidate lists of one domain, language and split as a list of Group.

    Args:
        domain: "general", "medical", "legal", "financial", or a folder of your own.
        language: "en" or "zh".
        split: "train", "dev", "test" (new topics) or, for a trade, "questions": new questions to documents of training.
        folder: the data folder; default: the course's own.
        source: "cases", lists that only knowledge of the trade puts in order, or "grid", clean lists for a beginning;
            default: cases where a domain has them and no ``kinds`` are given.
        kinds: for a grid: how many candidates of each kind, see ``grid.LISTS``.

    Raises:
        InputError: an unknown split or source, or missing or broken files.
    """
    if source is None:
        has = (Path(folder or DATA) / domain / language / "cases.md").is_file()
        source = "cases" if has and not kinds else "grid"
    if source not in ("cases", "grid"):
        raise InputError('source is "{source}"; choose cases or grid.', source=source)
    known = PARTS if source == "cases" else SPLITS
    if split not in known:
        raise InputError('split is "{split}"; choose one of {known}.', split=split, known=", ".join(known))
    if source == "cases":
        return read_cases(domain, language, folder).groups(split)
    return grid_groups(read_grid(domain, language, folder), split, **kinds)
