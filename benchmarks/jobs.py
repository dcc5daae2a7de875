"""What one process of the benchmark does; nothing heavy is imported before it is needed."""

import json
import random
import shutil
import tempfile
import time
from pathlib import Path

OFFICIAL, ENCODER, HERE = "official snippet", "CrossEncoder.predict", "this package"
RECIPE, KEEP = "transformers Trainer, the article's recipe", "the same, logits of the last position only"
TRAINER = "sentence-transformers CrossEncoderTrainer"
LEAN = "this package, least memory (recompute, one query at a time)"
WAYS = (RECIPE, KEEP, TRAINER, HERE, LEAN)
SETS = {"long": "medical-en", "short": "legal-en-tosdr"}
EPOCHS, LAYERS, QUERIES_A_STEP = 3, 3, 2


def call(job, threads, options):
    """Run ``job`` in this process with ``threads`` threads."""
    import torch
    from transformers import logging

    torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return globals()[job](**options)


def short(result):
    """Return one line about a result."""
    if not isinstance(result, dict):
        return str(result)
    if isinstance(result.get("seconds"), dict):
        return ", ".join(f"{way} {min(s):.2f} s" for way, s in result["seconds"].items())
    kept = ("seconds", "floor_seconds", "peak_mb", "ndcg", "share", "gflops")
    return ", ".join(f"{k} {result[k]:.4g}" for k in kept if result.get(k) is not None)


def gpu():
    """Return a sentence about GPUs: the benchmark is about the CPU."""
    import torch

    return (
        f"A GPU is here ({torch.cuda.get_device_name()}) and was not used." if torch.cuda.is_available() else "No GPU."
    )


def matrix_rate(dtype, seconds=2.0):
    """Return the matrix rate of this machine in GFLOP/s: the median over products [2048, 1024] x [1024, 3072]."""
    import statistics

    import torch

    kind = getattr(torch, dtype)
    a, b = torch.randn(2048, 1024, dtype=kind), torch.randn(3072, 1024, dtype=kind)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        started = time.perf_counter()
        torch.nn.functional.linear(a, b)
        times.append(time.perf_counter() - started)
    return {"dtype": dtype, "gflops": 2 * 2048 * 1024 * 3072 / statistics.median(times[1:]) / 1e9}


def groups_of(real, length, part, queries, seed=0, size=10, words=None):
    """Return ``queries`` Groups of ``size`` documents from the set of ``length``; see ``cut_groups``."""
    return cut_groups(Path(real) / SETS[length] / f"{part}.jsonl", queries, seed, size, words)


def cut_groups(path, queries, seed=0, size=10, words=None):
    """Return ``queries`` Groups of ``size`` documents of at most ``words`` words, relevant ones kept."""
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from course_utils.data.groups import Group, rankable, subset
    from course_utils.data.read import read_groups

    groups = [g for g in rankable(read_groups(path, drop_repeated=True)) if len(g.documents) >= size]
    out = []
    for g in subset(groups, queries, seed):
        order = sorted(range(len(g.documents)), key=lambda i: -g.relevance[i])[:size]
        random.Random(seed).shuffle(order)
        documents = tuple(" ".join(g.documents[i].split()[:words]) for i in order)
        out.append(Group(g.query, documents, tuple(int(g.relevance[i] > 0) for i in order)))
    return rankable(out)


def apart(groups, count):
    """Return (train, dev): the last ``count`` Groups are dev, and no query or relevant document of theirs is in train."""
    from course_utils.data.groups import leaks

    dev = groups[-count:]
    found = leaks(groups[:-count], dev, near=False)
    queries, documents = ({text for text, _, _ in own} for own in (found.queries, found.documents))
    return [g for g in groups[:-count] if g.query not in queries and not documents & {*g.positives}], dev


def one_list(real, length, count):
    """Return (query, ``count`` documents): those of one query, filled up with those of others."""
    groups = groups_of(real, length, "test", 100, size=13)
    documents = list(dict.fromkeys(d for g in groups for d in g.documents))
    return groups[0].query, documents[:count]


def scoring(folder, real, dtype, length, count, rounds, first, model):
    """Time the ways of scoring one list, in turns, on the same weights; compare their scores."""
    import numpy as np
    import torch
    import ways

    from course_utils.model.reranker import Reranker

    kind = getattr(torch, dtype)
    lm, tokenizer = ways.load(folder, kind)
    encoder = ways.cross_encoder(folder, kind)
    ours = Reranker(lm, tokenizer, max_length=8192)  # the same weights in memory as the official way
    query, documents = one_list(real, length, count)
    pairs = [(query, d) for d in documents]
    run = {
        OFFICIAL: lambda: ways.official_scores(lm, tokenizer, pairs),
        ENCODER: lambda: ways.cross_encoder_scores(encoder, pairs),
        HERE: lambda: ours.score_groups([(query, documents)])[0],
    }
    for way in run:  # the first call of a shape is slower everywhere
        small = [(query, d) for d in documents[:2]]
        {OFFICIAL: lambda s: ways.official_scores(lm, tokenizer, s),
         ENCODER: lambda s: ways.cross_encoder_scores(encoder, s),
         HERE: lambda s: ours.score(s)}[way](small)  # fmt: skip
    order = list(run)
    seconds, cpu, scores = {w: [] for w in run}, {w: [] for w in run}, {}
    for turn in range(rounds):
        shift = (first + turn) % len(order)
        for way in order[shift:] + order[:shift]:
            started, used = time.perf_counter(), time.process_time()
            scores[way] = np.asarray(run[way](), dtype=np.float64)
            seconds[way].append(time.perf_counter() - started)
            cpu[way].append(time.process_time() - used)
    difference = {w: float(np.abs(s - scores[OFFICIAL]).max()) for w, s in scores.items()}
    return {
        "model": model, "dtype": dtype, "length": length, "count": count, "seconds": seconds, "cpu_seconds": cpu,
        "difference": difference,
    }  # fmt: skip


def operations(config, encoded, layers, last_short=False):
    """Return the floating-point operations of ``layers`` layers over EncodedGroups, shared tokens counted once.

    Two operations a multiplication and addition, in projections, in the MLP and in causal attention.

    Args:
        config: the model's config.
        encoded: EncodedGroups.
        layers: number of layers.
        last_short: the last of them computes keys and values of all tokens and the rest for last tokens only.
    """
    hidden, size = (
        config.hidden_size,
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
    )
    q, kv = config.num_attention_heads * size, config.num_key_value_heads * size
    key_value = 4 * hidden * kv
    rest = 4 * hidden * q + 6 * hidden * config.intermediate_size
    start, tokens, places, lasts, last_places = len(encoded.constant), 0, 0, 0, 0
    for prefix, candidates in zip(encoded.prefixes, encoded.candidates, strict=True):
        for begin, n in [(start, len(prefix)), *((start + len(prefix), len(c)) for c in candidates)]:
            tokens += n
            places += n * begin + n * (n + 1) // 2
        lasts += len(candidates)
        last_places += sum(start + len(prefix) + len(c) for c in candidates)
    tokens, places = tokens + start, places + start * (start + 1) // 2
    full = tokens * (key_value + rest) + 4 * q * places
    if not last_short:
        return layers * full
    return (layers - 1) * full + tokens * key_value + lasts * rest + 4 * q * last_places


def floor(config, train, dev, below, layers, epochs):
    """Return the operations of an adaptation that cannot be spared.

    Frozen layers once over train and dev; the trained ones forward and twice that backward in each epoch; dev forward
    before training and after each epoch.
    """
    frozen = operations(config, train, below) + operations(config, dev, below) if below else 0
    return (
        frozen
        + 3 * epochs * operations(config, train, layers, last_short=True)
        + (epochs + 1) * operations(config, dev, layers, last_short=True)
    )


def floor_of(folder, groups, dev, layers, epochs):
    """Return (operations, config) of an adaptation of the model in ``folder``."""
    from transformers import AutoConfig, AutoTokenizer

    from course_utils.model.prompt import encode_groups

    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    encoded = [encode_groups(tokenizer, own, max_length=1024) for own in (groups, dev)]
    below = config.num_hidden_layers - layers
    return floor(config, *encoded, below, layers, epochs)


def adapting(way, folder, real, work, size, dtype, seed, model):
    """Time one way of adapting; measure peak memory and nDCG@10 on test queries."""
    import numpy as np
    import torch
    import ways

    from course_utils.machine import peak_memory_mb
    from course_utils.model.reranker import Reranker

    train = groups_of(real, "long", "train", size["train"] + size["dev"], seed)
    train, dev = apart(train, size["dev"])
    test = groups_of(real, "long", "test", size["test"]) if size["test"] else []
    operations_ = floor_of(folder, train, dev, LAYERS, EPOCHS)
    rate = matrix_rate(dtype, 1.0)["gflops"]
    for weights in Path(folder).glob("*.safetensors"):  # no way pays for another's having pushed the file out of memory
        with weights.open("rb") as file:
            while file.read(2**24):
                pass
    settings = {
        "layers": LAYERS, "epochs": EPOCHS, "learning_rate": size["rate"], "seed": seed, "queries": QUERIES_A_STEP,
        "dtype": getattr(torch, dtype),
    }  # fmt: skip
    place, before = tempfile.mkdtemp(dir=work), peak_memory_mb()
    started, used = time.perf_counter(), time.process_time()
    lm, tokenizer = ways.ADAPT[way](folder, train, dev, place, settings)
    seconds, cpu, peak = time.perf_counter() - started, time.process_time() - used, peak_memory_mb()
    shutil.rmtree(place)
    ndcg = None
    if test:
        scores = Reranker(lm.eval(), tokenizer, max_length=1024).score_groups(test)
        ndcg = ways.mean_ndcg(np.concatenate(scores), test)
    return {
        "model": model, "way": way, "dtype": dtype, "seed": seed, "seconds": seconds, "cpu_seconds": cpu,
        "peak_mb": peak, "above_mb": peak - before, "ndcg": ndcg, "train_pairs": 10 * len(train),
        "dev_pairs": 10 * len(dev), "rate_gflops": rate, "floor_seconds": operations_ / rate / 1e9,
    }  # fmt: skip


def trunk(folder, real, work, dtype, queries=4):
    """Time the building of cached states below the last three layers against the matrix rate."""
    import torch

    from course_utils.model.reranker import Reranker
    from course_utils.training.trunk import build_trunk

    reranker = Reranker.load(folder, device="cpu", dtype=getattr(torch, dtype), quiet=True)
    groups = groups_of(real, "long", "train", queries)
    encoded, small = reranker.encode(groups), reranker.encode(groups[:1])
    below = reranker.model.config.num_hidden_layers - LAYERS
    small.candidates[0] = small.candidates[0][:2]
    with tempfile.TemporaryDirectory(dir=work) as place:
        build_trunk(reranker.model, small, below, place, quiet=True, weights="0" * 16)
        rate = matrix_rate(dtype, 1.0)["gflops"]
        started = time.perf_counter()
        states = build_trunk(reranker.model, encoded, below, place, quiet=True, weights="0" * 16)
        seconds = time.perf_counter() - started
    rate = (rate + matrix_rate(dtype, 1.0)["gflops"]) / 2
    done = operations(reranker.model.config, encoded, below)
    return {
        "dtype": dtype, "tokens": int(states.offsets[-1]), "seconds": seconds, "operations": done,
        "gflops": done / seconds / 1e9, "rate": rate, "share": done / seconds / 1e9 / rate,
    }  # fmt: skip


def make_small(folder):
    """Write a model of 28 layers, an eighth as wide as the 0.6B one, with the bundled vocabulary."""
    import torch
    from make_qwen_shape import SHAPE, write
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(__file__).resolve().parent.parent / "data" / "models" / "nano")
    shape = {
        **SHAPE, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "intermediate_size": 384, "vocab_size": len(tokenizer), "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    return str(write(folder, shape, tokenizer, torch.float32))


def growth(folder, real, work, pairs, layers, words=30):
    """Time one epoch of this package on ``pairs`` pairs (ten a query) with ``layers`` trained layers."""
    import torch

    from course_utils.machine import peak_memory_mb
    from course_utils.model.reranker import Reranker
    from course_utils.training.adaptation import adapt
    from course_utils.training.recipe import Recipe

    groups = groups_of(real, "long", "train", pairs // 10 + 4, words=words)
    train, dev = apart(groups, 4)
    operations_ = floor_of(folder, train, dev, layers, 1)
    rate = matrix_rate("float32", 1.0)["gflops"]
    reranker = Reranker.load(folder, device="cpu", dtype=torch.float32, quiet=True)
    with tempfile.TemporaryDirectory(dir=work) as place:
        started = time.perf_counter()
        recipe = Recipe(layers=layers, epochs=1, negatives=None, ema_decay=0, batch_queries=4)
        adapt(reranker, train, dev, recipe, work_dir=place, quiet=True)
        seconds = time.perf_counter() - started
        disk = sum(p.stat().st_size for p in Path(place).glob("trunk/*/states.bin")) / 2**20
    return {
        "pairs": 10 * len(train), "layers": layers, "seconds": seconds, "peak_mb": peak_memory_mb(), "disk_mb": disk,
        "rate_gflops": rate, "floor_seconds": operations_ / rate / 1e9, "words": words,
        "shape": "28 layers, hidden 128 (an eighth of the 0.6B model's), fp32, documents cut to 30 words",
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(matrix_rate("float32")))
