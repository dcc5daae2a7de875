"""Give memory back to the system while a large model trains. On Linux; elsewhere nothing happens."""

import ctypes
import mmap
import sys
from pathlib import Path

PAGE_OUT = 21  # MADV_PAGEOUT of madvise(2): changed pages are never lost


def file_ranges():
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
    ranges, libc, done = file_ranges(), ctypes.CDLL(None), 0
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
