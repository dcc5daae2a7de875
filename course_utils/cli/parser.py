"""The command line: one parser, one way to end."""

import argparse
import os
import sys

from course_utils.cli.commands import DEFAULT_EPOCHS, adapt, course, data, doctor, evaluate, layer_count, rank
from course_utils.errors import InputError


def build_parser():
    """Return the argument parser."""
    parser = argparse.ArgumentParser(prog="python -m course_utils", description="Adapt, evaluate and use a reranker.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("doctor", help="check the environment; paste the output into a question")

    rank = commands.add_parser("rank", help="rank documents for a query")
    rank.add_argument("--model", default="nano")
    rank.add_argument("--query", required=True)
    rank.add_argument("--documents", required=True, metavar="FILE", help="one document a line; - reads standard input")
    rank.add_argument("--instruction")
    rank.add_argument("--json", metavar="R", help="write the ranking here")

    adapt = commands.add_parser("adapt", help="train the last layers on labelled pairs; measure before and after")
    adapt.add_argument("--model", default="nano", help="nano, a local folder or a hub name")
    adapt.add_argument("--train", required=True, metavar="T", help="labelled pairs: json, jsonl, csv, tsv or parquet")
    adapt.add_argument("--test", required=True, metavar="E", help="labelled pairs, no query of them in T")
    adapt.add_argument(
        "--dev", metavar="D", help="labelled pairs that choose the epoch; default: 15 %% of the queries in T"
    )
    adapt.add_argument("--general", metavar="G", help="labelled pairs of another kind: was anything forgotten?")
    adapt.add_argument(
        "--layers", type=layer_count, default=3, metavar="K", help='last layers that train (default 3), or "all"'
    )
    adapt.add_argument(
        "--epochs", type=int, metavar="N", help=f"passes over the training queries (default {DEFAULT_EPOCHS})"
    )
    adapt.add_argument(
        "--negatives", type=int, metavar="N", default=4, help="wrong documents a query and epoch (default 4)"
    )
    adapt.add_argument("--learning-rate", type=float, help="default: by the size of the model; less with --layers all")
    adapt.add_argument("--max-queries", type=int, metavar="Q", help="training queries to use at most")
    adapt.add_argument("--max-length", type=int, help="tokens of one prompt at most")
    adapt.add_argument("--no-replay", action="store_true", help="do not mix the course's general queries into training")
    adapt.add_argument("--instruction", help="the task in one English sentence")
    adapt.add_argument("--seed", type=int, default=0, metavar="S")
    adapt.add_argument("--estimate", action="store_true", help="only say what it will take, and stop")
    adapt.add_argument("--out", required=True, metavar="DIR", help="folder for the adapted model")
    adapt.add_argument("--json", required=True, metavar="R", help="write the measurements here")

    evaluate = commands.add_parser("evaluate", help="measure a model on labelled pairs")
    evaluate.add_argument("--model", default="nano")
    evaluate.add_argument("--data", required=True, metavar="E")
    evaluate.add_argument("--instruction")
    evaluate.add_argument("--json", required=True, metavar="R")

    course = commands.add_parser("course", help="run every lesson; leave executed copies and a report under build/")
    course.add_argument("--profile", choices=["smoke", "laptop", "full"], help="default: smoke")
    course.add_argument("--out", default="build")

    data = commands.add_parser(
        "data", help="check a file of labelled pairs; split, build or describe the course's data"
    )
    data.add_argument("rest", nargs=argparse.REMAINDER)
    return parser


def main(argv=None):
    """Run a command; return 0 on success, 2 on bad input with one sentence on standard error."""
    # Messages of the libraries would hide ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    args = build_parser().parse_args(argv)
    try:
        return COMMANDS[args.command](args) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped by you; run the same command to go on", file=sys.stderr)
        return 130


COMMANDS = {"doctor": doctor, "rank": rank, "adapt": adapt, "evaluate": evaluate, "course": course, "data": data}
