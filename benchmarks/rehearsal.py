"""Walk the whole course path at full size: estimate, score, freeze, adapt from kept states, delta, exports; write rehearsal.md.

    python benchmarks/rehearsal.py [MODEL] [--queries 4] [--dtype bfloat16] [--mixed-precision fp16]

MODEL is a folder or a hub name. Without one, a folder of Qwen3-Reranker-0.6B's exact shape with random weights and the real
vocabulary is made under build/models: what it costs is real, what it answers means nothing. Texts are the course's own.
A GPU without bf16 (a T4) is rehearsed with --dtype float16 --mixed-precision fp16.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import psutil
import torch
from speed import SHAPE, machine, prepare

from course_utils.data.grid import load_domain
from course_utils.data.groups import rankable, subset
from course_utils.domains.delta import attach, detach, load_delta, save_delta
from course_utils.domains.serve import storage_bytes
from course_utils.domains.train import adapt_layers
from course_utils.model.prompt import INSTRUCTIONS
from course_utils.model.reranker import Reranker
from course_utils.ship.export import export_causal_lm, export_sentence_transformers, export_sequence_classifier
from course_utils.training.cost import forecast
from course_utils.training.freezing import freeze_all_but_last, unfreeze_all
from course_utils.training.recipe import Recipe

HERE = Path(__file__).resolve().parent


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
    kind = getattr(torch, args.dtype)
    instruction = INSTRUCTIONS["medical"]
    train, dev, test = (
        rankable(subset(load_domain("medical", "en", part), n, 0))
        for part, n in (("train", args.queries), ("dev", 2), ("test", 2))
    )
    ours = steps.run(
        "load",
        lambda: (args.dtype, Reranker.load(model, instruction=instruction, dtype=kind, max_length=1024, quiet=True)),
    )
    lists = test
    base = steps.run(
        "score", lambda: (f"{sum(len(g.documents) for g in test)} pairs", np.concatenate(ours.score_groups(lists)))
    )

    def freeze():
        table = freeze_all_but_last(ours.model, args.layers)
        unfreeze_all(ours.model)
        return f"{table.trainable:,} of {table.total:,} parameters train", None

    steps.run(f"freeze all but the last {args.layers}", freeze)
    told = steps.run(
        "estimate",
        lambda: (str(f := forecast(ours, train, dev, recipe=Recipe(layers=args.layers, epochs=args.epochs))), f),
    )

    def learn():
        delta, run = adapt_layers(
            ours, train, dev,
            Recipe(
                layers=args.layers, epochs=args.epochs, batch_queries=2, mixed_precision=args.mixed_precision,
                keep="last",
            ),
            name="medical", quiet=True,
        )  # fmt: skip
        return f"{len(train)} + {len(dev)} queries, {args.epochs} epochs, losses {run.batch_losses[0]:.3f} to {run.batch_losses[-1]:.3f}", (
            delta, run,
        )  # fmt: skip

    delta, run = steps.run("adapt, states of frozen layers kept", learn)

    def keep():
        folder = save_delta(delta, work / "delta")
        attach(ours, load_delta(folder))
        scores = np.concatenate(ours.score_groups(lists))
        detach(ours)
        same = bool((np.concatenate(ours.score_groups(lists)) == base).all())
        share = 100 * delta.nbytes / storage_bytes(ours.model.parameters())
        return (
            f"{delta.nbytes / 2**20:.0f} MB, {share:.0f} % of the base; base after detaching bit for bit: {same}",
            scores,
        )

    adapted = steps.run("save, load, attach, detach a delta", keep)
    attach(ours, delta)
    steps.run("export: causal LM", lambda: (folder_size(export_causal_lm(ours, work / "causal")), None))
    steps.run(
        "export: sentence-transformers", lambda: (folder_size(export_sentence_transformers(ours, work / "st")), None)
    )
    steps.run("export: one label", lambda: (folder_size(export_sequence_classifier(ours, work / "one")), None))
    detach(ours)
    pairs = [(q, d) for q, documents in lists for d in documents]

    def reload_here():
        again = Reranker.load(work / "causal", instruction=instruction, dtype=kind, max_length=1024, quiet=True)
        return f"largest difference {largest(again.score(pairs), adapted):.1e}", None

    def reload_st(name):
        from sentence_transformers import CrossEncoder

        own = CrossEncoder(str(work / name), device=str(ours.device), model_kwargs={"dtype": kind})
        got = own.predict(pairs, batch_size=4, activation_fn=torch.nn.Identity())
        return f"largest difference {largest(got, adapted):.1e}", None

    steps.run("reload: causal LM, this package", reload_here)
    steps.run("reload: CrossEncoder", lambda: reload_st("st"))
    steps.run("reload: one label, CrossEncoder", lambda: reload_st("one"))
    return told, run.seconds


def folder_size(folder):
    return f"{sum(p.stat().st_size for p in Path(folder).rglob('*') if p.is_file()) / 2**20:,.0f} MB"


def report(args, model, steps, told, took):
    """Return rehearsal.md."""
    m = machine(torch.get_num_threads())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{m['chip']}, {m['threads']} threads"
    lines = [
        "# Rehearsal at full size", "",
        f"`python benchmarks/rehearsal.py {args.model or ''}`".replace(" `", "`") + f" on {device}, {m['system']}, Python {m['python']}, torch "
        f"{m['versions']['torch']}, transformers {m['versions']['transformers']}; {Path(str(model)).name}, {args.dtype}, trained weights in fp32, "
        f"mixed precision {args.mixed_precision or 'as chosen by adapt'}. Differences are of raw scores; in half precision each way rounds differently. Memory is the largest in each step, libraries included.", "",
        "| step | seconds | peak MB | what came out |", "|---|---|---|---|",
        *(f"| {name} | {seconds:.1f} | {peak:,.0f} | {words} |" for name, seconds, peak, words in steps.rows), "",
        f"Forecast of adapting: {told.seconds:.0f} s and {told.memory_mb:,.0f} MB; it took {took:.0f} s and "
        f"{next(p for n, _, p, _ in steps.rows if n.startswith('adapt')):,.0f} MB.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a folder or a hub name; default: the 0.6B's shape, random weights")
    parser.add_argument("--queries", type=int, default=4, help="training queries")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--mixed-precision", choices=["bf16", "fp16", "no"])
    parser.add_argument("--out", type=Path, default=HERE / "rehearsal.md")
    args = parser.parse_args()
    model = args.model or prepare(SHAPE)
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as work:
        told, took = path(steps, model, args, Path(work))
    steps.running = False
    args.out.write_text(report(args, model, steps, told, took), encoding="utf-8")
    rows = [dict(zip(("step", "seconds", "peak_mb", "words"), r, strict=True)) for r in steps.rows]
    args.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
