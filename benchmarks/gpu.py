"""One card in under four minutes: adapting and scoring at the 0.6B model's shape, as one table and a JSON file.

    python gpu.py [--out gpu.json] [--minutes 4] [--shape tiny]

Stands alone: copy this file beside an installed ``reranker-course``. sentence-transformers and vLLM are measured where they
are installed. Weights are random: they cost what real ones cost. The vocabulary is the bundled one, in 151,669 rows.
"""

import argparse
import gc
import platform
import random
import statistics
import sys
import tempfile
import time
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from course_utils.data import DOMAINS, load_domain
from course_utils.data.groups import Group
from course_utils.files import write_json
from course_utils.machine import has_fast_bf16, peak_memory_mb, pick_device, pick_dtype
from course_utils.model import prompt
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker
from course_utils.text import markdown_table
from course_utils.training import Recipe, adapt

HERE, OFFICIAL, ENCODER, VLLM = "this package", "model card's snippet", "sentence-transformers CrossEncoder", "vLLM"
OTHERS, LAYERS, EPOCHS = ("sentence-transformers", "vllm"), 3, 3
NOTE = (
    "Tokens are those that must be computed: what the documents of a list share counts once, for every way. The share is what "
    "these tokens cost, frozen layers once and a backward pass as two forward ones, over the matrix rate. Peak memory while "
    "scoring holds the weights once for each library. Difference: the largest one of a logit to the snippet in that dtype."
)
_QWEN3 = {
    "num_hidden_layers": 28, "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 3072, "vocab_size": 151669,
}  # fmt: skip
# Of a shape: the model, the documents of the two scored lists and their words, documents of one query of training.
SHAPES = {
    "0.6b": {"model": _QWEN3, "lists": {"100 short": (100, 50), "30 long": (30, 100)}, "list": 10, "words": 100},
    "tiny": {
        "model": {**_QWEN3, "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
                  "head_dim": 16, "intermediate_size": 128, "vocab_size": 24000},
        "lists": {"100 short": (6, 8), "30 long": (4, 16)}, "list": 3, "words": 12,
    },
}  # fmt: skip


class Clock:
    """The minutes of the whole run; a part that would begin too late is named as left out."""

    def __init__(self, minutes):
        self.end, self.left_out = time.perf_counter() + 60 * minutes, []

    def allows(self, part, seconds):
        """Return whether ``seconds`` are left for ``part``; note it where they are not."""
        left = self.end - time.perf_counter()
        if left < seconds:
            self.left_out.append(f"{part}: {left:.0f} s were left")
        return left >= seconds


def timed(work):
    """Return (seconds, what ``work()`` gives, peak memory in MB: of the card, or of this process so far)."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, found, peak_memory_mb()


def card():
    """Return what was measured on, as a dict."""
    libraries = ["torch", "transformers", *(n for n in OTHERS if find_spec(n.replace("-", "_")))]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"card": gpu, "processor": platform.machine(), "versions": {name: version(name) for name in libraries}}


def matrix_rate(device, dtype, size):
    """Return the TFLOP/s of square products in ``dtype``: the median of ten."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    times = [timed(lambda: a @ b)[0] for _ in range(13)]
    return 2 * size**3 / statistics.median(times[3:]) / 1e12


def write_model(folder, shape, device):
    """Write a model of ``shape`` with random weights and the bundled tokenizer; return the folder."""
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen3ForCausalLM(Qwen3Config(**shape, **ends, tie_word_embeddings=True, max_position_embeddings=4096))
    model.to(torch.bfloat16 if has_fast_bf16(device) else torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@lru_cache
def stream():
    """Return the words of the course's own English documents."""
    documents = [d for domain in DOMAINS for g in load_domain(domain, "en", "train") for d in g.documents]
    return " ".join(dict.fromkeys(documents)).split()


def windows(count, words, seed, part=(0.0, 1.0)):
    """Return ``count`` texts of so many words, cut from a part of the course's English documents."""
    first, last = (round(share * len(stream())) for share in part)
    chance = random.Random(seed)
    return [" ".join(stream()[at : at + words]) for at in chance.sample(range(first, last - words), count)]


def lists_to_train(queries, size, words):
    """Return (train, dev) Groups: the first document of each list counts as relevant; dev is a quarter as many."""
    out = []
    for count, seed, part in ((queries, 1, (0.0, 0.75)), (max(2, queries // 4), 2, (0.77, 1.0))):
        texts = windows(count * size, words, seed, part)
        own = [tuple(texts[i : i + size]) for i in range(0, len(texts), size)]
        out.append([Group(f"{d[0][:40]} {i}?", d, (1,) + (0,) * (size - 1)) for i, d in enumerate(own)])
    return out


def operations(config, encoded, layers):
    """Return the operations of ``layers`` layers over EncodedGroups, shared tokens once, and how many tokens that is."""
    q, kv = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    a_token = config.hidden_size * (4 * q + 4 * kv + 6 * config.intermediate_size)
    start = len(encoded.constant)
    spans = [(0, start)]
    for prefix, candidates in zip(encoded.prefixes, encoded.candidates, strict=True):
        spans += [(start, len(prefix)), *((start + len(prefix), len(c)) for c in candidates)]
    tokens, looks = sum(n for _, n in spans), sum(n * b + n * (n + 1) // 2 for b, n in spans)
    return layers * (tokens * a_token + 4 * q * looks), tokens


def adapting(folder, dtype, queries, shape, cache):
    """Adapt the last layers; return a row. fp16 is what a T4 trains in; its operations: those left where states are kept."""
    gc.collect()
    reranker = Reranker.load(folder, dtype=dtype, quiet=True)
    train, dev = lists_to_train(queries, shape["list"], shape["words"])
    precision = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "no")
    recipe = Recipe(layers=LAYERS, epochs=EPOCHS, negatives=None, cache=cache, mixed_precision=precision, loss="both")
    config, done, tokens = reranker.model.config, 0, 0
    for groups, passes in ((train, 3 * EPOCHS), (dev, EPOCHS + 1)):  # a backward pass costs two forward ones
        encoded = reranker.encode(groups)
        below, own = operations(config, encoded, config.num_hidden_layers - LAYERS)
        done, tokens = done + below + passes * operations(config, encoded, LAYERS)[0], tokens + own
    seconds, _, peak = timed(lambda: adapt(reranker, train, dev, recipe, quiet=True))
    part = f"adapting, {len(train)} + {len(dev)} lists of {shape['list']}"
    way = f"{HERE}, frozen states {'' if cache else 'not '}kept"
    about = {"part": part, "dtype": str(dtype)[6:], "way": way, "tokens": tokens, "operations": done}
    return {**about, "seconds": [seconds], "peak_mb": peak}


def prompts_of(tokenizer, query, documents):
    """Return the token ids of each document's prompt, as the model card makes them. Source: QwenLM/Qwen3-Embedding, README."""
    head, tail = (tokenizer.encode(t, add_special_tokens=False) for t in (prompt.PREFIX, prompt.SUFFIX))
    texts = [prompt.content_text(query, d) for d in documents]
    return [head + tokenizer.encode(t, add_special_tokens=False) + tail for t in texts]


@torch.inference_mode()
def official_scores(model, tokenizer, query, documents, batch_size=32):
    """Return logit(yes) - logit(no) as the model card computes them, ``batch_size`` pairs at once."""
    (yes, no), scores = prompt.yes_no_ids(tokenizer), []
    for start in range(0, len(documents), batch_size):
        rows = {"input_ids": prompts_of(tokenizer, query, documents[start : start + batch_size])}
        inputs = tokenizer.pad(rows, padding=True, return_tensors="pt").to(model.device)
        last = model(**inputs).logits[:, -1, :]
        scores.append((last[:, yes] - last[:, no]).float())
    return torch.cat(scores).cpu().numpy()


def scoring(folder, dtype, lists, rounds=3):
    """Score the lists in turns by every way that is installed; return rows."""
    gc.collect()
    ours = Reranker.load(folder, dtype=dtype, max_length=2048, quiet=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
    ways = {
        HERE: lambda query, documents: ours.score_groups([(query, documents)])[0],
        OFFICIAL: lambda query, documents: official_scores(ours.model, tokenizer, query, documents),
    }
    if find_spec("sentence_transformers"):
        from sentence_transformers import CrossEncoder

        raw = {"activation_fn": torch.nn.Identity(), "show_progress_bar": False}
        encoder = CrossEncoder(folder, device=str(ours.device), model_kwargs={"dtype": dtype}, local_files_only=True)
        ways[ENCODER] = lambda query, documents: encoder.predict([(query, d) for d in documents], **raw)
    rows, order, config = [], list(ways), ours.model.config
    for title, (query, documents) in lists.items():
        done, tokens = operations(config, ours.encode([(query, documents)]), config.num_hidden_layers)
        own = {w: {"part": f"scoring, {title}", "dtype": str(dtype)[6:], "way": w, "seconds": []} for w in order}
        for turn in range(rounds + 1):
            for way in order[turn % len(order) :] + order[: turn % len(order)]:
                seconds, scores, peak = timed(lambda w=way, q=query, d=documents: np.asarray(ways[w](q, d)).tolist())
                if turn:  # the first call of a shape is slower everywhere
                    own[way]["seconds"].append(seconds)
                own[way] |= {"tokens": tokens, "operations": done, "peak_mb": peak, "scores": scores}
        rows += own.values()
    return rows


def with_vllm(folder, dtype, lists, base, rounds=3):
    """Return rows of vLLM with prefix caching, used as the model card does; ``base``: {part: row of the snippet}."""
    from vllm import LLM, SamplingParams

    gc.collect()
    torch.cuda.empty_cache()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    yes, no = prompt.yes_no_ids(tokenizer)
    engine = LLM(
        folder, dtype=str(dtype)[6:], max_model_len=2048, enable_prefix_caching=True, gpu_memory_utilization=0.5,
        logprobs_mode="processed_logprobs", enforce_eager=True, disable_log_stats=True,
    )  # fmt: skip
    sampling, rows = SamplingParams(temperature=0, max_tokens=1, logprobs=2, allowed_token_ids=[yes, no]), []
    for title, (query, documents) in lists.items():
        prompts = [{"prompt_token_ids": ids} for ids in prompts_of(tokenizer, query, documents)]
        times = []
        for _ in range(rounds + 1):
            engine.reset_prefix_cache()
            seconds, found, _ = timed(lambda p=prompts: engine.generate(p, sampling, use_tqdm=False))
            times.append(seconds)
        said = [answer.outputs[0].logprobs[0] for answer in found]
        own = {"seconds": times[1:], "scores": [p[yes].logprob - p[no].logprob for p in said]}
        rows.append({**base[f"scoring, {title}"], **own, "way": VLLM, "peak_mb": None})
    return rows


def measure(args, clock):
    """Run every part for which there is time; return all figures."""
    device, shape, rows = pick_device(), SHAPES[args.shape], []
    main = pick_dtype(device, 6e8)
    old = torch.float16 if device == "cuda" else torch.float32  # no CPU trains in fp16
    rates = {str(d)[6:]: matrix_rate(device, d, 8192 if device == "cuda" else 256) for d in {main, old}}
    queries = min(256, max(8 if args.shape == "tiny" else 16, int(rates[str(main)[6:]]))) if device == "cuda" else 8
    lists = {t: ("How is it done?", windows(n, words, 3)) for t, (n, words) in shape["lists"].items()}
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        write_model(folder, shape["model"], device)
        adapting(folder, main, 2, shape, True)  # the first run pays for loading kernels
        for dtype, cache in dict.fromkeys(((main, True), (main, False), (old, True))):
            if clock.allows(f"adapting, {str(dtype)[6:]}, states {'' if cache else 'not '}kept", 25):
                rows.append(adapting(folder, dtype, queries, shape, cache))
        for dtype in dict.fromkeys((main, old)):
            if clock.allows(f"scoring, {str(dtype)[6:]}", 20):
                rows += scoring(folder, dtype, lists)
        if clock.allows("vLLM", 80):
            base = {r["part"]: r for r in rows if r["way"] == OFFICIAL and r["dtype"] == str(main)[6:]}
            try:
                rows += with_vllm(folder, main, lists, base)
            except Exception as error:  # not installed, or an error of its own
                clock.left_out.append(f"vLLM: {type(error).__name__}: {str(error)[:200]}")
    truth = {(r["part"], r["dtype"]): r["scores"] for r in rows if r["way"] == OFFICIAL}
    for r in rows:
        own = r.pop("scores", None)
        r["difference"] = own and float(np.abs(np.subtract(own, truth[r["part"], r["dtype"]])).max())
        r["share"] = r["operations"] / statistics.median(r["seconds"]) / 1e12 / rates[r["dtype"]]
    return {**card(), "shape": args.shape, "tflops": rates, "rows": rows, "left_out": clock.left_out}


def table(found):
    """Return the table as Markdown."""
    head = ["part", "dtype", "way", "seconds", "from - to", "tokens/s", "share of matrix rate", "peak MB", "difference"]
    cells = []
    for r in found["rows"]:
        seconds, peak, off = statistics.median(r["seconds"]), r["peak_mb"], r["difference"]
        cells.append([
            r["part"], r["dtype"], r["way"], f"{seconds:.3f}", f"{min(r['seconds']):.3f} - {max(r['seconds']):.3f}",
            f"{r['tokens'] / seconds:,.0f}", f"{100 * r['share']:.1f} %", f"{peak:,.0f}" if peak else "-",
            "-" if off is None else f"{off:.1e}",
        ])  # fmt: skip
    rates = ", ".join(f"{rate:.1f} TFLOP/s in {name}" for name, rate in found["tflops"].items())
    about = f"{found['card'] or 'no card'}; matrix rate {rates}; {found['minutes']:.1f} minutes."
    left = "".join(f"\nLeft out: {text}" for text in found["left_out"])
    return f"{about}\n\n{markdown_table(head, cells)}\n\n{NOTE}\n{left}"


def main(argv=None):
    """Measure, print the table, write the figures; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="gpu.json")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--shape", choices=SHAPES, default="0.6b" if torch.cuda.is_available() else "tiny")
    args = parser.parse_args(argv)
    seconds, found, _ = timed(lambda: measure(args, Clock(args.minutes)))
    found["minutes"] = seconds / 60
    write_json(args.out, found)
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
