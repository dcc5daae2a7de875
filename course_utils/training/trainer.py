"""transformers' Trainer for query groups: dev nDCG each epoch, averaged weights, small checkpoints, a named NaN."""

import json
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from course_utils import machine
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate_scores
from course_utils.machine import has_fast_bf16, trim
from course_utils.model.batches import gather_scores, own_batches
from course_utils.model.forward import Segment, bucket_size, decoder_of, shared_forward, supports_sharing, yes_minus_no
from course_utils.training.losses import LOSSES
from course_utils.training.recipe import is_large

TENSORS = "trained.safetensors"

RAW = "last_step.safetensors"


class TrainingError(InputError):
    """Training had to stop; the message names the cause."""


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
        mean = float(machine.total(out["loss"].detach().clone())) / self.args.world_size
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
        per_device_train_batch_size=batch_queries // machine.join(device)[1] // parts,
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
