"""Sets by trade, for the benchmarks of lessons 06 and 07: the course's own, or a folder of real sets."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lists import read_lists
from course_utils.data import DOMAINS, LANGUAGES, load_domain
from course_utils.data.groups import split, subset
from course_utils.errors import InputError

GENERAL = "general"


@dataclass
class Sets:
    """The groups of one trade by set name ("medical-en"); a set may lack a part."""

    train: dict = field(default_factory=dict)
    dev: dict = field(default_factory=dict)
    test: dict = field(default_factory=dict)


def pooled(parts):
    """Return the groups of all sets in one list."""
    return [g for groups in parts.values() for g in groups]


def course_sets(args):
    """Return trade -> Sets of the course's own data."""
    trades = {}
    for domain in DOMAINS:
        own = trades[domain] = Sets()
        for language in args.languages:
            for part, size in (("train", args.queries), ("dev", args.dev_queries), ("test", args.test_queries)):
                groups = subset(load_domain(domain, language, part), size, args.seed)
                getattr(own, part)[f"{domain}-{language}"] = groups
    return trades


def real_sets(folder, args):
    """Return trade -> Sets of a folder of real sets; dev is 15 % of train, the test file is only read for the report."""
    trades = {}
    for place in sorted(Path(folder).iterdir()):
        trade = place.name.split("-")[0].replace("finance", "financial")
        if trade not in DOMAINS or not place.is_dir():
            continue
        own = trades.setdefault(trade, Sets())
        if (place / "train.jsonl").exists():
            groups = read_lists(place / "train.jsonl")
            train, dev = split(groups, (0.85, 0.15), seed=args.seed)
            own.train[place.name] = subset(train, args.queries, args.seed)
            own.dev[place.name] = subset(dev, args.dev_queries, args.seed)
        if (place / "test.jsonl").exists():
            groups = read_lists(place / "test.jsonl")
            own.test[place.name] = subset(groups, args.test_queries, args.seed)
    missing = [d for d in DOMAINS if d not in trades or not trades[d].train or not trades[d].test]
    if missing:
        raise InputError(f"{folder} holds no train and test files for {missing[0]}-...")
    return trades


def settings_of(args):
    """Return the arguments for a report, without folders of the machine it ran on."""
    return {k: v for k, v in vars(args).items() if k not in ("real", "out")}


def add_size_options(parser):
    """Add the options that say which sets are read and how much of each."""
    parser.add_argument("--model", default="nano", help='"nano", a folder or a hub name')
    parser.add_argument("--real", help="folder of real sets; runs after the course's own")
    parser.add_argument("--only-real", action="store_true", help="leave the course's own data out")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=LANGUAGES)
    parser.add_argument("--queries", type=int, default=600, help="training queries a set")
    parser.add_argument("--dev-queries", type=int, default=150, help="dev queries a set")
    parser.add_argument("--test-queries", type=int, default=400, help="test queries a set")
    parser.add_argument("--batch-queries", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-length", type=int, default=512)
