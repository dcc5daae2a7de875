"""evaluate: measure a model on labelled pairs."""

from course_utils.cli import options, record
from course_utils.files import check_outputs

METRICS = ("ndcg@10", "mrr@10", "map", "accuracy", "f1")


def add(commands):
    """Add the command to the parser."""
    example = "evaluate --model adapted/model --data test.json --json result.json"
    parser = options.command(commands, "evaluate", "measure a model on labelled pairs", example, run)
    parser.add_argument("--data", required=True, metavar="E", help="labelled pairs: json, jsonl, csv, tsv or parquet")
    options.add_grades(parser)
    options.add_model(parser)
    parser.add_argument("--json", required=True, metavar="R", help="write the measurements here; - is standard output")


def run(args):
    """Print the metrics; return what is written."""
    from course_utils.data import read_groups
    from course_utils.evaluation import evaluate

    check_outputs([args.json], [args.data, args.model])
    kept, groups = record.Record(args), read_groups(args.data, args.max_relevance)
    reranker = options.load(args)
    kept.model(reranker)
    found = evaluate(reranker, groups)
    print("  ".join(f"{m} {found.summary[m]:.3f}" for m in METRICS))
    kept.data("data", args.data, found.counts)
    kept.few("test", found.counts.kept)
    kept.alike(found.scores)
    return {**found.summary, "queries": found.counts.kept, "pairs": found.counts.documents, "run": kept.finish()}
