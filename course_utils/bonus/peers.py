"""Several processes side by side on one machine: labels are shared out, gradients averaged in memory that all see."""

from dataclasses import dataclass

import torch

WAIT = 900  # seconds; a process that hears nothing of the others for so long ends


@dataclass
class Peers:
    """The processes of one training: each draws its own batches, all take the same steps.

    Attributes:
        rank, count: which of how many this is.
        meeting: barrier; None when alone.
        memory: shared numbers [2, count, numbers].
        turn: which half of the memory was used last: nobody writes where another may still read.
    """

    rank: int = 0
    count: int = 1
    meeting: object = None
    memory: torch.Tensor | None = None
    turn: int = 0

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
    """Run ``function(rank, *arguments)`` in ``count`` processes and wait for all; rank 0 is this one."""
    context = torch.multiprocessing.get_context("spawn")
    started = (torch.get_num_threads(), function, arguments)
    others = [context.Process(target=_begin, args=(rank, *started), daemon=True) for rank in range(1, count)]
    for process in others:
        process.start()
    function(0, *arguments)
    for process in others:
        process.join()
        if process.exitcode:
            raise RuntimeError(f"a process beside this one ended with {process.exitcode}")


def _begin(rank, threads, function, arguments):
    torch.set_num_threads(threads)
    function(rank, *arguments)
