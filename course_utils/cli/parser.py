"""One parser: every command and sub-command with its own help and an example."""

import argparse
import json
import os
from contextlib import suppress

from course_utils import __version__
from course_utils.cli import adapt, course, data, doctor, evaluate, options, rank, shipped, terminal, updates
from course_utils.errors import InputError
from course_utils.files import write_json
from course_utils.language import _

COMMANDS = (doctor, rank, adapt, evaluate, data, shipped, updates, course)
# What argparse says to people by itself, in the releases for Python 3.11 to 3.13.
_ARGPARSE = (
    "usage: ", "options", "positional arguments", "%(heading)s:", "show this help message and exit",
    "argument %(argument_name)s: %(message)s", "ambiguous option: %(option)s could match %(matches)s",
    "expected one argument", "expected at most one argument", "expected at least one argument", "expected %s argument",
    "expected %s arguments", "ignored explicit argument %r", "invalid %(type)s value: %(value)r",
    "invalid choice: %(value)r (choose from %(choices)s)", "not allowed with argument %s",
    "one of the arguments %s is required", "the following arguments are required: %s", "unrecognized arguments: %s",
)  # fmt: skip
# It asks these two functions of its module for the words of the reader.
argparse._, argparse.ngettext = _, lambda one, several, count: _(one if count == 1 else several)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence."""

    def error(self, message):
        raise InputError(
            "{message}{message_2}; see {prog} --help.",
            message=message[:1].upper(),
            message_2=message[1:],
            prog=self.prog,
        )


def build_parser():
    """Return the argument parser; ``run`` of what it parses is the function of the command."""
    parser = _Parser(
        prog="python -m course_utils",
        description=_("Adapt, evaluate and use a reranker. Exit code 2 means bad input, with one sentence."),
        epilog=_("example: python -m course_utils {example}").format(
            example="rank --query 'how is rice cooked' --documents documents.txt"
        ),
    )
    version = {"version": f"reranker-course {__version__}", "help": _("show program's version number and exit")}
    parser.add_argument("--version", action="version", **version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv=None):
    """Run a command.

    Returns:
        the exit code: 0 when it went well; 1 when a gate refused; 2 on bad input, with one sentence on standard error; 130 when stopped.

    Raises:
        SystemExit: after --help and --version, with code 0.
    """
    # Messages of the libraries would hide ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return terminal.ended(lambda: _run(build_parser().parse_args(argv)))


def _run(args):
    """Run the command of parsed arguments; its result is printed by it first and written after that."""
    options.check(args)
    where = getattr(args, "json", None)
    if where and where != "-":
        terminal.check_result(where)
    with terminal.messages(where):
        result = args.run(args)
    if isinstance(result, dict):
        if where:
            _write(where, result)
        return int(result.get("accepted") is False)  # what a gate refuses is no bad input, and a script must see it
    return result


def _write(where, result):
    """Write a result; where that fails print it, since it may have taken hours."""
    try:
        write_json(where, result)
    except (InputError, OSError):
        with suppress(ValueError):
            text = json.dumps(result, ensure_ascii=False, allow_nan=False)
            terminal.note(_("{where} could not be written; here is what it would hold:").format(where=where))
            print(text, flush=True)
        raise
