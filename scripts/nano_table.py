"""Measure the bundled model: chance, BM25, zero-shot, adapted with the last 1, 2, 3 layers and with all, over seeds.

    python scripts/nano_table.py --out benchmarks/nano.md [--real FOLDER] [--seeds 3] [--only medical-en,...]

Each adaptation runs on one set's train split and is measured on its test split; general replay as in the command line.
Results are kept in OUT.json as they come, so a second call goes on where the first one stopped.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from course_utils.cli.adapt import DEFAULT_EPOCHS
from course_utils.data.grid import DOMAINS, LANGUAGES, load_domain
from course_utils.data.groups import rankable
from course_utils.data.negatives import bm25_scores, random_scores
from course_utils.data.read import read_groups
from course_utils.evaluation.measure import compare, evaluate, evaluate_scores, paired_bootstrap
from course_utils.files import write_json
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import EMA_DECAY, Recipe

BATCH = 8  # what adapt takes by itself for a small model and 200 queries or more
WAYS = {"last 1": 1, "last 2": 2, "last 3": 3, "all": "all"}


def course_sets():
    """Return {name: (train, dev, test, general test of the same language)} of the eight course sets."""
    general = {language: load_domain("general", language, "test") for language in LANGUAGES}
    return {
        f"{domain}-{language}": (
            *(load_domain(domain, language, split) for split in ("train", "dev", "test")),
            general[language],
        )
        for domain in DOMAINS
        for language in LANGUAGES
    }


def real_sets(folder):
    """Return the same for real sets ``folder``/NAME/{train,test}.jsonl: no dev, the general test of the course."""
    out = {}
    for path in sorted(Path(folder).glob("*/test.jsonl")):
        train = path.with_name("train.jsonl")
        language = "zh" if "-zh" in path.parent.name else "en"
        out[f"real {path.parent.name}"] = (
            read_groups(train) if train.exists() else None,
            None,
            read_groups(path),
            load_domain("general", language, "test"),
        )
    return out


def baselines(test, reranker):
    """Return figures that need no training and the zero-shot Evaluation."""
    chance = np.mean([evaluate_scores(random_scores(test, s), test).summary["ndcg@10"] for s in range(10)])
    bm25 = evaluate_scores(bm25_scores(test), test)
    zero = evaluate(reranker, test)
    return {
        "random": float(chance),
        "bm25": bm25.summary["ndcg@10"],
        "zero-shot": zero.summary["ndcg@10"],
        "zero-shot - bm25": [compare(bm25, zero).mean, compare(bm25, zero).low, compare(bm25, zero).high],
    }, zero, bm25  # fmt: skip


def run_way(model, train, dev, test, general, layers, seeds, epochs, zero, bm25, replay):
    """Adapt once a seed; return mean nDCG@10, the interval of the gain (queries and seeds), the loss in general."""
    values, per_query, seconds, forgot = [], [], [], []
    before = evaluate(Reranker.load(model, quiet=True), general).summary["ndcg@10"]
    for seed in range(seeds):
        reranker = Reranker.load(model, quiet=True)
        start = time.perf_counter()
        adapt(
            reranker,
            train,
            dev,
            Recipe(layers=layers, epochs=epochs, batch_queries=BATCH, seed=seed),
            replay=replay,
            quiet=True,
        )
        seconds.append(time.perf_counter() - start)
        after = evaluate(reranker, test)
        values.append(after.summary["ndcg@10"])
        per_query.append(after.per_query())
        forgot.append(evaluate(reranker, general).summary["ndcg@10"] - before)
    mean = np.mean(per_query, axis=0)
    gain, over = paired_bootstrap(zero.per_query(), mean), paired_bootstrap(bm25.per_query(), mean)
    return {
        "ndcg@10": float(np.mean(values)), "seeds": values, "gain": [gain.mean, gain.low, gain.high],
        "over bm25": [over.mean, over.low, over.high], "general": float(np.mean(forgot)),
        "seconds": float(np.median(seconds)), "settings": settings_of(epochs, seeds),
    }  # fmt: skip


def settings_of(epochs, seeds):
    """Return in words what an adaptation runs with, as it is kept beside its figures."""
    return (
        f"{epochs} epochs, {BATCH} queries a step, {Recipe.negatives} negatives a query and epoch, moving average {EMA_DECAY}, "
        f"{seeds} seed{'s' * (seeds > 1)}"
    )


def markdown(results, facts, settings):
    """Return the table as Markdown; figures measured with other ``settings`` get a mark that a footnote explains."""
    ways = [w for w in WAYS if any(w in r for r in results.values())]
    others = list(dict.fromkeys(r[w]["settings"] for r in results.values() for w in ways if w in r))
    marks = dict(zip([s for s in others if s != settings], "†‡§¶", strict=False)) | {settings: ""}
    head = ["set", "random", "BM25", "zero-shot", "zero-shot - BM25 [95 %]", *ways]
    if "last 3" in ways:
        head += [
            "gain of last 3 [95 %]",
            "general, last 3",
            "seconds, " + " / ".join(w.removeprefix("last ") for w in ways),
        ]
    lines = [f"{facts}\n", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]

    def interval(x):
        return f"{x[0]:+.3f} [{x[1]:+.3f}, {x[2]:+.3f}]"

    for name, r in results.items():
        cells = [name, *(f"{r[k]:.3f}" for k in ("random", "bm25", "zero-shot")), interval(r["zero-shot - bm25"])]
        cells += [f"{r[w]['ndcg@10']:.3f}{marks[r[w]['settings']]}" if w in r else "-" for w in ways]
        if "last 3" in ways:
            last = r.get("last 3")
            cells += [interval(last["gain"]), f"{last['general']:+.3f}"] if last else ["-"] * 2
            cells.append(" / ".join(f"{r[w]['seconds']:.0f}" if w in r else "-" for w in ways))
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"\n{mark} {s}." for s, mark in marks.items() if mark]
    return "\n".join(lines) + "\n"


def main():
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--real")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS)
    parser.add_argument("--only", default="")
    parser.add_argument("--ways", default=",".join(WAYS))
    args = parser.parse_args()
    sets = course_sets() | (real_sets(args.real) if args.real else {})
    kept = Path(args.out).with_suffix(".json")
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    replay = [g for language in LANGUAGES for g in load_domain("general", language, "train")]
    for name, (train, dev, test, general) in sets.items():
        if args.only and name not in args.only.split(","):
            continue
        test = rankable(test)
        own = results.setdefault(name, {})
        found, zero, bm25 = baselines(test, Reranker.load(args.model, quiet=True))
        own |= found
        for way in filter(None, args.ways.split(",")):
            if way in own or train is None or (name.startswith("general") and way != "last 3"):
                continue
            mixed = [] if name.startswith("general") else replay
            own[way] = run_way(
                args.model, train, dev, test, general, WAYS[way], args.seeds, args.epochs, zero, bm25, mixed
            )
            write_json(kept, results)
            print(f"{name:26s} {way:7s} {own['zero-shot']:.3f} -> {own[way]['ndcg@10']:.3f}  {own[way]}", flush=True)
        write_json(kept, results)
        settings = settings_of(args.epochs, args.seeds)
        facts = (
            f"nDCG@10 on test lists; model {args.model}; adaptations ({settings}) with general replay; "
            f"{torch.get_num_threads()} threads. Intervals are paired bootstraps over queries."
        )
        Path(args.out).write_text(markdown(results, facts, settings), encoding="utf-8")


if __name__ == "__main__":
    main()
