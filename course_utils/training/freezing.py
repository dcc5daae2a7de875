"""Choose what trains, prove it, and see what it costs."""

from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from course_utils.errors import InputError
from course_utils.language import _
from course_utils.text import _padded


@dataclass(frozen=True)
class _FreezeRow:
    """Parameters of one part of the model: its name, how many there are, how many of them train."""

    part: str
    parameters: int
    trainable: int


class _FreezeTable(list):
    """Rows of _FreezeRow, printed as a table."""

    @property
    def trainable(self):
        """Number of parameters that train."""
        return sum(r.trainable for r in self)

    @property
    def total(self):
        """Number of parameters."""
        return sum(r.parameters for r in self)

    def __str__(self):
        rows = [(r.part, f"{r.parameters:,}", f"{r.trainable:,}") for r in self]
        rows = [
            (_("part"), _("parameters"), _("trainable")),
            *rows,
            (_("all"), f"{self.total:,}", f"{self.trainable:,}"),
        ]
        lines = ["".join(map(_padded, row, (28, -14, -14))) for row in rows]
        return "\n".join(lines) + f"  ({100 * self.trainable / max(1, self.total):.1f} %)"

    def _repr_html_(self):
        return f"<pre>{self}</pre>"


def decoder_layers(model):
    """Return (name, nn.ModuleList) of the model's decoder layers, whatever they are called.

    The longest list of modules whose length is the configured number of layers.

    Raises:
        InputError: when the model has no such list.
    """
    count = getattr(model.config, "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise InputError(
        "{kind} has no list of {count} layers; its layers cannot be chosen by number.",
        kind=type(model).__name__,
        count=count,
    )


def freeze_all_but_last(model, k, norm=True):
    """Let only the last ``k`` layers (and the final norm) train; return the table of what trains.

    Layers are found as modules, never by guessing parameter names. The output matrix stays frozen: in this family it is
    tied to the input embeddings, so training it would change what every token means.

    Args:
        model: any decoder with a list of layers.
        k: how many of the last layers train; all of them with k = number of layers.
        norm: whether the norm after the last layer trains too.

    Raises:
        InputError: when k is not between 1 and the number of layers, so nothing sensible would train.
    """
    name, layers = decoder_layers(model)
    if not isinstance(k, int) or not 1 <= k <= len(layers):
        raise InputError(
            "k is {k!r}, but the model has {n_layers} layers: choose a whole number from 1 to {n_layers}.",
            k=k,
            n_layers=len(layers),
        )
    model.requires_grad_(False)
    layers[-k:].requires_grad_(True)
    final = getattr(model.get_submodule(name.rpartition(".")[0]), "norm", None)
    if norm and final is not None:
        final.requires_grad_(True)
    return parameter_table(model)


def train_only(model, layers):
    """Choose what trains as a Recipe says it; return the FreezeTable.

    Args:
        model: any decoder with a list of layers.
        layers: how many of the last layers; "all" for everything; None to keep requires_grad as it is set.

    Raises:
        InputError: the model has fewer layers; nothing would train.
    """
    if layers not in ("all", None):
        return freeze_all_but_last(model, layers)
    if layers == "all":
        model.requires_grad_(True)
    return parameter_table(model)


@contextmanager
def borrowed(model, layers=None):
    """Lend the model to a block that may change it; afterwards it is bit for bit as before, however the block ends.

    Within the block every parameter that trains is a copy, so the lender keeps its own memory. Weights, dtypes, gradients,
    requires_grad and the mode (train or eval) are given back.

    Args:
        model: any decoder with a list of layers.
        layers: what trains in the block, see ``train_only``; 0 for nothing, where adapters bring weights of their own.

    Yields:
        The FreezeTable of what trains, None with 0.
    """
    lent, mode = [(p, p.data, p.requires_grad, p.grad) for p in model.parameters()], model.training
    try:
        if layers == 0:
            model.requires_grad_(False)
        table = None if layers == 0 else train_only(model, layers)
        for p in model.parameters():
            p.grad = None
            if p.requires_grad:
                p.data = p.data.detach().clone()
        yield table
    finally:
        for p, data, flag, gradient in lent:
            p.data, p.requires_grad = data, flag
            p.grad = gradient
        model.train(mode)


def parameter_table(model):
    """Return a FreezeTable of the model's parts.

    Raises:
        InputError: when nothing would train.
    """
    layers = decoder_layers(model)[1]
    seen, rows = set(), _FreezeTable()

    def add(part, parameters):
        fresh = [p for p in parameters if id(p) not in seen]
        seen.update(id(p) for p in fresh)
        if fresh:
            training = sum(p.numel() for p in fresh if p.requires_grad)
            rows.append(_FreezeRow(part, sum(p.numel() for p in fresh), training))

    add(_("embeddings"), model.get_input_embeddings().parameters())
    for i, layer in enumerate(layers):
        add(_("layer {number}").format(number=i), layer.parameters())
    add(_("norm and output"), model.parameters())
    if rows.trainable == 0:
        raise InputError("Nothing would train: every parameter is frozen. Choose at least one layer.")
    return rows


def _first_trainable_layer(model):
    """Return the number of layers below everything that trains; 0 when an embedding trains."""
    layers = decoder_layers(model)[1]
    if any(p.requires_grad for p in model.get_input_embeddings().parameters()):
        return 0
    for i, layer in enumerate(layers):
        if any(p.requires_grad for p in layer.parameters()):
            return i
    return len(layers)


def _layer_factors(model, decay):
    """Return {parameter name: decay to the power of the layers above it}; 1 in the last layer and above it.

    Embeddings lie below all layers. Where they are tied to the output matrix, they learn as embeddings.
    """
    layers = decoder_layers(model)[1]
    above = {id(p): len(layers) - 1 - i for i, layer in enumerate(layers) for p in layer.parameters()}
    above |= {id(p): len(layers) for p in model.get_input_embeddings().parameters()}
    return {n: decay ** above.get(id(p), 0) for n, p in model.named_parameters()}


def gradient_report(model):
    """Return {parameter name: largest absolute gradient} for parameters that train; 0.0 where none arrived."""
    return {
        n: 0.0 if p.grad is None else float(p.grad.abs().max()) for n, p in model.named_parameters() if p.requires_grad
    }
