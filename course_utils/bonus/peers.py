"""Processes side by side on one machine, which share out labels and average gradients in memory that all of them see."""

import os

import torch

ROOM = 8_000_000  # numbers that a process can give at once: more than the student has
WAIT = 900  # seconds; a process that hears nothing of the others for so long ends


class Peers:
    """The processes of one training: each draws its own batches, all take the same steps.

    Args:
        rank, count: which of how many this is.
        meeting: barrier of all.
        memory: shared [2, count, ROOM]; its halves take turns, so nobody writes what another still reads.
    """

    def __init__(self, rank=0, count=1, meeting=None, memory=None):
        self.rank, self.count, self.meeting, self.memory, self.turn = rank, count, meeting, memory, 0

    def exchange(self, tensors):
        """Return what each process gives, laid out flat [count, numbers]; all must call it equally often."""
        if self.count == 1:
            return torch.cat([t.flatten() for t in tensors])[None]
        self.turn = 1 - self.turn
        place = self.memory[self.turn, :, : sum(t.numel() for t in tensors)]
        torch.cat([t.flatten() for t in tensors], out=place[self.rank])
        self.meeting.wait(WAIT)
        return place


def side_by_side(function, count, *arguments):
    """Run ``function(peers, *arguments)`` in ``count`` processes, this one the first, and wait for all."""
    context = torch.multiprocessing.get_context("spawn")
    memory, meeting = torch.zeros(2, count, ROOM if count > 1 else 0).share_memory_(), context.Barrier(count)
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    own, *others = (Peers(rank, count, meeting, memory) for rank in range(count))
    beside = [context.Process(target=function, args=(peers, *arguments), daemon=True) for peers in others]
    for process in beside:
        process.start()
    function(own, *arguments)
    for process in beside:
        process.join()
    if any(process.exitcode for process in beside):
        raise RuntimeError("a process beside this one has failed; what it said stands above")
