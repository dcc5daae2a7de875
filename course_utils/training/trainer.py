"""transformers' Trainer for query groups: dev nDCG each epoch, averaged weights, small checkpoints, a named NaN."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from course_utils import machine
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate_scores
from course_utils.files import write_json
from course_utils.language import _
from course_utils.machine import trim
from course_utils.model.forward import _bucket_size, _supports_sharing
from course_utils.training.freezing import _layer_factors
from course_utils.training.recipe import is_large
from course_utils.training.weights import _MovingAverage, load_tensors

TENSORS = "trained.safetensors"
RAW = "last_step.safetensors"
HISTORY = "history.json"


class TrainingError(InputError):
    """Training had to stop; the message names the cause."""


class _GroupTrainer(Trainer):
    """The Trainer with changes: dev nDCG as evaluation, averaged weights, checkpoints of trained tensors, a named NaN."""

    def __init__(self, *args, train_source, dev_source, batch_tokens, recipe, **kwargs):
        self.train_source, self.dev_source, self.batch_tokens = train_source, dev_source, batch_tokens
        self.batch_losses, self.ema_decay, self.average, self.alike = [], recipe.ema_decay, None, False
        self.layer_decay, self.dev_values, self.start_values = recipe.layer_decay, None, None
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over queries: divide it by the parts of a step

    def _prepare_inputs(self, inputs):
        return inputs.to(self.args.device)  # a Batch moves itself; the Trainer's own way is for dicts

    def _get_num_items_in_batch(self, batch_samples, device):
        return None  # counts tokens, and the loss is a mean over queries

    def create_optimizer(self, *args, **kwargs):
        """Return the Trainer's optimiser; with a ``layer_decay`` its groups are split by rate."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.layer_decay is not None:
            factors = _layer_factors(self.model.model, self.layer_decay)
            own = {id(p): factors[n] for n, p in self.model.model.named_parameters()}
            groups, optimizer.param_groups = optimizer.param_groups, []
            for group in groups:
                for factor in sorted({own[id(p)] for p in group["params"]}, reverse=True):
                    params = [p for p in group["params"] if own[id(p)] == factor]
                    optimizer.add_param_group({**group, "params": params, "lr": factor * group["lr"]})
        return optimizer

    def floating_point_ops(self, inputs):
        """Return 0: nobody asks for the number of operations."""
        return 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the batch loss; raise TrainingError with the cause when it is not finite."""
        out = model(inputs)
        mean = float(machine.total(out["loss"].detach().clone())) / self.args.world_size
        if not np.isfinite(mean):
            raise TrainingError(self._explain(out["scores"], inputs.index))
        if self.model.training:
            self.batch_losses.append(mean)
        return (out["loss"], out) if return_outputs else out["loss"]

    def _explain(self, scores, index):
        step, rate = self.state.global_step, self.args.learning_rate
        for name, p in self.model.model.named_parameters():
            if not torch.isfinite(p).all():
                return _(
                    "The loss is not a number at step {step}: {name} holds values that are not finite. The learning rate "
                    "{rate:g} is too high for this model; try a tenth of it."
                ).format(step=step, name=name, rate=rate)
        bad = (~torch.isfinite(scores)).nonzero()
        if len(bad):
            g, c = index[int(bad[0])]
            group = self.train_source.groups[g]
            return _(
                'The loss is not a number at step {step}: query "{query}": the document "{document}" has no finite score. The '
                "learning rate {rate:g} may be too high (try a tenth of it), or fp16 overflows (train in bf16 or fp32)."
            ).format(step=step, query=group.query[:60], document=group.documents[c][:60], rate=rate)
        return _(
            "The loss is not a number at step {step} although all scores are finite: check the labels and the penalty."
        ).format(step=step)

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
        scores = scorer.score_source(source, self.batch_tokens, self.args.device, self.compute_loss_context_manager)
        scorer.train(training)
        if not all(np.isfinite(s).all() for s in scores):
            raise TrainingError("The dev scores are not finite: lower the learning rate or leave fp16.")
        self.alike = all(np.ptp(s) < 1e-6 for s in scores)
        flat = torch.tensor(np.concatenate(scores))
        labels = torch.tensor([r for g in source.groups for r in g.relevance])
        owner = torch.tensor([i for i, g in enumerate(source.groups) for _ in g.relevance])
        loss = float(scorer.loss(flat, labels, owner, *([torch.cat(source.teacher)] if scorer.taught else [])))
        found = evaluate_scores(scores, source.groups)
        self.dev_values = found.per_query()
        return {"ndcg@10": found.summary["ndcg@10"], "loss": loss}

    def start_average(self):
        """Begin the moving average where one is wanted and none has begun."""
        if self.ema_decay and self.average is None:
            self.average = _MovingAverage(self.model.model, self.ema_decay)

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
        best = Path(self.args.output_dir) / Path(self.state.best_model_checkpoint).name  # the folder may have moved
        load_tensors(self.model.model, load_file(best / TENSORS))


class _Progress(TrainerCallback):
    """Prints a line an epoch, keeps the history and, for a large model, hands freed memory back after each step.

    Attributes:
        history: a dict an epoch, see ``Adaptation``.
    """

    def __init__(self, trainer, quiet, large):
        self.trainer, self.quiet, self.large, self.history, self.seen = trainer, quiet, large, [], 0
        self.bar = None

    def record(self):
        """Return what a checkpoint keeps, so that a resumed run reports all epochs."""
        start = self.trainer.start_values
        return {"history": self.history, "batch_losses": self.trainer.batch_losses, "start_values": start}

    def restore(self, record):
        """Go on from what a checkpoint kept."""
        self.history[:], self.trainer.batch_losses[:] = record["history"], record["batch_losses"]
        self.seen, self.trainer.start_values = len(record["batch_losses"]), record.get("start_values")

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
            tqdm.write(
                _("epoch {epoch:2d}  loss {loss}  dev loss {dev_loss:6.3f}  dev nDCG@10 {ndcg_10:.3f}").format(
                    epoch=row["epoch"], loss=loss, dev_loss=row["dev_loss"], ndcg_10=row["ndcg@10"]
                )
            )

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.start_average()
        off = True if self.quiet or not state.is_world_process_zero else None  # None: where there is no terminal
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, unit="step", desc=_("steps"), disable=off, leave=False
        )

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.average:
            self.trainer.average.update(state.global_step)
        self.bar.update()
        self.on_substep_end(args, state, control)

    def on_substep_end(self, args, state, control, **kwargs):
        if self.large:
            trim()

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / HISTORY, self.record())


def _make_trainer(reranker, scorer, sources, folder, recipe, *, resumable, quiet):
    """Return the _GroupTrainer of a run.

    Args:
        reranker: the Reranker in training.
        scorer: its GroupScorer.
        sources: (train, dev) as Source.
        folder: where checkpoints go.
        recipe: the Recipe, resolved.
        resumable: keep what a resumed run needs: the optimizer's state is twice the trained weights.
        quiet: print no line an epoch.
    """
    train, dev = sources
    device, sharing = reranker.device.type, _supports_sharing(reranker.model)

    # A step in several parts would count a rest of them as a step: each epoch leaves other queries out instead.
    count = len(train.groups)
    parts = recipe.gradient_accumulation_steps > 1 and count > recipe.batch_queries
    rest = count % recipe.batch_queries if parts else 0

    def collate(batch):
        # Whole epochs done; the first batch of an epoch is fetched after the last step of the one before.
        epoch = int(trainer.state.epoch or 0)
        batch = [(g + epoch * rest) % count for g in batch]
        drawn = train.draw(batch, recipe.negatives, recipe.seed, epoch)
        return train.collate(drawn, sharing, _bucket_size(device))

    trainer = _GroupTrainer(
        model=scorer,
        args=_arguments(recipe, count, device, folder, resumable),
        train_dataset=list(range(count - rest)),
        eval_dataset=list(range(len(dev.groups))),
        data_collator=collate,
        train_source=train,
        dev_source=dev,
        batch_tokens=reranker.batch_tokens,
        recipe=recipe,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.progress = _Progress(trainer, quiet, is_large(reranker.model))
    trainer.add_callback(trainer.progress)
    return trainer


def _arguments(recipe, queries, device, folder, resumable):
    steps = max(1, queries // recipe.batch_queries) * recipe.epochs
    parts = machine.join(device)[1] * recipe.gradient_accumulation_steps
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=recipe.batch_queries // parts,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        num_train_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_steps=round(0.1 * steps) if steps >= 10 else 0,  # the first step of a warm-up moves nothing
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        save_only_model=not resumable,
        load_best_model_at_end=recipe.keep == "best",
        metric_for_best_model="eval_ndcg@10",
        greater_is_better=True,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_drop_last=queries > recipe.batch_queries,
        dataloader_pin_memory=device == "cuda",
        use_cpu=device == "cpu",
        bf16=recipe.mixed_precision == "bf16",
        fp16=recipe.mixed_precision == "fp16",
        seed=recipe.seed,
        data_seed=recipe.seed,
        ddp_find_unused_parameters=True,
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # else the Trainer cuts batches for all GPUs; several GPUs are used with accelerate launch
    return args
