"""Scoring and adapting, side by side with the libraries a user would otherwise pick; writes results.json and speed.md.

    python -m benchmarks.speed --real FOLDER [--models nano,smollm2,qwen3-0.6b-shape] [--budget 19]
    python -m benchmarks.speed --real FOLDER --models smollm2 --no-scoring --no-growth --budget 12 --out quality.json

The second form repeats one model's adaptation over seeds, where nDCG@10 of the ways is to be compared.

FOLDER (or COURSE_REAL_DATA) holds medical-en and legal-en-tosdr with train.jsonl and test.jsonl: 10 documents a query to
adapt on, 100 different documents to score. What is missing is named before anything is measured. Every run has a process of
its own, so that its peak memory is its own; ways alternate round by round until the time of their part is spent. Models are
made or fetched under build/models when they are not there.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import floors, jobs, ways
from benchmarks.common import BUILD, HERE, QWEN_SHAPE, in_own_process, machine, model_folder, quiet, write_page
from benchmarks.lists import SIZES as LENGTHS
from benchmarks.lists import groups_of, one_list
from benchmarks.speed_table import markdown, summarise
from course_utils.errors import InputError
from course_utils.files import write_json
from course_utils.machine import has_fast_bf16

# Queries (10 documents each) that one adaptation trains on, is chosen by, and is tested on; how often it is repeated.
SIZES = {
    QWEN_SHAPE: {"train": 2, "dev": 1, "test": 0, "rate": 2e-5, "rounds": 3},
    "smollm2": {"train": 2, "dev": 1, "test": 10, "rate": 1e-4, "rounds": 3},
    "nano": {"train": 16, "dev": 8, "test": 100, "rate": 2e-3, "rounds": 3},
}
# Lists that each model scores: dtype (None: bf16 where it is fast), length, documents.
LISTS = {
    QWEN_SHAPE: [(None, "short", 100), (None, "long", 10)],
    "smollm2": [(None, "short", 100), ("float32", "long", 10)],
    "nano": [("float32", "short", 100), ("float32", "long", 10)],
}
SHARES = {"nano": 0.07, "growth": 0.13, "smollm2": 0.15, QWEN_SHAPE: 0.65}  # of the budget, in the order of the run
GROWTH_PAIRS, GROWTH_LAYERS = (250, 1000, 4000), (1, 3, 28)


class Runner:
    """Starts one process a job and watches the clock."""

    def __init__(self, threads, minutes):
        self.threads, self.end, self.begin = threads, time.perf_counter() + 60 * minutes, time.perf_counter()
        self.cost, self.skipped = {}, []

    def left(self):
        """Return the seconds that are left."""
        return self.end - time.perf_counter()

    def run(self, name, job, **options):
        """Return what ``job(**options)`` returns, or None when the same job has shown that time is too short."""
        if self.cost.get(name, 0) > self.left():
            self.skipped.append(name)
            print(f"  {name}: left out, {self.left():.0f} s are left", flush=True)
            return None
        started = time.perf_counter()
        preload = ("datasets", "sentence_transformers", "benchmarks.ways")  # imports are done once
        result = in_own_process(partial(job, **options), self.threads, preload=preload)
        self.cost[name] = time.perf_counter() - started
        print(f"  {name}: {jobs.short(result)}, {self.cost[name]:.0f} s with loading", flush=True)
        return result


def large_dtype():
    """Return the dtype in which every way runs a large model: bf16 where the chip multiplies it fast, else fp32."""
    return "bfloat16" if has_fast_bf16("cpu") else "float32"


def turn_of_ways(model, turn):
    """Return the ways of adapting in the order of a round."""
    shift = turn % len(ways.WAYS)
    order = [*ways.WAYS[shift:], *ways.WAYS[:shift]]
    if model == QWEN_SHAPE:
        order = [ways.HERE, *order]  # the fast way before and after the slow ones: one busy moment must not decide
    if model != "nano" or turn:
        order.remove(ways.KEEP)  # three minutes on the largest shape, for a time like the recipe's
    if model != QWEN_SHAPE:
        order.remove(ways.LEAN)  # memory is no question for a small model
    return order


def measure_model(runner, model, real, work, until, scoring=True):
    """Return the runs of one model: rates, adapting and, with ``scoring``, scoring and trunk."""
    folder, size = str(model_folder(model)), SIZES[model]
    large = large_dtype()
    dtypes = list(dict.fromkeys((large, "float32"))) if model != "nano" else ["float32"]
    out = {"rate": [], "scoring": [], "adapting": [], "trunk": []}
    lists = [(dtype or large, length, count) for dtype, length, count in LISTS[model]]
    for turn in range(size["rounds"]):
        if turn and time.perf_counter() > until:
            break
        for dtype in dtypes if not turn else dtypes[:1]:
            out["rate"].append(runner.run(f"{model} matrix rate {dtype}", floors.matrix_rate, dtype=dtype))
        for way in turn_of_ways(model, turn):
            done = runner.run(f"{model} adapt: {way}", jobs.adapting, way=way, folder=folder, real=real, work=work,
                              size=size, dtype=dtypes[0], seed=turn, model=model)  # fmt: skip
            out["adapting"].append(done)
        if model == QWEN_SHAPE and scoring:
            done = runner.run(f"{model} trunk", jobs.trunk, folder=folder, real=real, work=work, dtype=dtypes[0])
            out["trunk"].append(done)
        for dtype, length, count in lists if scoring else ():
            done = runner.run(f"{model} score {count} {length} {dtype}", jobs.scoring, folder=folder, real=real,
                              dtype=dtype, length=length, count=count, rounds=3 if model == "nano" else 1, first=turn,
                              model=model)  # fmt: skip
            out["scoring"].append(done)
    return {k: [r for r in runs if r] for k, runs in out.items()}


def measure_growth(runner, real, work, until):
    """Return the growth table: seconds and peak memory by pairs and trained layers, beside the counted floor.

    Once ``until`` has passed, what is left is named as left out.
    """
    folder = str(Path(work) / "growth-model")
    runner.run("growth model", jobs.make_small, folder=folder)
    out = []
    for pairs in GROWTH_PAIRS:
        for layers in GROWTH_LAYERS:
            if time.perf_counter() > until:
                runner.skipped.append(f"growth {pairs} pairs, {layers} layers")
                continue
            out.append(
                runner.run(
                    f"growth {pairs} pairs, {layers} layers", jobs.growth, folder=folder, real=real, work=work,
                    pairs=pairs, layers=layers,
                )
            )  # fmt: skip
    return [row for row in out if row]


def main(argv=None):
    """Run the benchmark; return 0, or 2 when there is no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", default=os.environ.get("COURSE_REAL_DATA"), metavar="FOLDER")
    parser.add_argument("--models", default=",".join(SIZES))
    parser.add_argument("--budget", type=float, default=19, metavar="MINUTES")
    parser.add_argument(
        "--threads",
        type=int,
        default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )
    parser.add_argument("--no-growth", action="store_true", help="leave the growth table out")
    parser.add_argument("--no-scoring", action="store_true", help="measure adapting alone")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the tables of --out anew")
    parser.add_argument("--out", default=str(HERE / "results.json"))
    args = parser.parse_args(argv)
    quiet()
    if args.table:
        results = json.loads(Path(args.out).read_text(encoding="utf-8"))
        write(args.out, {**results, "tables": summarise(results)})
        return 0
    models = args.models.split(",")
    unknown = [m for m in models if m not in SIZES]
    try:
        if unknown:
            raise InputError("unknown model {model}; choose of {known}.", model=unknown[0], known=", ".join(SIZES))
        check_lists(args.real, models, not args.no_scoring, not args.no_growth)
        results = measure(models, args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{results['minutes']:.1f} minutes; written to {args.out} and {table_path(args.out)}")
    return 0


def check_lists(real, models, scoring=True, growth=True):
    """Make every list that the run will need once, so that none is found missing after half an hour.

    Raises:
        InputError: no folder, or which file of it lacks what.
    """
    if not real or not Path(real).is_dir():
        raise InputError("there is no folder of real sets; give --real FOLDER or COURSE_REAL_DATA.")
    for model in models:
        size = SIZES[model]
        enough(real, "train", size["train"] + size["dev"])
        if size["test"]:
            enough(real, "test", size["test"])
        for _, length, count in LISTS[model] if scoring else ():
            one_list(real, length, count)
    if growth:
        enough(real, "train", min(GROWTH_PAIRS) // 10 + 4)


def enough(real, part, queries):
    """Raise InputError unless the long set has so many queries with ten documents."""
    found = len(groups_of(real, "long", part, queries))
    if found < queries:
        raise InputError(
            "{folder}: {part}.jsonl of {name} has {found} queries with 10 documents, one of them relevant; {queries} are needed.",
            folder=real, part=part, name=LENGTHS["long"], found=found, queries=queries,
        )  # fmt: skip


def measure(models, args):
    """Run every part that is asked for within the budget, writing after each; return the results."""
    for model in models:
        model_folder(model)
    runner = Runner(args.threads, args.budget)
    results = {"machine": machine(args.threads), "budget_minutes": args.budget, "models": {}, "growth": []}
    parts = [p for p in SHARES if p in models or (p == "growth" and not args.no_growth)]
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as work:
        for i, part in enumerate(parts):
            share = SHARES[part] / sum(SHARES[p] for p in parts[i:])
            until = time.perf_counter() + share * runner.left()
            print(f"{part}: about {(until - time.perf_counter()) / 60:.1f} minutes", flush=True)
            if part == "growth":
                results["growth"] = measure_growth(runner, args.real, work, until)
            else:
                results["models"][part] = measure_model(runner, part, args.real, work, until, not args.no_scoring)
            results["tables"] = summarise(results)
            results["skipped"] = runner.skipped
            results["minutes"] = (time.perf_counter() - runner.begin) / 60
            write(args.out, results)
    return results


def table_path(path):
    """Return where the table goes: speed.md beside results.json, else the same name with .md."""
    path = Path(path)
    return path.with_name("speed.md") if path.name == "results.json" else path.with_suffix(".md")


def write(path, results):
    """Write the numbers and the table."""
    write_json(path, results)
    write_page(table_path(path), markdown(results))


if __name__ == "__main__":
    sys.exit(main())
