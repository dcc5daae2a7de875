"""Bring your own base: a language model that never saw the prompt becomes a reranker, then learns a trade. Writes own_base.md.

    python scripts/get_smollm2.py build/models/smollm2
    python benchmarks/own_base.py --real FOLDER [--base build/models/smollm2] [--out benchmarks]

FOLDER holds general-en-xquad/train.jsonl, and train.jsonl and test.jsonl of the trades in SETS. A general stage trains all
layers; from there each trade is learned three ways and over three seeds. Figures are kept in own_base.json as they come and
the general stage in build/own_base, so a second call goes on where the first one stopped.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from jobs import cut_groups
from speed import machine
from transformers import logging

from course_utils.data.groups import split
from course_utils.data.negatives import bm25_scores, random_scores
from course_utils.domains.delta import attach
from course_utils.domains.train import adapt_lora
from course_utils.evaluation.measure import evaluate, evaluate_scores, paired_bootstrap
from course_utils.files import write_json
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
GENERAL, SETS = "general-en-xquad", ("medical-en", "legal-en-tosdr", "finance-en-tatqa")
WAYS = ("last 3", "LoRA, all layers", "all layers")
RATES = {"general": 1e-4, "last 3": 3e-4, "LoRA, all layers": 5e-4, "all layers": 5e-5}


def general_stage(base, real, folder, args):
    """Train all layers of ``base`` on general pairs; return its seconds, queries and history."""
    record = folder / "seconds.json"
    if not record.exists():
        pairs = cut_groups(Path(real) / GENERAL / "train.jsonl", args.general_queries, size=4, words=args.words)
        reranker = Reranker.load(base, dtype=torch.float32, quiet=True)
        rate = RATES["general"]
        run = adapt(
            reranker, pairs, None, Recipe(layers="all", epochs=args.epochs, negatives=None, ema_decay=0, learning_rate=rate)
        )  # fmt: skip
        reranker.save(folder)
        write_json(record, {"seconds": run.seconds, "queries": len(pairs), "history": run.history})
    return json.loads(record.read_text(encoding="utf-8"))


def learn(way, base, train, dev, seed, epochs):
    """Return (Reranker, Adaptation) of one way of learning a trade."""
    reranker = Reranker.load(base, dtype=torch.float32, quiet=True)
    # A handful of dev queries cannot choose an epoch: the last one is kept.
    recipe = Recipe(
        layers=3 if way == "last 3" else "all", epochs=epochs, negatives=None, ema_decay=0, learning_rate=RATES[way],
        seed=seed, keep="last",
    )  # fmt: skip
    if way.startswith("LoRA"):
        delta, run = adapt_lora(reranker, train, dev, recipe, quiet=True)
        attach(reranker, delta)
        return reranker, run
    return reranker, adapt(reranker, train, dev, recipe, quiet=True)


def table(results, args):
    """Return the report as Markdown."""
    facts, sets = results["facts"], results["sets"]
    lines = [
        "# Bring your own base\n",
        f"Written by `python benchmarks/own_base.py` on {facts['machine']}. Base: {facts['base']}, which never saw the prompt. "
        f"General stage: all layers, {facts['general']['queries']} XQuAD queries with 4 documents, {args.epochs} epochs, "
        f"{facts['general']['seconds']:.0f} s. Trades: {args.queries} training queries with {args.size} documents, {args.epochs} "
        f"epochs, the last one kept; {args.test_queries} test queries with {args.test_size} documents, cut to {args.words} words. nDCG@10; gains over the "
        "general stage are means over seeds with a paired 95 % interval over queries. No replay. The other jobs of the machine "
        "make the seconds rough.\n",
        "| set | random | BM25 | base, zero-shot | general stage | " + " | ".join(WAYS) + " |",
        "|---" * (5 + len(WAYS)) + "|",
    ]
    for name, own in sets.items():
        cells = [name, *(f"{own[k]:.3f}" for k in ("random", "BM25", "zero-shot", "general stage"))]
        for way in WAYS:
            runs = own["runs"].get(way, {})
            cells.append(f"{np.mean([r['ndcg@10'] for r in runs.values()]):.3f}" if runs else "-")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| set | way | seeds | gain over the general stage [95 %] | nDCG@10 of each seed | parameters | seconds |",
              "|---" * 7 + "|"]  # fmt: skip
    for name, own in sets.items():
        for way, runs in own["runs"].items():
            gain = paired_bootstrap(own["per query"], np.mean([r["per query"] for r in runs.values()], axis=0))
            seeds = ", ".join(f"{r['ndcg@10']:.3f}" for r in runs.values())
            first = next(iter(runs.values()))
            lines.append(
                f"| {name} | {way} | {len(runs)} | {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] | {seeds} | "
                f"{first['trainable']:,} | {np.median([r['seconds'] for r in runs.values()]):.0f} |"
            )
    return "\n".join(lines) + "\n"


def main():
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--real", default=os.environ.get("COURSE_REAL_DATA"), required="COURSE_REAL_DATA" not in os.environ
    )
    parser.add_argument("--base", default=str(ROOT / "build" / "models" / "smollm2"))
    parser.add_argument("--work", default=str(ROOT / "build" / "own_base"))
    parser.add_argument("--out", default=str(ROOT / "benchmarks"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--general-queries", type=int, default=120)
    parser.add_argument("--queries", type=int, default=40, help="of a trade; 15 %% of them are held out")
    parser.add_argument("--size", type=int, default=4, help="documents of a training query")
    parser.add_argument("--test-queries", type=int, default=48)
    parser.add_argument("--test-size", type=int, default=8)
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    kept = Path(args.out) / "own_base.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {"sets": {}}
    general = Path(args.work) / "general"
    stage = general_stage(args.base, args.real, general, args)
    here = machine(torch.get_num_threads())
    words = f"{here['chip']}, {here['threads']} threads, torch {here['versions']['torch']}, fp32"
    results["facts"] = {"base": Path(args.base).name, "machine": words, "general": stage, "settings": vars(args) | {
        "real": None, "base": None, "work": None, "out": None}}  # fmt: skip

    def keep():
        write_json(kept, results)
        kept.with_suffix(".md").write_text(table(results, args), encoding="utf-8")

    data = {}
    for name in SETS:
        place = Path(args.real) / name
        train, dev = split(
            cut_groups(place / "train.jsonl", args.queries, size=args.size, words=args.words), (0.85, 0.15)
        )
        data[name] = (
            train,
            dev,
            cut_groups(place / "test.jsonl", args.test_queries, size=args.test_size, words=args.words),
        )
        if name in results["sets"]:
            continue
        test = data[name][2]
        after = evaluate(Reranker.load(general, dtype=torch.float32, quiet=True), test)
        results["sets"][name] = {
            "random": float(np.mean([evaluate_scores(random_scores(test, s), test).summary["ndcg@10"] for s in range(10)])),
            "BM25": evaluate_scores(bm25_scores(test), test).summary["ndcg@10"],
            "zero-shot": evaluate(Reranker.load(args.base, dtype=torch.float32, quiet=True), test).summary["ndcg@10"],
            "general stage": after.summary["ndcg@10"],
            "per query": list(map(float, after.per_query())),
            "runs": {},
        }  # fmt: skip
        keep()
    for seed in range(args.seeds):
        for name, (train, dev, test) in data.items():
            for way in WAYS:
                runs = results["sets"][name]["runs"].setdefault(way, {})
                if str(seed) in runs:
                    continue
                started = time.perf_counter()
                reranker, run = learn(way, general, train, dev, seed, args.epochs)
                found = evaluate(reranker, test)
                runs[str(seed)] = {
                    "ndcg@10": found.summary["ndcg@10"], "per query": list(map(float, found.per_query())),
                    "seconds": run.seconds, "trainable": run.trainable, "best epoch": run.best_epoch,
                }  # fmt: skip
                keep()
                print(
                    f"{name} {way} seed {seed}: {runs[str(seed)]['ndcg@10']:.3f}, {time.perf_counter() - started:.0f} s"
                )


if __name__ == "__main__":
    main()
