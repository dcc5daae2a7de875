"""A folder that passed its checks becomes a tokenizer and a model; what does not fit is refused, never repaired."""

from contextlib import suppress

import torch

from course_utils import _unsearched
from course_utils.errors import InputError
from course_utils.files import MARKER, sha256
from course_utils.language import _
from course_utils.model.checkpoint import _read_json, _weight_files


def _written(folder):
    """Return what the folder says of the files that we wrote into it, as bytes; empty where it says nothing."""
    return (folder / MARKER).read_bytes() if (folder / MARKER).is_file() else b""


def _check_unchanged(folder, names):
    """Raise InputError where a file of ``names`` is not the one that we wrote into ``folder``, if it says what that was."""
    hashes = {}
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, InputError):  # a broken marker says nothing
        hashes = dict(_read_json(folder / MARKER)["sha256"])
    for name in names:
        if name in hashes and sha256(folder / name) != hashes[name]:
            raise InputError("{path} was changed or damaged since it was written, so its scores may differ; copy the folder again, or delete {marker} in it if the change is yours.", path=folder / name, marker=MARKER)  # fmt: skip


def _load_parts(folder, dtype):
    """Return (tokenizer, model) of a folder that ``check_folder`` let pass; nothing is repaired in silence.

    Args:
        folder: folder of the model.
        dtype: torch dtype of the weights.

    Raises:
        InputError: not a causal language model, weights that are missing, left over or changed, or that hold NaN.
    """
    _check_unchanged(folder, [path.relative_to(folder).as_posix() for path in _weight_files(folder)])
    with _unsearched(unless="transformers.modeling_utils"):
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, modeling_utils  # noqa: F401

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise InputError(
            "{folder} cannot be read as a model: {error_0}", folder=folder, error_0=str(error).splitlines()[0]
        ) from None
    kinds = config.architectures or ["?"]
    if not kinds[0].endswith("ForCausalLM"):
        raise InputError(
            "{folder} holds a {kinds_0}; the course scores with a causal language model (yes/no logits), not with a "
            "classification head.",
            folder=folder,
            kinds_0=kinds[0],
        )
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False,
            local_files_only=True,
        )  # fmt: skip
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(
            "The weights in {folder} cannot be loaded: {error_0}", folder=folder, error_0=str(error).splitlines()[0]
        ) from None
    for key, what in (("missing_keys", _("lack")), ("mismatched_keys", _("have another shape for")),
                      ("unexpected_keys", _("hold more than this kind of model has:"))):  # fmt: skip
        if names := sorted(map(str, info.get(key) or ())):
            raise InputError(
                "The weights in {folder} {what} {names_0} ({n_names} such), so they are not of the {model_type} that "
                "config.json describes; one of the two belongs to another model.",
                folder=folder,
                what=what,
                names_0=names[0],
                n_names=len(names),
                model_type=config.model_type,
            )
    if type(model).__name__ != kinds[0]:
        raise InputError(
            "{folder}: {kinds_0} is not a {model_type}; copy the folder again.",
            folder=folder / "config.json",
            kinds_0=kinds[0],
            model_type=config.model_type,
        )
    sums = {name: p.detach().sum(dtype=torch.float32) for name, p in model.named_parameters()}
    broken = [name for name, value in sums.items() if not torch.isfinite(value)]
    if broken:
        raise InputError(
            "The weights in {folder} hold NaN or infinity ({broken_0}); copy or train them again.",
            folder=folder,
            broken_0=broken[0],
        )
    return tokenizer, model
