"""What a boundary costs: parameters counted, memory counted, seconds timed on a few training steps; nothing is kept changed.

The estimate times two boundaries and draws a line through them: each further layer that trains adds the same work, because
all layers of a decoder have the same shape. ``measure`` runs the steps of one boundary, so the line can be checked.
"""

import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from accelerate.utils import send_to_device

from course_utils.data.groups import rankable, subset
from course_utils.errors import InputError
from course_utils.machine import peak_memory_mb
from course_utils.model.forward import Segment, shared_forward, supports_sharing
from course_utils.training.batch import Source
from course_utils.training.freezing import borrowed, decoder_layers
from course_utils.training.recipe import Recipe, is_large
from course_utils.training.trainer import GroupScorer
from course_utils.training.trunk import build_trunk, row_offsets, trunk_megabytes

BYTES = 16  # an fp32 weight, its gradient and two running means of AdamW


@dataclass(frozen=True)
class Cost:
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
    """

    layers: int | str
    trained: int
    total: int
    weights_mb: float
    activations_mb: float
    states_mb: float
    seconds: float
    seconds_without: float

    @property
    def memory_mb(self):
        """Weights and activations together."""
        return self.weights_mb + self.activations_mb


@contextmanager
def trial(model, layers):
    """Let ``layers`` train on fp32 copies of their weights within the block; yield the table; then all is as before."""
    with borrowed(model, layers) as table:
        for p in model.parameters():
            if p.requires_grad:
                p.data = p.data.float()
        model.train()
        yield table


def estimate(reranker, groups, batch_queries=4, queries=8, repeats=2, negatives=Recipe.negatives):
    """Return {layers: Cost} for the last 1 to N layers and "all"; the reranker stays as it is.

    Counted exactly: parameters, states on disk. Counted on one batch at two boundaries, then a line: activations. Timed on
    ``queries`` queries at the last 1 and the last 4 layers, then a line, scaled to all groups by their tokens: seconds.

    Args:
        reranker: the Reranker.
        groups: list of Group that an epoch would go over.
        batch_queries: queries in a step.
        queries: queries that are timed.
        repeats: how often each is timed; the fastest counts, since other programs only ever add time.
        negatives: documents that are not relevant a query in an epoch; None for all.

    Raises:
        InputError: too few queries, or a model whose layers cannot be run one by one.
    """
    model, count = reranker.model, len(decoder_layers(reranker.model)[1])
    sample, everything = _sources(reranker, groups, batch_queries, queries)
    batches = _batches(sample, batch_queries, negatives)
    scale = _tokens(everything) / _tokens(sample)
    low, high = 1, min(4, count)
    near = _timed(reranker, sample, batches, low, repeats)
    far = _timed(reranker, sample, batches, high, repeats) if high > low else near
    step = max(0.0, (far[0] - near[0]) / max(1, high - low))
    frozen = _frozen_layer_seconds(reranker, sample, batches, count, repeats)
    kept = [_activations(reranker, sample, batches[0], k) for k in sorted({1, min(2, count)})]
    layer_mb = kept[-1] - kept[0]
    out = {}
    for k in [*range(1, count + 1), "all"]:
        depth = count if k == "all" else k
        with trial(model, k) as table:
            trained, total = table.trainable, table.total
        # AdamW goes over every trained number once: embeddings cost it as much as layers of that size.
        extra = far[1] * (trained - out[count].trained) if k == "all" else 0.0
        seconds = near[0] + (depth - low) * step + extra
        out[k] = Cost(
            k, trained, total, _weights_mb(reranker, trained, total), kept[0] + (depth - 1) * layer_mb,
            _states_mb(reranker, everything, count - depth), scale * seconds,
            scale * (seconds + (count - depth) * frozen),
        )  # fmt: skip
    return out


def measure(reranker, groups, layers, batch_queries=4, queries=8, repeats=2, negatives=Recipe.negatives):
    """Run the training steps of one boundary on a few queries and return its Cost; the reranker stays as it is.

    Args:
        reranker: the Reranker.
        groups: list of Group that an epoch would go over; seconds are scaled to them by tokens.
        layers: how many of the last layers train, or "all".
        batch_queries: queries in a step.
        queries: queries that are run.
        repeats: how often; the fastest counts.
        negatives: as for ``estimate``.

    Raises:
        InputError: as ``estimate`` does, and for an impossible number of layers.
    """
    count = len(decoder_layers(reranker.model)[1])
    sample, everything = _sources(reranker, groups, batch_queries, queries)
    batches = _batches(sample, batch_queries, negatives)
    scale = _tokens(everything) / _tokens(sample)
    with trial(reranker.model, layers) as table:
        trained, total = table.trainable, table.total
    below = 0 if layers == "all" else count - layers
    plain = _timed(reranker, sample, batches, layers, repeats, cache=False)[0]
    seconds = _timed(reranker, sample, batches, layers, repeats)[0] if below else plain
    return Cost(
        layers, trained, total, _weights_mb(reranker, trained, total), _activations(reranker, sample, batches[0], layers),
        _states_mb(reranker, everything, below), scale * seconds, scale * plain,
    )  # fmt: skip


@dataclass(frozen=True)
class Forecast:
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
        time_ = f"{self.seconds / 60:.0f} minutes" if self.seconds >= 90 else f"{self.seconds:.0f} seconds"
        disk = f", with {self.disk_mb:,.0f} MB on disk meanwhile" if self.disk_mb else ""
        return f"This will take about {time_} and {self.memory_mb / 2**10:.1f} GB of memory{disk}."


def forecast(reranker, train, dev, scored=(), *, layers=3, epochs=Recipe.epochs, negatives=Recipe.negatives, queries=2):
    """Run two training steps on ``queries`` queries and say what a whole run will take; the reranker stays as it is.

    Args:
        reranker: the Reranker.
        train: list of Group to train on, replayed ones included.
        dev: list of Group measured before training and after each epoch.
        scored: list of Group scored by the whole model besides, a group as often as it is scored.
        layers: how many of the last layers train, or "all".
        epochs: passes over ``train``.
        negatives: documents that are not relevant a query and epoch; None for all.
        queries: queries that are timed; the time of the rest is taken in proportion to tokens.

    Returns:
        Forecast. Memory is the peak after the two steps: it grows with the longest batch, not with the number of pairs.

    Raises:
        InputError: as ``estimate`` does.
    """
    model = reranker.model
    sample, everything = _sources(reranker, train, queries, queries)
    rest = [reranker.encode(own) for own in (dev, scored)]
    tokens = [_tokens(everything), *(int(row_offsets(encoded)[-1]) for encoded in rest)]
    below = 0 if layers == "all" else len(decoder_layers(model)[1]) - layers
    frozen, dtype = 0.0, model.dtype
    with tempfile.TemporaryDirectory(prefix="forecast-") as folder:
        if below:
            for turn in range(1 if is_large(model) else 2):  # the first call of a small model is all start-up
                started = time.perf_counter()
                sample.trunk = build_trunk(
                    model,
                    sample.encoded,
                    below,
                    f"{folder}/{turn}",
                    reranker.batch_tokens,
                    quiet=True,
                    weights="0" * 16,
                )
                frozen = (time.perf_counter() - started) / _tokens(sample)
        scorer = GroupScorer(reranker, below)
        with trial(model, layers), _precision(reranker, dtype):
            optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
            drawn = _batches(sample, queries, negatives)
            step = [_steps(reranker, scorer, sample, drawn, optimizer)[0] for _ in range(2)][1] / _tokens(sample)
            with torch.no_grad():
                started = time.perf_counter()
                for batch in _batches(sample, queries, None):
                    scorer(**send_to_device(sample.collate(batch), reranker.device))
                _wait(reranker.device)
                top = (time.perf_counter() - started) / _tokens(sample)
    seconds = (
        frozen * (tokens[0] + tokens[1])
        + epochs * step * tokens[0]
        + (epochs + 1) * top * tokens[1]
        + (frozen + top) * tokens[2]
    )
    disk = sum(
        trunk_megabytes(encoded, model.config.hidden_size, dtype) for encoded in (everything.encoded, rest[0]) if below
    )
    return Forecast(seconds, peak_memory_mb(), disk)


def _sources(reranker, groups, batch_queries, queries):
    groups = rankable(groups)
    if len(groups) < batch_queries:
        raise InputError(
            f"{len(groups)} queries with a right and a wrong document are too few; give at least {batch_queries}."
        )
    if not supports_sharing(reranker.model):
        raise InputError(
            f"The layers of {type(reranker.model).__name__} cannot be run one by one, so not timed either."
        )
    chosen = subset(groups, max(batch_queries, queries - queries % batch_queries))
    out = [Source(own, reranker.encode(own)) for own in (chosen, groups)]
    return out


def _tokens(source):
    return int(row_offsets(source.encoded)[-1])


def _weights_mb(reranker, trained, total):
    return (BYTES * trained + reranker.model.dtype.itemsize * (total - trained)) / 2**20


def _states_mb(reranker, source, below):
    return trunk_megabytes(source.encoded, reranker.model.config.hidden_size, reranker.model.dtype) if below else 0.0


def _batches(source, size, negatives):
    every = range(0, len(source.groups) - size + 1, size)
    return [source.draw(range(i, i + size), negatives, 0) for i in every]


def _precision(reranker, dtype):
    """Return the context in which ``adapt`` would train: mixed where the frozen weights are not fp32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(reranker.device.type, dtype=dtype)


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def _timed(reranker, sample, batches, layers, repeats, cache=True):
    """Return (seconds of the sample's steps, seconds that AdamW takes for one parameter in all of them)."""
    model = reranker.model
    below = 0 if layers == "all" else len(decoder_layers(model)[1]) - layers
    source, dtype = Source(sample.groups, sample.encoded), model.dtype
    with tempfile.TemporaryDirectory(prefix="cost-") as folder:
        if cache and below:
            source.trunk = build_trunk(model, sample.encoded, below, folder, reranker.batch_tokens, quiet=True)
        scorer = GroupScorer(reranker, below if source.trunk else 0)
        with trial(model, layers) as table, _precision(reranker, dtype):
            trained = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=1e-6)  # the copies are thrown away
            runs = [_steps(reranker, scorer, source, batches, optimizer) for _ in range(repeats + 1)]
            best = min(runs[1:])  # the first one warms up
            return best[0], best[1] / table.trainable


def _steps(reranker, scorer, source, batches, optimizer):
    device, in_optimizer, started = reranker.device, 0.0, time.perf_counter()
    for batch in batches:
        scorer(**send_to_device(source.collate(batch), device))["loss"].backward()
        _wait(device)
        before = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(device)
        in_optimizer += time.perf_counter() - before
    return time.perf_counter() - started, in_optimizer


@torch.no_grad()
def _frozen_layer_seconds(reranker, sample, batches, count, repeats):
    """Return the seconds that one frozen layer takes for the sample."""
    if count < 2:
        return 0.0
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        for batch in batches:
            tree = sample.collate(batch)
            segments = [
                Segment(v, n, None if p < 0 else p, None if p < 0 else r).to(reranker.device)
                for v, n, p, r in zip(tree["values"], tree["lengths"], tree["parents"], tree["rows"], strict=True)
            ]
            shared_forward(reranker.model, segments, tree["leaves"], stop=count - 1)
        _wait(reranker.device)
        times.append(time.perf_counter() - started)
    return min(times[1:]) / (count - 1)


def _activations(reranker, sample, batch, layers):
    """Return the MB that a batch keeps for the backward pass, counted as PyTorch saves them."""
    model, kept, dtype = reranker.model, {}, reranker.model.dtype
    with trial(model, layers), _precision(reranker, dtype):
        weights = {p.data_ptr() for p in model.parameters()}

        def keep(tensor):
            if tensor.data_ptr() not in weights:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = GroupScorer(reranker, first=0)(**send_to_device(sample.collate(batch), reranker.device))
        del out
    return sum(kept.values()) / 2**20
