"""Walk the whole course path at full size: estimate, score, freeze, adapt from kept states, delta, exports; write rehearsal.md.

    python -m benchmarks.rehearsal [MODEL] [--queries 4] [--dtype bfloat16] [--mixed-precision fp16]

MODEL is a folder or a hub name. Without one, a folder of Qwen3-Reranker-0.6B's exact shape with random weights and the real
vocabulary is made under build/models: what it costs is real, what it answers means nothing. Texts are the course's own.
A GPU without bf16 (a T4) is rehearsed with --dtype float16 --mixed-precision fp16.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.common import HERE, QWEN_SHAPE, machine, model_folder, quiet, write_page
from course_utils.data import load_domain
from course_utils.data.groups import rankable, subset
from course_utils.domains.delta import attach, detach, load_delta, save_delta
from course_utils.domains.serve import storage_bytes
from course_utils.domains.train import adapt_layers
from course_utils.files import write_json
from course_utils.model.prompt import INSTRUCTIONS
from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_causal_lm, export_sentence_transformers, export_sequence_classifier
from course_utils.text import markdown_table
from course_utils.training.cost import forecast
from course_utils.training.freezing import freeze_all_but_last, train_only
from course_utils.training.recipe import Recipe


class Steps:
    """Times steps and watches the resident memory of this process, or what the GPU has allocated, in each."""

    def __init__(self):
        self.rows, self.peak, self.running = [], 0.0, True
        threading.Thread(target=self._watch, daemon=True).start()

    def _now(self):
        return torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss

    def _watch(self):
        while self.running:
            self.peak = max(self.peak, self._now())
            time.sleep(0.05)

    def run(self, name, work):
        """Run ``work()``, keep (name, seconds, peak MB, what it says) and return its result; it returns (words, result)."""
        self.peak, started = self._now(), time.perf_counter()
        words, result = work()
        row = (name, time.perf_counter() - started, max(self.peak, self._now()) / 2**20, words)
        self.rows.append(row)
        print(f"{row[0]:34s} {row[1]:7.1f} s  {row[2]:7,.0f} MB  {row[3]}", flush=True)
        return result


def largest(a, b):
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).max())


def path(steps, model, args, work):
    """Take every step; return (forecast, seconds that adapting took)."""
    parts = (("train", args.queries), ("dev", 2), ("test", 2))
    train, dev, test = (rankable(subset(load_domain("medical", "en", part), n, 0)) for part, n in parts)
    options = {"instruction": INSTRUCTIONS["medical"], "dtype": getattr(torch, args.dtype), "max_length": 1024}
    ours = steps.run("load", lambda: (args.dtype, Reranker.load(model, **options, quiet=True)))
    pairs = f"{sum(len(g.documents) for g in test)} pairs"
    base = steps.run("score", lambda: (pairs, np.concatenate(ours.score_groups(test))))
    steps.run(f"freeze all but the last {args.layers}", lambda: frozen(ours, args.layers))
    recipe = Recipe(
        layers=args.layers, epochs=args.epochs, batch_queries=2, mixed_precision=args.mixed_precision, keep="last"
    )
    told = steps.run("estimate", lambda: estimate(ours, train, dev, recipe))
    delta, run = steps.run("adapt, states of frozen layers kept", lambda: learned(ours, train, dev, recipe))
    adapted = steps.run("save, load, attach, detach a delta", lambda: kept(ours, delta, test, base, work))
    attach(ours, delta)
    for name, export, folder in (
        ("causal LM", export_causal_lm, "causal"),
        ("sentence-transformers", export_sentence_transformers, "st"),
        ("one label", export_sequence_classifier, "one"),
    ):
        steps.run(f"export: {name}", lambda e=export, f=folder: (folder_size(e(ours, work / f)), None))
    detach(ours)
    pairs = [(g.query, d) for g in test for d in g.documents]
    steps.run("reload: causal LM, this package", lambda: reloaded_here(work / "causal", options, pairs, adapted))
    for name, folder in (("CrossEncoder", "st"), ("one label, CrossEncoder", "one")):
        steps.run(f"reload: {name}", lambda f=folder: reloaded_there(work / f, ours, pairs, adapted))
    return told, run.seconds


def frozen(ours, layers):
    """Freeze and unfreeze; return (words, None)."""
    table = freeze_all_but_last(ours.model, layers)
    train_only(ours.model, "all")
    return f"{table.trainable:,} of {table.total:,} parameters train", None


def estimate(ours, train, dev, recipe):
    """Return (words, forecast)."""
    told = forecast(ours, train, dev, recipe=recipe)
    return str(told), told


def learned(ours, train, dev, recipe):
    """Adapt; return (words, (delta, run))."""
    delta, run = adapt_layers(ours, train, dev, recipe, name="medical", quiet=True)
    first, last = run.batch_losses[0], run.batch_losses[-1]
    return f"{len(train)} + {len(dev)} queries, {recipe.epochs} epochs, losses {first:.3f} to {last:.3f}", (delta, run)


def kept(ours, delta, test, base, work):
    """Save, load, attach and detach a delta; return (words, scores with it)."""
    folder = save_delta(delta, work / "delta")
    attach(ours, load_delta(folder))
    scores = np.concatenate(ours.score_groups(test))
    detach(ours)
    same = bool((np.concatenate(ours.score_groups(test)) == base).all())
    share = 100 * delta.nbytes / storage_bytes(ours.model.parameters())
    return f"{delta.nbytes / 2**20:.0f} MB, {share:.0f} % of the base; base after detaching bit for bit: {same}", scores


def reloaded_here(folder, options, pairs, adapted):
    """Load an export with this package and compare its scores; return (words, None)."""
    again = Reranker.load(folder, **options, quiet=True)
    return f"largest difference {largest(again.score(pairs), adapted):.1e}", None


def reloaded_there(folder, ours, pairs, adapted):
    """Load an export with sentence-transformers and compare its scores; return (words, None)."""
    from sentence_transformers import CrossEncoder

    dtype = next(ours.model.parameters()).dtype
    own = CrossEncoder(str(folder), device=str(ours.device), model_kwargs={"dtype": dtype})
    got = own.predict(pairs, batch_size=4, activation_fn=torch.nn.Identity())
    return f"largest difference {largest(got, adapted):.1e}", None


def folder_size(folder):
    return f"{sum(p.stat().st_size for p in Path(folder).rglob('*') if p.is_file()) / 2**20:,.0f} MB"


def report(args, model, steps, told, took):
    """Return rehearsal.md."""
    m = machine(torch.get_num_threads())
    device = m["gpu"] or f"{m['chip']}, {m['threads']} threads"
    command = " ".join(["python -m benchmarks.rehearsal", *([args.model] if args.model else [])])
    peak = next(p for n, _, p, _ in steps.rows if n.startswith("adapt"))
    rows = [[name, f"{seconds:.1f}", f"{mb:,.0f}", words] for name, seconds, mb, words in steps.rows]
    return (
        f"# Rehearsal at full size\n\n`{command}` on {device}, {m['system']}, Python {m['python']}, torch "
        f"{m['versions']['torch']}, transformers {m['versions']['transformers']}; {Path(str(model)).name}, {args.dtype}, "
        f"trained weights in fp32, mixed precision {args.mixed_precision or 'as chosen by adapt'}. Differences are of raw "
        "scores; in half precision each way rounds differently. Memory is the largest in each step, libraries included.\n\n"
        f"{markdown_table(['step', 'seconds', 'peak MB', 'what came out'], rows)}\n\n"
        f"Forecast of adapting: {told.seconds:.0f} s and {told.memory_mb:,.0f} MB; it took {took:.0f} s and {peak:,.0f} MB.\n"
    )


def main():
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a folder or a hub name; default: the 0.6B's shape, random weights")
    parser.add_argument("--queries", type=int, default=4, help="training queries")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--mixed-precision", choices=["bf16", "fp16", "no"])
    parser.add_argument("--out", type=Path, default=HERE / "rehearsal.md")
    args = parser.parse_args()
    quiet()
    model = args.model or model_folder(QWEN_SHAPE)
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as work:
        told, took = path(steps, model, args, Path(work))
    steps.running = False
    write_page(args.out, report(args, model, steps, told, took))
    rows = [dict(zip(("step", "seconds", "peak_mb", "words"), r, strict=True)) for r in steps.rows]
    write_json(args.out.with_suffix(".json"), rows)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
