"""The command line: doctor, rank, adapt, evaluate, course, data."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from course_utils.errors import InputError

DEFAULT_EPOCHS = 3


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


def layer_count(text):
    """Return the value of ``--layers``: a whole number, or "all"."""
    return text if text == "all" else int(text)


layer_count.__name__ = "whole number or all"  # argparse names the type in its message


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


def doctor(args):
    """Print what a helper would ask about first: versions, hardware, memory, disk, the bundled model's answer."""
    import importlib.metadata
    import platform
    import shutil

    from course_utils.hub import BUNDLED, HUB_MODEL
    from course_utils.profile import get_profile, has_fast_bf16, pick_device, total_memory_mb
    from course_utils.reranker import Reranker

    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    names = ["torch", "transformers", "accelerate", "datasets", "huggingface-hub", "safetensors", "numpy", "scikit-learn",
             "matplotlib", "ipywidgets", "bm25s", "peft", "sentence-transformers", "jupyterlab"]  # fmt: skip
    for name in names:
        try:
            print(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"  {name} is not installed")
    device = pick_device()
    memory = total_memory_mb()
    print(f"{os.cpu_count()} cores, {memory / 1024:.1f} GB memory" if memory else f"{os.cpu_count()} cores")
    print(f"device {device}, bf16 {'fast' if has_fast_bf16(device) else 'not fast'} here")
    print(f"{shutil.disk_usage('.').free / 2**30:.1f} GB free on this disk")
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(HUB_MODEL, "config.json"), str)
    print(f"{HUB_MODEL}: {'in the local cache' if cached else 'not downloaded'}")
    get_profile()
    started = time.perf_counter()
    reranker = Reranker.load("nano", quiet=True)
    right, wrong = reranker.score([("how is rice cooked", "To cook rice, rinse it and boil it in water."),
                                   ("how is rice cooked", "The bus to the airport leaves at noon.")])  # fmt: skip
    seconds = time.perf_counter() - started
    print(f"bundled model in {BUNDLED['nano'].name}: scores {right:.2f} and {wrong:.2f} in {seconds:.1f} s")
    print("all well" if right > wrong else "NOT WELL: the bundled model ranks a wrong answer first")
    return 0 if right > wrong else 1


def rank(args):
    """Rank documents, one a line."""
    from course_utils.reranker import Reranker

    if args.documents == "-":
        text = sys.stdin.buffer.read()
    else:
        path = Path(args.documents)
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        text = path.read_bytes()
    try:
        documents = [line.strip() for line in text.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{args.documents}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
    if not documents:
        raise InputError(f"{args.documents} holds no document; write one a line.")
    reranker = Reranker.load(args.model, instruction=args.instruction, quiet=True)
    ranking = reranker.rank(args.query, documents)
    for place, r in enumerate(ranking, 1):
        print(f"{place:3d}  {r.score:8.3f}  {r.probability:6.1%}  {r.document}")
    if args.json:
        rows = [{"rank": i, "document": r.document, "score": r.score, "probability": r.probability, "index": r.index}
                for i, r in enumerate(ranking, 1)]  # fmt: skip
        write_json(args.json, {"query": args.query, "ranking": rows})


METRICS = ("ndcg@10", "mrr@10", "map", "accuracy", "f1")


def adapt(args):
    """Train the last layers and write what was measured before and after."""
    from course_utils.compare import compare, evaluate
    from course_utils.cost import forecast
    from course_utils.data import check_no_leak, rankable, read_groups, subset
    from course_utils.grid import LANGUAGES, load_domain
    from course_utils.profile import peak_memory_mb
    from course_utils.reranker import Reranker
    from course_utils.training import adapt as train_last_layers
    from course_utils.training import is_large, training_data

    started = time.perf_counter()
    if args.epochs is not None and args.epochs < 1:
        raise InputError(f"--epochs is {args.epochs}; give a whole number from 1.")
    if args.negatives < 1:
        raise InputError(f"--negatives is {args.negatives}; give a whole number from 1.")
    if args.max_queries is not None and args.max_queries < 4:
        raise InputError(f"--max-queries is {args.max_queries}; give at least 4.")
    for path in (args.json, args.out):
        check_writable(path)
    train, test = read_groups(args.train), read_groups(args.test)
    dev, general = (read_groups(path) if path else None for path in (args.dev, args.general))
    check_no_leak(train, test, (args.train, args.test))
    if dev:
        check_no_leak(train, dev, (args.train, args.dev))
        check_no_leak(dev, test, (args.dev, args.test))
    test = rankable(test)
    train = subset(rankable(train), args.max_queries, args.seed)
    reranker = Reranker.load(args.model, instruction=args.instruction, max_length=args.max_length)
    replay = []
    if not args.no_replay:
        replay = [g for language in LANGUAGES for g in load_domain("general", language, "train")]
        queries = {g.query for g in [*(general or []), *(dev or []), *test]}
        replay = [g for g in replay if g.query not in queries]
    epochs = args.epochs or DEFAULT_EPOCHS
    if args.estimate or is_large(reranker.model):
        learned, held_out = training_data(train, dev, replay=replay, seed=args.seed)
        scored = [*test, *(general or [])] * 2
        settings = {"layers": args.layers, "epochs": epochs, "negatives": args.negatives}
        print(forecast(reranker, learned, held_out, scored, **settings), flush=True)
        if args.estimate:
            return
    before = evaluate(reranker, test)
    general_before = evaluate(reranker, general) if general else None
    print(f"before: nDCG@10 {before.summary['ndcg@10']:.3f} on {len(test)} test queries")
    done = train_last_layers(
        reranker, train, dev, layers=args.layers, epochs=epochs, negatives=args.negatives, replay=replay,
        learning_rate=args.learning_rate, seed=args.seed, work_dir=Path(args.out) / "work",
    )  # fmt: skip
    after = evaluate(reranker, test)
    difference = compare(before, after, seed=args.seed)
    result = {
        "before": {m: before.summary[m] for m in METRICS},
        "after": {m: after.summary[m] for m in METRICS},
        "delta_ndcg@10": difference.mean,
        "low": difference.low,
        "high": difference.high,
    }
    if general:
        general_after = evaluate(reranker, general)
        result["general_before"] = {m: general_before.summary[m] for m in METRICS}
        result["general_after"] = {m: general_after.summary[m] for m in METRICS}
    reranker.save(Path(args.out) / "model")
    import shutil

    shutil.rmtree(Path(args.out) / "work", ignore_errors=True)
    result |= {
        "seconds": time.perf_counter() - started,
        "peak_memory_mb": peak_memory_mb(),
        "trainable_parameters": done.trainable,
        "total_parameters": done.total,
        "train_queries": len(train),
        "test_queries": len(test),
        "best_epoch": done.best_epoch,
        "history": done.history,
        "model": args.model,
        "seed": args.seed,
    }
    write_json(args.json, result)
    print(f"after:  nDCG@10 {after.summary['ndcg@10']:.3f}, difference {difference}")
    if general:
        print(f"general: nDCG@10 {general_before.summary['ndcg@10']:.3f} -> {general_after.summary['ndcg@10']:.3f}")
    print(f"{result['seconds']:.0f} s, peak {result['peak_memory_mb']:.0f} MB; model in {Path(args.out) / 'model'}")


def evaluate(args):
    """Measure a model on labelled pairs."""
    from course_utils.compare import evaluate as measure
    from course_utils.data import read_groups
    from course_utils.reranker import Reranker

    check_writable(args.json)
    groups = read_groups(args.data)
    reranker = Reranker.load(args.model, instruction=args.instruction)
    found = measure(reranker, groups)
    result = {**found.summary, "queries": len(groups), "pairs": sum(len(g.documents) for g in groups)}
    write_json(args.json, result)
    print("  ".join(f"{m} {found.summary[m]:.3f}" for m in METRICS))


def course(args):
    """Run all lessons."""
    from course_utils.course import run_course

    return run_course(args.profile, args.out)


def data(args):
    """Hand over to the data commands."""
    from course_utils.data_cli import main as data_main

    return data_main(args.rest)


def check_writable(path):
    """Raise InputError when ``path`` cannot be written, before an hour of training finds out."""
    folder = Path(path).resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} is not writable.")


def write_json(path, value):
    """Write ``value`` to ``path`` under a temporary name, then rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


COMMANDS = {"doctor": doctor, "rank": rank, "adapt": adapt, "evaluate": evaluate, "course": course, "data": data}
