"""Checkpoints of a run: what they belong to, which are whole, where a resumed run goes on, whose weights are kept."""

import hashlib
import json
import shutil
import zipfile
from contextlib import contextmanager

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers.trainer_utils import get_last_checkpoint

from course_utils import machine
from course_utils.errors import InputError
from course_utils.evaluation.measure import paired_bootstrap
from course_utils.files import write_json
from course_utils.language import _
from course_utils.model.checkpoint import _weights_hash
from course_utils.training.trainer import HISTORY, RAW, TENSORS
from course_utils.training.weights import _mix, load_tensors, trained_tensors

FEW_DEV = 10  # queries; with fewer, one query more or less decides which epoch is kept
START, SETTINGS = "start.safetensors", "settings.json"


def _fingerprint(reranker, recipe, sources):
    """Return what a run's result depends on, as JSON can hold it; a run is resumed only if all of it is the same.

    Args:
        reranker: the Reranker before training, with what trains chosen.
        recipe: the Recipe, resolved.
        sources: (train, dev) as Source.
    """
    data = hashlib.sha256()
    for source in sources:
        for g in source.groups:
            more = [g.scores, g.instruction] if g.scores or g.instruction else []
            data.update(json.dumps([g.query, g.documents, g.relevance, *more]).encode())
    return {
        "recipe": recipe.asdict(),
        "instruction": reranker.instruction,
        "max_length": reranker.max_length,
        "data": data.hexdigest(),
        "start": _weights_hash(reranker.model),  # what is frozen, too: another base learns something else
    }


def _begin(folder, model, settings, resume, quiet=True):
    """Return the checkpoint to go on from, or None after a new start has been written; the same in every process.

    Args:
        folder: of the checkpoints.
        model: the model before training, with what trains chosen.
        settings: see ``fingerprint``; None for a run that nobody comes back to.
        resume: whether to look for a checkpoint at all.
        quiet: do not say that a damaged checkpoint is left out.
    """
    main = machine.join(next(model.parameters()).device)[0] == 0
    last = machine.from_main(_resumable(folder, settings, quiet) if settings and resume and main else None)
    if main:
        if last is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        if last is None or not _whole_tensors(folder / START):
            save_file(trained_tensors(model), folder / START)  # the fingerprint says that they are the same weights
        write_json(folder / SETTINGS, settings)
    machine.wait()
    return last


def _kept(trainer, keep, folder, quiet):
    """Put the weights that are kept into the model; return (their epoch, {"dev_loss", "ndcg@10"} of them on dev)."""
    history, model, start = trainer.progress.history, trainer.model.model, folder / START
    if keep == "best":
        row = max(history, key=lambda row: row["ndcg@10"])
        if row["epoch"] == 0:  # any other best epoch the Trainer has put back
            load_tensors(model, load_file(start))
    else:
        row = dict(history[-1])
        if trainer.average:
            load_tensors(model, trainer.average.mean)
    if keep == "halfway":
        load_tensors(model, _mix(load_file(start, str(trainer.args.device)), trained_tensors(model), 0.5))
        found = trainer.dev_metrics()
        row |= {"ndcg@10": found["ndcg@10"], "dev_loss": found["loss"]}
        if not quiet:
            said = _("half of the way to epoch {epoch}:  dev loss {dev_loss:6.3f}  dev nDCG@10 {ndcg_10:.3f}")
            print(said.format(epoch=row["epoch"], dev_loss=row["dev_loss"], ndcg_10=row["ndcg@10"]))
    if keep != "best" and trainer.start_values and len(trainer.start_values) >= FEW_DEV:
        if trainer.dev_values is None:  # of a run that had been finished
            trainer.dev_metrics()
        change = paired_bootstrap(trainer.start_values, trainer.dev_values)
        row |= {"low": change.low, "high": change.high}
    return row["epoch"], {name: row[name] for name in ("dev_loss", "ndcg@10", "low", "high") if name in row}


@contextmanager
def _explained(folder):
    """Turn what a full or broken disk makes of a run into one sentence."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(
            "Training stopped, because {folder} cannot be written or read: {why}. Make room or choose another "
            "folder; the model is as it was.",
            folder=folder,
            why=why,
        ) from error


def _resumable(folder, settings, quiet):
    """Return the last whole checkpoint made with these settings, or None; damaged ones are removed."""
    if not (folder / SETTINGS).exists():
        return None
    found = _json(folder / SETTINGS)
    if found != json.loads(json.dumps(settings)):
        other = _("{folder} is of another recipe, data or weights: training starts anew")
        if not quiet:
            print((_("{folder} is damaged: training starts anew") if found is None else other).format(folder=folder))
        return None
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        damaged = _damage(checkpoint)
        if damaged:
            shutil.rmtree(checkpoint)
            if not quiet:
                print(
                    _("{checkpoint} is left out: {damaged} is missing or damaged").format(
                        checkpoint=checkpoint, damaged=damaged
                    )
                )
    last = get_last_checkpoint(str(folder))
    if last is None and not quiet:
        print(_("no whole checkpoint in {folder}: training starts anew").format(folder=folder))
    return last


def _damage(checkpoint):
    """Return the first file of a checkpoint that is missing or damaged, as after a kill while it was written, or None."""
    for name in (TENSORS, RAW):
        if (name == TENSORS or (checkpoint / name).exists()) and not _whole_tensors(checkpoint / name):
            return name
    for name in (HISTORY, "trainer_state.json"):
        if _json(checkpoint / name) is None:
            return name
    for path in [checkpoint / "optimizer.pt", checkpoint / "scheduler.pt", *checkpoint.glob("rng_state*.pth")]:
        # PyTorch writes zip archives: the list of contents stands at the end, and every part has a checksum.
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip() is not None
        except (OSError, zipfile.BadZipFile):
            damaged = True
        if damaged:
            return path.name
    return None


def _whole_tensors(path):
    """Return whether a safetensors file is there and as long as its header says."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _json(path):
    """Return the object in a JSON file, or None when it is missing, cut short or no object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
