"""States after the last frozen layer, computed once for every token and kept on disk.

When only the last layers train, the layers below give the same states in every epoch. They are written to one flat file of
tokens [tokens, hidden]; the part of a query is mapped into memory when it is needed and let go, so training memory does not
grow with the number of pairs. ``Source.planned`` leaves out documents that no epoch draws. A file belongs to one set of
frozen weights and one set of token ids; both are hashed into its name, a half-written file is continued, a stale one is removed.
"""

import hashlib
import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from course_utils import machine
from course_utils.errors import InputError
from course_utils.files import whole, write_json
from course_utils.language import _
from course_utils.model.batches import _token_batches
from course_utils.model.checkpoint import _weights_hash
from course_utils.model.forward import _bucket_size, _build_segments, _Segment, _shared_forward, pad_rows
from course_utils.model.prompt import _EncodedGroups
from course_utils.training.freezing import decoder_layers

SAVE_SECONDS = 5  # between two records of what is done
# What changes states beside weights and token ids.
SETTINGS = ("model_type", "hidden_act", "rms_norm_eps", "rope_parameters", "num_attention_heads", "num_key_value_heads")


def _fingerprint(model, layers):
    """Return a short hash of all that the states after ``layers`` layers depend on, but for the token ids."""
    settings = {key: getattr(model.config, key, None) for key in SETTINGS}
    digest = hashlib.sha256(json.dumps([layers, settings], sort_keys=True, default=str).encode())
    below = [model.get_input_embeddings(), *decoder_layers(model)[1][:layers]]
    digest.update(
        _weights_hash((f"{i} {n}", p) for i, part in enumerate(below) for n, p in part.named_parameters()).encode()
    )
    return digest.hexdigest()[:16]


def _data_fingerprint(encoded):
    """Return a short hash of the token ids of EncodedGroups."""
    digest = hashlib.sha256(np.asarray(encoded.constant).tobytes())
    for prefix, candidates in zip(encoded.prefixes, encoded.candidates, strict=True):
        digest.update(len(candidates).to_bytes(4, "little"))
        for ids in (prefix, *candidates):
            digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
    return digest.hexdigest()[:16]


class _Trunk:
    """States of EncodedGroups after the frozen layers, read from disk as they are needed.

    Attributes:
        encoded: the EncodedGroups.
        path: the file of states.
        dtype: torch dtype of the states.
        constant: states of the ids that start every prompt [length, hidden].
        offsets: first row of each query's part in the file: its prefix first, then its candidates.
    """

    def __init__(self, encoded, path, dtype, constant):
        self.encoded, self.path, self.dtype, self.constant = encoded, path, dtype, constant
        self.offsets = row_offsets(encoded)

    def rows(self, first, last, mode="r"):
        """Return the file's rows of queries ``first`` to ``last`` (not included) as an array mapped from disk."""
        start, stop = int(self.offsets[first]), int(self.offsets[last])
        hidden, stored = self.constant.shape[1], _stored_dtype(self.dtype)
        if start == stop:
            return np.empty((0, hidden), stored)
        offset = start * hidden * stored.itemsize
        return np.memmap(self.path, dtype=stored, mode=mode, offset=offset, shape=(stop - start, hidden))

    def group(self, g):
        """Return (prefix states [length, hidden], list of candidate states) of query ``g``."""
        states = _to_tensor(self.rows(g, g + 1))
        lengths = [len(ids) for ids in (self.encoded.prefixes[g], *self.encoded.candidates[g])]
        prefix, *candidates = states.split(lengths)
        return prefix, candidates


def row_offsets(encoded):
    """Return the first row of each query's tokens in the flat file, and the number of rows at the end."""
    sizes = [len(p) + sum(map(len, c)) for p, c in zip(encoded.prefixes, encoded.candidates, strict=True)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _stored_dtype(dtype):
    """Return the NumPy dtype in which states of a torch dtype are kept: uint16 holds the bits of bf16."""
    return np.dtype(np.uint16) if dtype == torch.bfloat16 else np.dtype(str(dtype).removeprefix("torch."))


def _to_tensor(array):
    """Return a state array as a tensor of its own; see ``_stored_dtype``."""
    tensor = torch.from_numpy(np.array(array))
    return tensor.view(torch.bfloat16) if array.dtype == np.uint16 else tensor


def _to_array(tensor):
    """Return a state tensor as an array that can be written; see ``_stored_dtype``."""
    tensor = tensor.detach().cpu().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def trunk_megabytes(encoded, hidden, dtype):
    """Return how many MB the states of ``encoded`` take on disk."""
    return (len(encoded.constant) + int(row_offsets(encoded)[-1])) * hidden * dtype.itemsize / 2**20


@torch.inference_mode()
def build_trunk(model, encoded, layers, folder, batch_tokens=16384, quiet=False, weights=None):
    """Compute the states after the first ``layers`` layers, or reuse and continue what is on disk.

    Several processes compute a share each; ``folder`` is one that all of them see.

    Args:
        model: the model; its first ``layers`` layers and its embeddings are frozen.
        encoded: EncodedGroups.
        layers: number of layers to run, at least 1.
        folder: where trunk files live; a sub-folder is named after weights and data.
        batch_tokens: tokens computed at once.
        quiet: no message about size and no progress bar.
        weights: ``fingerprint(model, layers)``, where it is known already.

    Returns:
        Trunk.

    Raises:
        InputError: when the disk has too little room; nothing is written then.
    """
    layer = next(decoder_layers(model)[1][layers - 1].parameters())
    dtype, device = layer.dtype, layer.device
    rank, count = machine.join(device)
    # One folder for these frozen weights and these token ids; the main process makes room in it.
    place = Path(folder) / _trunk_name(weights or _fingerprint(model, layers), encoded)
    if rank == 0:
        _prepare(model, encoded, layers, place, dtype, quiet)
    machine.wait()
    trunk = _Trunk(encoded, place / "states.bin", dtype, _constant(place))
    # What is not on disk yet is shared out: neighbouring queries to one process, so that each writes one stretch.
    missing = sorted(set(range(len(encoded))) - _done(place))
    machine.wait()  # nobody writes before all have read what is missing
    mine = missing[len(missing) * rank // count : len(missing) * (rank + 1) // count]
    if mine:
        record, saved = place / f"done-{mine[0]}.json", time.monotonic()
        bar = tqdm(total=len(mine), unit="query", disable=True if quiet or rank > 0 else None, desc=_("frozen layers"))
        start = 0
        while start < len(mine):
            # A batch of neighbours at a time; every few seconds a record of what is done, for a run that is killed.
            stop = _next_stop(mine, start, trunk.offsets, batch_tokens)
            _compute(model, trunk, mine[start:stop], layers, device, batch_tokens)
            bar.update(stop - start)
            start = stop
            if time.monotonic() - saved > SAVE_SECONDS or start == len(mine):
                write_json(record, mine[:start])
                saved = time.monotonic()
        bar.close()
    machine.wait()
    return trunk


def _trunk_name(weights, encoded):
    """Return the folder name of the states of ``encoded`` under weights with the hash ``weights``."""
    return f"{weights}-{_data_fingerprint(encoded)}"


def _prepare(model, encoded, layers, place, dtype, quiet):
    # Make room on the disk and compute the states of the constant; announce the size unless all is there.
    rows, hidden = int(row_offsets(encoded)[-1]), model.config.hidden_size
    need, size = trunk_megabytes(encoded, hidden, dtype), rows * hidden * dtype.itemsize
    states, constant = place / "states.bin", place / "constant.npy"
    complete = states.exists() and states.stat().st_size == size and _constant(place) is not None
    if not complete:
        above = next(p for p in place.absolute().parents if p.is_dir())
        free = shutil.disk_usage(above).free / 2**20
        if need > 0.9 * free:
            raise InputError(
                "The states of the frozen layers need {need:.0f} MB and {above} has {free:.0f} MB free: free some space, "
                "name another folder, or train with cache=False.",
                need=need,
                above=above,
                free=free,
            )
    if not quiet and len(_done(place)) < len(encoded):
        print(
            _("states after {layers} frozen layers: {rows:,} tokens, {need:.0f} MB in {place}").format(
                layers=layers, rows=rows, need=need, place=place
            )
        )
    if complete:
        return
    # First the states of the constant, the tokens that start every prompt, which all queries share.
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    with whole(constant, "wb") as file:
        start = _Segment(*pad_rows([encoded.constant])).to(next(model.parameters()).device)
        np.save(file, _to_array(_shared_forward(model, [start], [], stop=layers)[0][0].to(dtype)))
    # Then an empty file of the full size, renamed when its room is reserved.
    with (place / "states.part").open("wb") as file:
        try:
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # so that a disk that fills up later does no harm
            file.truncate(size)
        except OSError as error:
            file.close()
            shutil.rmtree(place)
            raise InputError(
                "No room for {need:.0f} MB in {place}: {value}.", need=need, place=place, value=error.strerror or error
            ) from None
    (place / "states.part").replace(states)


def _constant(place):
    """Return the states of the constant, or None when their file is missing or cut short."""
    with suppress(OSError, ValueError):
        return _to_tensor(np.load(place / "constant.npy"))


def _done(place):
    """Return the set of queries whose states are in the file."""
    done = set()
    for path in place.glob("done-*.json"):
        with suppress(ValueError):  # a record cut short counts for nothing: its queries are computed again
            done.update(json.loads(path.read_text(encoding="utf-8")))
    return done


def _next_stop(queries, start, offsets, batch_tokens):
    """Return where the batch of ``queries`` that begins at ``start`` ends: neighbours in the file, one batch in size."""
    stop, first = start + 1, queries[start]
    while (
        stop < len(queries)
        and queries[stop] == first + stop - start
        and offsets[queries[stop] + 1] - offsets[first] <= batch_tokens
    ):
        stop += 1
    return stop


def _compute(model, trunk, queries, layers, device, batch_tokens):
    """Write the states of neighbouring ``queries`` to the file."""
    # The queries as EncodedGroups of their own, and their stretch of the file, mapped for writing [tokens, hidden].
    encoded, first = trunk.encoded, queries[0]
    part = _EncodedGroups(
        encoded.constant, [encoded.prefixes[g] for g in queries], [encoded.candidates[g] for g in queries]
    )
    rows, offsets = trunk.rows(first, queries[-1] + 1, mode="r+"), row_offsets(part)
    for batch in _token_batches(part, batch_tokens):
        # The same tree as in scoring: the constant, then the queries, then buckets of documents.
        candidates = [[part.candidates[g][c] for c in own] for g, own in batch]
        segments, leaves, order = _build_segments(
            part.constant, [part.prefixes[g] for g, _ in batch], candidates, _bucket_size(device)
        )
        # States after the frozen layers, a tensor a segment [rows, length, hidden], padding included.
        states = [
            s.to(trunk.dtype) for s in _shared_forward(model, [s.to(device) for s in segments], leaves, stop=layers)
        ]
        # Segment 1 holds the queries: a query's prefix begins its part of the file.
        for row, (g, _own) in enumerate(batch):
            length = len(part.prefixes[g])
            rows[offsets[g] : offsets[g] + length] = _to_array(states[1][row, :length])
        # The leaves hold the documents, in the order of ``order``: each goes behind the prefix and the documents before it.
        places = ((leaf, row) for leaf in leaves for row in range(len(segments[leaf].lengths)))
        for (leaf, row), (i, column) in zip(places, order, strict=True):
            g, own = batch[i]
            start = offsets[g] + len(part.prefixes[g]) + sum(map(len, part.candidates[g][: own[column]]))
            length = len(part.candidates[g][own[column]])
            rows[start : start + length] = _to_array(states[leaf][row, :length])
    if len(rows):
        rows.flush()


def _remove_stale(folder, keep):
    """Remove the states in ``folder`` that belong to other weights or other data; return how many.

    Args:
        folder: where trunk files live.
        keep: names that stay, see ``_trunk_name``.
    """
    stale = [p for p in Path(folder).glob("*-*") if re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16}", p.name)]
    stale = [p for p in stale if p.name not in keep]
    for path in stale:
        shutil.rmtree(path)
    return len(stale)
