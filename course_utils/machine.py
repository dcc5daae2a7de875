"""What the hardware can do: device, dtype, fp32 products, memory, and several processes under ``accelerate launch``."""

import ctypes
import functools
import mmap
import os
import platform
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from torch import distributed

from course_utils.errors import InputError


def pick_device():
    """Return "cuda", "mps" or "cpu", the fastest that is here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(name=None):
    """Return ``name`` if this machine has such a device, the fastest one for None, else raise InputError.

    Under ``accelerate launch`` "cuda" is the process's own GPU.
    """
    try:
        device = torch.device(name or pick_device())
        there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
        known = (device.index or 0) < there.get(device.type, 0)
    except (RuntimeError, TypeError):
        known = False
    if not known:
        raise InputError(
            'There is no device "{name}" here; choose "{pick_device}", or leave it out (--device).',
            name=name,
            pick_device=pick_device(),
        )
    if str(device) == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return str(device)


def check_dtype(dtype):
    """Return a torch dtype given as such or by its name; None stays None; raise InputError for anything else."""
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if dtype is not None and getattr(found, "is_floating_point", False) is not True:
        raise InputError(
            'There is no number format "{dtype}" for weights; choose float32, bfloat16 or float16.', dtype=dtype
        )
    return found


def has_fast_bf16(device=None):
    """Return whether bf16 matrix products are fast on ``device`` (a T4 and most laptops say no)."""
    device = device or pick_device()
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability()[0] >= 8
    if device == "cpu":
        return bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())
    return False


def _cpu_flags():
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


def peak_memory_mb():
    """Return the peak memory of this process so far in MB: the GPU's when one is used, else resident memory."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().peak_wset / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def join(device="cpu"):
    """Return (own number, number of processes), joining the others first where a launcher started several.

    Args:
        device: where the model is; CPUs talk over gloo, CUDA GPUs over NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not started():
        from accelerate import PartialState

        PartialState(cpu=torch.device(device).type == "cpu")
    return (distributed.get_rank(), distributed.get_world_size()) if started() else (0, 1)


def started():
    """Return whether this process has joined others."""
    return distributed.is_available() and distributed.is_initialized()


def wait():
    """Wait until every process has come here."""
    if started():
        distributed.barrier()


def total(tensor):
    """Return the sum of ``tensor`` over all processes; each holds it afterwards."""
    if started():
        distributed.all_reduce(tensor)
    return tensor


def from_main(value):
    """Return the main process's ``value`` in every process."""
    if not started():
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


_turn, _inside = threading.Lock(), 0  # how many blocks of ``_fast_products`` are open in this process


@functools.cache
def _onednn_is_faster():
    """Return whether oneDNN multiplies fp32 matrices here at 1.4 times the speed of torch's choice, MKL, and as exactly.

    So it is on AMD chips with AVX-512, which MKL leaves half idle: an EPYC does 215 GFLOP/s a core instead of 100.
    torch has no switch but "medium", which allows bf16: where bf16 units (AMX) take it at its word, digits are lost, and
    the answer is no. Source: torch.set_float32_matmul_precision; rates by ``benchmarks.floors.matrix_rate``.
    """
    if torch.cuda.is_available() or not torch.backends.mkldnn.is_available():
        return False  # on a GPU the switch would change products too
    a, b = torch.arange(512 * 192.0).sin().view(512, 192), torch.arange(192 * 384.0).cos().view(192, 384)
    exact, seconds, found = a.double() @ b.double(), {"highest": [], "medium": []}, {}
    try:
        for precision in ("highest", "medium") * 7:
            torch.set_float32_matmul_precision(precision)
            started = time.perf_counter()
            found[precision] = a @ b
            seconds[precision].append(time.perf_counter() - started)
    finally:
        torch.set_float32_matmul_precision("highest")
    error = (found["medium"] - exact).abs().max() / exact.abs().max()
    return bool(error < 1e-5) and min(seconds["highest"]) > 1.4 * min(seconds["medium"])


@contextmanager
def _fast_products(device):
    """Within the block let oneDNN multiply fp32 matrices on a CPU, where that is faster and as exact.

    It is a switch of the whole process: other threads' products become as fast. A precision that somebody chose stays.
    """
    global _inside
    with _turn:
        on = torch.device(device).type == "cpu" and (_inside or _precision() == "highest") and _onednn_is_faster()
        if on and not _inside:
            torch.set_float32_matmul_precision("medium")
        _inside += bool(on)
    try:
        yield
    finally:
        with _turn:
            _inside -= bool(on)
            if on and not _inside:
                torch.set_float32_matmul_precision("highest")


def _precision():
    """Return the precision of fp32 products, or None where it was set by torch's newer switches."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


PAGE_OUT = 21  # MADV_PAGEOUT of madvise(2): changed pages are never lost


def _file_ranges():
    """Return [(start, end)] of this process's memory that is mapped from files, in bytes; empty where unknown."""
    ranges = []
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ranges
    for line in lines:
        span, _, _, _, inode, *_ = line.split(maxsplit=5)
        if inode != "0":
            ranges.append(tuple(int(x, 16) for x in span.split("-")))
    return ranges


def page_out(tensors):
    """Take tensors that are mapped from a weights file out of memory; reading them brings them back from the file.

    Tensors that live in plain memory, on a GPU or on a system other than Linux are left alone.

    Args:
        tensors: iterable of tensors.

    Returns:
        megabytes that the system was asked to take out.

    Source: madvise(2), MADV_PAGEOUT (Linux 5.4).
    """
    if not sys.platform.startswith("linux"):
        return 0.0
    ranges, libc, done = _file_ranges(), ctypes.CDLL(None), 0
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for tensor in tensors:
        if tensor.device.type != "cpu" or not tensor.numel():
            continue
        start, size = tensor.data_ptr(), tensor.numel() * tensor.element_size()
        if not any(a <= start and start + size <= b for a, b in ranges):
            continue
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE  # whole pages inside the tensor
        last = (start + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first and libc.madvise(first, last - first, PAGE_OUT) == 0:
            done += last - first
    return done / 2**20


def trim():
    """Return freed memory that the C library holds back to the system; does nothing where glibc is not in use."""
    if sys.platform.startswith("linux"):
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if release:
            release(0)
