"""The choices of a training run: what each is, its default, what it may be, and what fits a model.

Figures behind the defaults of small models are in the card of the bundled model (data/models/nano/README.md).
"""

import dataclasses
import math
from dataclasses import dataclass
from numbers import Integral, Real

from course_utils import machine
from course_utils.errors import InputError
from course_utils.language import _, _later
from course_utils.machine import has_fast_bf16
from course_utils.training.freezing import decoder_layers
from course_utils.training.losses import _TARGETED, LOSSES

EMA_DECAY = 0.99

LARGER_STEPS_FROM = 200


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training run that its result depends on. A wrong value is refused when the recipe is made.

    Attributes:
        layers: how many of the last layers train; "all" trains everything; None keeps requires_grad as it is set.
        epochs: passes over the training queries.
        negatives: documents that are not relevant a query and epoch, drawn anew each time: an epoch costs less than
            with all of them, and two epochs are not the same; None takes all. "auto" is 2 where "halfway" is kept and
            is what ``keep`` "auto" means, which gained as much there as 4 in less time (data/models/nano/README.md), else 4.
        learning_rate: peak of a linear schedule with 10 % warm-up; None: see ``default_learning_rate``.
        ema_decay: of the moving average of the trained weights, which is measured on dev and kept; 0
            keeps the weights themselves. None: EMA_DECAY for models below 50 million parameters, whose high rates
            make single steps scatter, and 0 for larger ones, where it would need memory for one more copy.
        batch_queries: queries in an optimiser step, over all processes; None: see ``_default_batch``.
        weight_decay: of AdamW.
        loss: a key of LOSSES: "pointwise", "listwise" or "both"; "graded" ranks by grades; "teacher" learns a teacher's
            scores; "auto" is what the training groups ask for: the teacher where it scored all, grades above 1, else both.
        replay_share: replayed queries for each training query; drawn once with ``seed``.
        seed: for split, order, drawn negatives and replay; the same seed gives the same result on the same machine.
        cache: keep the states of the frozen layers on disk and train from them; same result, less time.
        recompute: save memory by computing activations again in the backward pass.
        gradient_accumulation_steps: compute the queries of an optimiser step in so many parts, which needs less
            memory for the same step.
        mixed_precision: "bf16", "fp16" or "no"; None: bf16 where it is fast and the model is large, fp16 on older
            GPUs. Trained weights are kept in fp32.
        long_documents: "cut" trains on what fits into the prompt; "passages" on the best piece of each document.
        keep: "best" keeps the epoch with the best dev nDCG@10, the start included; "last" keeps the last epoch
            whatever dev says, as a bare loop does; "halfway" keeps the mean of the weights at the start and after the
            last epoch, whatever dev says. Source: WiSE-FT, Wortsman et al., arXiv 2109.01903, where half is the advice
            without data to choose by. "auto" is "halfway" where the last layers of a small model learn from
            LARGER_STEPS_FROM own queries, else "best": gains in benchmarks/real_sets.md, forgetting in course_trades.md.
        penalty: function of the model whose tensor is added to the loss, for example a pull towards old weights. Its
            name stands for it in ``asdict``; where values matter too, it says them in an attribute ``description``.
        layer_decay: layer-wise rates: the last layer and all above it learn at ``learning_rate``, each layer below at this
            times the rate of the layer above it, embeddings below the lowest; above 0, at most 1. None: one rate for all.
            Source: Howard and Ruder, arXiv 1801.06146, "discriminative fine-tuning"; there 1 / 2.6.
    """

    layers: int | str | None = 3
    epochs: int = 3
    negatives: int | str | None = "auto"
    learning_rate: float | None = None
    ema_decay: float | None = None
    batch_queries: int | None = None
    weight_decay: float = 0.01
    loss: str = "both"
    replay_share: float = 0.25
    seed: int = 0
    cache: bool = True
    recompute: bool = False
    gradient_accumulation_steps: int = 1
    mixed_precision: str | None = None
    long_documents: str = "cut"
    keep: str = "auto"
    penalty: object = None
    layer_decay: float | None = None

    def __post_init__(self):
        if self.layers not in ("all", None):
            _whole("layers", self.layers, _later('it is a whole number from 1, "all", or None to keep what is set'))
        if not _is_whole(self.epochs) or not (self.batch_queries is None or _is_whole(self.batch_queries)):
            raise InputError(
                "epochs is {epochs!r} and batch_queries {batch_queries!r}; both are whole numbers from 1.",
                epochs=self.epochs,
                batch_queries=self.batch_queries,
            )
        if self.negatives not in ("auto", None):
            _whole("negatives", self.negatives, _later('it is a whole number from 1, "auto", or None for all'))
        _whole("gradient_accumulation_steps", self.gradient_accumulation_steps, _later("it is a whole number from 1"))
        if not _is_whole(self.seed, least=0) or self.seed >= 2**32:
            raise InputError(
                "seed is {seed!r}; it is a whole number from 0 to {value}.", seed=self.seed, value=2**32 - 1
            )
        if self.learning_rate is not None and not (_is_number(self.learning_rate) and self.learning_rate > 0):
            raise InputError(
                "learning_rate is {learning_rate!r}; it is a number above 0, for example 2e-5.",
                learning_rate=self.learning_rate,
            )
        if self.layer_decay is not None and not (_is_number(self.layer_decay) and 0 < self.layer_decay <= 1):
            raise InputError(
                "layer_decay is {layer_decay!r}; it is above 0 and at most 1, or None for one rate.",
                layer_decay=self.layer_decay,
            )
        if self.ema_decay is not None and not (_is_number(self.ema_decay) and 0 <= self.ema_decay < 1):
            raise InputError("ema_decay is {ema_decay!r}; it is at least 0 and below 1.", ema_decay=self.ema_decay)
        for name in ("weight_decay", "replay_share"):
            if not _is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise InputError("{name} is {value!r}; it is a number from 0.", name=name, value=getattr(self, name))
        _one_of("loss", self.loss, (*LOSSES, *_TARGETED, "auto"))
        _one_of("long_documents", self.long_documents, ("cut", "passages"))
        _one_of("keep", self.keep, ("auto", "best", "last", "halfway"))
        _one_of("mixed_precision", self.mixed_precision, ("bf16", "fp16", "no", None))
        if self.penalty is not None and not callable(self.penalty):
            raise InputError("penalty is {penalty!r}; it is a function of the model, or None.", penalty=self.penalty)

    def resolved(self, model, queries, own=None):
        """Return the same recipe with every default filled in for ``model`` and a number of training queries.

        Args:
            model: the causal language model that will train.
            queries: training queries, replayed ones included.
            own: those that are not replayed, which decide what is kept; default: all.

        Raises:
            InputError: the model has fewer layers, or the batch cannot be shared by the processes or cut into parts.
        """
        self.check_layers(len(decoder_layers(model)[1]))
        batch = self.batch_queries or _default_batch(model, queries)
        device = next(model.parameters()).device
        _check_batch(batch, queries, machine.join(device)[1], self.gradient_accumulation_steps)
        rate, decay, precision = self.learning_rate, self.ema_decay, self.mixed_precision
        top = self.layers if self.layer_decay is None else None  # layer-wise rates spare the lower layers themselves
        return dataclasses.replace(
            self,
            batch_queries=batch,
            learning_rate=default_learning_rate(model, batch, top) if rate is None else rate,
            ema_decay=(0.0 if is_large(model) else EMA_DECAY) if decay is None else decay,
            mixed_precision=_default_precision(model, device.type) if precision is None else precision,
            **self._by_queries(model, queries if own is None else own),
        )

    def _by_queries(self, model, queries):
        """Return {"keep": ..., "negatives": ...} for ``model`` and a number of own training queries."""
        usual = _default_keep(model, self.layers, queries)
        keep = usual if self.keep == "auto" else self.keep
        fewer = keep == usual == "halfway"  # where fewer negatives were measured
        return {"keep": keep, "negatives": (2 if fewer else 4) if self.negatives == "auto" else self.negatives}

    def check_layers(self, count):
        """Raise InputError when more layers are to train than the ``count`` that the model has."""
        if self.layers not in ("all", None) and self.layers > count:
            raise InputError("layers is {layers}, but the model has {count} layers: choose a whole number from 1 to {count}.", layers=self.layers, count=count)  # fmt: skip

    def replace(self, **changes):
        """Return a recipe with some choices changed; raise InputError for a choice that a recipe does not have."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise InputError('A recipe has no choice "{name}"; it has {known}.', name=name, known=", ".join(known))
        return dataclasses.replace(self, **changes)

    def asdict(self):
        """Return {choice: value} as JSON can hold it; a penalty is described in words, a layer_decay of None left out."""
        out = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.layer_decay is None:
            del out["layer_decay"]  # so that checkpoints and records from before this choice existed still fit
        if self.penalty is not None:
            name = f"{self.penalty.__module__}.{getattr(self.penalty, '__qualname__', type(self.penalty).__name__)}"
            out["penalty"] = getattr(self.penalty, "description", name)
        return out


def default_learning_rate(model, batch_queries=4, layers=3):
    """Return 2e-5 for a pretrained model; for one below 50 million parameters 2e-3 with 4 queries a step, 4e-3 with 8.

    The rate grows with the batch as in Goyal et al., arXiv 1706.02677, up to 8 queries: with 32 at 1e-2 the small model
    lost. When everything trains, ``layers`` "all", a small model takes a quarter: the rate of the last layers wrecks it.
    """
    if is_large(model):
        return 2e-5
    return 5e-4 * min(8, max(4, batch_queries)) * (0.25 if layers == "all" else 1)


def _default_batch(model, queries):
    """Return the queries in an optimiser step: 8 for a small model from LARGER_STEPS_FROM training queries on, else 4.

    Larger steps cost a small model less time for the same result; few queries need the steps.
    """
    return 8 if queries >= LARGER_STEPS_FROM and not is_large(model) else 4


def _default_keep(model, layers, queries):
    """Return the choice behind ``keep`` "auto"; SmolLM2 gains less half of the way (benchmarks/own_base.md); all layers and LoRA are not measured."""
    measured = isinstance(layers, Integral) and not is_large(model)
    return "halfway" if measured and queries >= LARGER_STEPS_FROM else "best"


def is_large(model):
    """Return whether a model has more than 50 million parameters; small ones bear, and need, far higher rates."""
    return sum(p.numel() for p in model.parameters()) > 50e6


def _default_precision(model, device):
    if not is_large(model):
        return "no"
    if has_fast_bf16(device):
        return "bf16"
    return "fp16" if device == "cuda" else "no"


def _check_batch(batch, queries, processes, parts):
    if processes > 1 and queries < batch:
        raise InputError(
            "{queries} training queries are fewer than batch_queries {batch}: lower it.", queries=queries, batch=batch
        )
    if batch % processes:
        raise InputError(
            "batch_queries {batch} cannot be shared by {processes} processes; choose a multiple.",
            batch=batch,
            processes=processes,
        )
    if batch % (processes * parts):
        raise InputError(
            "batch_queries {batch} cannot be cut into {parts} gradient accumulation steps; choose a multiple.",
            batch=batch,
            parts=parts,
        )


def _is_whole(value, least=1):
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= least


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _whole(name, value, what):
    if not _is_whole(value):
        raise InputError("{name} is {value!r}; {what}.", name=name, value=value, what=_(what))


def _one_of(name, value, choices):
    if value not in choices:
        raise InputError(
            '{name} is "{value}"; choose {names}.',
            name=name,
            value=value,
            names=" or ".join(f"{chr(34)}{c}{chr(34)}" for c in choices if c),
        )
