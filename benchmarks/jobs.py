"""What one process of ``benchmarks.speed`` does: time a way of scoring or of adapting, the frozen states, growth."""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from benchmarks import ways
from benchmarks.floors import floor_of, matrix_rate, operations
from benchmarks.lists import apart, groups_of, one_list
from benchmarks.make_qwen_shape import SHAPE, write
from course_utils.machine import peak_memory_mb
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe
from course_utils.training.trunk import build_trunk


def short(result):
    """Return one line about a result."""
    if not isinstance(result, dict):
        return str(result)
    if isinstance(result.get("seconds"), dict):
        return ", ".join(f"{way} {min(s):.2f} s" for way, s in result["seconds"].items())
    kept = ("seconds", "floor_seconds", "peak_mb", "ndcg", "share", "gflops")
    return ", ".join(f"{k} {result[k]:.4g}" for k in kept if result.get(k) is not None)


def scoring(folder, real, dtype, length, count, rounds, first, model):
    """Time the ways of scoring one list, in turns, on the same weights; compare their scores."""
    kind = getattr(torch, dtype)
    lm, tokenizer = ways.load(folder, kind)
    encoder = ways.cross_encoder(folder, kind)
    ours = Reranker(lm, tokenizer, max_length=8192)  # the same weights in memory as the official way
    query, documents = one_list(real, length, count)
    pairs = [(query, d) for d in documents]
    run = {
        ways.OFFICIAL: lambda: ways.official_scores(lm, tokenizer, pairs),
        ways.ENCODER: lambda: ways.cross_encoder_scores(encoder, pairs),
        ways.HERE: lambda: ours.score_groups([(query, documents)])[0],
    }
    for way in run:  # the first call of a shape is slower everywhere
        small = [(query, d) for d in documents[:2]]
        {ways.OFFICIAL: lambda s: ways.official_scores(lm, tokenizer, s),
         ways.ENCODER: lambda s: ways.cross_encoder_scores(encoder, s),
         ways.HERE: lambda s: ours.score(s)}[way](small)  # fmt: skip
    order = list(run)
    seconds, cpu, scores = {w: [] for w in run}, {w: [] for w in run}, {}
    for turn in range(rounds):
        shift = (first + turn) % len(order)
        for way in order[shift:] + order[:shift]:
            started, used = time.perf_counter(), time.process_time()
            scores[way] = np.asarray(run[way](), dtype=np.float64)
            seconds[way].append(time.perf_counter() - started)
            cpu[way].append(time.process_time() - used)
    difference = {w: float(np.abs(s - scores[ways.OFFICIAL]).max()) for w, s in scores.items()}
    return {
        "model": model, "dtype": dtype, "length": length, "count": count, "seconds": seconds, "cpu_seconds": cpu,
        "difference": difference,
    }  # fmt: skip


def adapting(way, folder, real, work, size, dtype, seed, model):
    """Time one way of adapting; measure peak memory and nDCG@10 on test queries."""
    train = groups_of(real, "long", "train", size["train"] + size["dev"], seed)
    train, dev = apart(train, size["dev"])
    test = groups_of(real, "long", "test", size["test"]) if size["test"] else []
    operations_ = floor_of(folder, train, dev, ways.LAYERS, ways.EPOCHS)
    rate = matrix_rate(dtype, 1.0)["gflops"]
    for weights in Path(folder).glob("*.safetensors"):  # no way pays for another's having pushed the file out of memory
        with weights.open("rb") as file:
            while file.read(2**24):
                pass
    settings = {
        "layers": ways.LAYERS, "epochs": ways.EPOCHS, "learning_rate": size["rate"], "seed": seed, "queries": ways.QUERIES_A_STEP,
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
    reranker = Reranker.load(folder, device="cpu", dtype=getattr(torch, dtype), quiet=True)
    groups = groups_of(real, "long", "train", queries)
    encoded, small = reranker.encode(groups), reranker.encode(groups[:1])
    below = reranker.model.config.num_hidden_layers - ways.LAYERS
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
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"])
    shape = {
        **SHAPE, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "intermediate_size": 384, "vocab_size": len(tokenizer), "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    return str(write(folder, shape, tokenizer, torch.float32))


def growth(folder, real, work, pairs, layers, words=30):
    """Time one epoch of this package on ``pairs`` pairs (ten a query) with ``layers`` trained layers."""
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
