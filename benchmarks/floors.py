"""What cannot be spared: floating-point operations of a forward pass and of an adaptation, and this machine's matrix rate."""

import statistics
import time

import torch
from transformers import AutoConfig, AutoTokenizer

from course_utils.machine import _fast_products
from course_utils.model.prompt import _encode_groups


def matrix_rate(dtype, seconds=2.0, clock=time.perf_counter):
    """Return the matrix rate of this machine in GFLOP/s: the median over products [2048, 1024] x [1024, 3072].

    ``clock`` is ``time.process_time`` where other work runs on the same cores.
    """
    kind = getattr(torch, dtype)
    a, b = torch.randn(2048, 1024, dtype=kind), torch.randn(3072, 1024, dtype=kind)
    times, end = [], time.perf_counter() + seconds
    with _fast_products("cpu"):  # the faster of torch's two libraries
        while time.perf_counter() < end or len(times) < 5:
            started = clock()
            torch.nn.functional.linear(a, b)
            times.append(clock() - started)
    return {"dtype": dtype, "gflops": 2 * 2048 * 1024 * 3072 / statistics.median(times[1:]) / 1e9}


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
    """Return the operations of an adaptation of the model in ``folder``."""
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    encoded = [_encode_groups(tokenizer, own, max_length=1024) for own in (groups, dev)]
    below = config.num_hidden_layers - layers
    return floor(config, *encoded, below, layers, epochs)
