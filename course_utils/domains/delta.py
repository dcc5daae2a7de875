"""A domain as a small delta on one base: what adaptation changed, made, saved, loaded, attached, taken off again.

Adaptation changes a few tensors. Only these are kept, not a copy of the model for each domain. Attaching puts them in the
place of the base's own tensors, detaching puts the very same base tensors back. Nothing is added to or subtracted from
the base's memory, so the base is bit for bit what it was.
"""

import hashlib
import json
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from course_utils.errors import InputError
from course_utils.files import replace_folder
from course_utils.model.checkpoint import read_header, read_json

TENSORS, ABOUT = "delta.safetensors", "delta.json"
KINDS = ("layers", "lora")


@dataclass
class Delta:
    """What adaptation changed, and where it comes from.

    Attributes:
        tensors: name -> tensor. Kind "layers": new values of whole parameters. Kind "lora": two factors for each
            adapted matrix W [out, in], ``<module>.lora_A`` [rank, in] and ``<module>.lora_B`` [out, rank].
        name: of the domain, for example "medical".
        base: name of the base model.
        base_fingerprint: hash of all weights of the base; see ``weights_fingerprint``.
        kind: "layers" or "lora".
        scale: of the product B A that is added to W; for kind "lora".
        layers: numbers of the decoder layers that changed.
        instruction: the instruction it was trained with; in use while the delta is attached.
        data: hash of the training groups; see ``groups_fingerprint``.
        figures: name -> number, for example nDCG@10 on dev before and after.
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

    @property
    def parameters(self):
        """Number of values kept."""
        return sum(t.numel() for t in self.tensors.values())

    @property
    def nbytes(self):
        """Size of the tensors in bytes."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())

    def __repr__(self):
        return f"Delta({self.name!r} on {self.base}: {self.kind}, {self.parameters:,} values, {self.nbytes / 2**20:.2f} MB)"


@dataclass
class Attached:
    """What a reranker needs to remember while a delta is attached: the base's own tensors and instruction."""

    delta: Delta
    tensors: dict
    originals: dict
    instruction: str


def attached(reranker):
    """Return the Attached of a reranker, or None when it is the plain base."""
    return getattr(reranker, "attached", None)


def weights_fingerprint(model, originals=()):
    """Return a short hash of all weights of a model.

    Values are rounded to fp16 first, so that the same bf16 checkpoint has one fingerprint whether it was loaded in bf16,
    fp16 or fp32. One training step moves weights by more than that rounding.

    Args:
        model: the model.
        originals: name -> tensor to take in place of the model's own, for a model that was changed since.
    """
    digest, originals = hashlib.sha256(model.config.model_type.encode()), dict(originals)
    for name, p in model.named_parameters():
        digest.update(f"{name} {tuple(p.shape)}".encode())
        value = originals.get(name, p).detach().to(torch.float16).contiguous()
        digest.update(value.view(-1).view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()[:16]


def base_fingerprint(reranker):
    """Return the hash of all weights of a reranker's base, also while a delta is attached."""
    held = attached(reranker)
    return weights_fingerprint(reranker.model, held.originals if held else ())


def groups_fingerprint(groups):
    """Return a short hash of queries, documents and labels."""
    digest = hashlib.sha256()
    for g in groups:
        digest.update(json.dumps([g.query, list(g.documents), [int(r) for r in g.relevance]]).encode())
    return digest.hexdigest()[:16]


def make_delta(reranker, base, name, *, groups=(), figures=None):
    """Return the Delta between an adapted reranker and its base: the tensors that differ in at least one bit.

    Args:
        reranker: the adapted Reranker.
        base: a Reranker with the base weights, or a dict with the base values of every tensor that may have changed
            (``training.trained_tensors`` taken before ``adapt``).
        name: of the domain.
        groups: the training groups, for their fingerprint.
        figures: name -> number to keep with it.

    Raises:
        InputError: the two are of different shapes, or nothing differs.
    """
    model, held = reranker.model, attached(reranker)
    given = dict(base) if isinstance(base, dict) else dict(base.model.named_parameters())
    given.update(held.originals if held else {})
    own = dict(model.named_parameters())
    for n, value in given.items():
        if n not in own or own[n].shape != value.shape:
            raise InputError(
                f"The base has a tensor {n} {tuple(value.shape)} and the adapted model does not: two models."
            )
    changed = {
        n: own[n].detach().clone()
        for n, value in given.items()
        if not torch.equal(own[n].detach(), value.detach().to(own[n].device, own[n].dtype))
    }
    if not changed:
        raise InputError(f'Nothing changed between the base and "{name}": there is no delta. Was anything trained?')
    return describe(reranker, changed, given, name, groups, figures)


def describe(reranker, tensors, originals, name, groups=(), figures=None, kind="layers", scale=1.0):
    """Return a Delta of ``tensors``; ``originals`` are the base's values of all parameters that are changed just now."""
    layers = {int(i) for n in tensors for i in re.findall(r"\.(?:layers|h)\.(\d+)\.", n)}
    data = groups_fingerprint(groups) if groups else ""
    base = Path(str(reranker.name)).name if Path(str(reranker.name)).is_absolute() else str(reranker.name)
    fingerprint = weights_fingerprint(reranker.model, originals)
    return Delta(
        tensors, name, base, fingerprint, kind, scale, sorted(layers), reranker.instruction, data, dict(figures or {})
    )


def save_delta(delta, folder):
    """Write delta.safetensors and delta.json to ``folder``; complete or not at all. Return the folder.

    Raises:
        InputError: when the folder holds something else than a delta, which would be lost.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / ABOUT).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder} holds something else than a delta; name a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file({n: t.detach().cpu().contiguous() for n, t in delta.tensors.items()}, temporary / TENSORS)
        about = asdict(replace(delta, tensors={}))
        del about["tensors"]
        (temporary / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        replace_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def load_delta(folder):
    """Return the Delta that ``save_delta`` wrote to ``folder``; its tensors are on the CPU.

    Raises:
        InputError: no delta there, a file that is broken or cut short, values that are not finite.
    """
    folder = Path(folder)
    for file in (ABOUT, TENSORS):
        if not (folder / file).is_file():
            raise InputError(f"{folder} holds no {file}, so it is not a delta; give a folder that save_delta wrote.")
    about = read_json(folder / ABOUT)
    kinds = {"name": str, "base": str, "base_fingerprint": str, "kind": str, "instruction": str, "data": str}
    kinds |= {"scale": (int, float), "layers": list, "figures": dict}
    for key, kind in kinds.items():
        if not isinstance(about.get(key), kind):
            raise InputError(f'{folder / ABOUT}: "{key}" is missing or of the wrong kind; save the delta again.')
    if about["kind"] not in KINDS:
        raise InputError(
            f'{folder / ABOUT}: "kind" is "{about["kind"][:40]}"; this course knows {" and ".join(KINDS)}.'
        )
    if len(about["instruction"]) > 2000 or "<|" in about["instruction"]:
        raise InputError(f'{folder / ABOUT}: "instruction" must be one sentence without <| marks; mend it.')
    read_header(folder / TENSORS)
    try:
        # Copied, because a loaded tensor may be a view of the file.
        tensors = {n: t.clone() for n, t in load_file(folder / TENSORS).items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{folder / TENSORS} cannot be read: {str(error).splitlines()[0]}") from None
    broken = [n for n, t in tensors.items() if not torch.isfinite(t).all()]
    if broken or not tensors:
        what = f"{broken[0]} holds values that are not finite" if broken else "it holds no tensor"
        raise InputError(f"{folder / TENSORS} is no use: {what}. Train the delta again.")
    return Delta(tensors, **{key: about[key] for key in kinds})


def check_fits(reranker, delta, fingerprint=None):
    """Raise InputError unless ``delta`` was made for this reranker's base.

    Args:
        reranker: the Reranker, with or without a delta attached.
        delta: the Delta.
        fingerprint: of the base, where it is known; hashing takes 10 ms for nano, seconds for 0.6 billion weights.
    """
    found = fingerprint or base_fingerprint(reranker)
    if delta.base_fingerprint != found:
        raise InputError(
            f'The delta "{delta.name}" was made for the base {delta.base} ({delta.base_fingerprint}), and this is '
            f"{reranker.name or 'another one'} ({found}): load that base, or train the delta again on this one."
        )
    own = dict(reranker.model.named_parameters())
    for name, value in delta.tensors.items():
        if delta.kind == "lora":
            stem, _, side = name.rpartition(".")
            other = delta.tensors.get(f"{stem}.lora_{'B' if side == 'lora_A' else 'A'}")
            weight = own.get(f"{stem}.weight")
            fits = weight is not None and other is not None and side in ("lora_A", "lora_B") and value.dim() == 2
            if fits and side == "lora_A":
                fits = value.shape[1:] == weight.shape[1:] and other.shape == (weight.shape[0], value.shape[0])
        else:
            fits = name in own and own[name].shape == value.shape
        if not fits:
            raise InputError(f'Tensor {name} {tuple(value.shape)} of the delta "{delta.name}" does not fit this model.')


@torch.no_grad()
def full_tensors(reranker, delta):
    """Return name -> value of every parameter that ``delta`` replaces, on the base's device and in its dtype.

    LoRA factors are merged: W + scale B A. Source: Hu et al., "LoRA", arXiv 2106.09685, section 4.1. Tensors that are
    right already are not copied.
    """
    if delta.kind == "layers":
        return {n: t.to(p.device, p.dtype) for n, t in delta.tensors.items() for p in [reranker.model.get_parameter(n)]}
    out = {}
    for name, a in delta.tensors.items():
        stem, _, side = name.rpartition(".")
        if side == "lora_A":
            weight = base_value(reranker, f"{stem}.weight")
            b = delta.tensors[f"{stem}.lora_B"].to(weight.device).float()
            merged = torch.addmm(weight.float(), b, a.to(weight.device).float(), alpha=delta.scale)
            out[f"{stem}.weight"] = merged.to(weight.dtype)
    return out


def base_value(reranker, name):
    """Return the base's own tensor ``name``, also while a delta is attached."""
    held = attached(reranker)
    return held.originals[name] if held and name in held.originals else reranker.model.get_parameter(name).detach()


def swap_in(reranker, delta, tensors):
    """Put ``tensors`` in the place of the model's own, which are kept for ``detach``; nothing is copied or checked."""
    detach(reranker)
    parameters = {n: reranker.model.get_parameter(n) for n in tensors}
    originals = {n: p.data for n, p in parameters.items()}
    for n, p in parameters.items():
        p.data = tensors[n]
    reranker.attached = Attached(delta, tensors, originals, reranker.instruction)
    reranker.instruction = delta.instruction or reranker.instruction


def attach(reranker, delta):
    """Turn the base into the domain's reranker: its changed tensors and its instruction; return the reranker.

    A delta that is attached already is taken off first. The delta itself stays as it is, also when the reranker is
    trained further: it works on a copy. ``Domains`` switches without copies.

    Raises:
        InputError: when the delta was made for another base.
    """
    check_fits(reranker, delta)
    tensors = full_tensors(reranker, delta)
    own = {t.data_ptr() for t in delta.tensors.values()}
    swap_in(reranker, delta, {n: t.clone() if t.data_ptr() in own else t for n, t in tensors.items()})
    return reranker


def detach(reranker):
    """Put the base's own tensors and instruction back; the same memory, so the same bits. Return the reranker.

    Does nothing when no delta is attached.
    """
    held = attached(reranker)
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
    before = attached(reranker)
    detach(reranker)
    try:
        if delta is not None:
            swap_in(reranker, delta, full_tensors(reranker, delta))
        yield reranker
    finally:
        detach(reranker)
        if before is not None:
            swap_in(reranker, before.delta, before.tensors)
