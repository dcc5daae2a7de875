"""Adapt a reranker to a domain on transformers' Trainer: query groups, held-out nDCG each epoch, best checkpoint, resume."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file, save_file
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from course_utils import machine
from course_utils.data.groups import check_no_leak, rankable, split, subset, without_answers
from course_utils.errors import InputError
from course_utils.machine import page_out
from course_utils.model.forward import supports_sharing
from course_utils.training.batch import Source
from course_utils.training.freezing import first_trainable_layer, freeze_all_but_last, parameter_table, unfreeze_all
from course_utils.training.losses import LOSSES
from course_utils.training.recipe import (
    EMA_DECAY,
    EPOCHS,
    NEGATIVES,
    REPLAY_SHARE,
    default_batch,
    default_learning_rate,
    is_large,
)
from course_utils.training.trainer import TENSORS, GroupScorer, _trainer, load_tensors, trained_tensors
from course_utils.training.trunk import build_trunk, can_cache, fingerprint, remove_stale, trunk_name

# Checkpoints of a short run are seconds apart; the Trainer then sorts them by step, and warns that it does.
logging.getLogger("transformers.trainer_utils").addFilter(lambda record: "mtime may not" not in record.getMessage())

START = "start.safetensors"


@dataclass
class Adaptation:
    """What ``adapt`` did.

    Attributes:
        history: one dict an epoch: epoch, loss (mean over its batches; None before training), dev ndcg@10.
        best_epoch: epoch whose weights were kept; 0 when no epoch beat the start; the last one with keep="last".
        seconds: wall time of training, evaluation on dev and building the trunk.
        trainable: number of parameters that trained.
        total: number of all parameters.
        batch_losses: loss of every batch in order.
        names: names of the tensors that trained.
    """

    history: list
    best_epoch: int
    seconds: float
    trainable: int
    total: int
    batch_losses: list = field(default_factory=list)
    names: list = field(default_factory=list)


def hold_out(train, seed=0):
    """Return (train, dev): 15 % of the queries are held out, and their answers leave the lists of the others."""
    train, dev = split(train, (0.85, 0.15), seed=seed)
    return without_answers(train, dev), dev


def training_data(train, dev=None, replay=(), replay_share=REPLAY_SHARE, seed=0):
    """Return (train with replayed groups, dev) as ``adapt`` uses them; arguments and errors as there.

    Answers of a dev set that is cut from ``train`` leave the training lists, see ``data.without_answers``.
    """
    train = rankable(train)
    if dev is None:
        if len(train) < 4:
            raise InputError(f"{len(train)} rankable training queries are too few to hold some out; give at least 4.")
        train, dev = hold_out(train, seed)
    dev = rankable(dev)
    if not train or not dev:
        raise InputError("No query has both a relevant and a non-relevant document: there is nothing to learn from.")
    check_no_leak(train, dev, ("train", "dev"))
    mixed = list(train)
    if replay and replay_share > 0:
        mixed += subset(rankable(replay), max(1, round(replay_share * len(train))), seed)
    return mixed, dev


def adapt(
    reranker,
    train,
    dev=None,
    *,
    layers=3,
    epochs=EPOCHS,
    negatives=NEGATIVES,
    learning_rate=None,
    ema_decay=None,
    batch_queries=None,
    weight_decay=0.01,
    loss="both",
    replay=(),
    replay_share=REPLAY_SHARE,
    seed=0,
    cache=True,
    recompute=False,
    gradient_accumulation_steps=1,
    mixed_precision=None,
    penalty=None,
    work_dir=None,
    resume=True,
    quiet=False,
    keep="best",
):
    """Train the last layers of a reranker on labelled groups, in place, and keep the best epoch.

    Dev nDCG@10 is measured before training and after each epoch. When no epoch beats the start, the start is kept;
    ``keep="last"`` takes the last epoch whatever dev says, as a bare loop does.

    Args:
        reranker: the Reranker; its model is changed.
        train: list of Group.
        dev: list of Group, none of them in ``train``; default: 15 % of ``train``, split by query, whose answers leave
            the training lists, see ``data.without_answers``.
        layers: how many of the last layers train; "all" trains everything; None keeps requires_grad as it is set.
        epochs: passes over the training queries.
        negatives: documents that are not relevant a query and epoch, drawn anew each time: an epoch costs less than
            with all of them, and two epochs are not the same (figures in the card of the bundled model); None takes all.
        learning_rate: peak of a linear schedule with 10 % warm-up; default: see ``default_learning_rate``.
        ema_decay: of the moving average of the trained weights, which is measured on dev and kept (MovingAverage); 0
            keeps the weights themselves. Default: EMA_DECAY for models below 50 million parameters, whose high rates
            make single steps scatter, and 0 for larger ones, where it would need memory for one more copy.
        batch_queries: queries in an optimiser step, over all processes; default: see ``default_batch``.
        weight_decay: of AdamW.
        loss: "pointwise", "listwise" or "both".
        replay: groups of earlier or general data mixed in against forgetting.
        replay_share: replayed queries for each training query; drawn once with ``seed``.
        seed: for split, order, drawn negatives and replay; the same seed gives the same result on the same machine.
        cache: keep the states of the frozen layers on disk and train from them; same result, less time.
        recompute: save memory by computing activations again in the backward pass.
        gradient_accumulation_steps: compute the queries of an optimiser step in so many parts, which needs less
            memory for the same step.
        mixed_precision: "bf16", "fp16" or "no"; default: bf16 where it is fast and the model is large, fp16 on older
            GPUs. Trained weights are kept in fp32.
        penalty: function of the model whose tensor is added to the loss, for example a pull towards old weights.
        work_dir: folder for checkpoints and cached states; default: a temporary one, removed at the end, without
            what only a resumed run needs (optimizer state, checksums), which is faster.
        resume: continue from the last checkpoint in ``work_dir`` when it belongs to the same settings.
        quiet: print nothing.
        keep: "best" keeps the epoch with the best dev nDCG@10, the start included; "last" keeps the last epoch.

    Returns:
        Adaptation.

    Raises:
        InputError: train and dev share queries or relevant documents; nothing to rank; a bad argument.
        TrainingError: the loss is not finite; the message names the cause.
    """
    started = time.perf_counter()
    if loss not in LOSSES:
        raise InputError(f'loss is "{loss}"; choose one of {", ".join(LOSSES)}.')
    if not isinstance(epochs, int) or epochs < 1 or (batch_queries is not None and batch_queries < 1):
        raise InputError(f"epochs is {epochs} and batch_queries {batch_queries}; both are whole numbers from 1.")
    if negatives is not None and (not isinstance(negatives, int) or negatives < 1):
        raise InputError(f"negatives is {negatives}; it is a whole number from 1, or None for all.")
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise InputError(f"ema_decay is {ema_decay}; it is at least 0 and below 1.")
    if not isinstance(gradient_accumulation_steps, int) or gradient_accumulation_steps < 1:
        raise InputError(f"gradient_accumulation_steps is {gradient_accumulation_steps}; it is a whole number from 1.")
    if keep not in ("best", "last"):
        raise InputError(f'keep is "{keep}"; choose "best" or "last".')
    mixed, dev = training_data(train, dev, replay, replay_share, seed)
    set_seed(seed)
    model = reranker.model
    batch_queries = batch_queries or default_batch(model, len(mixed))
    rank, count = machine.join(reranker.device)
    main, quiet = rank == 0, quiet or rank > 0
    if count > 1 and len(mixed) < batch_queries:
        raise InputError(f"{len(mixed)} training queries are fewer than batch_queries {batch_queries}: lower it.")
    if batch_queries % count:
        raise InputError(f"batch_queries {batch_queries} cannot be shared by {count} processes; choose a multiple.")
    if batch_queries % (count * gradient_accumulation_steps):
        raise InputError(
            f"batch_queries {batch_queries} cannot be cut into {gradient_accumulation_steps} gradient accumulation "
            "steps; choose a multiple."
        )
    table = _choose_trainable(model, layers)
    dtypes = {n: p.dtype for n, p in model.named_parameters() if p.requires_grad}
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()  # small updates vanish in bf16 weights
    rate = learning_rate or default_learning_rate(model, batch_queries, layers)
    if ema_decay is None:
        ema_decay = 0.0 if is_large(model) else EMA_DECAY
    temporary = None
    if work_dir is None:
        if int(os.environ.get("LOCAL_WORLD_SIZE", count)) < count:
            raise InputError(
                "On several machines give a work_dir that all of them see: checkpoints and states go there."
            )
        temporary = work_dir = machine.from_main(tempfile.mkdtemp(prefix="adapt-") if main else None)
    work = Path(work_dir)
    work.mkdir(parents=True, exist_ok=True)
    try:
        below = first_trainable_layer(model)
        use_cache = cache and supports_sharing(model) and can_cache(model, below)
        sources = [Source(own, reranker.encode(own)) for own in (mixed, dev)]
        if use_cache:
            weights = "this-run" if temporary else fingerprint(model, below)  # nobody comes back to a temporary folder
            if main:
                remove_stale(work / "trunk", [trunk_name(weights, s.encoded) for s in sources])
            for source in sources:
                source.trunk = build_trunk(
                    model, source.encoded, below, work / "trunk", reranker.batch_tokens, quiet, weights
                )
            page_out(p for p in model.parameters() if not p.requires_grad)  # their work is on disk now
        scorer = GroupScorer(reranker, below if use_cache else 0, loss, recompute, penalty)
        checkpoints = work / "checkpoints"
        settings = None if temporary else _settings(reranker, sources, locals())
        last = machine.from_main(_resumable(checkpoints, settings) if settings and resume and main else None)
        if last is None and main:
            shutil.rmtree(checkpoints, ignore_errors=True)
            checkpoints.mkdir(parents=True)
            save_file(trained_tensors(model), checkpoints / START)
            (checkpoints / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        machine.wait()
        history = []
        trainer = _trainer(
            reranker, scorer, sources, checkpoints, history, quiet, rate=rate, epochs=epochs, seed=seed,
            batch_queries=batch_queries, weight_decay=weight_decay, mixed_precision=mixed_precision, keep=keep,
            negatives=negatives, ema_decay=ema_decay,
            parts=gradient_accumulation_steps, resumable=not temporary,
        )  # fmt: skip
        if last is None:
            trainer.evaluate()
        else:
            record = json.loads((Path(last) / "history.json").read_text(encoding="utf-8"))
            history += record["history"]
            trainer.batch_losses += record["batch_losses"]
            trainer.progress.seen = len(trainer.batch_losses)
            if not quiet:
                print(f"resuming from {last}")
        trainer.train(resume_from_checkpoint=last)
        model.to(reranker.device)
        if keep == "last" and trainer.average:
            load_tensors(model, trainer.average.mean)
        kept = history[-1] if keep == "last" else max(history, key=lambda row: row["ndcg@10"])
        if kept["epoch"] == 0:
            load_tensors(model, load_file(checkpoints / START))
            if not quiet:
                print("no epoch beat the start on dev: the weights are unchanged")
        model.eval()
        for n, p in model.named_parameters():
            if n in dtypes:
                p.data = p.data.to(dtypes[n])
        machine.wait()  # nobody removes what another still reads
        return Adaptation(
            history, kept["epoch"], time.perf_counter() - started, table.trainable, table.total, trainer.batch_losses,
            sorted(dtypes),
        )  # fmt: skip
    finally:
        if temporary and main:
            shutil.rmtree(temporary, ignore_errors=True)


def _choose_trainable(model, layers):
    if layers == "all":
        return unfreeze_all(model)
    if layers is None:
        return parameter_table(model)
    return freeze_all_but_last(model, layers)


def _settings(reranker, sources, given):
    digest = hashlib.sha256()
    for source in sources:
        for g in source.groups:
            digest.update(json.dumps([g.query, g.documents, g.relevance]).encode())
    for name, value in reranker.model.named_parameters():
        if value.requires_grad:
            digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    keys = (
        "layers",
        "epochs",
        "negatives",
        "rate",
        "batch_queries",
        "weight_decay",
        "loss",
        "seed",
        "use_cache",
        "keep",
    )
    return {
        **{k: given[k] for k in keys},
        "instruction": reranker.instruction,
        "max_length": reranker.max_length,
        "start": digest.hexdigest(),
    }


def _resumable(checkpoints, settings):
    """Return the last whole checkpoint made with these settings, or None."""
    path = checkpoints / "settings.json"
    if not path.exists() or json.loads(path.read_text(encoding="utf-8")) != settings:
        return None
    for folder in checkpoints.glob("checkpoint-*"):
        if not all(
            (folder / name).exists() for name in (TENSORS, "optimizer.pt", "trainer_state.json", "history.json")
        ):
            shutil.rmtree(folder)  # the kill came in the middle of this one
    return get_last_checkpoint(str(checkpoints))
