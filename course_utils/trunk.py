"""States after the last frozen layer, computed once for every token and kept on disk.

When only the last layers train, the layers below give the same states in every epoch. They are written to one flat file of
tokens [tokens, hidden] that is mapped into memory, so training memory does not grow with the number of pairs.
A file belongs to one set of frozen weights and one set of token ids; both are hashed into its name, a half-written file
is continued, a stale one is removed.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from course_utils.errors import InputError
from course_utils.forward import build_segments, decoder_of, shared_forward
from course_utils.freezing import decoder_layers
from course_utils.reranker import token_batches


def fingerprint(model, layers):
    """Return a short hash of the weights below layer ``layers``: embeddings and the frozen layers."""
    digest = hashlib.sha256(f"{model.config.model_type} {layers}".encode())
    _, modules = decoder_layers(model)
    for module in (model.get_input_embeddings(), *modules[:layers]):
        for name, p in module.named_parameters():
            digest.update(f"{name} {tuple(p.shape)} {p.dtype}".encode())
            digest.update(p.detach().contiguous().view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()[:16]


def data_fingerprint(encoded):
    """Return a short hash of the token ids of EncodedGroups."""
    digest = hashlib.sha256(np.asarray(encoded.constant).tobytes())
    for prefix, candidates in zip(encoded.prefixes, encoded.candidates, strict=True):
        for ids in (prefix, *candidates):
            digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
    return digest.hexdigest()[:16]


class Trunk:
    """States of EncodedGroups after the frozen layers, read from disk as they are needed.

    Attributes:
        layers: number of frozen layers that were run.
        constant: states of the ids that start every prompt [length, hidden].
        offsets: first token of each query's part in the file, its prefix first, then its candidates.
    """

    def __init__(self, encoded, layers, states, constant):
        self.encoded, self.layers, self.states, self.constant = encoded, layers, states, constant
        self.offsets = row_offsets(encoded)

    def __len__(self):
        return len(self.encoded)

    def group(self, g):
        """Return (prefix states [length, hidden], list of candidate states) of query ``g``."""
        start, parts = self.offsets[g], []
        for ids in (self.encoded.prefixes[g], *self.encoded.candidates[g]):
            parts.append(to_tensor(self.states[start : start + len(ids)]))
            start += len(ids)
        return parts[0], parts[1:]


def row_offsets(encoded):
    """Return the first row of each query's tokens in the flat file, and the number of rows at the end."""
    sizes = [len(p) + sum(map(len, c)) for p, c in zip(encoded.prefixes, encoded.candidates, strict=True)]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def to_tensor(array):
    """Return a copied state array as a tensor; uint16 holds the bits of bf16, which NumPy does not know."""
    tensor = torch.from_numpy(np.array(array))
    return tensor.view(torch.bfloat16) if array.dtype == np.uint16 else tensor


def to_array(tensor):
    """Return a state tensor as an array that can be written; see ``to_tensor``."""
    tensor = tensor.detach().cpu().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def trunk_megabytes(encoded, hidden, dtype):
    """Return how many MB the states of ``encoded`` take on disk."""
    return (len(encoded.constant) + int(row_offsets(encoded)[-1])) * hidden * dtype.itemsize / 2**20


@torch.inference_mode()
def build_trunk(model, encoded, layers, folder, batch_tokens=16384, quiet=False):
    """Compute the states after the first ``layers`` layers, or reuse and continue what is on disk.

    Args:
        model: the model; its first ``layers`` layers and its embeddings are frozen.
        encoded: EncodedGroups.
        layers: number of layers to run, at least 1.
        folder: where trunk files live; a sub-folder is named after weights and data.
        batch_tokens: tokens computed at once.
        quiet: no message about size and no progress bar.

    Returns:
        Trunk.

    Raises:
        InputError: when the disk has too little room; nothing is written then.
    """
    folder = Path(folder)
    weights = next(decoder_layers(model)[1][layers - 1].parameters())
    name = f"{fingerprint(model, layers)}-{data_fingerprint(encoded)}"
    place = folder / name
    hidden, dtype = model.config.hidden_size, weights.dtype
    stored = np.dtype(np.uint16) if dtype == torch.bfloat16 else np.dtype(str(dtype).removeprefix("torch."))
    rows = int(row_offsets(encoded)[-1])
    need = trunk_megabytes(encoded, hidden, dtype)
    place.mkdir(parents=True, exist_ok=True)
    done_file, states_file, constant_file = place / "done.json", place / "states.bin", place / "constant.npy"
    whole = (
        states_file.exists()
        and constant_file.exists()
        and states_file.stat().st_size == rows * hidden * stored.itemsize
    )
    finished = json.loads(done_file.read_text(encoding="utf-8"))["queries"] if whole and done_file.exists() else []
    if not whole:
        free = shutil.disk_usage(folder).free / 2**20
        if need > 0.9 * free:
            shutil.rmtree(place)
            raise InputError(
                f"The states of the frozen layers need {need:.0f} MB and {folder} has {free:.0f} MB free: "
                "free some space, name another folder, or train with cache=False."
            )
    if len(finished) < len(encoded) and not quiet:
        print(f"states after {layers} frozen layers: {rows:,} tokens, {need:.0f} MB in {place}")
    mode = "r+" if whole else "w+"
    states = (
        np.memmap(states_file, dtype=stored, mode=mode, shape=(max(1, rows), hidden))
        if rows
        else np.empty((0, hidden), dtype=stored)
    )
    trunk = Trunk(encoded, layers, states, None)
    missing = sorted(set(range(len(encoded))) - set(finished))
    device = weights.device
    if missing or not constant_file.exists():
        bar = tqdm(total=len(missing), unit="query", disable=quiet, desc="frozen layers")
        saved = time.monotonic()
        for start in range(0, len(missing), 256):
            part = missing[start : start + 256]
            chunk = type(encoded)(
                encoded.constant, [encoded.prefixes[g] for g in part], [encoded.candidates[g] for g in part]
            )
            for batch in token_batches(chunk, batch_tokens):
                constant = _run(model, chunk, batch, part, layers, trunk, device)
            if not constant_file.exists():
                np.save(place / "constant.part.npy", to_array(constant))
                (place / "constant.part.npy").replace(constant_file)
            finished += part
            bar.update(len(part))
            if time.monotonic() - saved > 5 or start + 256 >= len(missing):
                states.flush() if rows else None
                _write(done_file, {"queries": finished, "layers": layers, "model": name.split("-")[0]})
                saved = time.monotonic()
        bar.close()
    trunk.states = np.memmap(states_file, dtype=stored, mode="r", shape=(rows, hidden)) if rows else states
    trunk.constant = to_tensor(np.load(constant_file))
    return trunk


def _run(model, chunk, batch, names, layers, trunk, device):
    candidates = [[chunk.candidates[g][c] for c in own] for g, own in batch]
    segments, leaves, order = build_segments(chunk.constant, [chunk.prefixes[g] for g, _ in batch], candidates)
    states = shared_forward(model, [s.to(device) for s in segments], leaves, stop=layers)
    for row, (g, _) in enumerate(batch):
        start, length = trunk.offsets[names[g]], len(chunk.prefixes[g])
        trunk.states[start : start + length] = to_array(states[1][row, :length])
    rows = ((leaf, r) for leaf in leaves for r in range(len(segments[leaf].lengths)))
    for (leaf, r), (row, column) in zip(rows, order, strict=True):
        g, own = batch[row]
        c = own[column]
        before = len(chunk.prefixes[g]) + sum(map(len, chunk.candidates[g][:c]))
        start, length = trunk.offsets[names[g]] + before, len(chunk.candidates[g][c])
        trunk.states[start : start + length] = to_array(states[leaf][r, :length])
    return states[0][0]


def _write(path, value):
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.replace(path)


def remove_stale(folder, model, layers):
    """Remove trunk folders in ``folder`` that were made with other weights; return how many."""
    current, removed = fingerprint(model, layers), 0
    for done in Path(folder).glob("*-*/done.json"):
        if not done.parent.name.startswith(f"{current}-"):
            shutil.rmtree(done.parent)
            removed += 1
    return removed


def can_cache(model, layers):
    """Return whether states after ``layers`` layers can stand in for them: at least one frozen layer below."""
    return layers >= 1 and hasattr(decoder_of(model), "layers")
