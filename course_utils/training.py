"""Adapt a reranker to a domain on transformers' Trainer: query groups, held-out nDCG each epoch, best checkpoint, resume."""

import hashlib
import json
import logging
import os
import random
import shutil
import tempfile
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from course_utils import processes
from course_utils.compare import evaluate_scores
from course_utils.data import check_no_leak, rankable, split, subset, without_answers
from course_utils.errors import InputError
from course_utils.forward import (
    Segment,
    bucket_size,
    build_segments,
    decoder_of,
    pad_rows,
    shared_forward,
    supports_sharing,
    yes_minus_no,
)
from course_utils.freezing import (
    first_trainable_layer,
    freeze_all_but_last,
    parameter_table,
    unfreeze_all,
)
from course_utils.losses import LOSSES
from course_utils.memory import page_out, trim
from course_utils.profile import has_fast_bf16
from course_utils.reranker import gather_scores, own_batches
from course_utils.trunk import build_trunk, can_cache, fingerprint, remove_stale, trunk_name

# Checkpoints of a short run are seconds apart; the Trainer then sorts them by step, and warns that it does.
logging.getLogger("transformers.trainer_utils").addFilter(lambda record: "mtime may not" not in record.getMessage())

TENSORS = "trained.safetensors"
RAW = "last_step.safetensors"
START = "start.safetensors"
REPLAY_SHARE = 0.25
EPOCHS = 3
NEGATIVES = 4
EMA_DECAY = 0.99
LARGER_STEPS_FROM = 200


class TrainingError(InputError):
    """Training had to stop; the message names the cause."""


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


class GroupScorer(nn.Module):
    """Scores batches of query groups and returns the loss, as the Trainer wants it.

    Args:
        reranker: the Reranker in training.
        first: layers below this one were run before (see ``trunk``); 0 starts from token ids.
        loss: a key of LOSSES.
        recompute: compute activations again in the backward pass to save memory.
        penalty: optional function of the model that returns a tensor added to the loss.
    """

    def __init__(self, reranker, first, loss="both", recompute=False, penalty=None):
        super().__init__()
        self.model, self.yes_no = reranker.model, (reranker.yes_id, reranker.no_id)
        self.first, self.loss, self.recompute, self.penalty = first, LOSSES[loss], recompute, penalty

    def scores(self, values, lengths, parents, rows, leaves):
        """Return logits [pairs] of one collated batch, in the order of its labels."""
        if not supports_sharing(self.model):
            mask = torch.arange(values[0].shape[1], device=lengths[0].device)[None] < lengths[0][:, None]
            states = decoder_of(self.model)(input_ids=values[0], attention_mask=mask, use_cache=False).last_hidden_state
            last = states[torch.arange(len(states), device=states.device), lengths[0] - 1]
        else:
            segments = [
                Segment(v, n, None if p < 0 else p, None if p < 0 else r)
                for v, n, p, r in zip(values, lengths, parents, rows, strict=True)
            ]
            last = torch.cat(shared_forward(self.model, segments, leaves, first=self.first, recompute=self.recompute))
        return yes_minus_no(self.model, last, *self.yes_no)

    def forward(self, labels, groups, index, **batch):
        """Return {"loss", "scores"}; see ``collate`` for the batch."""
        scores = self.scores(**batch)
        loss = self.loss(scores, labels, groups)
        if self.penalty is not None and self.training:
            loss = loss + self.penalty(self.model)
        return {"loss": loss, "scores": scores}


@dataclass
class Source:
    """Groups with their token ids and, where layers are frozen, the trunk that holds their states."""

    groups: list
    encoded: object
    trunk: object = None

    def draw(self, batch, negatives, seed):
        """Return [(query index, [candidate index, ...])]: all right documents and at most ``negatives`` others by chance.

        The choice depends on ``seed`` and the query alone, so that a resumed run and several processes make the same one.
        """
        out = []
        for g in batch:
            relevance = self.groups[g].relevance
            wrong = [c for c, r in enumerate(relevance) if r <= 0]
            if negatives is not None and negatives < len(wrong):
                wrong = random.Random(f"{seed}-{g}").sample(wrong, negatives)
            out.append((g, sorted([c for c, r in enumerate(relevance) if r > 0] + wrong)))
        return out

    def collate(self, batch, sharing=True, bucket_tokens=512):
        """Return the tensors of a batch.

        Args:
            batch: list of query indices, or of (query index, [candidate index, ...]).
            sharing: arrange a tree of segments; else plain padded rows.
            bucket_tokens: see ``build_segments``.
        """
        chosen = [(b, range(len(self.encoded.candidates[b]))) if isinstance(b, int) else b for b in batch]
        if not sharing:
            order = [(row, c) for row, (_, own) in enumerate(chosen) for c in range(len(own))]
            ids = [np.array(self.encoded.full_ids(chosen[row][0], chosen[row][1][c])) for row, c in order]
            values, lengths = pad_rows(ids)
            tree = {"values": [values], "lengths": [lengths], "parents": [-1], "rows": [lengths], "leaves": [0]}
        else:
            if self.trunk is None:
                constant = self.encoded.constant
                parts = [(self.encoded.prefixes[g], [self.encoded.candidates[g][c] for c in own]) for g, own in chosen]
            else:
                constant, parts = self.trunk.constant, []
                for g, own in chosen:
                    prefix, candidates = self.trunk.group(g)
                    parts.append((prefix, [candidates[c] for c in own]))
            segments, leaves, order = build_segments(
                constant, [p for p, _ in parts], [c for _, c in parts], bucket_tokens
            )
            tree = {
                "values": [s.values for s in segments],
                "lengths": [s.lengths for s in segments],
                "parents": [-1 if s.parent is None else s.parent for s in segments],
                "rows": [s.lengths if s.rows is None else s.rows for s in segments],
                "leaves": leaves,
            }
        labels = [self.groups[chosen[row][0]].relevance[chosen[row][1][c]] for row, c in order]
        index = [(chosen[row][0], chosen[row][1][c]) for row, c in order]
        return {
            **tree,
            "labels": torch.tensor(labels, dtype=torch.float32),
            "groups": torch.tensor([row for row, _ in order]),
            "index": index,
        }


class MovingAverage:
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


class GroupTrainer(Trainer):
    """The Trainer with changes: dev nDCG as evaluation, averaged weights, checkpoints of trained tensors, a named NaN."""

    def __init__(self, *args, train_source, dev_source, batch_tokens, ema_decay, **kwargs):
        self.train_source, self.dev_source, self.batch_tokens = train_source, dev_source, batch_tokens
        self.batch_losses, self.ema_decay, self.average = [], ema_decay, None
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over queries: divide it by the parts of a step

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the batch loss; raise TrainingError with the cause when it is not finite."""
        index = inputs["index"]
        out = model(**inputs)
        mean = float(processes.total(out["loss"].detach().clone())) / self.args.world_size
        if not np.isfinite(mean):
            raise TrainingError(self._explain(out["scores"], index))
        if self.model.training:
            self.batch_losses.append(mean)
        return (out["loss"], out) if return_outputs else out["loss"]

    def _explain(self, scores, index):
        step, rate = self.state.global_step, self.args.learning_rate
        for name, p in self.model.model.named_parameters():
            if not torch.isfinite(p).all():
                return (
                    f"The loss is not a number at step {step}: {name} holds values that are not finite. "
                    f"The learning rate {rate:g} is too high for this model; try a tenth of it."
                )
        bad = (~torch.isfinite(scores)).nonzero()
        if len(bad):
            g, c = index[int(bad[0])]
            group = self.train_source.groups[g]
            return (
                f'The loss is not a number at step {step}: query "{group.query[:60]}", document {c} has no finite '
                "score. fp16 overflows here; train in bf16 or fp32."
            )
        return (
            f"The loss is not a number at step {step} although all scores are finite: check the labels and the penalty."
        )

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        """Return mean dev nDCG@10 and loss; every process evaluates the same queries."""
        with self.averaged():
            metrics = {f"{metric_key_prefix}_{k}": v for k, v in self.dev_metrics().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def dev_metrics(self):
        """Return {"ndcg@10", "loss"} on the dev groups with the current weights; processes score a share each."""
        source, scorer = self.dev_source, self.model
        training = scorer.training
        scorer.eval()
        scores = [np.zeros(len(c), dtype=np.float32) for c in source.encoded.candidates]
        sharing = supports_sharing(scorer.model)
        for batch in own_batches(source.encoded, self.batch_tokens):
            inputs = self._prepare_inputs(source.collate(batch, sharing, bucket_size(self.args.device)))
            index = inputs.pop("index")
            with self.compute_loss_context_manager():
                out = scorer.scores(**{k: v for k, v in inputs.items() if k not in ("labels", "groups")})
            for (g, c), value in zip(index, out.float().tolist(), strict=True):
                scores[g][c] = value
        scorer.train(training)
        scores = gather_scores(scores, self.args.device)
        if not all(np.isfinite(s).all() for s in scores):
            raise TrainingError("The dev scores are not finite: lower the learning rate or leave fp16.")
        flat = torch.tensor(np.concatenate(scores))
        labels = torch.tensor([r for g in source.groups for r in g.relevance])
        owner = torch.tensor([i for i, g in enumerate(source.groups) for _ in g.relevance])
        loss = float(scorer.loss(flat, labels, owner))
        return {"ndcg@10": evaluate_scores(scores, source.groups).summary["ndcg@10"], "loss": loss}

    def start_average(self):
        """Begin the moving average where one is wanted and none has begun."""
        if self.ema_decay and self.average is None:
            self.average = MovingAverage(self.model.model, self.ema_decay)

    def averaged(self):
        """Return a context in which the model has the weights that count: the average, or its own without one."""
        return self.average.in_place() if self.average else nullcontext()

    def _save(self, output_dir=None, state_dict=None):
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            folder.mkdir(parents=True, exist_ok=True)
            if self.average and not self.args.save_only_model:
                self._write(folder / RAW)  # what a resumed run goes on from
            with self.averaged():
                self._write(folder / TENSORS)

    def _write(self, path):
        own = {n: p.detach().contiguous() for n, p in self.model.model.named_parameters() if p.requires_grad}
        save_file(own, path)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        kept, raw = load_file(Path(resume_from_checkpoint) / TENSORS), Path(resume_from_checkpoint) / RAW
        load_tensors(self.model.model, load_file(raw) if raw.exists() else kept)
        self.start_average()
        if self.average:
            self.average.load(kept)

    def _load_best_model(self):
        load_tensors(self.model.model, load_file(Path(self.state.best_model_checkpoint) / TENSORS))


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
            raise InputError(f"Tensor {name} {tuple(value.shape)} does not fit this model.")
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)


class _Progress(TrainerCallback):
    """Prints a line an epoch, keeps the history and, for a large model, hands freed memory back after each step."""

    def __init__(self, history, quiet, large):
        self.history, self.quiet, self.large, self.trainer, self.seen = history, quiet, large, None, 0

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        losses = self.trainer.batch_losses[self.seen :]
        self.seen = len(self.trainer.batch_losses)
        row = {
            "epoch": round(state.epoch or 0),
            "loss": float(np.mean(losses)) if losses else None,
            "dev_loss": metrics["eval_loss"],
            "ndcg@10": metrics["eval_ndcg@10"],
        }
        self.history.append(row)
        if not self.quiet and state.is_world_process_zero:
            loss = "     -" if row["loss"] is None else f"{row['loss']:6.3f}"
            print(
                f"epoch {row['epoch']:2d}  loss {loss}  dev loss {row['dev_loss']:6.3f}  dev nDCG@10 {row['ndcg@10']:.3f}"
            )

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.start_average()

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.average:
            self.trainer.average.update(state.global_step)
        self.on_substep_end(args, state, control)

    def on_substep_end(self, args, state, control, **kwargs):
        if self.large:
            trim()

    def on_save(self, args, state, control, **kwargs):
        # The history is part of the checkpoint, so that a resumed run reports all epochs.
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            record = {"history": self.history, "batch_losses": self.trainer.batch_losses}
            (folder / "history.json").write_text(json.dumps(record), encoding="utf-8")


def default_learning_rate(model, batch_queries=4, layers=3):
    """Return 2e-5 for a pretrained model; for one below 50 million parameters 2e-3 with 4 queries a step, 4e-3 with 8.

    The rate grows with the batch as in Goyal et al., arXiv 1706.02677, up to 8 queries: with 32 at 1e-2 the small model lost.
    When everything trains, ``layers`` "all", a small model takes a quarter: the rate of the last layers wrecks it
    (figures in the card of the bundled model).
    """
    if is_large(model):
        return 2e-5
    return 5e-4 * min(8, max(4, batch_queries)) * (0.25 if layers == "all" else 1)


def default_batch(model, queries):
    """Return the queries in an optimiser step: 8 for a small model from LARGER_STEPS_FROM training queries on, else 4.

    Larger steps cost a small model less time for the same result; few queries need the steps (figures in the card of the bundled
    model).
    """
    return 8 if queries >= LARGER_STEPS_FROM and not is_large(model) else 4


def is_large(model):
    """Return whether a model has more than 50 million parameters; small ones bear, and need, far higher rates."""
    return sum(p.numel() for p in model.parameters()) > 50e6


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
    rank, count = processes.join(reranker.device)
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
        temporary = work_dir = processes.from_main(tempfile.mkdtemp(prefix="adapt-") if main else None)
    work = Path(work_dir)
    work.mkdir(parents=True, exist_ok=True)
    try:
        below = first_trainable_layer(model)
        use_cache = cache and supports_sharing(model) and can_cache(model, below)
        sources = [Source(own, reranker.encode([(g.query, g.documents) for g in own])) for own in (mixed, dev)]
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
        last = processes.from_main(_resumable(checkpoints, settings) if settings and resume and main else None)
        if last is None and main:
            shutil.rmtree(checkpoints, ignore_errors=True)
            checkpoints.mkdir(parents=True)
            save_file(trained_tensors(model), checkpoints / START)
            (checkpoints / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        processes.wait()
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
        processes.wait()  # nobody removes what another still reads
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


def _trainer(
    reranker,
    scorer,
    sources,
    folder,
    history,
    quiet,
    *,
    rate,
    epochs,
    seed,
    batch_queries,
    weight_decay,
    mixed_precision,
    keep,
    negatives,
    ema_decay,
    parts,
    resumable,
):
    total = sum(p.numel() for p in reranker.model.parameters())
    device = reranker.device.type
    if mixed_precision is None:
        if total < 50e6:
            mixed_precision = "no"
        elif has_fast_bf16(device):
            mixed_precision = "bf16"
        else:
            mixed_precision = "fp16" if device == "cuda" else "no"
    steps = max(1, len(sources[0].groups) // batch_queries) * epochs
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch_queries // processes.join(device)[1] // parts,
        gradient_accumulation_steps=parts,
        num_train_epochs=epochs,
        learning_rate=rate,
        weight_decay=weight_decay,
        warmup_steps=max(1, round(0.1 * steps)),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        save_only_model=not resumable,  # the optimizer's state is twice the trained weights
        load_best_model_at_end=keep == "best",
        metric_for_best_model="eval_ndcg@10",
        greater_is_better=True,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_drop_last=len(sources[0].groups) > batch_queries,
        dataloader_pin_memory=device == "cuda",
        use_cpu=device == "cpu",
        bf16=mixed_precision == "bf16",
        fp16=mixed_precision == "fp16",
        seed=seed,
        data_seed=seed,
        ddp_find_unused_parameters=True,
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # else the Trainer cuts batches for all GPUs; several GPUs are used with accelerate launch
    sharing = supports_sharing(reranker.model)
    progress = _Progress(history, quiet, is_large(reranker.model))

    def collate(batch):
        # Whole epochs done; the first batch of an epoch is fetched after the last step of the one before.
        drawn = sources[0].draw(batch, negatives, f"{seed}-{int(trainer.state.epoch or 0)}")
        return sources[0].collate(drawn, sharing, bucket_size(device))

    trainer = GroupTrainer(
        model=scorer,
        args=args,
        train_dataset=list(range(len(sources[0].groups))),
        eval_dataset=list(range(len(sources[1].groups))),
        data_collator=collate,
        callbacks=[progress],
        train_source=sources[0],
        dev_source=sources[1],
        batch_tokens=reranker.batch_tokens,
        ema_decay=ema_decay,
    )
    for callback in ("PrinterCallback",):
        for own in list(trainer.callback_handler.callbacks):
            if type(own).__name__ == callback:
                trainer.remove_callback(own)
    progress.trainer = trainer.progress_owner = trainer
    trainer.progress = progress
    return trainer


def shuffle_labels(groups, share=1.0, seed=0):
    """Return groups in which the labels of ``share`` of the queries are flipped: poisoned data for tests and lessons."""
    random_ = random.Random(seed)
    out = []
    for g in groups:
        flip = random_.random() < share
        out.append(
            type(g)(g.query, g.documents, tuple(int(not r) for r in g.relevance) if flip else g.relevance, g.topic)
        )
    return out
