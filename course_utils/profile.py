"""How large a run is: smoke, laptop or full; and what the hardware at hand can do."""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from course_utils.errors import InputError

HUB_MODEL = "Qwen/Qwen3-Reranker-0.6B"


@dataclass(frozen=True)
class Profile:
    """Sizes that a lesson uses.

    Attributes:
        name: smoke, laptop or full.
        model: what ``Reranker.load`` is given.
        queries: training queries a lesson uses at most.
        test_queries: test queries a lesson uses at most.
        epochs: passes over the training queries.
        max_length: tokens of one prompt at most.
        seeds: how often an experiment is repeated.
    """

    name: str
    model: str
    queries: int
    test_queries: int
    epochs: int
    max_length: int
    seeds: int


PROFILES = {
    "smoke": Profile("smoke", "nano", 48, 40, 2, 256, 1),
    "laptop": Profile("laptop", "nano", 600, 400, 4, 512, 3),
    "full": Profile("full", HUB_MODEL, 600, 400, 3, 1024, 1),
}


def get_profile(name=None, quiet=False):
    """Return the profile ``name``, else that of COURSE_PROFILE, else one chosen from the hardware; print it.

    Without a GPU the choice is laptop (the bundled model); with a GPU of 6 GiB or more it is full.

    Raises:
        InputError: for an unknown name.
    """
    name = name or os.environ.get("COURSE_PROFILE")
    why = "asked for"
    if not name:
        big = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory >= 6 * 2**30
        name, why = ("full", "a GPU is here") if big else ("laptop", "no large GPU here")
    if name not in PROFILES:
        raise InputError(f'COURSE_PROFILE is "{name}"; choose one of {", ".join(PROFILES)}.')
    profile = PROFILES[name]
    if not quiet:
        sizes = ", ".join(f"{k} {v}" for k, v in asdict(profile).items() if k not in ("name", "model"))
        print(f"profile {profile.name} ({why}): model {profile.model}, device {pick_device()}\n{sizes}")
    return profile


def pick_device():
    """Return "cuda", "mps" or "cpu", the fastest that is here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_fast_bf16(device=None):
    """Return whether bf16 matrix products are fast on ``device`` (a T4 and most laptops say no)."""
    device = device or pick_device()
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability()[0] >= 8
    if device == "cpu":
        return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())
    return False


def cpu_flags():
    """Return the processor's feature flags that matter here, as far as the system tells them."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    return set()


def pick_dtype(device, parameters=None):
    """Return the dtype for frozen weights: bf16 where it is fast, fp16 on an older GPU, else fp32.

    Args:
        device: "cuda", "mps" or "cpu".
        parameters: size of the model; below 50 million everything stays fp32, which costs nothing there.
    """
    if parameters is not None and parameters < 50e6:
        return torch.float32
    if has_fast_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.startswith("cuda") else torch.float32


def total_memory_mb():
    """Return the machine's memory in MB, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    except (ValueError, OSError, AttributeError):
        return None


def peak_memory_mb():
    """Return the peak memory of this process so far in MB: the GPU's when one is used, else resident memory."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)
