"""Options that several commands share, and what their values may be."""

import argparse
import math
import os
import re

from course_utils.errors import InputError
from course_utils.language import _

DTYPES = ("float32", "bfloat16", "float16")
# The least value of each option that is a whole number; the recipe of a training checks its own.
LEAST = {"worst": 1, "max_length": 32, "batch_tokens": 1, "top_k": 1, "max_queries": 4, "max_relevance": 1, "seed": 0}
MOST = {
    "max_length": 2**17,
    "seed": 2**32 - 1,
}  # of length, as in the settings file of a saved model; of seeds, as in Recipe
TEXTS = ("query", "question", "instruction", "model", "documents", "train", "test", "dev", "general", "data", "rule", "json", "out", "host")  # fmt: skip


def command(commands, name, help, example, run):
    """Add the command ``name`` to a parser's commands and return its parser; ``run`` is its function of the arguments."""
    parser = commands.add_parser(
        name,
        help=help,
        description=_("{text}.").format(text=f"{help[0].upper()}{help[1:]}"),
        epilog=_("example: python -m course_utils {example}").format(example=example),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


class _Several(argparse.Action):
    # --model A B and --model A --model B are the same; the first one given takes the place of the default.
    def __call__(self, parser, args, values, option=None):
        known = getattr(args, self.dest)
        setattr(args, self.dest, [*(known if known is not self.default else []), *values])


def add_model(parser, several=False):
    """Add the options that say which model is used and how; ``several``: a list of models."""
    what = _("nano (bundled), a folder, or a hub name (default nano)")
    if several:
        parser.add_argument(
            "--model",
            nargs="+",
            action=_Several,
            default=["nano"],
            help=_("{what}; several are compared").format(what=what),
        )
    else:
        parser.add_argument("--model", default="nano", help=what)
    parser.add_argument(
        "--instruction", help=_("the task in one English sentence (default: what the model was saved with)")
    )
    parser.add_argument("--max-length", type=int, metavar="N", help=_("tokens of one prompt at most"))
    parser.add_argument("--device", help=_("cpu, cuda, cuda:1 or mps (default: the fastest here)"))
    parser.add_argument(
        "--dtype", choices=DTYPES, help=_("number format of frozen weights (default: what is fast here)")
    )
    parser.add_argument(
        "--batch-tokens", type=int, metavar="N", help=_("tokens computed at once; lower it when memory is short")
    )


def add_long_documents(parser):
    """Add the option on documents that are longer than the prompt."""
    what = _("cut them at the end of the prompt, or score overlapping passages and keep the best (default cut)")
    parser.add_argument("--long-documents", choices=("cut", "passages"), default="cut", help=what)


def add_grades(parser):
    """Add the option that allows labels above 1; nDCG counts them, and training takes 1 and more for relevant."""
    parser.add_argument("--max-relevance", type=int, default=1, metavar="N", help=_("the highest grade (default 1)"))


def check(args):
    """Raise InputError for a value that cannot be right, before anything is read."""
    for name in TEXTS:
        value = getattr(args, name, None)
        if value is None:
            continue
        if not all(str(v).strip() for v in (value if isinstance(value, list) else [value])):
            raise InputError("{flag} is empty; leave it out or give a value.", flag=_flag(name))
        if name in ("query", "question", "instruction") and re.search(r"[\ud800-\udfff]", value):
            raise InputError(
                "{flag} holds a byte that is not UTF-8; type it again in a UTF-8 terminal.", flag=_flag(name)
            )
        if "\0" in str(value):
            raise InputError("{flag} holds a NUL character; remove it.", flag=_flag(name))
    for name, least in LEAST.items():
        value = getattr(args, name, None)
        if value is not None and not least <= value <= MOST.get(name, math.inf):
            allowed = _("from {least} to {most}") if name in MOST else _("of at least {least}")
            allowed = allowed.format(least=least, most=MOST.get(name))
            what = _("must be above 0") if value < 1 <= least else _("is {value}").format(value=value)
            raise InputError(
                "{flag} {what}; give a whole number {allowed}.", flag=_flag(name), what=what, allowed=allowed
            )
    if getattr(args, "device", None):
        from course_utils.machine import check_device

        check_device(args.device)


def load(args, quiet=False, name=None, revision=None):
    """Return the Reranker that the options of ``add_model`` ask for; ``name``: one of several, ``revision``: its commit."""
    import torch

    from course_utils.model import Reranker

    reranker = Reranker.load(
        args.model if name is None else name,
        instruction=args.instruction,
        max_length=args.max_length,
        device=args.device,
        dtype=getattr(torch, args.dtype) if args.dtype else None,
        revision=revision,
        quiet=quiet,
    )
    if args.batch_tokens:
        reranker.batch_tokens = args.batch_tokens
    return reranker


def shown(path):
    """Return a path or a name as text that every file and terminal takes."""
    return os.fsencode(str(path)).decode("utf-8", "replace")


def _flag(name):
    return "QUESTION" if name == "question" else f"--{name.replace('_', '-')}"
