"""export, score, index, search, serve: from a model to its use."""

import sys
import warnings
from pathlib import Path

from course_utils.cli import options, reading, record
from course_utils.cli.terminal import check_replaced, note
from course_utils.errors import InputError
from course_utils.files import check_outputs
from course_utils.language import _

KINDS = {
    "causal": "export_causal_lm",
    "sentence-transformers": "export_sentence_transformers",
    "one-label": "export_sequence_classifier",
    "onnx": "export_onnx",
}


def add(commands):
    """Add the commands to the parser."""
    parser = options.command(
        commands, "export", _('write a folder for other software'),
        "export --model adapted/model --to sentence-transformers --out exported", export,
    )  # fmt: skip
    parser.add_argument("--to", required=True, choices=KINDS, help=_("the software it is for; see lesson 08"))
    parser.add_argument("--out", required=True, metavar="FOLDER")
    options.add_model(parser)
    parser = options.command(
        commands, "score", _('score pairs without labels into a file; started again, it goes on'),
        "score --pairs pairs.jsonl --out scores.jsonl", score,
    )  # fmt: skip
    parser.add_argument("--pairs", required=True, metavar="FILE", help=_("query and document in each row"))
    parser.add_argument("--out", required=True, metavar="FILE", help=_("JSON lines, one score a pair"))
    options.add_long_documents(parser)
    options.add_model(parser)
    parser = options.command(
        commands, "index", _('make a search index of a folder or a file of texts'), "index handbook --out handbook.index", index
    )  # fmt: skip
    parser.add_argument(
        "documents", metavar="SOURCE", help=_("texts, Markdown, HTML, PDF, tables, or a folder of them")
    )
    parser.add_argument("--out", required=True, metavar="FOLDER")
    parser.add_argument(
        "--size", type=int, default=200, metavar="N", help=_("words of a passage at most (default 200)")
    )
    dense = _("a sentence-transformers model whose vectors find passages beside BM25 (default: none)")
    parser.add_argument("--dense", metavar="MODEL", help=dense)
    reading.add_table(
        parser, _("which column of a table holds the texts and which the ids, as document=COLUMN,id=COLUMN")
    )
    parser = options.command(
        commands, "search", _('find the passages of an index that answer a question'),
        "search 'how often is the dressing changed?' --index handbook.index", find,
    )  # fmt: skip
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("--index", required=True, metavar="FOLDER", help=_("what the command index wrote"))
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help=_("passages to print (default 5)"))
    parser.add_argument(
        "--first", type=int, default=50, metavar="N", help=_("passages that a first stage hands on (default 50)")
    )
    options.add_model(parser)
    parser.add_argument("--json", metavar="R", help=_("write what was found here; - is standard output"))
    parser = options.command(
        commands, "serve", _("answer rerank requests over HTTP"), "serve --model adapted/model", serve
    )
    parser.add_argument("--host", default="127.0.0.1", help=_("address (default: this machine alone)"))
    parser.add_argument("--port", type=int, default=8000)
    options.add_long_documents(parser)
    options.add_model(parser)


def export(args):
    """Write the folder."""
    from course_utils import ship

    check_outputs((), [args.model], folders=[args.out])
    check_replaced(args.out, "README.md")
    folder = getattr(ship, KINDS[args.to])(options.load(args), args.out)
    print(_("Written: {folder}; its README.md says how to use it.").format(folder=folder))


def score(args):
    """Score the pairs."""
    from course_utils.ship import score_file

    if args.out == "-" or (Path(args.out).exists() and not Path(args.out).is_file()):
        raise InputError("--out {out} is not a file, so a stopped run could not go on from it; give a file name.", out=args.out)  # fmt: skip
    check_outputs([args.out], [args.pairs, args.model], ends=())  # score_file knows its own
    reranker = options.load(args)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        count = score_file(reranker, args.pairs, args.out, sys.stderr.isatty(), args.long_documents)
    for warning in caught:
        note(str(warning.message))
    print(_("{count} pairs scored now: {out}").format(count=count, out=args.out))


def index(args):
    """Write the index and say what it holds."""
    from course_utils.ship import build_index

    check_outputs((), [args.documents], folders=[args.out])
    check_replaced(args.out, "index.json")
    count, said = build_index(args.documents, args.out, args.size, dense=args.dense, **reading.given(args))
    print(*said, _("{count:,} passages in {out}").format(count=count, out=args.out), sep="\n")


def find(args):
    """Print the passages; return them as what is written."""
    from course_utils.ship import SearchIndex, search

    check_outputs([args.json], [args.index, args.model])
    kept, opened = record.Record(args), SearchIndex(args.index)
    reranker = options.load(args, quiet=True)
    kept.model(reranker)
    hits = search(opened, args.question, reranker, args.top_k, args.first)
    for place, hit in enumerate(hits, 1):
        print(f"{place:3d}  {hit.probability:6.1%}  {hit.id}\n     {hit.text}\n")
    if not hits:
        print(_("Nothing found: no passage shares a word with the question."))
    return {
        "query": args.question,
        "hits": [{"rank": i, **vars(h)} for i, h in enumerate(hits, 1)],
        "run": kept.finish(),
    }


def serve(args):
    """Serve until stopped."""
    from course_utils import ship

    ship.serve(options.load(args), args.host, args.port, long_documents=args.long_documents)
