"""One script in several processes: what ``accelerate launch`` needs, and nothing at all where there is one process.

Every process runs the same script. ``adapt`` and ``Reranker.score`` divide the work among them and give each process the
whole result, so all processes must call them.
"""

import os

import torch
from torch import distributed


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
