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
    """Run ``function(peers, *arguments)`` in ``count`` processes and wait for all; where one fails the others end, too."""
    if count == 1:
        return function(Peers(), *arguments)
    memory = torch.zeros(2, count, ROOM).share_memory_()
    meeting = torch.multiprocessing.get_context("spawn").Barrier(count)
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    torch.multiprocessing.spawn(_one_of, (count, meeting, memory, function, arguments), nprocs=count)


def _one_of(rank, count, meeting, memory, function, arguments):
    function(Peers(rank, count, meeting, memory), *arguments)
