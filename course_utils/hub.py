"""Where a model comes from: bundled, a local folder, or the hub at a pinned revision. No network is no mystery."""

import os
import shutil
from pathlib import Path

from course_utils.errors import InputError
from course_utils.profile import HUB_MODEL

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = {"nano": ROOT / "data" / "models" / "nano"}

# A name can be moved to other weights at any time; a commit cannot.
REVISIONS = {HUB_MODEL: "e61197ed45024b0ed8a2d74b80b4d909f1255473"}
FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "README.md"]
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")
NEEDED_MB = 1500


def model_folder(name, revision=None):
    """Return the local folder that holds model ``name``; download it when it is a hub name.

    Args:
        name: "nano", a local folder, or a hub name such as "Qwen/Qwen3-Reranker-0.6B".
        revision: commit on the hub; the default is pinned for the course's own model.

    Returns:
        pathlib.Path of a folder with config, tokenizer and safetensors.

    Raises:
        InputError: for an unknown name, a folder without safetensors, a pickle, no network, a gated repository,
            or too little disk space.
    """
    if name in BUNDLED:
        return check_folder(BUNDLED[name])
    path = Path(name).expanduser()
    if path.exists():
        return check_folder(path)
    parts = str(name).split("/")
    if len(parts) != 2 or not all(parts) or str(name).startswith((".", "~", "/")):
        raise InputError(
            f'No model "{name}": it is neither "nano", nor a folder that exists, nor a hub name such as "{HUB_MODEL}".'
        )
    return check_folder(download(str(name), revision or REVISIONS.get(str(name))))


def check_folder(path):
    """Return ``path`` if it holds a config and safetensors weights, else raise InputError that says what is missing."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; give the folder that holds config.json and model.safetensors.")
    if not (path / "config.json").is_file():
        raise InputError(f"{path} holds no config.json, so it is not a model folder.")
    if not any(path.glob("*.safetensors")):
        pickles = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise InputError(
                f"{path} holds its weights as {pickles[0]}, a pickle, which can run code when it is opened; "
                "convert it to safetensors where it came from."
            )
        raise InputError(f"{path} holds no *.safetensors weights.")
    return path


def download(name, revision):
    """Fetch ``name`` at ``revision`` from the hub into the local cache and return its folder.

    Downloads resume where they stopped; files are complete before they carry their final name. With
    HF_HUB_OFFLINE=1 only the cache is asked.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    offline_way = (
        f'On a machine with network run: hf download {name}{f" --revision {revision}" if revision else ""} '
        '--local-dir FOLDER, copy FOLDER here and give its path as the model; or use the bundled "nano".'
    )
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES, local_files_only=True))
    except (LocalEntryNotFoundError, FileNotFoundError, ValueError):
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
            raise InputError(f"{name} is not in the local cache and HF_HUB_OFFLINE is set. {offline_way}") from None
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**20
    if free < NEEDED_MB:
        raise InputError(
            f"{name} needs about {NEEDED_MB} MB and {place} has {free:.0f} MB free; free some space or set HF_HOME."
        )
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except GatedRepoError:
        raise InputError(
            f"{name} is gated: accept its terms on its page, then run `hf auth login`; the course's own model needs neither."
        ) from None
    except RepositoryNotFoundError:
        raise InputError(f"The hub has no repository {name} that you may read; check the spelling.") from None
    except RevisionNotFoundError:
        raise InputError(f"{name} has no revision {revision} on the hub.") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        hint = "it asks for fewer requests; wait a few minutes." if status == 429 else "try again later."
        raise InputError(f"The hub answered {status} for {name}: {hint} {offline_way}") from None
    except Exception as error:  # connection errors come from several libraries
        if isinstance(error, (KeyboardInterrupt, MemoryError)):
            raise
        raise InputError(f"{name} could not be fetched ({type(error).__name__}: no network?). {offline_way}") from None
