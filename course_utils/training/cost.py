"""What a boundary costs: parameters counted, memory counted, seconds timed on a few training steps; nothing is kept changed.

``measure`` runs the steps of one boundary. The others multiply: ``estimate`` draws a line through two measured boundaries,
since each further layer that trains adds the same work (all layers of a decoder have the same shape); ``forecast`` takes one
measured boundary times the tokens of a whole run.
"""

import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch

from course_utils.data.groups import rankable, subset
from course_utils.errors import InputError
from course_utils.language import _
from course_utils.machine import _fast_products, peak_memory_mb
from course_utils.model.forward import _supports_sharing
from course_utils.training.batch import Source
from course_utils.training.freezing import borrowed, decoder_layers
from course_utils.training.recipe import Recipe, is_large
from course_utils.training.scorer import GroupScorer
from course_utils.training.trunk import build_trunk, row_offsets, trunk_megabytes

_BYTES = 16  # an fp32 weight, its gradient and two running means of AdamW


@dataclass(frozen=True)
class _Cost:
    """What one boundary costs.

    Attributes:
        layers: how many of the last layers train, or "all" for everything.
        trained: parameters that train.
        total: all parameters.
        weights_mb: what trains, with gradient and AdamW (16 bytes each), and the frozen weights.
        activations_mb: what one batch keeps for the backward pass.
        states_mb: states of the frozen layers on disk; 0 where no layer is frozen.
        seconds: one epoch from the kept states (forward, backward, AdamW), without evaluation.
        seconds_without: the same when every epoch runs the frozen layers again.
        adamw: of these seconds, what AdamW takes for one parameter.
    """

    layers: int | str
    trained: int
    total: int
    weights_mb: float
    activations_mb: float
    states_mb: float
    seconds: float
    seconds_without: float
    adamw: float = 0.0

    @property
    def memory_mb(self):
        """Weights and activations together."""
        return self.weights_mb + self.activations_mb


@dataclass(frozen=True)
class _Forecast:
    """What a whole run of ``adapt`` will take.

    Attributes:
        seconds: wall time, evaluations included.
        memory_mb: largest memory of the process, or of the GPU.
        disk_mb: states of the frozen layers on disk while it runs.
    """

    seconds: float
    memory_mb: float
    disk_mb: float

    def __str__(self):
        long = self.seconds >= 90
        time_ = (
            _("{n:.0f} minutes").format(n=self.seconds / 60) if long else _("{n:.0f} seconds").format(n=self.seconds)
        )
        disk = _(", with {disk_mb:,.0f} MB on disk meanwhile").format(disk_mb=self.disk_mb) if self.disk_mb else ""
        return _("This will take about {time} and {memory_mb:.1f} GB of memory{disk}.").format(
            time=time_, memory_mb=self.memory_mb / 2**10, disk=disk
        )


def _measure(reranker, groups, layers, batch_queries=4, queries=8, repeats=2, negatives=4):
    """Run the training steps of one boundary on a few queries and return its Cost; the reranker stays as it is.

    Args:
        reranker: the Reranker.
        groups: list of Group that an epoch would go over; seconds are scaled to them by tokens.
        layers: how many of the last layers train, or "all".
        batch_queries: queries in a step.
        queries: queries that are run.
        repeats: how often; the fastest counts, since other programs only ever add time.
        negatives: documents that are not relevant a query in an epoch; None for all.

    Raises:
        InputError: too few queries, an impossible number of layers, a model whose layers cannot be run one by one.
    """
    sample, everything = _sources(reranker, groups, batch_queries, queries)
    model = reranker.model
    below = 0 if layers == "all" else len(decoder_layers(model)[1]) - layers
    batches = [
        sample.draw(range(i, i + batch_queries), negatives, 0)
        for i in range(0, len(sample.groups) - batch_queries + 1, batch_queries)
    ]
    plain = _run(reranker, sample, batches, layers, 0, repeats)
    kept = _run(reranker, sample, batches, layers, below, repeats) if below > 0 else plain
    trained, total = plain["trained"], sum(p.numel() for p in model.parameters())
    scale = _tokens(everything.encoded) / _tokens(sample.encoded)
    return _Cost(
        layers, trained, total, _weights_mb(model, trained, total), plain["activations_mb"],
        _states_mb(model, everything.encoded, below), scale * kept["seconds"], scale * plain["seconds"],
        scale * kept["adamw"] / trained,
    )  # fmt: skip


def _estimate(reranker, groups, queries=8):
    """Return {layers: Cost} for the last 1 to N layers and "all"; the reranker stays as it is.

    Counted exactly: parameters, states on disk. The rest is a line through the last 1 and the last 4 layers, measured.

    Args:
        reranker: the Reranker.
        groups: list of Group that an epoch would go over.
        queries: queries that are timed.

    Raises:
        InputError: as ``measure``.
    """
    model, stack = reranker.model, decoder_layers(reranker.model)[1]
    count = len(stack)
    near, far = (_measure(reranker, groups, k, queries=queries) for k in (1, min(4, count)))
    steps = max(1, far.layers - near.layers)
    step = max(0.0, (far.seconds - near.seconds) / steps)
    layer_mb = (far.activations_mb - near.activations_mb) / steps
    frozen = max(0.0, near.seconds_without - near.seconds) / max(1, count - 1)  # seconds of one frozen layer
    out, trained = {}, near.trained
    for k in [*range(1, count + 1), "all"]:
        depth = count if k == "all" else k
        trained += (
            0 if k == 1 else sum(p.numel() for p in stack[-k].parameters()) if k != "all" else near.total - trained
        )
        # AdamW goes over every trained number once: embeddings cost it as much as layers of that size.
        extra = far.adamw * (trained - out[count].trained) if k == "all" else 0.0
        seconds = near.seconds + (depth - 1) * step + extra
        out[k] = replace(
            near, layers=k, trained=trained, weights_mb=_weights_mb(model, trained, near.total),
            activations_mb=near.activations_mb + (depth - 1) * layer_mb,
            states_mb=near.states_mb if depth < count else 0.0, seconds=seconds,
            seconds_without=seconds + (count - depth) * frozen,
        )  # fmt: skip
    return out


def forecast(reranker, train, dev, scored=(), recipe=Recipe(), own=None):
    """Run a few training steps on two queries and say what a whole run will take; the reranker stays as it is.

    Args:
        reranker: the Reranker.
        train: list of Group to train on, replayed ones included.
        dev: list of Group measured before training and after each epoch.
        scored: list of Group scored by the whole model besides, a group as often as it is scored.
        recipe: the Recipe of the run.
        own: training queries that are not replayed; default: all.

    Returns:
        Forecast. The time of all queries is taken in proportion to tokens. Memory is the peak after the steps: it grows with
        the longest batch, not with the number of pairs.

    Raises:
        InputError: as ``measure``.
    """
    train = rankable(train)
    negatives = recipe._by_queries(reranker.model, own or len(train))["negatives"]
    cost = _measure(reranker, train, recipe.layers, 2, 2, 1, negatives)
    encoded = [reranker.encode(own) for own in (train, dev, scored)]
    whole = _tokens(encoded[0])
    encoded[0] = Source(train, encoded[0]).planned(negatives, recipe.seed, recipe.epochs).encoded
    learned, held_out, rest = (_tokens(own) for own in encoded)
    # An epoch draws some of the documents; scoring takes all, and costs a third of a step: forward is half of backward.
    wrong = [sum(r <= 0 for r in g.relevance) for g in train]
    skipped = sum(max(0, n - negatives) for n in wrong) if negatives else 0
    drawn = whole * (1 - skipped / sum(len(g.relevance) for g in train))
    frozen = max(0.0, cost.seconds_without - cost.seconds) / drawn
    top = cost.seconds / drawn / 3
    seconds = (
        frozen * (learned + held_out)
        + recipe.epochs * cost.seconds
        + (recipe.epochs + 1) * top * held_out
        + (frozen + top) * rest
    )
    disk = sum(_states_mb(reranker.model, own, cost.states_mb) for own in encoded[:2])
    return _Forecast(seconds, peak_memory_mb(), disk)


def _sources(reranker, groups, batch_queries, queries):
    groups = rankable(groups)
    if len(groups) < batch_queries:
        raise InputError(
            "{n_groups} queries with a right and a wrong document are too few; give at least {batch_queries}.",
            n_groups=len(groups),
            batch_queries=batch_queries,
        )
    if not _supports_sharing(reranker.model):
        raise InputError(
            "The layers of {kind} cannot be run one by one, so not timed either.", kind=type(reranker.model).__name__
        )
    chosen = subset(groups, max(batch_queries, queries - queries % batch_queries))
    return [Source(own, reranker.encode(own)) for own in (chosen, groups)]


def _tokens(encoded):
    return int(row_offsets(encoded)[-1])


def _weights_mb(model, trained, total):
    return (_BYTES * trained + model.dtype.itemsize * (total - trained)) / 2**20


def _states_mb(model, encoded, below):
    return trunk_megabytes(encoded, model.config.hidden_size, model.dtype) if below else 0.0


@contextmanager
def _trial(model, layers, device):
    """Let ``layers`` train within the block as ``adapt`` would: fp32 weights, mixed where the frozen ones are not."""
    dtype = model.dtype
    with borrowed(model, layers) as table:
        for p in model.parameters():
            if p.requires_grad:
                p.data = p.data.float()
        model.train()
        mixed = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
        with _fast_products(device), mixed:
            yield table


def _run(reranker, sample, batches, layers, below, repeats):
    """Train on the sample from the states after ``below`` layers; return seconds, those of AdamW, activations, parameters."""
    model, source = reranker.model, Source(sample.groups, sample.encoded)
    with tempfile.TemporaryDirectory(prefix="cost-") as folder:
        if below:
            source.trunk = build_trunk(
                model, sample.encoded, below, folder, reranker.batch_tokens, quiet=True, weights="0" * 16
            )
        scorer = GroupScorer(reranker, below)
        with _trial(model, layers, reranker.device) as table:
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
            kept = _activations(model, lambda: scorer(source.collate(batches[0]).to(reranker.device)))
            warm_up = 0 if is_large(model) else 1
            runs = [_steps(reranker, scorer, source, batches, optimizer) for _ in range(repeats + warm_up)]
    seconds, adamw = min(runs[warm_up:])
    return {"seconds": seconds, "adamw": adamw, "activations_mb": kept, "trained": table.trainable}


def _steps(reranker, scorer, source, batches, optimizer):
    device, in_optimizer, started = reranker.device, 0.0, time.perf_counter()
    for batch in batches:
        scorer(source.collate(batch).to(device))["loss"].backward()
        _wait(device)
        before = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(device)
        in_optimizer += time.perf_counter() - before
    return time.perf_counter() - started, in_optimizer


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def _activations(model, forward):
    """Return the MB that ``forward()`` keeps for the backward pass, counted as PyTorch saves them."""
    kept, weights = {}, {p.data_ptr() for p in model.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward()
    del out
    return sum(kept.values()) / 2**20
