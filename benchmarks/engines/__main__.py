"""Score the same lists by this package and by the engines that a user might take instead; writes engines.json and engines.md.

    python -m benchmarks.engines --real FOLDER [--models nano,qwen3-0.6b-shape] [--minutes 8] [--python vllm_cpu=PATH ...]
    python -m benchmarks.engines --real FOLDER --loss nano=150,smollm2=20

The second form measures what int8 loses in nDCG@10, with so many queries of each set.

Each run is a process of its own; the ways take turns, those with the fewest runs first, until the minutes are over. Runs are
kept in engines.json: the same command goes on where it stopped. An engine that is not installed is named with the reason;
--python gives an engine a Python of its own. Files that an engine needs are converted once, under build/engines.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.common import BUILD, HERE, QWEN_SHAPE, machine, model_folder, quiet, write_page
from benchmarks.engines.loss import losses
from benchmarks.engines.page import page
from benchmarks.lists import one_list, real_sets
from course_utils.errors import InputError
from course_utils.files import ROOT, write_json
from course_utils.machine import has_fast_bf16

LISTS = {"100 short": ("short", 100), "30 long": ("long", 30)}
# (engine, kind) in the order of the page; the first one is what the others' scores are compared with.
ALL = [
    ("here", "fp32"), ("here", "bf16"), ("here", "int8 torch"), ("here", "int8 torchao"), ("vllm_cpu", "fp32"),
    ("vllm_cpu", "bf16"), ("llama", "f32"), ("llama", "f16"), ("llama", "bf16"), ("llama", "q8_0"), ("openvino", "fp32"),
    ("openvino", "bf16"), ("openvino", "int8"), ("onnx", "fp32"), ("onnx", "int8"), ("cross_encoder", "fp32"),
    ("cross_encoder", "bf16"), ("snippet", "fp32"), ("snippet", "bf16"),
]  # fmt: skip
# Where bf16 is fast a large model is measured in fp32 here alone: nobody who waits for an answer takes it. Elsewhere bf16
# is left out: it is slower than fp32.
WAYS = {
    "nano": [way for way in ALL if way[1] != "bf16"],
    QWEN_SHAPE: [way for way in ALL if way[1] not in ("fp32", "f32") or way[0] == "here"],
}
REPEATS = {"nano": 5, QWEN_SHAPE: 1}


def ways_of(model, only=None):
    """Return the ways of a model on this chip, on request of some engines alone."""
    ways = WAYS.get(model, ALL) if has_fast_bf16("cpu") else [way for way in ALL if way[1] != "bf16"]
    return [way for way in ways if not only or way[0] in only or " ".join(way) in only]


def this_machine(threads):
    """Return ``machine``, and what tells chips of one name apart: the instructions that torch uses, whether bf16 is fast."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {**machine(threads), "instructions": capability, "fast bf16": has_fast_bf16("cpu")}


def run(job, python, at_most=540):
    """Return (result, None) of one process of at most so many seconds, or (None, why there is none)."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(job["threads"]),
        "TOKENIZERS_PARALLELISM": "false",
    }
    with tempfile.TemporaryDirectory() as place:
        job = {**job, "out": str(Path(place) / "out.json")}
        try:
            done = subprocess.run(
                [python, "-m", "benchmarks.engines.worker"], input=json.dumps(job), cwd=ROOT, env=environment,
                capture_output=True, text=True, check=False, timeout=at_most,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None, f"not done after {at_most} s"
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no word"]
        if done.returncode == 3:
            return None, f"not installed: {said[-1][:80]}"
        if done.returncode:
            return None, said[-1][:200].replace("|", "/")
        return json.loads(Path(job["out"]).read_text(encoding="utf-8")), None


def take_turns(results, model, args, until):
    """Run the ways of a model, those with the fewest runs first, until the time is over; write after each."""
    cells = results["models"].setdefault(model, {})
    lists = {t: one_list(args.real, *LISTS[t]) for t in args.lists or LISTS}
    tried = set()
    while time.perf_counter() < until:
        waiting = [w for w in ways_of(model, args.only) if w not in tried or "why" not in cells.get(" ".join(w), {})]
        if not waiting:
            return
        way = min(waiting, key=lambda w: len(cells.get(" ".join(w), {}).get("runs", ())))
        cell = cells.setdefault(" ".join(way), {})
        runs = cell.setdefault("runs", [])
        if len(runs) >= args.runs:
            return
        cost = max((r["whole"] for r in runs), default=0)
        if cost > until - time.perf_counter():
            return
        tried.add(way)
        work = BUILD / "engines" / Path(model).name
        work.mkdir(parents=True, exist_ok=True)
        job = {
            "engine": way[0], "kind": way[1], "folder": str(model_folder(model)), "work": str(work), "lists": lists,
            "threads": args.threads, "repeats": args.repeats or REPEATS.get(model, 1),
        }  # fmt: skip
        begun = time.perf_counter()
        python = args.pythons.get(" ".join(way), args.pythons.get(way[0], sys.executable))
        found, why = run(job, python, args.at_most)
        cell.pop("why", None)
        if why:
            cell["why"] = why
            print(f"{model} · {' '.join(way)}: {why}", flush=True)
        else:
            scores = found.pop("scores")
            cell["scores"] = scores
            runs.append({**found, "whole": time.perf_counter() - begun})
            print(f"{model} · {' '.join(way)}: {found['seconds']}", flush=True)
        keep(args.out, results)


def keep(path, results):
    """Write the figures and the page, on which a way that has not run yet is named."""
    for model, cells in results["models"].items():
        for way in ways_of(model):
            cells.setdefault(" ".join(way), {"runs": []})
    write_json(path, results)
    write_page(Path(path).with_suffix(".md"), page(results))


def main(argv=None):
    """Run the benchmark; return 0, or 2 when there is no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", default=os.environ.get("COURSE_REAL_DATA"), metavar="FOLDER")
    parser.add_argument("--models", default=",".join(WAYS))
    parser.add_argument("--only", type=lambda text: text.split(","), help="engines, or engines with a kind, by comma")
    parser.add_argument("--lists", type=lambda text: text.split(","), help=f"of {', '.join(LISTS)}; default: both")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--at-most", type=float, default=540, metavar="SECONDS", help="of one process")
    parser.add_argument("--runs", type=int, default=3, help="processes of each way at most")
    parser.add_argument("--repeats", type=int, help="of each list in a process; default: 5 for nano, 1 for others")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH")
    parser.add_argument(
        "--loss", metavar="MODEL=QUERIES,...", help="measure what int8 loses in nDCG@10, and nothing else"
    )
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page anew")
    parser.add_argument("--out", default=str(HERE / "engines.json"))
    args = parser.parse_args(argv)
    args.pythons = dict(pair.split("=", 1) for pair in args.python)
    quiet()
    begun, path = time.perf_counter(), Path(args.out)
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"models": {}}
    try:
        if args.loss:
            torch.set_num_threads(args.threads)
            sets = {name: own.test for name, own in real_sets(args.real).items()}
            for model, queries in (pair.split("=") for pair in args.loss.split(",")):
                found = losses(model_folder(model), int(queries), sets)
                results.setdefault("loss", {})[model] = found
                keep(path, results)
        elif not args.page:
            here = this_machine(args.threads)
            if results.setdefault("machine", here) != here:
                raise InputError("{path} was measured on another machine; move it away.", path=path)
            for i, model in enumerate(models := args.models.split(",")):
                left = begun + 60 * args.minutes - time.perf_counter()
                take_turns(results, model, args, time.perf_counter() + left / (len(models) - i))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keep(path, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
