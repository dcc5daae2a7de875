"""Adapt a reranker to a domain on transformers' Trainer: query groups, held-out nDCG each epoch, best checkpoint, resume."""

import json
import logging
import os
import shutil
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import load_file
from transformers import set_seed

from course_utils import machine
from course_utils.data.counts import Counts, usable
from course_utils.data.groups import rankable
from course_utils.data.long_documents import _best_pieces
from course_utils.errors import InputError
from course_utils.files import lock
from course_utils.language import _
from course_utils.model.forward import _supports_sharing
from course_utils.model.prompt import _check_prompt
from course_utils.training import checkpoints
from course_utils.training.batch import Source
from course_utils.training.freezing import _first_trainable_layer, train_only
from course_utils.training.held_out import training_data
from course_utils.training.losses import _are_chances, _find_loss, _teacher_logits
from course_utils.training.recipe import Recipe
from course_utils.training.scorer import GroupScorer
from course_utils.training.trainer import HISTORY, _make_trainer
from course_utils.training.trunk import _fingerprint, _remove_stale, _trunk_name, build_trunk
from course_utils.training.weights import load_tensors

# Checkpoints of a short run are seconds apart; the Trainer then sorts them by step, and warns that it does.
logging.getLogger("transformers.trainer_utils").addFilter(lambda record: "mtime may not" not in record.getMessage())


@dataclass
class Adaptation:
    """What ``adapt`` did.

    Attributes:
        history: one dict an epoch: epoch, loss (mean over its batches; None before training), dev_loss, ndcg@10 on dev.
        best_epoch: epoch whose weights were kept; 0 when no epoch beat the start; the last one with keep="last", and with
            "halfway", where the weights lie in the middle between the start and it.
        seconds: wall time of training, evaluation on dev and building the trunk.
        trainable: number of parameters that trained.
        total: number of all parameters.
        batch_losses: loss of every batch in order.
        names: names of the tensors that trained.
        recipe: the Recipe as it was carried out, every default filled in, as a dict.
        counts: {"train": ..., "dev": ...}: what was left out and cut, see ``data.Counts.as_dict``; "train" before dev was
            held out. "trained": queries that trained, dev not among them; "replayed": queries mixed in.
        warnings: sentences on what makes the result say less than it seems to.
        kept: of the weights that were kept, on dev: dev_loss, ndcg@10; with "halfway" and "last" low and high, too: the
            95 % interval of the difference to the start, where dev has checkpoints.FEW_DEV queries or more.
    """

    history: list
    best_epoch: int
    seconds: float
    trainable: int
    total: int
    batch_losses: list = field(default_factory=list)
    names: list = field(default_factory=list)
    recipe: dict = field(default_factory=dict)
    counts: dict = field(default_factory=dict)
    warnings: list = field(default_factory=list)
    kept: dict = field(default_factory=dict)


def adapt(reranker, train, dev=None, recipe=Recipe(), *, replay=(), work_dir=None, resume=True, quiet=False):
    """Train the last layers of a reranker on labelled groups, in place, and keep what ``Recipe.keep`` says.

    Dev nDCG@10 is measured before training and after each epoch. With keep="best" the start is kept when no epoch beats it;
    "halfway" and "last" do not ask dev: read the warnings.
    A run that fails leaves the model as it was.

    Args:
        reranker: the Reranker; its model is changed.
        train: list of Group.
        dev: list of Group, none of them in ``train``; default: 15 % of ``train``, see ``hold_out``, whose answers leave
            the training lists, see ``data.without_answers``.
        recipe: the Recipe, for example ``Recipe(layers=3, epochs=2)``.
        replay: groups of earlier or general data mixed in against forgetting, see ``Recipe.replay_share``.
        work_dir: folder for checkpoints and cached states; default: a temporary one, removed at the end, without
            what only a resumed run needs (optimizer state, checksums), which is faster.
        resume: continue from the last checkpoint in ``work_dir`` when it belongs to the same recipe, data and weights. Without
            it, ``work_dir`` keeps the states of all documents, also of those that no epoch draws: runs with other choices share them.
        quiet: print nothing.

    Returns:
        Adaptation.

    Raises:
        InputError: train and dev share queries or relevant documents; nothing to rank; a recipe that does not fit; an
            instruction or max_length that no prompt can have; another run in ``work_dir``; a disk that is full.
        TrainingError: the loss is not finite; the message names the cause.
    """
    started, model = time.perf_counter(), reranker.model
    _check_prompt(reranker.instruction, reranker.max_length)
    train = list(train)
    recipe = recipe.replace(loss=_find_loss(rankable(train), recipe.loss))
    train, dev, counts = _counted(reranker, train, dev, replay, recipe)
    recipe = recipe.resolved(model, len(train), own=len(train) - counts["replayed"])
    if recipe.long_documents == "passages":
        train, dev = (_best_pieces(reranker, groups) for groups in (train, dev))
    set_seed(recipe.seed)
    quiet = quiet or machine.join(reranker.device)[0] > 0
    with (
        _work_folder(work_dir, reranker.device) as (work, temporary),
        checkpoints._explained(work),
        _undone_on_failure(model) as undo,
        machine._fast_products(reranker.device),
    ):
        table, dtypes = train_only(model, recipe.layers), _widen(model)
        taught = recipe.loss == "teacher"
        told = [_teacher_logits(g, _are_chances([*train, *dev])) if taught else None for g in (train, dev)]
        sources = [Source(g, reranker.encode(g), None, logits) for g, logits in zip((train, dev), told, strict=True)]
        settings = None if temporary else checkpoints._fingerprint(reranker, recipe, sources)
        if temporary or resume:  # nobody else will read the states
            sources[0] = sources[0].planned(recipe.negatives, recipe.seed, recipe.epochs)
        first = _cache_states(reranker, sources, recipe, work / "trunk", temporary, quiet)
        scorer = GroupScorer(reranker, first, recipe.loss, recipe.recompute, recipe.penalty)
        folder = work / "checkpoints"
        last = checkpoints._begin(folder, model, settings, resume, quiet)
        undo["start"] = folder / checkpoints.START
        trainer = _make_trainer(reranker, scorer, sources, folder, recipe, resumable=not temporary, quiet=quiet)
        _run(trainer, last, quiet)
        model.to(reranker.device)
        epoch, kept = checkpoints._kept(trainer, recipe.keep, folder, quiet)
        model.eval()
        for name, p in model.named_parameters():
            p.data = p.data.to(dtypes.get(name, p.dtype))  # as before ``_widen``
        machine.wait()  # nobody removes what another still reads
    warnings = _warnings(len(dev), recipe.keep, epoch, kept, trainer, quiet)
    return Adaptation(
        trainer.progress.history, epoch, time.perf_counter() - started, table.trainable, table.total,
        trainer.batch_losses, sorted(dtypes), recipe.asdict(), _with_cuts(counts, sources), warnings, kept,
    )  # fmt: skip


def _counted(reranker, train, dev, replay, recipe):
    """Return (train, dev, {"train": Counts, "dev": Counts, "replayed": queries}), see ``training_data``."""

    def kept(groups):
        return usable(groups, reranker) if rankable(groups) else ([], Counts(len(groups)))

    train, of_train = kept(list(train))
    of_dev = Counts()
    if dev is not None:
        dev, of_dev = kept(list(dev))
    replay = kept(list(replay))[0]
    mixed, held_out = training_data(train, dev, replay, recipe.replay_share, recipe.seed)
    if dev is None:
        of_dev = Counts(len(held_out), documents=sum(len(g.documents) for g in held_out))
    return mixed, held_out, {"train": of_train, "dev": of_dev, "replayed": _replayed(mixed, train)}


def _replayed(mixed, train):
    """Return how many of the groups that ``training_data`` mixed are replayed: those whose query is none of ``train``."""
    own = {g.query for g in train}
    return sum(g.query not in own for g in mixed)


def _with_cuts(counts, sources):
    """Return the counts as a dict, with the documents that did not fit into the prompt."""
    out = {"trained": len(sources[0].groups) - counts["replayed"], "replayed": counts["replayed"]}
    for name, source in zip(("train", "dev"), sources, strict=True):
        out[name] = replace(counts[name], cut=source.encoded.truncated).as_dict()
    return out


def _warnings(dev, keep, epoch, kept, trainer, quiet):
    """Return, and print, sentences on what makes the result say less than it seems to."""
    found = []
    if dev < checkpoints.FEW_DEV and keep == "best":
        queries = _("1 query") if dev == 1 else _("{n} queries").format(n=dev)
        said = _("dev has {queries}: which epoch is best is left to chance; give at least 30.")
        found.append(said.format(queries=queries))
    if epoch == 0:
        found.append(_("no epoch beat the start on dev: the weights are unchanged"))
    if kept.get("high", 0) < 0:
        found.append(_("what is kept ranks dev worse than the start did, for sure: look at the labels, or keep the best epoch."))  # fmt: skip
    if trainer.alike:
        found.append(_("after the last epoch all documents of a dev query get the same score: the model ranks nothing."))  # fmt: skip
    if not quiet:
        print(*found, sep="\n", end="\n" if found else "")
    return found


@contextmanager
def _work_folder(work_dir, device):
    """Yield (folder, whether it is a temporary one that is removed at the end)."""
    rank, count = machine.join(device)
    if work_dir is not None:
        with lock(work_dir) if rank == 0 else nullcontext():
            yield Path(work_dir), False
        return
    if int(os.environ.get("LOCAL_WORLD_SIZE", count)) < count:
        raise InputError("On several machines give a work_dir that all of them see: checkpoints and states go there.")
    temporary = machine.from_main(tempfile.mkdtemp(prefix="adapt-") if rank == 0 else None)
    try:
        yield Path(temporary), True
    finally:
        if rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _undone_on_failure(model):
    """Leave the model as it was when the block fails: weights from the file ``start`` of the dict that is yielded.

    Until that file is written no weight changes; it saves the memory of a second copy.
    """
    before, mode, undo = [(p, p.dtype, p.requires_grad) for p in model.parameters()], model.training, {}
    try:
        yield undo
    except BaseException:
        if "start" in undo:
            load_tensors(model, load_file(undo["start"]))
        for p, dtype, flag in before:
            p.data, p.requires_grad, p.grad = p.data.to(dtype), flag, None
        model.train(mode)
        raise


def _widen(model):
    """Turn what trains to fp32, because small updates vanish in bf16 weights; return {name: dtype before}."""
    dtypes = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            dtypes[name] = p.dtype
            p.data = p.data.float()
    return dtypes


def _cache_states(reranker, sources, recipe, folder, temporary, quiet):
    """Compute the states below the first layer that trains, for every Source; return that layer, 0 without cache."""
    model = reranker.model
    first = _first_trainable_layer(model)
    if first < 1 or not recipe.cache or not _supports_sharing(model):
        return 0
    weights = "this-run" if temporary else _fingerprint(model, first)  # nobody comes back to a temporary folder
    if machine.join(reranker.device)[0] == 0:
        _remove_stale(folder, [_trunk_name(weights, s.encoded) for s in sources])
    for source in sources:
        source.trunk = build_trunk(model, source.encoded, first, folder, reranker.batch_tokens, quiet, weights)
    machine.page_out(p for p in model.parameters() if not p.requires_grad)  # their work is on disk now
    return first


def _run(trainer, last, quiet):
    """Train from the start, measured first, or go on from the checkpoint ``last``."""
    if last is None:
        trainer.evaluate()
        trainer.start_values = trainer.dev_values.tolist()
    else:
        trainer.progress.restore(json.loads((Path(last) / HISTORY).read_text(encoding="utf-8")))
        if not quiet:
            print(_("resuming from {last}").format(last=last))
    trainer.train(resume_from_checkpoint=last)
