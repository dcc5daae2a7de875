"""Checkpoints of a run: what they belong to, which one a resumed run goes on from."""

import hashlib
import json
import shutil

from safetensors.torch import save_file
from transformers.trainer_utils import get_last_checkpoint

from course_utils import machine
from course_utils.training.trainer import HISTORY, TENSORS
from course_utils.training.weights import trained_tensors

START, SETTINGS = "start.safetensors", "settings.json"


def fingerprint(reranker, recipe, sources):
    """Return what a run's result depends on, as JSON can hold it; a run is resumed only if all of it is the same.

    Args:
        reranker: the Reranker before training, with what trains chosen.
        recipe: the Recipe, resolved.
        sources: (train, dev) as Source.
    """
    data, start = hashlib.sha256(), hashlib.sha256()
    for source in sources:
        for g in source.groups:
            data.update(json.dumps([g.query, g.documents, g.relevance]).encode())
    for name, value in reranker.model.named_parameters():
        if value.requires_grad:
            start.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return {
        "recipe": recipe.asdict(),
        "instruction": reranker.instruction,
        "max_length": reranker.max_length,
        "data": data.hexdigest(),
        "start": start.hexdigest(),
    }


def begin(folder, model, settings, resume):
    """Return the checkpoint to go on from, or None after a new start has been written; the same in every process.

    Args:
        folder: of the checkpoints.
        model: the model before training, with what trains chosen.
        settings: see ``fingerprint``; None for a run that nobody comes back to.
        resume: whether to look for a checkpoint at all.
    """
    main = machine.join(next(model.parameters()).device)[0] == 0
    last = machine.from_main(_resumable(folder, settings) if settings and resume and main else None)
    if last is None and main:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save_file(trained_tensors(model), folder / START)
        (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
    machine.wait()
    return last


def _resumable(folder, settings):
    """Return the last whole checkpoint made with these settings, or None."""
    path = folder / SETTINGS
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != settings:
        return None
    for checkpoint in folder.glob("checkpoint-*"):
        if not all((checkpoint / name).exists() for name in (TENSORS, "optimizer.pt", "trainer_state.json", HISTORY)):
            shutil.rmtree(checkpoint)  # the kill came in the middle of this one
    return get_last_checkpoint(str(folder))
