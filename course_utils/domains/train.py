"""Train a domain as a delta or a LoRA adapter and leave the base as it was."""

import warnings
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from transformers import set_seed

from course_utils.domains.delta import _attached, _check_name, _describe
from course_utils.errors import InputError
from course_utils.training.adaptation import adapt
from course_utils.training.freezing import borrowed, decoder_layers
from course_utils.training.recipe import Recipe, is_large


def _recorded(run, train, recipe):
    figures = {
        "dev_ndcg@10_before": run.history[0]["ndcg@10"],
        "dev_ndcg@10_after": run.kept["ndcg@10"],
        "best_epoch": run.best_epoch,
        "seconds": round(run.seconds, 1),
        "trained_parameters": run.trainable,
        "train_queries": len(train),
    }
    return {"figures": figures, "recipe": recipe.asdict() | {"keep": run.recipe["keep"]}}


def adapt_layers(reranker, train, dev=None, recipe=Recipe(), *, name="domain", replay=(), work_dir=None, quiet=False):
    """Train the last layers and return (Delta, Adaptation); the reranker itself stays bit for bit as it was.

    Starts from what is attached: the new delta then holds both changes and still belongs to the base.

    Args:
        reranker: the Reranker; its instruction is trained with and kept in the delta.
        train: list of Group.
        dev: list of Group; see ``adapt``.
        recipe: the Recipe.
        name: of the domain.
        replay: list of Group mixed in against forgetting; see ``adapt``.
        work_dir: folder for checkpoints and cached states; see ``adapt``.
        quiet: print nothing.

    Raises:
        InputError, TrainingError: a name that a delta cannot have, and as ``adapt``; the reranker is unchanged then too.
    """
    _check_name(name)
    model, held = reranker.model, _attached(reranker)
    base = {n: p.data for n, p in model.named_parameters()} | (held.originals if held else {})
    with borrowed(model, recipe.layers):
        run = adapt(reranker, train, dev, recipe, replay=replay, work_dir=work_dir, quiet=quiet)
        trained = {n: p.data for n, p in model.named_parameters() if p.requires_grad}
        tensors = (dict(held.tensors) if held else {}) | trained
    return _describe(
        reranker, tensors, base, name, train, **_recorded(run, train, recipe)
    ), run  # fmt: skip


def adapt_lora(reranker, train, dev=None, recipe=Recipe(), *, name="domain", rank=8, replay=(), quiet=False):
    """Train low-rank factors with ``peft`` and return (Delta of kind "lora", Adaptation); the base stays as it is.

    Every matrix of the chosen layers gets two factors of ``rank``, whose product is scaled by 2; nothing else trains.
    Scoring is as fast as before, because ``attach`` merges them. Source: Hu et al., "LoRA", arXiv 2106.09685.

    Args:
        reranker: the Reranker, without a delta attached.
        train: list of Group.
        dev: list of Group; see ``adapt``.
        recipe: the Recipe; ``layers`` get factors. Its learning rate by default is 2e-4, ten times that of whole layers,
            and 5e-3 for small models. Source: Schulman et al., "LoRA Without Regret", 2025, which finds the best rate about
            ten times that of full fine-tuning. Its batch by default is 4 queries, with which these rates were tried.
        name: of the domain.
        rank: of the factors.
        replay: list of Group mixed in against forgetting; see ``adapt``.
        quiet: print nothing.

    Raises:
        InputError: a delta is attached, a bad name, rank or number of layers, the recipe keeps "halfway"; and as
            ``adapt`` does.
    """
    _check_name(name)
    if _attached(reranker) is not None:
        raise InputError("LoRA factors belong to the base; detach the delta that is attached first.")
    if recipe.keep == "halfway":
        raise InputError(
            'keep is "halfway", and half of two LoRA factors is not half of their product; keep "last", then halve the '
            "delta: combine(reranker, [delta], [0.5])."
        )
    if type(rank) is not int or rank < 1:
        raise InputError("rank is {rank!r}; choose a whole number from 1, for example 8.", rank=rank)
    model = reranker.model
    recipe = recipe.replace(
        learning_rate=recipe.learning_rate or (2e-4 if is_large(model) else 5e-3),
        batch_queries=recipe.batch_queries or 4,
    )
    with borrowed(model, 0), _adapter(reranker, _matrices(model, recipe.layers), rank, recipe.seed) as factors:
        run = adapt(reranker, train, dev, recipe.replace(layers=None), replay=replay, quiet=quiet)
        tensors = factors()
    return _describe(
        reranker, tensors, {}, name, train, kind="lora", scale=2.0, **_recorded(run, train, recipe)
    ), run  # fmt: skip


def _matrices(model, layers):
    """Return the names of all matrices in the last ``layers`` decoder layers."""
    stack_name, stack = decoder_layers(model)
    count = len(stack) if layers == "all" else layers
    if type(count) is not int or not 1 <= count <= len(stack):
        raise InputError(
            "layers is {layers!r}, but the model has {n_stack}: choose 1 to {n_stack} or all.",
            layers=layers,
            n_stack=len(stack),
        )
    return [
        f"{stack_name}.{i}.{n}"
        for i in range(len(stack) - count, len(stack))
        for n, module in stack[i].named_modules()
        if isinstance(module, nn.Linear)
    ]


@contextmanager
def _adapter(reranker, matrices, rank, seed):
    """Wrap the model in peft's adapter within the block; yield a function that returns a copy of the factors."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    set_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=matrices, bias="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers 5 for an old name
        wrapped = get_peft_model(reranker.model, config)
    reranker.model = wrapped
    try:
        yield lambda: {
            n.removeprefix("base_model.model.").removesuffix(".weight"): t.detach().clone().contiguous()
            for n, t in get_peft_model_state_dict(wrapped).items()
        }
    finally:
        reranker.model = wrapped.unload()


def _difference(base, adapted, name):
    """Return the Delta of a whole adapted model: every tensor in which it differs from the base.

    Raises:
        InputError: another shape of model, or no difference.
    """
    theirs, tensors = dict(adapted.model.named_parameters()), {}
    for n, p in base.model.named_parameters():
        if n not in theirs or theirs[n].shape != p.shape:
            raise InputError(
                "{name} is no model of the base {name_2}: {n} is missing or has another shape.",
                name=adapted.name,
                name_2=base.name,
                n=n,
            )
        if not torch.equal(p, theirs[n]):
            tensors[n] = theirs[n].detach()
    if not tensors:
        raise InputError(
            "{name} and {name_2} hold the same weights: there is no delta.", name=adapted.name, name_2=base.name
        )
    return replace(_describe(base, tensors, None, name), instruction=adapted.instruction)
