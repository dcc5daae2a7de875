"""Whether time, memory and disk grow as a straight line: pairs to adapt on, pairs to score, processes; writes growth.md.

    python -m benchmarks.growth [--parts adapting,scoring,processes] [--pairs 250,1000,4000,16000] [--score 100000]

Nano is measured, on texts of words drawn by chance from the course's own English documents, so that no other data is needed;
--model names the folder of another model for the part of processes.
What is measured is kept in growth.json; a part, and of adapting a number of pairs, that is measured again replaces its rows.
Other work on the machine takes the cores away, but not much of what the processor counts for a process: tables and lines are
of processor seconds, with the seconds of the clock beside them.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import BUILD, HERE, in_own_process, machine, quiet, write_page
from benchmarks.gpu import stream
from benchmarks.growth_page import page
from course_utils import machine as hardware
from course_utils.data.groups import Group
from course_utils.files import write_json

PARTS = ("adapting", "scoring", "processes")
LIST, WORDS, SHORT, DEV = 10, 30, 8, 4  # documents a query, words of a document to learn, to score, lists of dev
A_QUERY = 100  # documents a query where pairs are scored
WORK = {"score": 10_000, "adapt": 2000}  # pairs of nano that one and two processes take


def texts(count, words, seed):
    """Return ``count`` different texts of so many words."""
    chance = random.Random(seed)
    return [f"{' '.join(chance.choices(stream(), k=words - 1))} {seed}-{i}" for i in range(count)]


@lru_cache
def lists(queries, seed, words=WORDS, size=LIST):
    """Return ``queries`` Groups; the question of each is made of words of its first document, which is the right one."""
    found = texts(queries * size, words, seed)
    own = [tuple(found[i : i + size]) for i in range(0, len(found), size)]
    return [Group(" ".join(d[0].split()[::4]) + "?", d, (1,) + (0,) * (size - 1)) for d in own]


def load(model="nano"):
    """Return nano, or the model of a folder."""
    from course_utils.model.reranker import Reranker

    return Reranker.load(model, device="cpu", quiet=True)


def work_of(model):
    """Return the pairs of each kind of WORK for a model; a larger one than nano takes fewer."""
    return WORK if model == "nano" else {"score": WORK["score"] // 10, "adapt": WORK["adapt"] // 2}


def learn(reranker, pairs, place):
    """Adapt the last 3 layers for one epoch on ``pairs`` pairs."""
    from course_utils.training import Recipe, adapt

    recipe = Recipe(layers=3, epochs=1, negatives=None, batch_queries=8, keep="best")
    adapt(reranker, lists(pairs // LIST, 1), lists(DEV, 2), recipe, work_dir=place, quiet=True)


def adapting(pairs):
    """Adapt once in this process; return its seconds, memory and disk."""
    reranker, start = load(), hardware.peak_memory_mb()
    BUILD.mkdir(exist_ok=True)
    lists(pairs // LIST, 1)  # texts are made before the clock starts
    with tempfile.TemporaryDirectory(dir=BUILD) as place:
        started, used = time.perf_counter(), time.process_time()
        learn(reranker, pairs, place)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        disk = sum(p.stat().st_size for p in Path(place).rglob("*") if p.is_file()) / 2**20
        states = sum(p.stat().st_size for p in Path(place).glob("trunk/*/states.bin")) / 2**20
    return {
        "pairs": pairs, "seconds": seconds, "cpu_seconds": cpu, "start_mb": start, "peak_mb": hardware.peak_memory_mb(),
        "disk_mb": disk, "states_mb": states,
    }  # fmt: skip


def write_pairs(path, count):
    """Write ``count`` pairs to score as JSON lines, 100 documents a query, a list at a time."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(count // A_QUERY):
            [group] = lists.__wrapped__(1, 10 + i, SHORT, A_QUERY)
            rows = (json.dumps({"query": group.query, "document": d}) for d in group.documents)
            file.write("".join(row + "\n" for row in rows))


def status(pid, key):
    """Return a line of /proc/PID/status in MB, or None once the process has gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith(key)), None)


def scoring(count, threads):
    """Score a file with the command line; return rows of pairs written, seconds and the peak memory so far.

    The peak after the first pairs of a long file is what a file of that many pairs would need.
    """
    marks, rows = [m for m in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000) if m <= count], []
    marks = marks or [count]
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as place:
        source, out = Path(place) / "pairs.jsonl", Path(place) / "scores.jsonl"
        write_pairs(source, count)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [
            sys.executable,
            "-m",
            "course_utils",
            "score",
            "--pairs",
            str(source),
            "--model",
            "nano",
            "--out",
            str(out),
        ]
        started = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            written, file = 0, None
            while process.poll() is None:
                time.sleep(0.2)
                peak, now = status(process.pid, "VmHWM"), status(process.pid, "VmRSS")
                file = file or (out.open("rb") if out.exists() else None)
                written += file.read().count(b"\n") if file else 0
                while marks and written >= marks[0] and peak:
                    rows.append({"pairs": marks.pop(0), "seconds": time.perf_counter() - started, "peak_mb": peak, "now_mb": now,
                                 "cpu_seconds": cpu_of(process.pid)})  # fmt: skip
        size = out.stat().st_size / 2**20
    if process.returncode:
        raise RuntimeError(f"score ended with {process.returncode}")
    return {"pairs": count, "rows": rows, "disk_mb": size}


def cpu_of(pid):
    """Return the processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work(place, model):
    """Do each kind of WORK as one of several processes; write seconds and processor seconds of this one."""
    from course_utils.ship.scoring import score_file

    quiet()
    torch.set_num_threads(1)
    reranker, place, found, size = load(model), Path(place), {}, work_of(model)
    rank, count = hardware.join("cpu")
    own = lists(size["score"] // A_QUERY, 1, SHORT, A_QUERY)
    lists(size["adapt"] // LIST, 1)  # texts are made before the clock starts
    pairs = [(g.query, d) for g in own for d in g.documents]
    jobs = {
        "score": lambda: score_file(reranker, pairs, place / "scores.jsonl", progress=False),
        "adapt": lambda: learn(reranker, size["adapt"], place / "work"),
    }
    for what, job in jobs.items():
        hardware.wait()
        started, used = time.perf_counter(), time.process_time()
        job()
        cpu = time.process_time() - used
        hardware.wait()
        found[what] = {"seconds": time.perf_counter() - started, "cpu_seconds": cpu}
    write_json(place / f"{rank}-of-{count}.json", found)


def launched(count, model):
    """Run ``work`` in one process or under ``accelerate launch`` in several; return what each of them wrote."""
    command = [sys.executable]
    if count > 1:  # without --multi_gpu, accelerate 1.15 starts one process on a machine that has no GPU
        command += [
            "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes", str(count),
            "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        ]  # fmt: skip
    command += ["-m" if count == 1 else "--module", "benchmarks.growth"]
    with tempfile.TemporaryDirectory(dir=BUILD) as place:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, "--work", place, "--model", model], env=environment, check=True)
        return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(Path(place).glob("*-of-*.json"))]


def processes(rounds, model):
    """Return the runs of one and of two processes, in turns, with the load of the machine beside each."""
    BUILD.mkdir(exist_ok=True)
    out = []
    for turn in range(rounds):
        for count in (1, 2) if turn % 2 == 0 else (2, 1):
            load_before = os.getloadavg()[0]
            own = launched(count, model)
            for what, pairs in work_of(model).items():
                row = {
                    "model": Path(model).name,
                    "work": what,
                    "pairs": pairs,
                    "processes": len(own),
                    "turn": turn,
                    "load": load_before,
                }
                row["seconds"] = max(r[what]["seconds"] for r in own)
                out.append({**row, "cpu_seconds": [r[what]["cpu_seconds"] for r in own]})
                print(out[-1], flush=True)
    return out


def line(pairs, values):
    """Return {slope, start, r2} of the straight line through points by least squares."""
    slope, start = np.polyfit(pairs, values, 1)
    left = np.subtract(values, np.polyval((slope, start), pairs))
    spread = float(((np.array(values) - statistics.fmean(values)) ** 2).sum())
    return {"slope": float(slope), "start": float(start), "r2": 1 - float((left**2).sum()) / spread if spread else None}


def main(argv=None):
    """Measure the parts, write the figures after each; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="of adapting, scoring, processes; empty: write the page anew"
    )
    parser.add_argument("--pairs", default="250,1000,4000,16000")
    parser.add_argument("--score", type=int, default=100_000, metavar="PAIRS")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default=str(HERE / "growth.json"))
    parser.add_argument("--model", default="nano", help="of the part processes: nano, or a folder")
    parser.add_argument("--work", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.work:
        work(args.work, args.model)
        return 0
    quiet()
    path = Path(args.out)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = found if found.get("command") == "growth" else {"command": "growth"}

    def keep():
        rows = found.get("adapting", [])
        if len(rows) > 2:
            keys = ("cpu_seconds", "peak_mb", "disk_mb")
            found["lines"] = {k: line([r["pairs"] for r in rows], [r[k] for r in rows]) for k in keys}
        write_json(path, {**found, "machine": machine(args.threads)})
        write_page(path.with_suffix(".md"), page({**found, "machine": machine(args.threads)}))

    parts = [p for p in args.parts.split(",") if p]
    if "adapting" in parts:
        for pairs in map(int, args.pairs.split(",")):
            row = in_own_process(partial(adapting, pairs), args.threads, preload=("benchmarks.growth",))
            row["load"] = os.getloadavg()[0]
            print(row, flush=True)
            rows = {r["pairs"]: r for r in found.get("adapting", [])} | {pairs: row}
            found["adapting"] = [rows[p] for p in sorted(rows)]
            keep()
    if "scoring" in parts:
        found["scoring"] = {**scoring(args.score, args.threads), "load": os.getloadavg()[0]}
        print(found["scoring"], flush=True)
    if "processes" in parts:
        before = [r for r in found.get("processes", []) if r["model"] != Path(args.model).name]
        found["processes"] = before + processes(args.rounds, args.model)
    keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
