"""What may be loaded: a folder with JSON settings and safetensors weights that stay inside it.

Nothing here runs code of a model. A pickle can run code when it is opened, an ``auto_map`` names Python files, and a
path in a JSON file or an archive can lead elsewhere: each is refused with its reason before transformers sees it.
"""

import hashlib
import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath

import torch

from course_utils.errors import InputError
from course_utils.files import MARKER
from course_utils.language import _
from course_utils.model import prompt

WEIGHTS, INDEX, SETTINGS = "model.safetensors", "model.safetensors.index.json", "reranker.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")


def _inside(folder, name, *roots):
    """Return ``folder / name`` if it stays inside, else raise InputError.

    Args:
        folder: the folder that may be read or written.
        name: a file name from a JSON file, an archive or the network.
        roots: folders that a symbolic link may point into, beside ``folder``.
    """
    windows = PureWindowsPath(str(name))  # splits at / and \, knows drives
    path = Path(folder) / str(name)
    wrong = not str(name).strip() or "\0" in str(name) or windows.drive or windows.root or ".." in windows.parts
    if wrong or not any(path.resolve().is_relative_to(Path(root).resolve()) for root in (folder, *roots)):
        raise InputError('The file name "{name}" leads out of {folder}, so it is not followed.', name=str(name)[:200], folder=folder)  # fmt: skip
    return path


def _check_folder(path):
    """Return ``path`` if it holds a model that can be loaded without running its code, else raise InputError.

    Looked at: config.json, the index of the weights, the header of each weights file, symbolic links, reranker.json,
    and whether the weights fill the model that config.json describes. The weights themselves are not read.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError("{path} is not a folder; give the folder that holds config.json and {weights}.", path=path, weights=WEIGHTS)  # fmt: skip
    if not (path / "config.json").is_file():
        if (path / "current").is_file():
            raise InputError("{path} is a folder of versions, which gate keeps, and no model; write the one in use as a model first: python -m course_utils versions {path} --out FOLDER", path=path)  # fmt: skip
        raise InputError("{path} holds no config.json, so it is not a model folder.", path=path)
    full, roots = path.resolve(), ()
    if full.parent.name == "snapshots" and full.parents[1].name.startswith("models--"):  # how the hub's cache links
        roots = (full.parents[1] / "blobs", full.parents[2] / "blobs")
    for file in path.iterdir():
        _inside(path, file.name, *roots)
    if (path / "adapter_config.json").exists():
        raise InputError("{path} holds a LoRA adapter, which names another model; merge it first (merge_and_unload).", path=path)  # fmt: skip
    config = _check_config(path / "config.json")
    _check_complete(path, *roots)
    shapes = {}
    for file in _weight_files(path, *roots):
        shapes |= {name: entry["shape"] for name, entry in _read_header(file).items()}
    layers = {i for name in shapes for i in re.findall(r"\.(?:layers|h)\.(\d+)\.", name)}
    if layers and config.get("num_hidden_layers", len(layers)) != len(layers):
        raise InputError(
            "{path} tells of {num_hidden_layers} layers and the weights hold {n_layers}; one of the two belongs to "
            "another model.",
            path=path / "config.json", num_hidden_layers=config["num_hidden_layers"], n_layers=len(layers)
        )  # fmt: skip
    names = path / "tokenizer_config.json"
    if not isinstance(_read_json(names).get("tokenizer_class") or "", str):
        raise InputError("{path}: tokenizer_class does not name a tokenizer; copy or download it again.", path=names)
    read_settings(path)
    _check_filled(path, config, shapes)
    return path


def _check_complete(folder, *roots):
    """Raise InputError when the tokenizer's settings, or a file that we wrote into ``folder`` once, are missing.

    Without its settings another tokenizer class is guessed, which cuts text otherwise: the scores would be wrong.
    """
    written = _read_json(folder / MARKER).get("files") if (folder / MARKER).is_file() else []
    for name in ["tokenizer_config.json", *(written if isinstance(written, list) else [])]:
        if not _inside(folder, name, *roots).is_file() and not str(name).endswith(".md"):
            raise InputError("{folder} lacks {name}, without which the scores would be wrong; copy the folder again.", folder=folder, name=name)  # fmt: skip


def _check_config(path):
    """Return config.json as a dict; raise InputError when a value is of the wrong kind or asks for code."""
    config = _read_json(path)
    sizes = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")
    for key in (*sizes, "num_key_value_heads", "head_dim"):
        if config.get(key) is not None and (type(config[key]) is not int or not 1 <= config[key] <= 2**24):
            raise InputError('{path}: "{key}" is {config}, not a whole number that fits a model.', path=path, key=key, config=str(config[key])[:40])  # fmt: skip
    kinds = config.get("architectures") or []
    named = isinstance(config.get("model_type"), str) and isinstance(kinds, list)
    if not named or not all(isinstance(kind, str) for kind in kinds):
        raise InputError("{path}: model_type and architectures do not name a model; copy or download it again.", path=path)  # fmt: skip
    if "auto_map" in config:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if config.get("model_type") not in CONFIG_MAPPING_NAMES:
            raise InputError(
                "{path} needs Python code that comes with the model (auto_map); such code is never run here: choose a "
                "model of a kind that transformers knows.",
                path=path,
            )
    for key, value in config.items():
        if "_implementation" in key and "/" in json.dumps(value):
            raise InputError(
                '{path} asks for program code from the hub ("{key}": {dumps}); delete that line.',
                path=path, key=key, dumps=json.dumps(value)[:80]
            )  # fmt: skip
    for key, why in (("transformers_weights", _("names other weights")), ("quantization_config", _("is quantised"))):
        if config.get(key):
            raise InputError(
                '{path} {why} ("{key}"); give the original model with its weights in {weights}.',
                path=path, why=why, key=key, weights=WEIGHTS
            )  # fmt: skip
    return config


def _check_filled(path, config, shapes):
    """Raise InputError unless config.json describes a causal language model that the weights can fill.

    What is missing from the weights would be made up at random, and a hostile size would take all memory; so the
    model is built without memory first (on torch's meta device, 0.1 s).

    Args:
        path: folder of the model.
        config: its config.json as a dict.
        shapes: tensor name -> shape, of the weights.
    """
    if not all(kind.endswith("ForCausalLM") for kind in config.get("architectures") or ["?"]):
        return  # Reranker.load says what is wrong with it
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        described = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(described, trust_remote_code=False)
    except Exception as error:  # whatever a wrong value leads to, in any of the model classes
        one_line = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError("{path} does not describe a model: {one_line}", path=path / "config.json", one_line=one_line) from None  # fmt: skip
    parameters = dict(model.named_parameters())
    needed = sum(parameter.numel() for parameter in parameters.values())
    stored = sum(math.prod(shape) for shape in shapes.values())
    if needed > 1.01 * stored:
        raise InputError(
            "{path} describes a model of {needed:.1f} M parameters and the weights hold {stored:.1f} M; the rest "
            "would be random. One of the two belongs to another model.",
            path=path / "config.json", needed=needed / 1e6, stored=stored / 1e6
        )  # fmt: skip
    for name, shape in shapes.items():
        if name in parameters and tuple(shape) != tuple(parameters[name].shape):
            raise InputError(
                "The weights in {path} hold {name} as {shape} and config.json asks for {shape_2}: the rest would be "
                "random. One of the two belongs to another model.",
                path=path, name=name, shape=list(shape), shape_2=list(parameters[name].shape)
            )  # fmt: skip
    missing = sorted(parameters.keys() - shapes.keys())
    if missing and shapes.keys() <= parameters.keys():  # other names in the file could be these, spelt the old way
        raise InputError(
            "The weights in {path} lack {missing_0}, which would be random; copy or download them again.",
            path=path, missing_0=missing[0]
        )  # fmt: skip


def read_settings(folder):
    """Return {"instruction", "max_length"} as ``Reranker.save`` wrote them beside the weights, or an empty dict.

    Raises:
        InputError: when the file is there but broken, or its prompt is not the one that the weights were trained with.
    """
    path = Path(folder) / SETTINGS
    if not path.exists():
        return {}
    saved = _read_json(path)
    text, length, mark = saved.get("instruction"), saved.get("max_length"), saved.get("prompt")
    try:
        prompt._check_prompt(text, length)
    except InputError as error:
        raise InputError("{path}: {error} Mend it, or copy the folder again.", path=path, error=error) from None
    if mark is not None and mark != prompt._fingerprint(text):  # folders of the first version have none
        raise InputError(
            "{path}: the instruction, or the course's prompt around it, is not the one that these weights were "
            "trained with, so the scores would be wrong; put it back, or give an instruction and delete the line "
            '"prompt".',
            path=path,
        )
    return {"instruction": text, "max_length": length}


def _weights_hash(weights):
    """Return 64 hex digits for a torch module, or for an iterable of (name, tensor): names, shapes, dtypes, values.

    Tensors are hashed side by side: a gigabyte takes a second on one core.
    """
    named = weights.named_parameters() if isinstance(weights, torch.nn.Module) else weights

    def one(item):
        name, tensor = item
        digest = hashlib.sha256(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
        return digest.digest()

    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join(pool.map(one, named))).hexdigest()


def _weight_files(folder, *roots):
    """Return the safetensors files of ``folder`` as paths: one, or those that its index names.

    Raises InputError when there is none, only a pickle, a shard is missing, or the index leads out of the folder.
    """
    files = []
    if (folder / INDEX).is_file():
        shards = _read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
            raise InputError("{folder} does not tell which file holds which tensor.", folder=folder / INDEX)
        files = [_inside(folder, name, *roots) for name in sorted(set(shards.values()))]
    if (folder / WEIGHTS).is_file():  # transformers takes this one first
        return [folder / WEIGHTS]
    if not files:
        names = [p.name for p in folder.iterdir()]
        raise InputError("{folder} {what}", folder=folder, what=_no_weights(names))
    for file in files:
        if file.suffix != ".safetensors" or not file.is_file():
            raise InputError(
                "{folder} lacks {name}, which {index} names; copy or download the folder again.",
                folder=folder, name=file.name, index=INDEX
            )  # fmt: skip
    return files


def _no_weights(names):
    """Return the reason why a list of file names is no model: only pickles, or no weights at all."""
    pickles = sorted(name for name in names if name.endswith(PICKLES))
    if pickles:
        said = _("holds its weights only as {file}, a pickle, which can run code when it is opened; convert it to safetensors where it came from.")  # fmt: skip
        return said.format(file=pickles[0])
    return _("holds no {weights}.").format(weights=WEIGHTS)


def _read_header(path):
    """Return the header of a safetensors file: tensor name -> dtype, shape, data_offsets (bytes).

    The format: https://huggingface.co/docs/safetensors. Raises InputError when the file is cut short or something else.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise InputError("{path} is a Git LFS pointer and not the weights; run `git lfs pull` where it came from.", path=path)  # fmt: skip
        length = int.from_bytes(start, "little")
        if not 2 <= length <= min(size, 10**8):
            raise InputError("{path} is not a safetensors file, or is cut short; copy or download it again.", path=path)
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            if not all(type(n) is int and n >= 0 for entry in header.values() for n in entry["shape"]):
                raise ValueError("a shape is not of whole numbers")
            whole = 8 + length + max(entry["data_offsets"][1] for entry in header.values())
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise InputError("{path} has no safetensors header; copy or download it again.", path=path) from None
    if size != whole:
        raise InputError("{path} has {size} bytes where its header tells of {whole}; copy or download it again.", path=path, size=size, whole=whole)  # fmt: skip
    return header


def _read_json(path, limit_mb=64):
    """Return the object in a JSON file as a dict; raise InputError when it is broken, too large or not an object."""
    if path.stat().st_size > limit_mb * 2**20:
        raise InputError("{path} is larger than {limit_mb} MB, too large for a settings file.", path=path, limit_mb=limit_mb)  # fmt: skip
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise InputError("{path} is not valid JSON; copy or download it again.", path=path) from None
    if not isinstance(value, dict):
        raise InputError("{path} holds a JSON {kind}, not an object; copy or download it again.", path=path, kind=type(value).__name__)  # fmt: skip
    return value


def _no_number(text):
    """Refuse NaN and Infinity, which Python's reader takes although JSON has neither: they would make scores NaN."""
    raise ValueError(f"{text} is no number of JSON")
