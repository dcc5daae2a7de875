"""Where the seconds of adapting go: products, norms, rotations, attention, copies, the optimiser, files, the Trainer's rest.

    python -m benchmarks.parts --real FOLDER [--model build/models/qwen-4] [--threads 1] [--rounds 3]

FOLDER holds medical-en, as for ``benchmarks.speed``. The job is the one of its page: 20 pairs and 10 of dev, 3 layers, 3 epochs.
Each operator is counted where it was called from; one of the backward pass counts with the call whose gradient it computes.
Times are of the operators themselves, so they add up; what no operator took is the last line.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import ways
from benchmarks.common import machine_line, model_folder, number, quiet
from benchmarks.floors import floor_of
from benchmarks.lists import apart, groups_of
from course_utils.model import forward
from course_utils.model.reranker import Reranker
from course_utils.text import markdown_table
from course_utils.training import adaptation, batch, trainer, trunk
from course_utils.training.recipe import Recipe

# Operators that are a product wherever they stand; convolutions have none here.
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_linear"}
SCOPES = (
    "norms", "rotation", "attention", "mlp", "layout", "collate", "segments", "optimizer", "clip", "write states", "save",
)  # fmt: skip


def scoped(owner, name, title):
    """Let ``owner.name`` count what it calls under ``title``."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args, **kwargs):
        with record_function(f"part:{title}"):
            return inner(*args, **kwargs)

    setattr(owner, name, outer)


def mark(model):
    """Put the marks of SCOPES at the package's own functions and at the model's modules."""
    layer = forward._decoder_of(model).layers[0]
    scoped(type(layer.input_layernorm), "forward", "norms")
    scoped(type(layer.mlp), "forward", "mlp")
    scoped(forward, "_rotate", "rotation")
    scoped(forward, "_attend", "attention")
    scoped(forward, "_layout", "layout")
    scoped(batch.Source, "collate", "collate")
    scoped(trunk, "_build_segments", "segments")
    scoped(trunk, "_to_array", "write states")
    scoped(torch.optim.AdamW, "step", "optimizer")
    scoped(torch.nn.utils, "clip_grad_norm_", "clip")
    scoped(trainer._GroupTrainer, "_write", "save")


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
    """Return {(part, forward or backward): seconds} of profiler events."""
    forward_scope = {}
    for e in events:
        if e.sequence_nr >= 0 and not backward_of(e):
            forward_scope.setdefault(e.sequence_nr, scope_of(e))
    out = {}
    for e in events:
        back = backward_of(e)
        scope = forward_scope.get(back[0]) if back else scope_of(e)
        if back and "AccumulateGrad" in back[1]:
            scope = "gradients kept"
        product = e.name in PRODUCTS
        title = scope or "other operators"
        if product:
            title = (
                "attention's products" if scope == "attention" and e.name != "aten::addmm" and bmm(e) else "products"
            )
        if "scaled_dot_product" in e.name or "flash_attention" in e.name:
            title = "attention's products"
        key = (title, "backward" if back else "forward", e.name)
        out[key] = out.get(key, 0.0) + e.self_cpu_time_total / 1e6
    return out


def bmm(event):
    """Return whether a product is one of a batch: of queries and keys, or of weights and values."""
    return event.name in ("aten::bmm", "aten::baddbmm")


def matrix_rate(seconds=1.0):
    """Return the GFLOP/s of products [512, 1024] x [1024, 3072] in fp32 a processor second: others may use the cores."""
    a, b, times = torch.randn(512, 1024), torch.randn(3072, 1024), []
    while sum(times) < seconds or len(times) < 9:
        started = time.process_time()
        torch.nn.functional.linear(a, b)
        times.append(time.process_time() - started)
    return 2 * 512 * 1024 * 3072 / statistics.median(times) / 1e9


def job(reranker, train, dev):
    """Adapt once, as ``ways.adapt_here`` does."""
    recipe = Recipe(
        layers=ways.LAYERS, epochs=ways.EPOCHS, batch_queries=ways.QUERIES_A_STEP, negatives=None, ema_decay=0,
        learning_rate=2e-5, loss="pointwise", mixed_precision="no",
    )  # fmt: skip
    adaptation.adapt(reranker, train, dev, recipe, quiet=True)


def main(argv=None):
    """Measure, print the tables; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", default=os.environ.get("COURSE_REAL_DATA"), metavar="FOLDER")
    parser.add_argument("--model", default="build/models/qwen-4", metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--operators", action="store_true", help="list operators, too")
    args = parser.parse_args(argv)
    quiet()
    torch.set_num_threads(args.threads)
    folder = model_folder(args.model)
    train, dev = apart(groups_of(args.real, "long", "train", 3), 1)
    operations = floor_of(folder, train, dev, ways.LAYERS, ways.EPOCHS)
    reranker = Reranker.load(str(folder), device="cpu", dtype=torch.float32, quiet=True)
    seconds, cpu, rates = [], [], []
    for _ in range(args.rounds):
        rates.append(matrix_rate())
        started, used = time.perf_counter(), time.process_time()
        job(reranker, train, dev)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    mark(reranker.model)
    with tempfile.TemporaryDirectory(), profile(activities=[ProfilerActivity.CPU]) as prof:
        started, used = time.perf_counter(), time.process_time()
        job(reranker, train, dev)
        whole, whole_cpu = time.perf_counter() - started, time.process_time() - used
    found = counted(prof.events())
    floor = operations / statistics.median(rates) / 1e9
    print(machine_line(args.threads))
    print(f"seconds {[round(s, 2) for s in seconds]}, processor seconds {[round(s, 2) for s in cpu]}, "
          f"matrix rate {[round(r, 1) for r in rates]} GFLOP/s, floor {floor:.2f} s, "
          f"times floor {statistics.median(cpu) / floor:.2f}; under the profiler {whole:.2f} s, {whole_cpu:.2f} processor s")  # fmt: skip
    parts = {}
    for (title, way, _), s in found.items():
        parts.setdefault(title, {"forward": 0.0, "backward": 0.0})[way] += s
    rows = sorted(parts.items(), key=lambda item: -sum(item[1].values()))
    total = sum(found.values())
    cells = [
        [
            t,
            number(p["forward"]),
            number(p["backward"]),
            number(sum(p.values())),
            f"{100 * sum(p.values()) / whole:.1f} %",
        ]
        for t, p in rows
    ]
    cells.append(["no operator", "", "", number(whole - total), f"{100 * (whole - total) / whole:.1f} %"])
    print(markdown_table(["part", "forward s", "backward s", "both s", "share"], cells))
    if args.operators:
        top = sorted(found.items(), key=lambda item: -item[1])[:60]
        print(markdown_table(["part", "way", "operator", "s"], [[*k, number(s, 3)] for k, s in top]))
    return 0


if __name__ == "__main__":
    main()
