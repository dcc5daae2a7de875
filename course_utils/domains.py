"""Many domains on one base: train a delta for each, whole layers or LoRA, and serve a mixed stream of queries."""

import threading
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from torch import nn
from transformers import set_seed

from course_utils.delta import (
    attached,
    base_fingerprint,
    base_value,
    check_fits,
    describe,
    detach,
    full_tensors,
    swap_in,
)
from course_utils.errors import InputError
from course_utils.freezing import decoder_layers, freeze_all_but_last, unfreeze_all
from course_utils.training import adapt, is_large


@contextmanager
def _unchanged(model):
    """Give every parameter its own memory back at the end, whatever was trained or went wrong in between."""
    state = [(p, p.data, p.requires_grad) for p in model.parameters()]
    try:
        yield
    finally:
        for p, data, flag in state:
            p.grad = None
            p.data = data
            p.requires_grad = flag
        model.eval()


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


def adapt_layers(reranker, train, dev=None, *, name="domain", layers=3, **settings):
    """Train the last layers and return (Delta, Adaptation); the reranker itself stays bit for bit as it was.

    Starts from what is attached: the new delta then holds both changes and still belongs to the base.

    Args:
        reranker: the Reranker; its instruction is trained with and kept in the delta.
        train: list of Group.
        dev: list of Group; see ``adapt``.
        name: of the domain.
        layers: how many of the last layers train; "all" for everything.
        settings: further arguments of ``adapt``.

    Raises:
        InputError, TrainingError: as ``adapt`` does; the reranker is unchanged then too.
    """
    model, held = reranker.model, attached(reranker)
    with _unchanged(model):
        unfreeze_all(model) if layers == "all" else freeze_all_but_last(model, layers)
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        originals = {n: p.data for n, p in trained.items()} | (held.originals if held else {})
        for p in trained.values():
            p.data = p.data.clone()  # training writes here
        run = adapt(reranker, train, dev, layers=layers, **settings)
        tensors = (dict(held.tensors) if held else {}) | {n: p.data for n, p in trained.items()}
    return describe(reranker, tensors, originals, name, train, _figures(run, train)), run


def adapt_lora(
    reranker, train, dev=None, *, name="domain", layers=3, rank=8, alpha=None, learning_rate=None, seed=0, **settings
):
    """Train low-rank factors with ``peft`` and return (Delta of kind "lora", Adaptation); the base stays as it is.

    Every matrix of the chosen layers gets two factors of ``rank``; nothing else trains. Scoring is as fast as before,
    because ``attach`` merges them. Source: Hu et al., "LoRA", arXiv 2106.09685.

    Args:
        reranker: the Reranker, without a delta attached.
        train: list of Group.
        dev: list of Group; see ``adapt``.
        name: of the domain.
        layers: how many of the last layers get factors; "all" for every layer.
        rank: of the factors.
        alpha: the product is scaled by alpha / rank; default: 2 x rank.
        learning_rate: default: 2e-4, ten times that of whole layers, and 5e-3 for small models. Source: Schulman et al., "LoRA Without Regret", 2025,
            which finds the best rate about ten times that of full fine-tuning.
        seed: for the first factors, split and order.
        settings: further arguments of ``adapt``.

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
    count = len(stack) if layers == "all" else layers
    if type(count) is not int or not 1 <= count <= len(stack):
        raise InputError(f"layers is {layers!r}, but the model has {len(stack)}: choose 1 to {len(stack)} or all.")
    targets = [
        f"{stack_name}.{i}.{n}"
        for i in range(len(stack) - count, len(stack))
        for n, module in stack[i].named_modules()
        if isinstance(module, nn.Linear)
    ]
    set_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets, bias="none")
    rate = learning_rate or (2e-4 if is_large(model) else 5e-3)
    settings.setdefault("batch_queries", 4)  # the rates were tried with it
    with _unchanged(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers 5 for an old name
            wrapped = get_peft_model(model, config)
        reranker.model = wrapped
        try:
            run = adapt(reranker, train, dev, layers=None, learning_rate=rate, seed=seed, **settings)
            factors = {
                n.removeprefix("base_model.model.").removesuffix(".weight"): t.detach().clone().contiguous()
                for n, t in get_peft_model_state_dict(wrapped).items()
            }
        finally:
            reranker.model = wrapped.unload()
    return describe(reranker, factors, {}, name, train, _figures(run, train), "lora", alpha / rank), run


class Domains:
    """Several domains on one base in memory; one is in use at a time, the base itself as "general".

    Args:
        reranker: the base Reranker.
        deltas: iterable of Delta. Whole layers are switched by reference, in about a millisecond; LoRA factors are merged
            at each switch, which for 0.6 billion weights on one CPU core takes 50 ms in fp32 and 250 ms in bf16. Give
            ``merging.interpolate(reranker, delta, 1)`` to keep it merged.
        router: something with ``predict(list of queries) -> names``, see ``routing``; asked when no names are given.

    Attributes:
        current: name of the domain in use.
    """

    BASE = "general"

    def __init__(self, reranker, deltas=(), router=None):
        self.reranker, self.router, self.current = detach(reranker), router, self.BASE
        self._fingerprint, self._deltas, self._lock = base_fingerprint(reranker), {}, threading.RLock()
        for delta in deltas:
            self.add(delta)

    @property
    def names(self):
        """Names that ``use`` and ``score`` take."""
        return list(dict.fromkeys([self.BASE, *self._deltas]))

    def add(self, delta):
        """Keep one more delta, on the base's device and in its dtype; a delta of the same name is replaced.

        Raises:
            InputError: when it was made for another base.
        """
        check_fits(self.reranker, delta, self._fingerprint)
        device, in_use = self.reranker.device, self.current == delta.name and delta.name in self._deltas
        if in_use:
            detach(self.reranker)
        placed = (
            full_tensors(self.reranker, delta)
            if delta.kind == "layers"
            else {n: t.to(device) for n, t in delta.tensors.items()}
        )
        self._deltas[delta.name] = replace(delta, tensors=placed)
        if in_use:
            self._switch(delta.name)

    def _switch(self, name):
        detach(self.reranker)
        if name in self._deltas:
            delta = self._deltas[name]
            swap_in(self.reranker, delta, full_tensors(self.reranker, delta))
        self.current = name

    def use(self, name):
        """Switch to a domain, for good or for the length of a ``with`` block.

        For serving: a domain in use shares its tensors with the delta, so it must not be trained.

        Raises:
            InputError: for an unknown name.
        """
        self._known([name])
        before, stack = self.current, ExitStack()
        self._switch(name)
        stack.callback(self._switch, before)
        return stack

    def _known(self, names):
        unknown = [n for n in names if n not in self.names]
        if unknown:
            raise InputError(f'There is no domain "{unknown[0]}"; there are {", ".join(self.names)}.')

    def score(self, groups, domains=None):
        """Score a mixed stream and return one array of logits a query, in order.

        Queries are put together by domain, so that each domain is switched to once.

        Args:
            groups: list of Group, or of (query, documents).
            domains: one name a query, or one for all; by default the router decides from the query.

        Raises:
            InputError: an unknown name, not one name a query, or no names and no router.
        """
        groups = [g if isinstance(g, tuple) else (g.query, g.documents) for g in groups]
        if domains is None:
            if self.router is None:
                raise InputError("Give a domain for each query, or make Domains with a router.")
            domains = self.router.predict([query for query, _ in groups]) if groups else []
        names = [domains] * len(groups) if isinstance(domains, str) else [str(d) for d in domains]
        if len(names) != len(groups):
            raise InputError(f"There are {len(groups)} queries and {len(names)} domains; give one domain a query.")
        self._known(names)
        scores, cut = [None] * len(groups), 0
        with self._lock:
            for name in dict.fromkeys(names):
                own = [i for i, n in enumerate(names) if n == name]
                with self.use(name):
                    for i, value in zip(own, self.reranker.score_groups([groups[i] for i in own]), strict=True):
                        scores[i] = value
                    cut += self.reranker.truncated
            self.reranker.truncated = cut
        return scores

    def memory(self):
        """Return bytes of weights: {"base", "deltas": {name: bytes}, "total"}; memory that is shared counts once."""
        held = attached(self.reranker)
        now = [p.data for p in self.reranker.model.parameters()]
        own = [base_value(self.reranker, n) for n, _ in self.reranker.model.named_parameters()]
        deltas = {name: list(d.tensors.values()) for name, d in self._deltas.items()}
        everything = [*now, *own, *(t for tensors in deltas.values() for t in tensors)]
        if held:
            everything += held.tensors.values()
        return {
            "base": storage_bytes(own),
            "deltas": {name: storage_bytes(tensors) for name, tensors in deltas.items()},
            "total": storage_bytes(everything),
        }


def storage_bytes(tensors):
    """Return the bytes of memory behind tensors; memory that several share counts once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
