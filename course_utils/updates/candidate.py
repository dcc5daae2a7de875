"""A model that was adapted elsewhere before the gate: measured against the version in use, put in use or kept aside."""

from contextlib import contextmanager
from pathlib import Path

import torch

from course_utils.data.groups import check_no_leak
from course_utils.domains.delta import _attached
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.files import lock
from course_utils.training.freezing import borrowed, train_only
from course_utils.training.weights import load_tensors
from course_utils.updates.gate import _check_folder, _Update
from course_utils.updates.verdict import _check_limits, _measured, judge
from course_utils.updates.versions import _begin, _publish, load_version


def _consider(folder, reranker, candidate, gate, layers=3, train=()):
    """Put an adapted model in use as the next version of a folder if it passes the gate; else keep it aside.

    Args:
        folder: the folder of versions; made when it is not there, with ``reranker`` as it is as the first version.
        reranker: a Reranker on the base of these versions; it holds the version in use at the end.
        candidate: the adapted Reranker.
        gate: the Gate.
        layers: how many of the last layers differ from the base; the same for all versions of a folder.
        train: groups that the candidate learned from, to refuse leaks into the gate's sets and to count near copies.

    Returns:
        What ``update`` returns.

    Raises:
        InputError: a leak, a candidate that is not the base with other last layers, a folder of another base.
    """
    folder, model = Path(folder), reranker.model
    sets = _for_both(gate, reranker, candidate)
    for name, (groups, _) in sets.items() if train else ():
        check_no_leak(train, groups, ("train", name))
    if _attached(reranker) is not None:
        raise InputError("A delta is attached to this reranker; detach it before a version is loaded.")
    train_only(model, layers)
    tensors = _changed(model, candidate.model, layers)
    with lock(folder):
        previous = _begin(folder, reranker)
        _check_folder(folder, previous, reranker, layers)
        load_version(folder, reranker, previous)
        told = reranker.instruction
        with borrowed(model, layers), _instructed(reranker, told):
            before = {name: evaluate(reranker, groups).per_query() for name, (groups, _) in sets.items()}
            load_tensors(model, tensors)
            reranker.instruction = candidate.instruction
            after = {name: evaluate(reranker, groups).per_query() for name, (groups, _) in sets.items()}
            accepted, reason, figures = judge(folder, previous, gate, sets, (before, after), train)
            record = {
                "accepted": accepted, "reason": reason, "previous": previous, "stage": str(candidate.name),
                **_measured(gate, sets, before, after, figures),
            }  # fmt: skip
            path = _publish(folder, reranker, record)
        if accepted:
            load_tensors(model, tensors)
            reranker.instruction = candidate.instruction
    return _Update(accepted, path.name, path, reason, figures)


@contextmanager
def _instructed(reranker, instruction):
    """Give the reranker this instruction again when the block ends, however it ends."""
    try:
        yield
    finally:
        reranker.instruction = instruction


def _for_both(gate, reranker, candidate):
    """Return what ``gate.usable`` returns, of queries that fit into the prompts of both instructions: they are compared."""
    sets = gate.usable(reranker)
    if candidate.instruction == reranker.instruction:
        return sets
    with _instructed(reranker, reranker.instruction):
        reranker.instruction = candidate.instruction
        theirs = gate.usable(reranker)
    out = {}
    for name, (groups, counts) in sets.items():
        fit = {(g.query, g.documents) for g in theirs[name][0]}
        out[name] = [g for g in groups if (g.query, g.documents) in fit], counts
    _check_limits(gate.margin, gate.least, {name: len(groups) for name, (groups, _) in out.items()})
    return out


def _changed(model, other, layers):
    """Return the tensors of ``other`` in the place of those that train; all the rest must be the same as in ``model``."""
    theirs, out = dict(other.named_parameters()), {}
    for name, p in model.named_parameters():
        if name not in theirs or theirs[name].shape != p.shape:
            raise InputError(
                "The candidate is no model of this base: {name} is missing or has another shape.", name=name
            )
        if p.requires_grad:
            out[name] = theirs[name].detach().to(p.device, p.dtype).clone()
        elif not torch.equal(p.to(theirs[name].device, theirs[name].dtype), theirs[name]):
            raise InputError(
                "The candidate differs from the base in {name}, which training of the last {layers} layers keeps frozen: give the number of "
                "layers that it was trained with (--layers).",
                name=name,
                layers=layers,
            )
    return out
