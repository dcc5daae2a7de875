"""data convert, split and prepare: from the files that people have to the lists that a training reads."""

import shlex
from pathlib import Path

from course_utils.cli import options, reading
from course_utils.cli.terminal import check_replaced
from course_utils.errors import InputError
from course_utils.language import _


def add(commands):
    """Add both to the sub-commands of ``data``."""
    what = _("read labelled data of any usual shape and write them as plain JSON lines")
    convert = options.command(commands, "convert", what, "data convert questions.xlsx pairs.jsonl --columns query=Question,document=Text", run_convert)  # fmt: skip
    convert.add_argument("source", metavar="IN", help=_("a file (.csv, .xlsx, .jsonl, .json, .parquet) or a folder"))
    convert.add_argument("out", metavar="OUT", help=_("the file to write, .jsonl"))
    reading.add_reading(convert)
    _add_repeated(convert)
    convert.add_argument("--overwrite", action="store_true", help=_("replace a file OUT that holds other lines"))
    what = _("make train, dev and test lists from questions with their right passages and a handbook")
    prepare = options.command(commands, "prepare", what, "data prepare questions.xlsx handbook --out prepared", run_prepare)  # fmt: skip
    prepare.add_argument("questions", metavar="QUESTIONS", help=_("file with a question and its right passage a row"))
    prepare.add_argument("passages", metavar="PASSAGES", help=_("folder or file of texts (.txt, .md, .html, .pdf, .csv, ...)"))  # fmt: skip
    prepare.add_argument("--out", required=True, metavar="DIR", help=_("folder for train.jsonl, dev.jsonl, test.jsonl and more"))  # fmt: skip
    reading.add_reading(prepare)
    own = prepare.add_argument_group(_("a handbook in a table"))
    what = _("which column of a table holds the texts and which the ids, as document=COLUMN,id=COLUMN")
    reading.add_table(own, what, "passage-")
    prepare.add_argument("--by", choices=["auto", "topic", "document", "query"], default="auto", help=_("what stays together"))  # fmt: skip
    prepare.add_argument("--fractions", metavar="A,B,C", default="0.7,0.1,0.2", help=_("shares of train, dev and test"))
    prepare.add_argument("--hard", type=int, metavar="N", default=5, help=_("BM25 negatives a question (default 5)"))
    prepare.add_argument("--random", type=int, metavar="N", default=2, help=_("random negatives a question (default 2)"))  # fmt: skip
    prepare.add_argument("--size", type=int, metavar="N", default=200, help=_("words (Chinese: characters) a passage at most"))  # fmt: skip
    prepare.add_argument("--model", metavar="MODEL", help=_("a reranker that keeps likely right answers out of the negatives"))  # fmt: skip
    prepare.add_argument("--dense", metavar="MODEL", help=_("a sentence-transformers model that finds negatives and right passages beside BM25"))  # fmt: skip
    prepare.add_argument("--seed", type=int, default=0, metavar="S")
    prepare.add_argument("--json", metavar="FILE", help=_("write the figures of the report"))


def run_convert(args):
    """Print what was read and taken for what."""
    from course_utils.data import DataError, convert

    how = {"drop_repeated": args.drop_repeated, "overwrite": args.overwrite, **reading.given(args)}
    try:
        found = convert(args.source, args.out, **how)
    except DataError as error:
        raise _repeated(error) from None
    print(found)
    print(_("Written to {out}.").format(out=args.out))


def _add_repeated(parser):
    """Add ``--drop-repeated``, which ``_repeated`` names."""
    what = _("keep one of pairs that stand twice; where they differ, the right one")
    parser.add_argument("--drop-repeated", action="store_true", help=what)


def _repeated(error):
    """Return a DataError with the option that mends it, where repeated pairs are all that is wrong."""
    if set(error.counts) <= {"duplicate pair", "contradictory pair"}:
        return InputError("{error} --drop-repeated keeps one of each; where they differ, the right one.", error=error)
    return error


def add_split(parser):
    """Add what ``data split`` takes for a file."""
    parser.add_argument("source", metavar="FILE", help=_("labelled pairs, as adapt reads them; or a domain of the course's data"))  # fmt: skip
    parser.add_argument("language", nargs="?", metavar="LANGUAGE", help=_("of the course's data, en or zh: its topics are drawn"))  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help=_("folder for train.jsonl, dev.jsonl and test.jsonl"))
    what = _("shares of train, dev and test, or of train and test (default 0.7,0.1,0.2)")
    parser.add_argument("--fractions", metavar="A,B,C", default="0.7,0.1,0.2", help=what)
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    _add_repeated(parser)
    reading.add_reading(parser)


def run_split(args):
    """Split a file of labelled pairs, print the counts and what to do next."""
    from course_utils.data import DOMAINS, DataError
    from course_utils.data.parts import _split_file

    if args.source in DOMAINS and not Path(args.source).exists():
        raise InputError("{source} is a domain of the course's data; say in which language: data split {source} en", source=args.source)  # fmt: skip
    if not args.out:
        raise InputError("Name the folder to write to: data split {source} --out FOLDER", source=args.source)
    if args.force or args.data:
        raise InputError("--force and --data are for the course's data, and {source} is a file; leave them out.", source=args.source)  # fmt: skip
    try:
        fractions = tuple(float(x) for x in args.fractions.split(","))
    except ValueError:
        fractions = ()
    if len(fractions) not in (2, 3) or not all(f > 0 for f in fractions) or not abs(sum(fractions) - 1) <= 1e-6:
        raise InputError('--fractions is "{fractions}"; give three shares above 0 that sum to 1, such as 0.7,0.1,0.2, or two.', fractions=args.fractions)  # fmt: skip
    how = {"drop_repeated": args.drop_repeated, **reading.given(args)}
    try:
        done = _split_file(args.source, args.out, fractions, args.seed, **how)
    except DataError as error:
        raise _repeated(error) from None
    print(done)
    _next(args, done)


def _next(args, done):
    """Print where the lists are and the command that learns from them."""
    files = [word for part in done.parts for word in (f"--{part}", f"{args.out}/{part}.jsonl")]
    grade = int(max(r for own in done.parts.values() for g in own for r in g.relevance))
    grades = ["--max-relevance", str(grade)] if grade > 1 else []
    words = ["python", "-m", "course_utils", "adapt", *files, *grades, "--out", "adapted", "--json", "result.json"]
    print(_("Written to {out}. Next: {command}").format(out=args.out, command=shlex.join(words)))


def run_prepare(args):
    """Print the report and return its figures."""
    from course_utils.data import Plan, prepare
    from course_utils.files import check_outputs

    try:
        fractions = tuple(float(x) for x in args.fractions.split(","))
    except ValueError:
        raise InputError('--fractions is "{fractions}"; give three shares, such as 0.7,0.1,0.2.', fractions=args.fractions) from None  # fmt: skip
    plan = Plan(fractions, args.by, args.hard, args.random, size=args.size, seed=args.seed)
    check_outputs([args.json] if args.json else [], [args.questions, args.passages], folders=[args.out])
    if args.json not in (None, "-") and Path(args.json).resolve().is_relative_to(Path(args.out).resolve()):
        raise InputError("--json {json} lies in a folder that this run writes anew; choose another place.", json=args.json)  # fmt: skip
    check_replaced(args.out, "passages.jsonl")
    reranker = None
    if args.model:
        from course_utils.model import Reranker

        reranker = Reranker.load(args.model, quiet=True)
    first = {}
    if args.dense:
        from course_utils.ship.dense import _both_stages

        first = {"first_stage": _both_stages(args.dense)}
    how = {**first, **reading.given(args), **reading.given(args, "passage_")}
    done = prepare(args.questions, args.passages, args.out, plan, reranker=reranker, **how)
    print(done)
    _next(args, done)
    return done.as_dict()
