"""rank: order documents by how well they answer a query."""

import sys
import warnings
from pathlib import Path

from course_utils.cli import options, reading, record
from course_utils.errors import InputError
from course_utils.files import check_outputs
from course_utils.language import _


def add(commands):
    """Add the command to the parser."""
    example = "rank --query 'why does my toe hurt' --documents documents.txt --top-k 5"
    parser = options.command(commands, "rank", _("rank documents for a query"), example, run)
    parser.add_argument("--query", required=True)
    parser.add_argument("--documents", required=True, metavar="FILE", help=_("one document a line, a table, or a folder of texts; - reads standard input"))  # fmt: skip
    parser.add_argument("--top-k", type=int, metavar="K", help=_("print and write the best K only"))
    reading.add_table(parser, _("which column of a table holds the texts, as document=COLUMN"))
    options.add_long_documents(parser)
    options.add_model(parser)
    parser.add_argument("--json", metavar="R", help=_("write the ranking here; - is standard output"))


def run(args):
    """Print the ranking; return it as what is written."""
    from course_utils.data.long_documents import rank_long

    check_outputs([args.json], [args.documents, args.model])
    kept = record.Record(args)
    documents = reading.documents(args, args.documents) or read_documents(args.documents)
    reranker = options.load(args, quiet=True)
    kept.model(reranker)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the record says it in the words of the command line
        if args.long_documents == "passages":
            ranking = rank_long(reranker, args.query, documents, args.top_k)
        else:
            ranking = reranker.rank(args.query, documents, args.top_k)
    if getattr(ranking, "truncated", 0):
        kept.warn(cut_sentence(ranking.truncated, len(documents), reranker.max_length))
    for place, r in enumerate(ranking, 1):
        print(f"{place:3d}  {r.score:8.3f}  {r.probability:6.1%}  {getattr(r, 'piece', r.document)}")
    rows = [{"rank": i, "document": r.document, "score": r.score, "probability": r.probability, "index": r.index,
             **({"start": r.start, "end": r.end} if hasattr(r, "piece") else {})} for i, r in enumerate(ranking, 1)]  # fmt: skip
    return {"query": args.query, "ranking": rows, "run": kept.finish()}


def cut_sentence(cut, total, length):
    """Return what is said when documents were cut."""
    return _("{cut} of {total} documents were cut to fit {length} tokens, what stands behind was not read: give a larger --max-length, or cut long documents into passages.").format(cut=cut, total=total, length=length)  # fmt: skip


def read_documents(name):
    """Return the documents of a file, or of standard input for "-": one a line, and a line ends at a newline only.

    Raises:
        InputError: no such file, a folder, no document, a byte that is not UTF-8, or a file of Word.
    """
    path = Path(name)
    if name == "-":
        if sys.stdin is None:
            raise InputError("Standard input is closed; name a file with --documents.")
        content = sys.stdin.buffer.read()
    elif path.is_dir():
        raise InputError("{path} is a folder; give a file with one document a line.", path=path)
    elif not path.exists():
        raise InputError("There is no file {path}.", path=path)
    else:
        content = path.read_bytes()
    if content[:4] in (b"PK\3\4", b"\xd0\xcf\x11\xe0"):  # .docx and .odt are a zip, .doc is none
        suffixes = ".txt, .md, .html, .pdf, .csv, .xlsx, .jsonl"
        raise InputError("{path}: unknown format {value}; use {suffixes}.", path=name, value=path.suffix or _("(no suffix)"), suffixes=suffixes)  # fmt: skip
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        if name == "-":
            raise InputError("Standard input: byte {start} is not UTF-8; convert it, or save it as a file and name its encoding: --encoding.", start=error.start + 1) from None  # fmt: skip
        raise InputError("{name}: byte {start} is not UTF-8; save the file as UTF-8, or name its encoding: --encoding.", name=name, start=error.start + 1) from None  # fmt: skip
    documents = [line.strip(" \t\r") for line in lines if line.strip()]
    if not documents:
        raise InputError("{name} holds no document; write one a line.", name=name)
    return documents
