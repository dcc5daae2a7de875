"""The ways that are compared: each scores pairs, or adapts a model, as its own documentation says.

Everything that is not the point is made equal: weights, pairs, layers that train, epochs, pairs an optimiser step, learning
rate, warm-up, evaluation and checkpoint each epoch, best epoch kept by dev nDCG@10.
"""

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, Trainer, TrainingArguments, set_seed

from course_utils.evaluation.metrics import ndcg_at_k
from course_utils.model import prompt
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.freezing import freeze_all_but_last
from course_utils.training.recipe import Recipe

OFFICIAL, ENCODER, HERE = "official snippet", "CrossEncoder.predict", "this package"
RECIPE, KEEP = "transformers Trainer, the article's recipe", "the same, logits of the last position only"
TRAINER = "sentence-transformers CrossEncoderTrainer"
LEAN = "this package, least memory (recompute, one query at a time)"
WAYS = (RECIPE, KEEP, TRAINER, HERE, LEAN)
EPOCHS, LAYERS, QUERIES_A_STEP = 3, 3, 2
WARM_UP = 0.1


def load(folder, dtype):
    """Return (model, tokenizer) as the official example loads them: padding on the left."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval(), tokenizer


@torch.no_grad()
def official_scores(model, tokenizer, pairs, batch_size=16, max_length=8192):
    """Return logit(yes) - logit(no) as the official example computes them.

    Source: README.md of QwenLM/Qwen3-Embedding, "Reranker Model": prefix and suffix ids around the content's, padding on
    the left, logits of the whole vocabulary at all positions, of which the last is taken. It passes all pairs at once;
    here ``batch_size`` at a time, in the order given, since 100 pairs would need 7 GB for their logits.
    """
    head = tokenizer.encode(prompt.PREFIX, add_special_tokens=False)
    tail = tokenizer.encode(prompt.SUFFIX, add_special_tokens=False)
    yes, no = prompt.yes_no_ids(tokenizer)
    scores = []
    for start in range(0, len(pairs), batch_size):
        texts = [prompt.content_text(q, d) for q, d in pairs[start : start + batch_size]]
        inputs = tokenizer(
            texts, padding=False, truncation="longest_first", return_attention_mask=False,
            max_length=max_length - len(head) - len(tail), add_special_tokens=False,
        )  # fmt: skip
        inputs["input_ids"] = [head + ids + tail for ids in inputs["input_ids"]]
        inputs = tokenizer.pad(inputs, padding=True, return_tensors="pt")
        last = model(**inputs).logits[:, -1, :]
        scores.append((last[:, yes] - last[:, no]).float())
    return torch.cat(scores).numpy()


def cross_encoder(folder, dtype):
    """Return sentence-transformers' CrossEncoder of a plain causal language model; it finds yes and no itself."""
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype}, local_files_only=True)


def cross_encoder_scores(encoder, pairs):
    """Return the raw scores of ``CrossEncoder.predict`` with its own batch size."""
    return encoder.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)


def inner_model(encoder):
    """Return the transformers model inside a CrossEncoder."""
    return next(m for m in encoder.modules() if hasattr(m, "get_decoder"))


def rows_of(groups):
    """Return parallel lists of queries, documents, labels of all pairs of Groups."""
    rows = [(g.query, d, float(r)) for g in groups for d, r in zip(g.documents, g.relevance, strict=True)]
    return [list(column) for column in zip(*rows, strict=True)]


def mean_ndcg(scores, groups):
    """Return nDCG@10 of one flat array of scores in the order of ``rows_of``."""
    ends = np.cumsum([len(g.documents) for g in groups])[:-1]
    return float(np.mean([ndcg_at_k(s, g.relevance, 10) for s, g in zip(np.split(scores, ends), groups, strict=True)]))


def arguments(kind, work, train, steps_of, micro, settings, metric):
    """Return training arguments that all trainers share.

    Args:
        kind: TrainingArguments or a class made from it.
        work: folder for checkpoints.
        train: number of pairs.
        steps_of: pairs an optimiser step.
        micro: pairs computed at once.
        settings: dict of epochs, learning_rate, seed, dtype.
        metric: name of the dev metric that chooses the best epoch.
    """
    if steps_of % micro:
        raise ValueError(f"{steps_of} pairs a step cannot be made of batches of {micro}")
    steps = max(1, train // steps_of) * settings["epochs"]
    return kind(
        output_dir=str(work), num_train_epochs=settings["epochs"], learning_rate=settings["learning_rate"],
        per_device_train_batch_size=micro, gradient_accumulation_steps=steps_of // micro, weight_decay=0.01,
        warmup_steps=max(1, round(WARM_UP * steps)), eval_strategy="epoch", save_strategy="epoch", save_total_limit=2,
        load_best_model_at_end=True, metric_for_best_model=metric, greater_is_better=True, logging_strategy="no",
        report_to=[], disable_tqdm=True, use_cpu=True, bf16=settings["dtype"] == torch.bfloat16,
        seed=settings["seed"], dataloader_pin_memory=False, save_only_model=True,  # enough to choose the best epoch
    )  # fmt: skip


class RecipeTrainer(Trainer):
    """The article's Trainer with mistake 1 mended: yes/no logits of the causal language model at the last token."""

    def __init__(self, *args, yes_no, keep, **kwargs):
        self.yes_no, self.keep = yes_no, keep
        super().__init__(*args, **kwargs)

    def scores(self, model, inputs):
        options = {"logits_to_keep": 1} if self.keep else {}
        last = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **options).logits[:, -1, :]
        return last[:, self.yes_no[0]].float() - last[:, self.yes_no[1]].float()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        scores = self.scores(model, inputs)
        loss = binary_cross_entropy_with_logits(scores, inputs["labels"].float())
        return (loss, {"scores": scores}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, out = self.compute_loss(model, inputs, return_outputs=True)
        return loss, out["scores"], inputs["labels"]


def adapt_recipe(folder, train, dev, work, settings, keep=False):
    """Adapt with transformers' Trainer as the article does, mistakes 1, 3 and 9 mended; return (model, tokenizer).

    Its map cuts prompts at 1,024 tokens and pads all of them to the longest of a map batch (1,000 rows); batches of 4.

    Args:
        folder: model folder.
        train: list of Group.
        dev: list of Group.
        work: folder for checkpoints.
        settings: dict of layers, epochs, learning_rate, seed, dtype, queries (a step).
        keep: compute logits of the last position only, which the article's recipe does not know of.
    """
    from datasets import Dataset

    set_seed(settings["seed"])
    model, tokenizer = load(folder, settings["dtype"])
    freeze_all_but_last(model, settings["layers"])

    def tokenise(rows):
        texts = [prompt.prompt_text(q, d) for q, d in zip(rows["query"], rows["document"], strict=True)]
        return tokenizer(texts, truncation=True, max_length=1024, padding=True, add_special_tokens=False)

    def dataset(groups):
        queries, documents, labels = rows_of(groups)
        data = Dataset.from_dict({"query": queries, "document": documents, "labels": labels})
        return data.map(tokenise, batched=True, remove_columns=["query", "document"])

    a_step = settings["queries"] * len(train[0].documents)
    data = dataset(train)
    trainer = RecipeTrainer(
        model=model, args=arguments(TrainingArguments, work, len(data), a_step, 4, settings, "ndcg"),
        train_dataset=data, eval_dataset=dataset(dev), processing_class=tokenizer,
        compute_metrics=lambda out: {"ndcg": mean_ndcg(out.predictions, dev)},
        yes_no=prompt.yes_no_ids(tokenizer), keep=keep,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return model, tokenizer


def adapt_cross_encoder(folder, train, dev, work, settings):
    """Adapt with sentence-transformers' CrossEncoderTrainer, the same layers frozen; return (model, tokenizer).

    BinaryCrossEntropyLoss on the yes-no logits; its collator pads each batch by itself; batches of 10.
    """
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    set_seed(settings["seed"])
    encoder = cross_encoder(folder, settings["dtype"])
    model = inner_model(encoder)
    freeze_all_but_last(model, settings["layers"])
    queries, documents, labels = rows_of(train)
    data = Dataset.from_dict({"query": queries, "document": documents, "label": labels})
    samples = [
        {"query": g.query, "positive": g.positives,
         "negative": [d for d, r in zip(g.documents, g.relevance, strict=True) if r <= 0]}
        for g in dev
    ]  # fmt: skip
    a_step = settings["queries"] * len(train[0].documents)
    trainer = CrossEncoderTrainer(
        model=encoder,
        args=arguments(CrossEncoderTrainingArguments, work, len(data), a_step, 10, settings, "eval_dev_ndcg@10"),
        train_dataset=data, loss=BinaryCrossEntropyLoss(encoder),
        evaluator=CrossEncoderRerankingEvaluator(samples, at_k=10, name="dev", write_csv=False),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return inner_model(trainer.model), encoder.tokenizer


def adapt_here(folder, train, dev, work, settings, lean=False):
    """Adapt with this package, on request with least memory; return (model, tokenizer). ``work`` is not used."""
    reranker = Reranker.load(folder, device="cpu", dtype=settings["dtype"], max_length=1024, quiet=True)
    recipe = Recipe(
        layers=settings["layers"], epochs=settings["epochs"], batch_queries=settings["queries"],
        negatives=None, ema_decay=0,  # the other ways see all pairs in every epoch
        learning_rate=settings["learning_rate"], loss=settings.get("loss", "pointwise"), seed=settings["seed"],
        gradient_accumulation_steps=settings["queries"] if lean else 1, recompute=lean,
        mixed_precision="bf16" if settings["dtype"] == torch.bfloat16 else "no",
    )  # fmt: skip
    adapt(reranker, train, dev, recipe, quiet=True)
    return reranker.model, reranker.tokenizer


ADAPT = {
    RECIPE: adapt_recipe,
    KEEP: lambda *arguments: adapt_recipe(*arguments, keep=True),
    TRAINER: adapt_cross_encoder,
    HERE: adapt_here,
    LEAN: lambda *arguments: adapt_here(*arguments, lean=True),
}
