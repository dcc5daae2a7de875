"""The tensors that train: take them out, put them in, average them."""

from contextlib import contextmanager

import torch

from course_utils.errors import InputError


def trained_tensors(model):
    """Return {name: contiguous copy} of the parameters that train."""
    return {n: p.detach().contiguous().clone() for n, p in model.named_parameters() if p.requires_grad}


def load_tensors(model, tensors):
    """Copy tensors into the model's parameters of the same names.

    Raises:
        InputError: when a name is unknown or a shape differs; the model is unchanged then.
    """
    own = dict(model.named_parameters())
    for name, value in tensors.items():
        if name not in own or own[name].shape != value.shape:
            raise InputError("Tensor {name} {shape} does not fit this model.", name=name, shape=tuple(value.shape))
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)


def _mix(before, after, alpha):
    """Return (1 - alpha) x before + alpha x after, tensor by tensor (WiSE-FT, arXiv 2109.01903)."""
    return {n: torch.lerp(before[n].float(), after[n].float(), alpha).to(before[n].dtype) for n in before}


class _MovingAverage:
    """The exponential moving average (EMA) of the weights that train; it scatters less than the weights of one step.

    Source: Tarvainen and Valpola, "Mean teachers are better role models", arXiv 1703.01780; for the end of training
    Izmailov et al., "Averaging weights leads to wider optima", arXiv 1803.05407.
    PyTorch's ``AveragedModel`` does the same, but copies the frozen weights as well.

    Args:
        model: the model in training; its trained weights are the first average.
        decay: share of the old average that each step keeps. The first steps keep less, so that the start is forgotten.
    """

    def __init__(self, model, decay):
        self.decay = decay
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.mean = {n: p.detach().clone() for n, p in self.weights.items()}

    @torch.no_grad()
    def update(self, step):
        """Take in the weights after optimiser step ``step``, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.mean.values()), [p.detach() for p in self.weights.values()], share)

    def load(self, tensors):
        """Go on from an average that was saved."""
        self.mean = {n: tensors[n].to(p.device) for n, p in self.weights.items()}

    @contextmanager
    def in_place(self):
        """Let the model have the average within the block."""
        held = {n: p.data for n, p in self.weights.items()}
        try:
            for n, p in self.weights.items():
                p.data = self.mean[n]
            yield
        finally:
            for n, p in self.weights.items():
                p.data = held[n]
