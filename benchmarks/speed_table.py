"""The page of ``benchmarks.speed``: medians and ratios of all runs, as Markdown."""

import statistics

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.common import median, model_folder, number
from benchmarks.ways import HERE, LAYERS, WAYS
from course_utils.text import markdown_table


def counted_mb(model, dtype):
    """Return the MB that a way of adapting ``model`` needs which keeps all weights in memory.

    Its weights, and fp32 copies of what trains with gradients and the two means of AdamW (16 bytes for each of these
    numbers). Frozen weights that leave memory while the last layers train go below it.
    """
    with torch.device("meta"):
        lm = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder(model)))
    trained = sum(p.numel() for layer in lm.model.layers[-LAYERS:] for p in layer.parameters())
    return (getattr(torch, dtype).itemsize * sum(p.numel() for p in lm.parameters()) + 16 * trained) / 2**20


def summarise(results):
    """Return medians and ratios of all runs: a list of rows for adapting, for scoring and for the trunk."""
    out = {"adapting": [], "scoring": [], "trunk": []}
    for model, runs in results["models"].items():
        out["adapting"] += _adapting(model, runs["adapting"])
        out["scoring"] += _scoring(model, runs["scoring"])
        out["trunk"] += [{"model": model, **r} for r in runs["trunk"]]
    return out


def _adapting(model, runs):
    here, rows = [r for r in runs if r["way"] == HERE], []
    counted = counted_mb(model, runs[0]["dtype"]) if runs else None
    base = {r["seed"]: r["ndcg"] for r in here}
    for way in WAYS:
        own = [r for r in runs if r["way"] == way]
        if not own:
            continue
        row = {"model": model, "way": way, "runs": len(own)}
        row |= {key: own[0][key] for key in ("dtype", "train_pairs", "dev_pairs")}
        for key in ("seconds", "cpu_seconds", "peak_mb", "above_mb", "ndcg", "floor_seconds"):
            row[key] = median([r[key] for r in own])
        row["counted_mb"] = counted + row["peak_mb"] - row["above_mb"]
        row["times"] = row["seconds"] / median([r["seconds"] for r in here]) if here else None
        row["times_memory"] = row["peak_mb"] / median([r["peak_mb"] for r in here]) if here else None
        gaps = [r["ndcg"] - base[r["seed"]] for r in own if r["ndcg"] is not None and r["seed"] in base]
        row["ndcg_gap"] = statistics.mean(gaps) if gaps else None
        rows.append(row)
    return rows


def _scoring(model, runs):
    rows = []
    for kind in dict.fromkeys((r["dtype"], r["length"], r["count"]) for r in runs):
        own = [r for r in runs if (r["dtype"], r["length"], r["count"]) == kind]
        seconds = {w: median([s for r in own for s in r["seconds"][w]]) for w in own[0]["seconds"]}
        for way, value in seconds.items():
            rows.append({
                "model": model, "dtype": kind[0], "documents": kind[1], "list": kind[2], "way": way,
                "runs": sum(len(r["seconds"][way]) for r in own), "seconds": value,
                "pairs_per_second": kind[2] / value, "times": value / seconds[HERE],
                "largest_difference": max(r["difference"][way] for r in own),
            })  # fmt: skip
    return rows


def _adapting_table(rows):
    head = ["model", "way", "dtype", "train + dev pairs", "runs", "seconds", "times", "floor s", "peak MB"]
    head += ["above start MB", "counted MB", "times", "nDCG@10", "gap"]
    return markdown_table(head, [
        [r["model"], r["way"], r["dtype"], f"{r['train_pairs']} + {r['dev_pairs']}", r["runs"],
         number(r["seconds"], 1), number(r["times"]), number(r["floor_seconds"], 1), number(r["peak_mb"], 0),
         number(r["above_mb"], 0), number(r["counted_mb"], 0), number(r["times_memory"]), number(r["ndcg"], 3),
         number(r["ndcg_gap"], 3)] for r in rows
    ])  # fmt: skip


def _scoring_table(rows):
    head = ["model", "list", "dtype", "way", "runs", "seconds", "pairs/s", "times", "largest difference"]
    return markdown_table(head, [
        [r["model"], f"{r['list']} {r['documents']}", r["dtype"], r["way"], r["runs"], number(r["seconds"], 3),
         number(r["pairs_per_second"], 1), number(r["times"]), f"{r['largest_difference']:.1e}"] for r in rows
    ])  # fmt: skip


def _trunk_table(rows):
    head = ["model", "dtype", "tokens", "seconds", "operations", "GFLOP/s", "matrix rate GFLOP/s", "share"]
    return markdown_table(head, [
        [r["model"], r["dtype"], f"{r['tokens']:,}", number(r["seconds"]), f"{r['operations']:.2e}",
         number(r["gflops"], 0), number(r["rate"], 0), f"{100 * r['share']:.0f} %"] for r in rows
    ])  # fmt: skip


def _growth_table(rows):
    head = ["pairs", "trained layers", "seconds", "floor s", "times floor", "peak MB", "states on disk MB"]
    return markdown_table(head, [
        [f"{r['pairs']:,}", r["layers"], number(r["seconds"], 1), number(r["floor_seconds"], 1),
         number(r["seconds"] / r["floor_seconds"], 1), number(r["peak_mb"], 0), number(r["disk_mb"], 0)] for r in rows
    ])  # fmt: skip


def markdown(results):
    """Return the tables as Markdown."""
    m, tables = results["machine"], results["tables"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    gpu = f"A GPU is here ({m['gpu']}) and was not used." if m["gpu"] else "No GPU."
    parts = [
        "# Speed, side by side",
        f"Measured by `python -m benchmarks.speed` on {m['chip']}, {m['cores']} cores, {m['threads']} threads, "
        f"{m['system']}, Python {m['python']}, {versions}. {gpu} The whole run took {results['minutes']:.0f} minutes.\n"
        "Seconds are medians over runs; each run had a process of its own, the ways took turns. \"times\" is the ratio of "
        "medians to this package. All ways: same weights, same pairs, same epochs, same pairs an optimiser step.",
        "## Adapting the last 3 layers, 3 epochs, evaluation and checkpoint each epoch",
        "Real text, documents of 100 words, lists of 10. Floor: operations that cannot be spared over the matrix rate "
        "measured in the same run. Memory: largest resident set of the process, and what of it came after the libraries "
        "were loaded; beside it what is counted where all weights stay in memory: libraries, weights, and 16 bytes for each "
        "number that trains. nDCG@10 on test queries, where weights are real; the gap is the mean over seeds.",
        _adapting_table(tables["adapting"]),
        "## Scoring one list under one instruction",
        "Short documents have about 50 words, long ones 100. The difference is the largest one of a logit to the official "
        "snippet in the same dtype; in bf16 every way rounds differently.",
        _scoring_table(tables["scoring"]),
    ]  # fmt: skip
    if tables["trunk"]:
        parts += ["## Building the cached states: share of the matrix rate", _trunk_table(tables["trunk"])]
    if results["growth"]:
        parts += [
            "## Growth with pairs and trained layers",
            f"This package, one epoch, {results['growth'][0]['shape']}. 28 trained layers are all of them, so nothing is cached.",
            _growth_table(results["growth"]),
        ]  # fmt: skip
    if results["skipped"]:
        parts.append("Left out for lack of time: " + "; ".join(dict.fromkeys(results["skipped"])) + ".")
    return "\n\n".join(parts) + "\n"
