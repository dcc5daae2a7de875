"""Scoring and adapting, side by side with the libraries a user would otherwise pick; writes results.json and speed.md.

    python benchmarks/speed.py --real FOLDER [--models nano,smollm2,qwen3-0.6b-shape] [--budget 19]
    python benchmarks/speed.py --real FOLDER --models smollm2 --no-scoring --no-growth --budget 12 --out quality.json

The second form repeats one model's adaptation over seeds, where nDCG@10 of the ways is to be compared.

FOLDER (or COURSE_REAL_DATA) holds medical-en and legal-en-tosdr with train.jsonl and test.jsonl. Every run has a process of
its own, so that its peak memory is its own; ways alternate round by round until the time of their part is spent. Models are
made or fetched under build/models when they are not there.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(HERE)]
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

import jobs  # noqa: E402

SHAPE = "qwen3-0.6b-shape"
# Queries (10 documents each) that one adaptation trains on, is chosen by, and is tested on; how often it is repeated.
SIZES = {
    SHAPE: {"train": 2, "dev": 1, "test": 0, "rate": 2e-5, "rounds": 3},
    "smollm2": {"train": 2, "dev": 1, "test": 10, "rate": 1e-4, "rounds": 3},
    "nano": {"train": 16, "dev": 8, "test": 100, "rate": 2e-3, "rounds": 3},
}
SHARES = {"nano": 0.07, "growth": 0.13, "smollm2": 0.15, SHAPE: 0.65}  # of the budget, in the order of the run
GROWTH_PAIRS, GROWTH_LAYERS = (250, 1000, 4000), (1, 3, 28)


class Runner:
    """Starts one process a job and watches the clock."""

    def __init__(self, threads, minutes):
        self.threads, self.end, self.begin = threads, time.perf_counter() + 60 * minutes, time.perf_counter()
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self.context = multiprocessing.get_context(method)
        if method == "forkserver":  # imports are done once
            self.context.set_forkserver_preload(["torch", "transformers", "datasets", "sentence_transformers", "ways"])
        self.cost, self.skipped = {}, []

    def left(self):
        """Return the seconds that are left."""
        return self.end - time.perf_counter()

    def run(self, name, job, **options):
        """Return what ``jobs.job(**options)`` returns, or None when the same job has shown that time is too short."""
        if self.cost.get(name, 0) > self.left():
            self.skipped.append(name)
            print(f"  {name}: left out, {self.left():.0f} s are left", flush=True)
            return None
        started = time.perf_counter()
        with ProcessPoolExecutor(1, self.context, max_tasks_per_child=None) as pool:
            result = pool.submit(jobs.call, job, self.threads, options).result()
        self.cost[name] = time.perf_counter() - started
        print(f"  {name}: {jobs.short(result)}, {self.cost[name]:.0f} s with loading", flush=True)
        return result


def prepare(model):
    """Return the folder of ``model``; make it where it is not there."""
    if model == "nano":
        return ROOT / "data" / "models" / "nano"
    folder = ROOT / "build" / "models" / model
    if not (folder / "config.json").exists():
        script = HERE / "make_qwen_shape.py" if model == SHAPE else ROOT / "scripts" / "get_smollm2.py"
        online = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        subprocess.run([sys.executable, str(script), str(folder)], check=True, env=online)
    return folder


def large_dtype():
    """Return the dtype in which every way runs a large model: bf16 where the chip multiplies it fast, else fp32."""
    from course_utils.machine import has_fast_bf16

    return "bfloat16" if has_fast_bf16("cpu") else "float32"


def measure_model(runner, model, real, work, until, scoring=True):
    """Return the runs of one model: rates, adapting and, with ``scoring``, scoring and trunk."""
    folder, size = str(prepare(model)), SIZES[model]
    large = large_dtype()
    dtypes = list(dict.fromkeys((large, "float32"))) if model != "nano" else ["float32"]
    out = {"rate": [], "scoring": [], "adapting": [], "trunk": []}
    lists = {
        SHAPE: [(large, "short", 100), (large, "long", 10)],
        "smollm2": [(large, "short", 100), ("float32", "long", 10)],
        "nano": [("float32", "short", 100), ("float32", "long", 10)],
    }[model]
    for turn in range(size["rounds"]):
        if turn and time.perf_counter() > until:
            break
        for dtype in dtypes if not turn else dtypes[:1]:
            rate = runner.run(f"{model} matrix rate {dtype}", "matrix_rate", dtype=dtype)
            out["rate"].append(rate)
        ways = list(jobs.WAYS)
        ways = ways[turn % len(ways) :] + ways[: turn % len(ways)]
        if model == SHAPE:
            ways = [jobs.HERE, *ways]  # the fast way before and after the slow ones: one busy moment must not decide
        for way in ways:
            if way == jobs.KEEP and (model != "nano" or turn):
                continue  # three minutes on the largest shape, for a time like the recipe's
            if way == jobs.LEAN and model != SHAPE:
                continue  # memory is no question for a small model
            out["adapting"].append(
                runner.run(
                    f"{model} adapt: {way}", "adapting", way=way, folder=folder, real=real, work=work, size=size,
                    dtype=dtypes[0], seed=turn, model=model,
                )
            )  # fmt: skip
        if model == SHAPE and scoring:
            out["trunk"].append(
                runner.run(f"{model} trunk", "trunk", folder=folder, real=real, work=work, dtype=dtypes[0])
            )
        for dtype, length, count in lists if scoring else ():
            out["scoring"].append(
                runner.run(
                    f"{model} score {count} {length} {dtype}", "scoring", folder=folder, real=real, dtype=dtype,
                    length=length, count=count, rounds=3 if model == "nano" else 1, first=turn, model=model,
                )
            )  # fmt: skip
    return {k: [r for r in runs if r] for k, runs in out.items()}


def measure_growth(runner, real, work, until):
    """Return the growth table: seconds and peak memory by pairs and trained layers, beside the counted floor.

    Once ``until`` has passed, what is left is named as left out.
    """
    folder = str(Path(work) / "growth-model")
    runner.run("growth model", "make_small", folder=folder)
    out = []
    for pairs in GROWTH_PAIRS:
        for layers in GROWTH_LAYERS:
            if time.perf_counter() > until:
                runner.skipped.append(f"growth {pairs} pairs, {layers} layers")
                continue
            out.append(
                runner.run(
                    f"growth {pairs} pairs, {layers} layers", "growth", folder=folder, real=real, work=work,
                    pairs=pairs, layers=layers,
                )
            )  # fmt: skip
    return [row for row in out if row]


def machine(threads):
    """Return the chip, the system and the versions."""
    from importlib.metadata import version

    chip, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8")
        chip = next((x.split(":", 1)[1].strip() for x in text.splitlines() if x.startswith("model name")), chip)
    names = ("torch", "transformers", "sentence-transformers", "accelerate", "datasets", "tokenizers")
    return {
        "chip": chip, "cores": os.cpu_count(), "threads": threads, "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(), "gpu": jobs.gpu(), "versions": {n: version(n) for n in names},
    }  # fmt: skip


def counted_mb(model, dtype):
    """Return the MB that a way of adapting ``model`` needs which keeps all weights in memory.

    Its weights, and fp32 copies of what trains with gradients and the two means of AdamW (16 bytes for each of these
    numbers). Frozen weights that leave memory while the last layers train go below it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(prepare(model)))
    trained = sum(p.numel() for layer in lm.model.layers[-jobs.LAYERS :] for p in layer.parameters())
    return (getattr(torch, dtype).itemsize * sum(p.numel() for p in lm.parameters()) + 16 * trained) / 2**20


def median(values):
    """Return the median, or None of nothing."""
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def summarise(results):
    """Return medians and ratios of all runs: a list of rows for adapting, for scoring and for the trunk."""
    tables = {"adapting": [], "scoring": [], "trunk": []}
    for model, runs in results["models"].items():
        here = [r for r in runs["adapting"] if r["way"] == jobs.HERE]
        counted = counted_mb(model, runs["adapting"][0]["dtype"]) if runs["adapting"] else None
        for way in jobs.WAYS:
            own = [r for r in runs["adapting"] if r["way"] == way]
            if not own:
                continue
            row = {"model": model, "way": way, "runs": len(own)}
            for key in ("dtype", "train_pairs", "dev_pairs"):
                row[key] = own[0][key]
            for key in ("seconds", "cpu_seconds", "peak_mb", "above_mb", "ndcg"):
                row[key] = median([r[key] for r in own])
            row["counted_mb"] = counted + row["peak_mb"] - row["above_mb"]
            row["floor_seconds"] = median([r["floor_seconds"] for r in own])
            row["times"] = row["seconds"] / median([r["seconds"] for r in here]) if here else None
            row["times_memory"] = row["peak_mb"] / median([r["peak_mb"] for r in here]) if here else None
            base = {r["seed"]: r["ndcg"] for r in here}
            gaps = [r["ndcg"] - base[r["seed"]] for r in own if r["ndcg"] is not None and r["seed"] in base]
            row["ndcg_gap"] = statistics.mean(gaps) if gaps else None
            tables["adapting"].append(row)
        kinds = dict.fromkeys((r["dtype"], r["length"], r["count"]) for r in runs["scoring"])
        for kind in kinds:
            own = [r for r in runs["scoring"] if (r["dtype"], r["length"], r["count"]) == kind]
            seconds = {w: median([s for r in own for s in r["seconds"][w]]) for w in own[0]["seconds"]}
            for way, value in seconds.items():
                tables["scoring"].append(
                    {
                        "model": model, "dtype": kind[0], "documents": kind[1], "list": kind[2], "way": way,
                        "runs": sum(len(r["seconds"][way]) for r in own), "seconds": value,
                        "pairs_per_second": kind[2] / value, "times": value / seconds[jobs.HERE],
                        "largest_difference": max(r["difference"][way] for r in own),
                    }
                )  # fmt: skip
        for r in runs["trunk"]:
            tables["trunk"].append({"model": model, **r})
    return tables


def cell(value, digits=2):
    """Return a table cell."""
    return "-" if value is None else f"{value:,.{digits}f}"


def markdown(results):
    """Return the tables as Markdown."""
    m, tables = results["machine"], results["tables"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines = [
        "# Speed, side by side", "",
        f"Measured by `benchmarks/speed.py` on {m['chip']}, {m['cores']} cores, {m['threads']} threads, {m['system']}, "
        f"Python {m['python']}, {versions}. {m['gpu']} The whole run took {results['minutes']:.0f} minutes.",
        "Seconds are medians over runs; each run had a process of its own, the ways took turns. \"times\" is the ratio of "
        "medians to this package. All ways: same weights, same pairs, same epochs, same pairs an optimiser step.", "",
        "## Adapting the last 3 layers, 3 epochs, evaluation and checkpoint each epoch", "",
        "Real text, documents of 100 words, lists of 10. Floor: operations that cannot be spared over the matrix rate "
        "measured in the same run. Memory: largest resident set of the process, and what of it came after the libraries "
        "were loaded; beside it what is counted where all weights stay in memory: libraries, weights, and 16 bytes for each "
        "number that trains. nDCG@10 on test queries, where weights are real; the gap is the mean over seeds.", "",
        "| model | way | dtype | train + dev pairs | runs | seconds | times | floor s | peak MB | above start MB | counted MB | times | nDCG@10 | gap |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in tables["adapting"]:
        lines.append(
            f"| {r['model']} | {r['way']} | {r['dtype']} | {r['train_pairs']} + {r['dev_pairs']} | {r['runs']} "
            f"| {cell(r['seconds'], 1)} | {cell(r['times'])} | {cell(r['floor_seconds'], 1)} | {cell(r['peak_mb'], 0)} "
            f"| {cell(r['above_mb'], 0)} | {cell(r['counted_mb'], 0)} | {cell(r['times_memory'])} | {cell(r['ndcg'], 3)} | {cell(r['ndcg_gap'], 3)} |"
        )
    lines += [
        "", "## Scoring one list under one instruction", "",
        "Short documents have about 50 words, long ones 100. The difference is the largest one of a logit to the official "
        "snippet in the same dtype; in bf16 every way rounds differently.", "",
        "| model | list | dtype | way | runs | seconds | pairs/s | times | largest difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in tables["scoring"]:
        lines.append(
            f"| {r['model']} | {r['list']} {r['documents']} | {r['dtype']} | {r['way']} | {r['runs']} "
            f"| {cell(r['seconds'], 3)} | {cell(r['pairs_per_second'], 1)} | {cell(r['times'])} "
            f"| {r['largest_difference']:.1e} |"
        )
    if tables["trunk"]:
        lines += ["", "## Building the cached states: share of the matrix rate", "",
                  "| model | dtype | tokens | seconds | operations | GFLOP/s | matrix rate GFLOP/s | share |",
                  "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in tables["trunk"]:
        lines.append(
            f"| {r['model']} | {r['dtype']} | {r['tokens']:,} | {cell(r['seconds'])} | {r['operations']:.2e} "
            f"| {cell(r['gflops'], 0)} | {cell(r['rate'], 0)} | {100 * r['share']:.0f} % |"
        )
    if results["growth"]:
        shape = results["growth"][0]["shape"]
        lines += ["", "## Growth with pairs and trained layers", "",
                  f"This package, one epoch, {shape}. 28 trained layers are all of them, so nothing is cached.", "",
                  "| pairs | trained layers | seconds | floor s | times floor | peak MB | states on disk MB |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in results["growth"]:
        lines.append(
            f"| {r['pairs']:,} | {r['layers']} | {cell(r['seconds'], 1)} | {cell(r['floor_seconds'], 1)} "
            f"| {cell(r['seconds'] / r['floor_seconds'], 1)} | {cell(r['peak_mb'], 0)} | {cell(r['disk_mb'], 0)} |"
        )
    if results["skipped"]:
        lines += ["", "Left out for lack of time: " + "; ".join(dict.fromkeys(results["skipped"])) + "."]
    return "\n".join(lines) + "\n"


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
    if args.table:
        results = json.loads(Path(args.out).read_text(encoding="utf-8"))
        write(args.out, {**results, "tables": summarise(results)})
        return 0
    models = args.models.split(",")
    unknown = [m for m in models if m not in SIZES]
    if unknown or not args.real or not (Path(args.real) / "medical-en" / "train.jsonl").is_file():
        why = f"unknown model {unknown[0]}" if unknown else "no folder of real sets; give --real or COURSE_REAL_DATA"
        print(f"error: {why}", file=sys.stderr)
        return 2
    for model in models:
        prepare(model)
    runner = Runner(args.threads, args.budget)
    results = {"machine": machine(args.threads), "budget_minutes": args.budget, "models": {}, "growth": []}
    parts = [p for p in SHARES if p in models or (p == "growth" and not args.no_growth)]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as work:
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
    print(f"{results['minutes']:.1f} minutes; written to {args.out} and {table_path(args.out)}")
    return 0


def table_path(path):
    """Return where the table goes: speed.md beside results.json, else the same name with .md."""
    path = Path(path)
    return path.with_name("speed.md") if path.name == "results.json" else path.with_suffix(".md")


def write(path, results):
    """Write the numbers and the table, each to a temporary name first."""
    path = Path(path)
    for target, text in ((path, json.dumps(results, indent=1) + "\n"), (table_path(path), markdown(results))):
        temporary = target.with_name(target.name + ".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)


if __name__ == "__main__":
    sys.exit(main())
