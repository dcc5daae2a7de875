"""Lesson 03: what each choice of what trains gives on medical and on general test queries, over seeds.

The ways are those of the lesson. Clean beginner's lists, half English, half Chinese; a query's change is its mean over the
seeds, intervals are over queries.
"""

import time

import numpy as np

from benchmarks.common import model_folder, model_key, packed, unpacked
from benchmarks.lists import fingerprint
from course_utils.data import load_domain, subset
from course_utils.domains import adapt_layers, adapt_lora, swapped
from course_utils.evaluation import evaluate, paired_bootstrap
from course_utils.model import Reranker
from course_utils.training import Recipe

QUERIES = {"train": 80, "dev": 10, "medical": 100, "general": 40}
RECIPE = Recipe(epochs=2, loss="listwise", keep="last")
WAYS = {
    "last 3": RECIPE,
    "LoRA on 3": RECIPE,
    "everything": RECIPE.replace(layers="all"),
    "everything, layer-wise": RECIPE.replace(layers="all", layer_decay=1 / 2.6),
}
FIRST = "last 3"  # what the other ways are compared with


def lists(domain, part, queries):
    """Return clean beginner's lists of a domain, half English, half Chinese."""
    found = (load_domain(domain, language, part, source="grid") for language in ("en", "zh"))
    return [g for own in found for g in subset(own, queries // 2)]


def one_run(reranker, name, recipe, parts):
    """Train one way with one seed; return its values a query, what it trains and keeps, and its processor seconds."""
    started = time.process_time()
    make = adapt_lora if name.startswith("LoRA") else adapt_layers
    delta, run = make(reranker, parts["train"], parts["dev"], recipe, quiet=True)
    spent = time.process_time() - started
    with swapped(reranker, delta):
        values = {test: packed(evaluate(reranker, parts[test]).per_query()) for test in ("medical", "general")}
    return {**values, "trained": run.trainable, "megabytes": delta.nbytes / 2**20, "seconds": spent}


def change(before, after):
    """Return the change of one test: {"mean", "low", "high", "seeds"} from the base's values and those of each seed."""
    d = paired_bootstrap(before, np.mean(after, axis=0))
    return {
        "mean": d.mean, "low": d.low, "high": d.high,
        "seeds": [float(np.mean(values) - np.mean(before)) for values in after],
    }  # fmt: skip


def record(cells, seeds):
    """Return the figures of lesson 03.

    Args:
        cells: Cells that keep each run.
        seeds: how many seeds each way is trained with, from 0.
    """
    folder = model_folder("nano")
    reranker = Reranker.load(folder, max_length=256, quiet=True)
    parts = {"train": "medical", "dev": "medical", "medical": "medical", "general": "general"}
    parts = {
        name: lists(domain, name if name in ("train", "dev") else "test", QUERIES[name])
        for name, domain in parts.items()
    }
    key = model_key(folder)
    base = cells.of(
        ["03", "base"],
        fingerprint(*parts.values(), [key]),
        lambda: {t: packed(evaluate(reranker, parts[t]).per_query()) for t in ("medical", "general")},
    )
    runs = {}
    for seed in range(seeds):  # whole rounds, so that a stopped run leaves something to look at
        for name, recipe in WAYS.items():
            own = recipe.replace(seed=seed)
            of = fingerprint(*parts.values(), [key, name, own.asdict()])
            work = lambda name=name, own=own: one_run(reranker, name, own, parts)  # noqa: E731
            runs.setdefault(name, []).append(cells.of(["03", name, str(seed)], of, work))
    return {
        "model": "nano",
        "weights": key,
        "seeds": list(range(seeds)),
        "queries": QUERIES,
        "base": {test: float(np.mean(unpacked(base[test]))) for test in ("medical", "general")},
        "ways": {name: summary(base, own, runs[FIRST]) for name, own in runs.items()},
    }


def summary(base, runs, first):
    """Return the figures of one way from its runs, those of the base and those of ``FIRST``."""
    values = {test: [unpacked(run[test]) for run in runs] for test in ("medical", "general")}
    out = {key: runs[0][key] for key in ("trained", "megabytes")}
    out["seconds"] = float(np.mean([run["seconds"] for run in runs]))
    for test, own in values.items():
        out[test] = change(unpacked(base[test]), own)
    if runs is not first:
        out[f"against {FIRST}"] = change(
            np.mean([unpacked(run["medical"]) for run in first], axis=0), values["medical"]
        )
    return out
