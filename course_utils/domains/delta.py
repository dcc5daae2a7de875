"""A domain as a small delta on one base: what adaptation changed, saved, loaded, attached, taken off again.

Adaptation changes a few tensors. Only these are kept, not a copy of the model for each domain. Attaching puts them in the
place of the base's own tensors, detaching puts the very same base tensors back. Nothing is added to or subtracted from
the base's memory, so the base is bit for bit what it was.
"""

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from course_utils.errors import InputError
from course_utils.files import whole_folder, write_json
from course_utils.language import _
from course_utils.model.checkpoint import _read_header, _read_json, _weights_hash
from course_utils.model.loading import _check_unchanged

_BASE, _KINDS = "general", ("layers", "lora")  # _BASE: what the base itself is called among domains
_TENSORS, _ABOUT = "delta.safetensors", "delta.json"
_FIELDS = {
    "name": str, "base": str, "base_fingerprint": str, "kind": str, "instruction": str, "data": str,
    "scale": (int, float), "layers": list, "figures": dict,
}  # fmt: skip


@dataclass
class Delta:
    """What adaptation changed, and where it comes from.

    Attributes:
        tensors: name -> tensor. Kind "layers": new values of whole parameters. Kind "lora": two factors for each
            adapted matrix W [out, in], ``<module>.lora_A`` [rank, in] and ``<module>.lora_B`` [out, rank].
        name: of the domain, for example "medical"; "general" is the base itself.
        base: name of the base model.
        base_fingerprint: hash of all weights of the base.
        kind: "layers" or "lora".
        scale: of the product B A that is added to W; for kind "lora".
        layers: numbers of the decoder layers that changed.
        instruction: the instruction it was trained with; in use while the delta is attached.
        data: hash of the training groups.
        figures: name -> number, for example nDCG@10 on dev before and after.
        recipe: the choices of its training, see ``training.Recipe``; empty for a merged delta.

    Raises:
        InputError: the name is empty, that of the base, or not one part of a path.
    """

    tensors: dict
    name: str
    base: str
    base_fingerprint: str
    kind: str = "layers"
    scale: float = 1.0
    layers: list = field(default_factory=list)
    instruction: str = ""
    data: str = ""
    figures: dict = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)

    def __post_init__(self):
        _check_name(self.name)

    @property
    def parameters(self):
        """Number of values kept."""
        return sum(t.numel() for t in self.tensors.values())

    @property
    def nbytes(self):
        """Size of the tensors in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    def __repr__(self):
        return _("Delta({name!r} on {base}: {kind}, {parameters:,} values, {mb:.2f} MB)").format(name=self.name, base=self.base, kind=self.kind, parameters=self.parameters, mb=self.nbytes / 2**20)  # fmt: skip


@dataclass
class _Attached:
    """What a reranker needs to remember while a delta is attached: the base's own tensors and instruction."""

    delta: Delta
    tensors: dict
    originals: dict
    instruction: str


def _check_name(name):
    if not isinstance(name, str) or not name.strip() or name == _BASE:
        raise InputError('A delta cannot be called {name!r}: give a name of its own; "{base}" is the base itself.', name=name, base=_BASE)  # fmt: skip
    if name in (".", "..") or re.search(r"[/\\\x00-\x1f]", name):
        raise InputError("A delta cannot be called {name!r}: folders are named after it, so leave out / and \\.", name=name)  # fmt: skip


def _attached(reranker):
    """Return the _Attached of a reranker, or None when it is the plain base."""
    return getattr(reranker, "attached", None)


def _base_hash(reranker, originals=None):
    """Return a short hash of all weights of the base, also while a delta is attached or, with ``originals``, training runs.

    Values are rounded to fp16 first, so that the same bf16 checkpoint has one hash whether it was loaded in bf16, fp16 or
    fp32. One training step moves weights by more than that rounding.
    """
    held = _attached(reranker)
    kept = originals if originals is not None else held.originals if held else {}
    return _rounded_hash((n, kept.get(n, p)) for n, p in reranker.model.named_parameters())


def _rounded_hash(named):
    parts = (_weights_hash([(n, t.detach().to(torch.float16))]) for n, t in named)  # one by one: rounding makes copies
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def _groups_hash(groups):
    """Return a short hash of queries, documents and labels."""
    digest = hashlib.sha256()
    for g in groups:
        digest.update(json.dumps([g.query, list(g.documents), [int(r) for r in g.relevance]]).encode())
    return digest.hexdigest()[:16]


def _describe(reranker, tensors, originals, name, groups=(), **more):
    """Return a Delta of ``tensors``; ``originals`` are the base's values of all parameters that are changed just now."""
    layers = {int(i) for n in tensors for i in re.findall(r"\.(?:layers|h)\.(\d+)\.", n)}
    base = Path(str(reranker.name)).name if Path(str(reranker.name)).is_absolute() else str(reranker.name)
    return Delta(
        tensors, name, base, _base_hash(reranker, originals), layers=sorted(layers), instruction=reranker.instruction,
        data=_groups_hash(groups) if groups else "", **more,
    )  # fmt: skip


def save_delta(delta, folder):
    """Write delta.safetensors and delta.json to ``folder``; complete or not at all. Return the folder.

    Raises:
        InputError: when the folder holds something else than a delta, which would be lost.
    """
    with whole_folder(folder, hashed=True) as temporary:
        save_file({n: t.detach().cpu().contiguous() for n, t in delta.tensors.items()}, temporary / _TENSORS)
        about = asdict(replace(delta, tensors={}))
        del about["tensors"]
        write_json(temporary / _ABOUT, about)
    return Path(folder)


def load_delta(folder):
    """Return the Delta that ``save_delta`` wrote to ``folder``; its tensors are on the CPU.

    Raises:
        InputError: no delta there, a file that is broken, cut short or changed, values that are not finite.
    """
    folder = Path(folder)
    for file in (_ABOUT, _TENSORS):
        if not (folder / file).is_file():
            raise InputError("{folder} holds no {file}, so it is not a delta; give a folder that save_delta wrote.", folder=folder, file=file)  # fmt: skip
    about = _read_json(folder / _ABOUT)
    for key, kind in _FIELDS.items():
        if not isinstance(about.get(key), kind):
            raise InputError('{folder}: "{key}" is missing or of the wrong kind; save the delta again.', folder=folder / _ABOUT, key=key)  # fmt: skip
    if about["kind"] not in _KINDS:
        raise InputError('{folder}: "kind" is "{kind}"; this course knows {kinds}.', folder=folder / _ABOUT, kind=about["kind"][:40], kinds=" and ".join(_KINDS))  # fmt: skip
    if len(about["instruction"]) > 2000 or "<|" in about["instruction"]:
        raise InputError('{folder}: "instruction" must be one sentence without <| marks; mend it.', folder=folder / _ABOUT)  # fmt: skip
    _read_header(folder / _TENSORS)
    _check_unchanged(folder, [_ABOUT, _TENSORS])
    try:
        # Copied, because a loaded tensor may be a view of the file.
        tensors = {n: t.clone() for n, t in load_file(folder / _TENSORS).items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError("{folder} cannot be read: {error_0}", folder=folder / _TENSORS, error_0=str(error).splitlines()[0]) from None  # fmt: skip
    broken = [n for n, t in tensors.items() if not torch.isfinite(t).all()]
    if broken or not tensors:
        what = _("{name} holds values that are not finite").format(name=broken[0]) if broken else _("it holds no tensor")  # fmt: skip
        raise InputError("{folder} is no use: {what}. Train the delta again.", folder=folder / _TENSORS, what=what)
    return Delta(tensors, **{key: about[key] for key in _FIELDS}, recipe=about.get("recipe") or {})


def _check_fits(reranker, delta, fingerprint=None):
    """Raise InputError unless ``delta`` was made for this reranker's base.

    Args:
        reranker: the Reranker, with or without a delta attached.
        delta: the Delta.
        fingerprint: of the base, where it is known; hashing takes 10 ms for nano, seconds for 0.6 billion weights.
    """
    found = fingerprint or _base_hash(reranker)
    if delta.base_fingerprint != found:
        raise InputError(
            'The delta "{name}" was made for the base {base} ({base_fingerprint}), and this is {value} ({found}): '
            "load that base, or train the delta again on this one.",
            name=delta.name, base=delta.base, base_fingerprint=delta.base_fingerprint,
            value=reranker.name or _("another one"), found=found
        )  # fmt: skip
    own = dict(reranker.model.named_parameters())
    for name, value in delta.tensors.items():
        if delta.kind == "lora":
            stem, _dot, side = name.rpartition(".")
            other = delta.tensors.get(f"{stem}.lora_{'B' if side == 'lora_A' else 'A'}")
            weight = own.get(f"{stem}.weight")
            fits = weight is not None and other is not None and side in ("lora_A", "lora_B") and value.dim() == 2
            if fits and side == "lora_A":
                fits = value.shape[1:] == weight.shape[1:] and other.shape == (weight.shape[0], value.shape[0])
        else:
            fits = name in own and own[name].shape == value.shape
        if not fits:
            raise InputError('Tensor {name} {shape} of the delta "{name_2}" does not fit this model.', name=name, shape=tuple(value.shape), name_2=delta.name)  # fmt: skip


@torch.no_grad()
def _full_tensors(reranker, delta):
    """Return name -> value of every parameter that ``delta`` replaces, on the base's device and in its dtype.

    LoRA factors are merged: W + scale B A. Source: Hu et al., "LoRA", arXiv 2106.09685, section 4.1. Tensors that are
    right already are not copied.
    """
    if delta.kind == "layers":
        return {n: t.to(p.device, p.dtype) for n, t in delta.tensors.items() for p in [reranker.model.get_parameter(n)]}
    out = {}
    for name, a in delta.tensors.items():
        stem, _dot, side = name.rpartition(".")
        if side == "lora_A":
            weight = _base_value(reranker, f"{stem}.weight")
            b = delta.tensors[f"{stem}.lora_B"].to(weight.device).float()
            merged = torch.addmm(weight.float(), b, a.to(weight.device).float(), alpha=delta.scale)
            out[f"{stem}.weight"] = merged.to(weight.dtype)
    return out


def _base_value(reranker, name):
    """Return the base's own tensor ``name``, also while a delta is attached."""
    held = _attached(reranker)
    return held.originals[name] if held and name in held.originals else reranker.model.get_parameter(name).detach()


def _swap_in(reranker, delta, tensors):
    """Put ``tensors`` in the place of the model's own, which are kept for ``detach``; nothing is copied or checked."""
    detach(reranker)
    parameters = {n: reranker.model.get_parameter(n) for n in tensors}
    originals = {n: p.data for n, p in parameters.items()}
    for n, p in parameters.items():
        p.data = tensors[n]
    reranker.attached = _Attached(delta, tensors, originals, reranker.instruction)
    reranker.instruction = delta.instruction or reranker.instruction


def attach(reranker, delta):
    """Turn the base into the domain's reranker: its changed tensors and its instruction; return the reranker.

    A delta that is attached already is taken off first. The delta itself stays as it is, also when the reranker is
    trained further: it works on a copy. ``Domains`` switches without copies.

    Raises:
        InputError: when the delta was made for another base.
    """
    _check_fits(reranker, delta)
    tensors = _full_tensors(reranker, delta)
    own = {t.data_ptr() for t in delta.tensors.values()}
    _swap_in(reranker, delta, {n: t.clone() if t.data_ptr() in own else t for n, t in tensors.items()})
    return reranker


def detach(reranker):
    """Put the base's own tensors and instruction back; the same memory, so the same bits. Return the reranker.

    Does nothing when no delta is attached.
    """
    held = _attached(reranker)
    if held is not None:
        for n, original in held.originals.items():
            p = reranker.model.get_parameter(n)
            p.grad = None
            p.data = original.to(p.device)
        reranker.instruction, reranker.attached = held.instruction, None
    return reranker


@contextmanager
def swapped(reranker, delta=None):
    """Within the block the reranker is the base (None) or the base with ``delta``; then again what it was before.

    The delta is not checked against the base and not copied: for evaluation, not for training.
    """
    before = _attached(reranker)
    detach(reranker)
    try:
        if delta is not None:
            _swap_in(reranker, delta, _full_tensors(reranker, delta))
        yield reranker
    finally:
        detach(reranker)
        if before is not None:
            _swap_in(reranker, before.delta, before.tensors)
