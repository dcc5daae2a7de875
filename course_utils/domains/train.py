"""Train a domain as a delta or a LoRA adapter and leave the base as it was."""

import warnings

from torch import nn
from transformers import set_seed

from course_utils.domains.delta import attached, describe
from course_utils.errors import InputError
from course_utils.training.adaptation import adapt
from course_utils.training.freezing import borrowed, decoder_layers
from course_utils.training.recipe import Recipe, is_large


def _figures(run, train):
    best = max(run.history, key=lambda row: row["ndcg@10"])
    return {
        "dev_ndcg@10_before": run.history[0]["ndcg@10"],
        "dev_ndcg@10_after": best["ndcg@10"],
        "best_epoch": run.best_epoch,
        "seconds": round(run.seconds, 1),
        "trained_parameters": run.trainable,
        "train_queries": len(train),
    }


def adapt_layers(reranker, train, dev=None, recipe=Recipe(), *, name="domain", replay=(), work_dir=None, quiet=False):
    """Train the last layers and return (Delta, Adaptation); the reranker itself stays bit for bit as it was.

    Starts from what is attached: the new delta then holds both changes and still belongs to the base.

    Args:
        reranker: the Reranker; its instruction is trained with and kept in the delta.
        train: list of Group.
        dev: list of Group; see ``adapt``.
        recipe: the Recipe.
        name: of the domain.
        replay: see ``adapt``.
        work_dir: see ``adapt``.
        quiet: print nothing.

    Raises:
        InputError, TrainingError: as ``adapt`` does; the reranker is unchanged then too.
    """
    model, held = reranker.model, attached(reranker)
    bases = {n: p.data for n, p in model.named_parameters()}
    with borrowed(model, recipe.layers):
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        originals = {n: bases[n] for n in trained} | (held.originals if held else {})
        run = adapt(reranker, train, dev, recipe, replay=replay, work_dir=work_dir, quiet=quiet)
        tensors = (dict(held.tensors) if held else {}) | {n: p.data for n, p in trained.items()}
    return describe(reranker, tensors, originals, name, train, _figures(run, train)), run


def adapt_lora(
    reranker, train, dev=None, recipe=Recipe(), *, name="domain", rank=8, alpha=None, quiet=False
):  # fmt: skip
    """Train low-rank factors with ``peft`` and return (Delta of kind "lora", Adaptation); the base stays as it is.

    Every matrix of the chosen layers gets two factors of ``rank``; nothing else trains. Scoring is as fast as before,
    because ``attach`` merges them. Source: Hu et al., "LoRA", arXiv 2106.09685.

    Args:
        reranker: the Reranker, without a delta attached.
        train: list of Group.
        dev: list of Group; see ``adapt``.
        recipe: the Recipe; ``layers`` says how many of the last layers get factors, "all" for every layer. Default rate:
            2e-4, ten times that of whole layers, and 5e-3 for small models. Source: Schulman et al., "LoRA Without
            Regret", 2025, which finds the best rate about ten times that of full fine-tuning.
        name: of the domain.
        rank: of the factors.
        alpha: the product is scaled by alpha / rank; default: 2 x rank.
        quiet: print nothing.

    Raises:
        InputError: a delta is attached, a bad rank or number of layers, peft is not installed; and as ``adapt`` does.
    """
    try:
        from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    except ImportError:
        raise InputError("LoRA needs the package peft; install it with: pip install peft") from None
    if attached(reranker) is not None:
        raise InputError("LoRA factors belong to the base; detach the delta that is attached first.")
    if type(rank) is not int or rank < 1:
        raise InputError(f"rank is {rank!r}; choose a whole number from 1, for example 8.")
    model, alpha = reranker.model, alpha or 2 * rank
    stack_name, stack = decoder_layers(model)
    count = len(stack) if recipe.layers == "all" else recipe.layers
    if type(count) is not int or not 1 <= count <= len(stack):
        raise InputError(
            f"layers is {recipe.layers!r}, but the model has {len(stack)}: choose 1 to {len(stack)} or all."
        )
    targets = [
        f"{stack_name}.{i}.{n}"
        for i in range(len(stack) - count, len(stack))
        for n, module in stack[i].named_modules()
        if isinstance(module, nn.Linear)
    ]
    set_seed(recipe.seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none")
    rate = recipe.learning_rate or (2e-4 if is_large(model) else 5e-3)
    batch = recipe.batch_queries or 4  # the rates were tried with it
    recipe = recipe.replace(layers=None, learning_rate=rate, batch_queries=batch)
    with borrowed(model, 0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers 5 for an old name
            wrapped = get_peft_model(model, config)
        reranker.model = wrapped
        try:
            run = adapt(reranker, train, dev, recipe, quiet=quiet)
            factors = {
                n.removeprefix("base_model.model.").removesuffix(".weight"): t.detach().clone().contiguous()
                for n, t in get_peft_model_state_dict(wrapped).items()
            }
        finally:
            reranker.model = wrapped.unload()
    return describe(reranker, factors, {}, name, train, _figures(run, train), "lora", alpha / rank), run
