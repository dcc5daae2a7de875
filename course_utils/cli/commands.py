"""The commands doctor, rank, adapt and evaluate."""

import os
import sys
import time
from pathlib import Path

from course_utils.errors import InputError
from course_utils.files import check_writable, write_json


def doctor(args):
    """Print what a helper would ask about first: versions, hardware, memory, disk, the bundled model's answer."""
    import importlib.metadata
    import platform
    import shutil

    from course_utils.machine import has_fast_bf16, pick_device, total_memory_mb
    from course_utils.model.hub import BUNDLED, HUB_MODEL
    from course_utils.model.reranker import Reranker
    from course_utils.profile import get_profile

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
    from course_utils.model.reranker import Reranker

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
    from course_utils.data.grid import LANGUAGES, load_domain
    from course_utils.data.groups import check_no_leak, rankable, subset
    from course_utils.data.read import read_groups
    from course_utils.evaluation.measure import compare, evaluate
    from course_utils.machine import peak_memory_mb
    from course_utils.model.reranker import Reranker
    from course_utils.training.adaptation import adapt as train_last_layers
    from course_utils.training.adaptation import training_data
    from course_utils.training.cost import forecast
    from course_utils.training.recipe import is_large

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
    from course_utils.data.read import read_groups
    from course_utils.evaluation.measure import evaluate as measure
    from course_utils.model.reranker import Reranker

    check_writable(args.json)
    groups = read_groups(args.data)
    reranker = Reranker.load(args.model, instruction=args.instruction)
    found = measure(reranker, groups)
    result = {**found.summary, "queries": len(groups), "pairs": sum(len(g.documents) for g in groups)}
    write_json(args.json, result)
    print("  ".join(f"{m} {found.summary[m]:.3f}" for m in METRICS))


def course(args):
    """Run all lessons."""
    from course_utils.cli.course import run_course

    return run_course(args.profile, args.out)


def data(args):
    """Hand over to the data commands."""
    from course_utils.cli.data import main as data_main

    return data_main(args.rest)


DEFAULT_EPOCHS = 3


def layer_count(text):
    """Return the value of ``--layers``: a whole number, or "all"."""
    return text if text == "all" else int(text)


layer_count.__name__ = "whole number or all"  # argparse names the type in its message
