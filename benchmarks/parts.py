"""Where the seconds of adapting go: products, norms, rotations, attention, copies, the optimiser, files, the Trainer's rest.

    python -m benchmarks.make_qwen_shape build/models/qwen-4 --layers 4
    python -m benchmarks.parts --real FOLDER [--dtype bfloat16] [--model build/models/qwen-4] [--threads 1] [--rounds 3] [--name now]

FOLDER holds medical-en, as for ``benchmarks.speed``. The job is the one of its page: 20 pairs and 10 of dev, 3 layers, 3 epochs.
Each operator is counted where it was called from; one of the backward pass counts with the call whose gradient it computes.
Times are of the operators themselves, so they add up; what no operator took is the last line.
"""

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import ways
from benchmarks.common import BUILD, HERE, machine_line, model_folder, number, quiet, write_page
from benchmarks.floors import floor_of, matrix_rate, operations
from benchmarks.lists import apart, groups_of
from course_utils.files import write_json
from course_utils.machine import _fast_products
from course_utils.model import forward
from course_utils.model.reranker import Reranker
from course_utils.text import markdown_table
from course_utils.training import adaptation, batch, trainer, trunk
from course_utils.training.recipe import Recipe

# Operators that are a product wherever they stand; convolutions have none here.
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_linear"}


def scoped(owner, name, title):
    """Let ``owner.name`` count what it calls under ``title``."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args, **kwargs):
        with record_function(f"part:{title}"):
            return inner(*args, **kwargs)

    setattr(owner, name, outer)


def mark(model):
    """Put marks at the package's own functions and at the model's modules."""
    layer = forward._decoder_of(model).layers[0]
    scoped(type(layer.input_layernorm), "forward", "norms")
    scoped(type(layer.mlp), "forward", "the gate of the feed-forward part")
    scoped(forward, "_rotate", "rotation")
    scoped(forward, "_attend", "softmax and masks")
    scoped(forward, "_layout", "positions and masks")
    scoped(batch.Source, "collate", "batches and padding")
    scoped(trunk, "_build_segments", "batches and padding")
    scoped(trunk, "_to_array", "writing states")
    scoped(torch.optim.AdamW, "step", "optimiser")
    scoped(torch.nn.utils, "clip_grad_norm_", "size of the gradient")
    scoped(trainer._GroupTrainer, "_write", "checkpoints")


def scope_of(event):
    """Return the title of the nearest mark around an event, or None."""
    while event is not None:
        if event.name.startswith("part:"):
            return event.name[5:]
        event = event.cpu_parent
    return None


def backward_of(event):
    """Return the sequence number of the backward step that an event belongs to, or None."""
    while event is not None:
        if event.name.startswith("autograd::engine::evaluate_function"):
            return event.sequence_nr, event.name.rsplit(" ", 1)[-1]
        event = event.cpu_parent
    return None


def counted(events):
    """Return {(part, forward or backward, operator): seconds} of profiler events."""
    scopes, out = {}, {}
    for e in events:
        if e.sequence_nr >= 0 and not backward_of(e):
            scopes.setdefault(e.sequence_nr, scope_of(e))
    for e in events:
        back = backward_of(e)
        scope = scopes.get(back[0]) if back else scope_of(e)
        title = scope or "copies, additions, the rest"
        if e.name in PRODUCTS:
            title = "attention's products" if e.name in ("aten::bmm", "aten::baddbmm") else "products"
        if "scaled_dot_product" in e.name or "flash_attention" in e.name:
            title = "attention's products"
        key = (title, "backward" if back else "forward", e.name)
        out[key] = out.get(key, 0.0) + e.self_cpu_time_total / 1e6
    return out


def job(reranker, train, dev):
    """Adapt once, as ``ways.adapt_here`` does."""
    recipe = Recipe(
        layers=ways.LAYERS, epochs=ways.EPOCHS, batch_queries=ways.QUERIES_A_STEP, negatives=None, ema_decay=0,
        learning_rate=2e-5, loss="pointwise",
        mixed_precision="bf16" if reranker.model.dtype == torch.bfloat16 else "no",
    )  # fmt: skip
    adaptation.adapt(reranker, train, dev, recipe, quiet=True)


def trunk_share(reranker, groups, rate):
    """Return tokens, padding, processor seconds and share of the matrix rate of the states below the last layer."""
    encoded, below = reranker.encode(groups), reranker.model.config.num_hidden_layers - 1
    segments = forward._build_segments(
        encoded.constant, encoded.prefixes, encoded.candidates, forward._bucket_size("cpu")
    )[0]
    tokens = int(trunk.row_offsets(encoded)[-1]) + len(encoded.constant)
    with tempfile.TemporaryDirectory(prefix="parts-") as place:
        used = time.process_time()
        with _fast_products("cpu"):  # as ``adapt`` does
            trunk.build_trunk(reranker.model, encoded, below, place, quiet=True, weights="0" * 16)
        used = time.process_time() - used
    done = operations(reranker.model.config, encoded, below)
    return {
        "tokens": tokens, "padded": sum(s.values.numel() for s in segments), "layers": below, "cpu_seconds": used,
        "share": done / used / 1e9 / rate,
    }  # fmt: skip


def measure(args):
    """Return the figures of one measurement: seconds and parts of the job, the share of the matrix rate of the states."""
    torch.set_num_threads(args.threads)
    folder = model_folder(args.model)
    train, dev = apart(groups_of(args.real, "long", "train", 3), 1)
    needed = floor_of(folder, train, dev, ways.LAYERS, ways.EPOCHS)
    reranker = Reranker.load(str(folder), device="cpu", dtype=args.dtype, quiet=True)
    rate_now = partial(matrix_rate, args.dtype, 1.0, time.process_time)
    rates, states, seconds, cpu = [rate_now()["gflops"]], [], [], []
    for i in range(max(1, args.rounds)):
        if not args.no_trunk:
            states.append(trunk_share(reranker, groups_of(args.real, "long", "train", 4, seed=i), rates[-1]))
        if not args.rounds:
            continue  # the run under the profiler says how long one takes, too
        started, used = time.perf_counter(), time.process_time()
        job(reranker, train, dev)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
        rates.append(rate_now()["gflops"])
    mark(reranker.model)
    with profile(activities=[ProfilerActivity.CPU]) as prof:
        started, used = time.perf_counter(), time.process_time()
        job(reranker, train, dev)
        whole, whole_cpu = time.perf_counter() - started, time.process_time() - used
    parts = {}
    for (title, way, _), s in counted(prof.events()).items():
        parts.setdefault(title, {"forward": 0.0, "backward": 0.0})[way] += s * whole_cpu / whole
    parts["no operator"] = {"forward": whole_cpu - sum(sum(p.values()) for p in parts.values()), "backward": 0.0}
    rate, seconds, cpu = statistics.median(rates), seconds or [whole], cpu or [whole_cpu]
    return {
        "machine": machine_line(args.threads), "dtype": args.dtype, "layers": reranker.model.config.num_hidden_layers, "seconds": seconds,
        "cpu_seconds": cpu, "rates": rates, "floor": needed / rate / 1e9, "times": statistics.median(cpu) / (needed / rate / 1e9),
        "under_profiler": [whole, whole_cpu], "parts": parts, "states": states, "load": os.getloadavg()[0],
    }  # fmt: skip


def page(found):
    """Return parts.md of what parts.json holds: {name: figures}, in the order of measuring."""
    first = next(iter(found.values()))
    titles = sorted(
        {t for f in found.values() for t in f["parts"]}, key=lambda t: -sum(first["parts"].get(t, {}).values())
    )
    cells = []
    for t in titles:
        row = [t]
        for f in found.values():
            own = f["parts"].get(t, {"forward": 0.0, "backward": 0.0})
            both, total = sum(own.values()), f["under_profiler"][1]
            row += [number(both), f"{100 * both / total:.1f} %"]
        cells.append(row)
    head = ["part", *(f"{name}: {what}" for name in found for what in ("s", "share"))]
    out = [
        "# Where the seconds of adapting go",
        f"Measured by `python -m benchmarks.parts` on {first['machine']}. The model is a cut of the 0.6B shape: its layers in their "
        f"full size, but {first['layers']} of 28, random weights. The job: 20 pairs and 10 of dev, documents of 100 words, the last "
        "3 layers, 3 epochs. So more of the time is training, and less is the frozen layers, than in the full model.\n"
        "All seconds are processor seconds, since other work ran on the same cores. The floor is counted from the operations that "
        "cannot be spared, over the matrix rate of the same run (products of 2,048 rows, as on the page of speed). Where it says nothing else a row is of one run, and such rows "
        "differ by a few per cent by chance. \"Before\" and \"now\": without and with oneDNN for fp32 products and plain products in attention. The floor of fp32 "
        "falls with the faster products, so what is no product weighs more; buckets of 1,024 and 2,048 tokens in place of 512 took 1.1 and 1.25 times as long in bf16.",
        markdown_table(["measured", "frozen weights and products", "processor s", "floor s", "times floor", "matrix rate GFLOP/s", "seconds by the clock", "load"], [
            [name, f.get("dtype", "float32"), number(statistics.median(f["cpu_seconds"]), 1), number(f["floor"], 1), number(f["times"]),
             number(statistics.median(f["rates"]), 1), number(statistics.median(f["seconds"]), 0), number(f["load"], 1)]
            for name, f in found.items()]),
        "## Parts",
        "One more run under torch.profiler. Products: projections and the feed-forward part. An operator of the backward pass counts "
        "with the part whose gradient it computes.",
        markdown_table(head, cells),
    ]  # fmt: skip
    states = [(name, s) for name, f in found.items() for s in f["states"]]
    if states:
        out += [
            "## Building the cached states",
            "4 queries of 10 documents. The share of the matrix rate counts tokens without padding.",
            markdown_table(["measured", "tokens", "with padding", "layers", "processor s", "share of the matrix rate"], [
                [name, f"{s['tokens']:,}", f"{s['padded']:,}", s["layers"], number(s["cpu_seconds"]), f"{100 * s['share']:.0f} %"]
                for name, s in states]),
        ]  # fmt: skip
    return "\n\n".join(out) + "\n"


def main(argv=None):
    """Measure, write parts.json and parts.md; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", default=os.environ.get("COURSE_REAL_DATA"), metavar="FOLDER")
    parser.add_argument("--model", default=str(BUILD / "models" / "qwen-4"), metavar="FOLDER")
    parser.add_argument(
        "--name", default="now", help="of this measurement on the page; a name that is there is replaced"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-trunk", action="store_true", help="do not measure the cached states alone")
    parser.add_argument("--out", default=str(HERE / "parts.json"))
    args = parser.parse_args(argv)
    quiet()
    path = Path(args.out)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[args.name] = measure(args)
    write_json(path, found)
    write_page(path.with_suffix(".md"), page(found))
    print(path.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    main()
