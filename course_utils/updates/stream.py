"""Learn new data again and again without forgetting: strategies, and a stream of stages measured after each.

A strategy is a dict of a few settings (see ``STRATEGIES``); ``learn`` reads it, so strategies mix freely. What was learned
before is a list of Stage: replay draws from its training lists, interpolation is chosen on its dev lists.
"""

import random
import time
from typing import NamedTuple

import numpy as np

from course_utils.data.groups import check_no_leak, rankable, subset
from course_utils.domains.merging import _named
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.language import _
from course_utils.text import _padded
from course_utils.training.adaptation import adapt
from course_utils.training.freezing import train_only
from course_utils.training.held_out import hold_out
from course_utils.training.recipe import Recipe
from course_utils.training.weights import _mix, load_tensors, trained_tensors
from course_utils.updates.forgetting import Forgetting


class Stage(NamedTuple):
    """A batch of data that arrived: its name, training groups and dev groups (None: 15 % of train, split by query)."""

    name: str
    train: list
    dev: list = None


# rate: factor on the learning rate. replay: old queries for each new one. pull: strength of L2-SP.
# interpolate: mix the weights before and after, the share chosen on dev. allowed: nDCG@10 that an earlier dev set may lose
# in that choice. keep: "best" epoch on dev, or the "last" one.
# "plain" is the usual bare loop: the new data only, the last epoch whatever it did. All others look at dev.
STRATEGIES = {
    "plain": {"keep": "last"},
    "best epoch": {},
    "lower rate": {"rate": 0.2},
    "replay": {"replay": 1.0},
    "l2-sp": {"pull": 1.0},
    "interpolation": {"interpolate": True},
    "default": {"replay": 1.0, "interpolate": True},
}
_SETTINGS = {"rate": 1.0, "replay": 0.0, "pull": 0.0, "interpolate": False, "allowed": 0.01, "keep": "best"}
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the new weights, tried in an interpolation
_QUERIES = 300  # of each set that are scored for each share


def learn(reranker, stage, earlier=(), strategy="default", recipe=Recipe(), *, quiet=False):
    """Train on one Stage with a strategy, in place.

    Args:
        reranker: the Reranker; its model is changed.
        stage: the Stage to learn.
        earlier: Stages learned before; what the base already knew (general data) belongs here too.
        strategy: a key of STRATEGIES, or a dict with some of rate, replay, pull, interpolate, allowed, keep. "default"
            replays where there is something earlier.
        recipe: the Recipe; what its ``replay_share``, ``keep`` and ``penalty`` say is up to the strategy.
        quiet: print nothing.

    Returns:
        A dict: stage, seconds, best_epoch, replayed (queries), alpha (share of the new weights; 0
        when they were not better, else 1 without interpolation), recipe (as it was carried out).

    Raises:
        InputError: unknown strategy; a strategy that needs earlier data and gets none; as ``adapt``.
    """
    started, earlier, seed, model = time.perf_counter(), list(earlier), recipe.seed, reranker.model
    settings = _check_strategy(strategy, earlier)
    train, dev = _parts(stage, seed)
    train_only(model, recipe.layers)
    before = trained_tensors(model)
    old = [_parts(s, seed) for s in earlier]
    replayed = _draw([groups for groups, _ in old], round(settings["replay"] * len(train)), seed)
    # The epoch is chosen on the same mixture that is trained on, else the new data alone would choose it.
    mixed_dev = dev + _draw([groups for _, groups in old], round(settings["replay"] * len(dev)), seed)
    full = recipe.replace(keep=settings["keep"]).resolved(model, len(train) + len(replayed), own=len(train))
    full = full.replace(
        learning_rate=settings["rate"] * full.learning_rate, replay_share=len(replayed) / len(train),
        penalty=l2_sp(before, settings["pull"]) if settings["pull"] else None,
    )  # fmt: skip
    done = adapt(reranker, train, mixed_dev, full, replay=replayed, quiet=quiet)
    alpha = 1.0 if done.best_epoch else 0.0  # no epoch was better than the start: adapt kept the start
    if settings["interpolate"] and done.best_epoch:
        alpha = _choose_share(reranker, before, dev, [groups for _, groups in old], settings["allowed"], seed)
    return {
        "stage": stage.name, "recipe": done.recipe, "seconds": time.perf_counter() - started,
        "best_epoch": done.best_epoch, "replayed": done.counts["replayed"], "alpha": alpha,
    }  # fmt: skip


def _check_strategy(strategy, earlier=()):
    """Return the full settings of a strategy, given by name or as a dict; raise InputError when it is not one."""
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        raise InputError(
            'There is no strategy "{strategy}"; choose one of {strategies}, or give a dict.',
            strategy=strategy,
            strategies=", ".join(STRATEGIES),
        )
    given = STRATEGIES[strategy] if isinstance(strategy, str) else dict(strategy)
    for key, value in given.items():
        if key not in _SETTINGS:
            raise InputError(
                'A strategy has no setting "{key}"; it has {settings}.', key=key, settings=", ".join(_SETTINGS)
            )
        if key == "keep" and value not in ("best", "last"):
            raise InputError('The setting keep of the strategy is {value!r}; choose "best" or "last".', value=value)
        if key not in ("interpolate", "keep") and not (isinstance(value, (int, float)) and 0 <= value < np.inf):
            raise InputError(
                'The setting "{key}" of the strategy is {value!r}, not a number from 0.', key=key, value=value
            )
    if given.get("rate") == 0:
        raise InputError(
            "The setting rate of the strategy is 0, so nothing would be learned; 1 leaves the rate as it is."
        )
    settings = _SETTINGS | given
    if strategy == "default" and not earlier:
        settings["replay"] = 0.0
    if settings["replay"] and not earlier:
        raise InputError("The strategy uses replay, which needs earlier data: give at least one earlier Stage.")
    return settings


def _parts(stage, seed=0):
    """Return (train, dev) of a Stage; a missing dev is split off by query, always the same with the same seed."""
    if stage.dev is not None:
        return rankable(stage.train), rankable(stage.dev)
    return hold_out(rankable(stage.train), seed, stage.name)


def _draw(pools, count, seed=0):
    """Return about ``count`` groups drawn evenly from several lists, so that a large one does not crowd out the others."""
    random_, out = random.Random(seed), []
    left = [random_.sample(pool, len(pool)) for pool in pools]
    while len(out) < count and any(left):
        out += [pool.pop() for pool in left if pool]
    return out[:count]


def l2_sp(start, strength):
    """Return a penalty that pulls weights back to ``start``: strength / 2 x the squared distance.

    Args:
        start: {name: tensor}, see ``trained_tensors``.
        strength: alpha of the paper; what is right depends on model and loss, so try powers of ten.

    Source: Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning", arXiv 1802.01483, section 3.
    """

    def penalty(model):
        return (strength / 2) * sum(
            ((p.float() - start[n].to(p.device).float()) ** 2).sum() for n, p in model.named_parameters() if n in start
        )

    penalty.description = f"L2-SP, strength {strength:g}"
    return penalty


def _choose_share(reranker, before, dev, earlier=(), allowed=0.01, seed=0):
    """Put the best mix of the weights ``before`` and the present ones into the reranker; return the share of the new ones.

    Taken is the share with the best nDCG@10 on ``dev`` among those where no earlier set falls by more than
    ``allowed``; 0 (the weights before) when none is better.

    Args:
        reranker: the Reranker after training.
        before: {name: tensor} before training.
        dev: dev groups of the new data.
        earlier: dev groups of what must not be forgotten, a list of lists.
        allowed: nDCG@10 that an earlier set may lose.
        seed: for the choice of queries.
    """
    sets = [subset(groups, _QUERIES, seed) for groups in (dev, *earlier)]
    own = dict(reranker.model.named_parameters())
    after = {n: own[n].detach().clone() for n in before}

    def measure(alpha):
        load_tensors(reranker.model, _mix(before, after, alpha))
        return [evaluate(reranker, groups).summary["ndcg@10"] for groups in sets]

    start = measure(0.0)
    best, chosen = start[0], 0.0
    for alpha in _SHARES:
        values = measure(alpha)
        kept = all(v >= s - allowed for v, s in zip(values[1:], start[1:], strict=True))
        if kept and values[0] > best:
            best, chosen = values[0], alpha
    load_tensors(reranker.model, _mix(before, after, chosen))
    return chosen


def learn_stream(reranker, stages, tests, earlier=(), strategy="default", recipe=Recipe(), *, quiet=False):
    """Learn stages one after the other and measure every test set after each; return the Forgetting matrix.

    Args:
        reranker: the Reranker; its model is changed.
        stages: list of Stage in the order of time.
        tests: {name: list of Group}; each stage needs one of its name, further ones (general) are welcome.
        earlier: Stages that the base knows already, general data for example.
        strategy: a key of STRATEGIES or a dict, see ``learn``; the first stage does without replay where nothing is earlier.
        recipe: the Recipe of every stage.
        quiet: print nothing.

    Raises:
        InputError: a stage without a test set, two stages of one name, a leak into a test set, as ``learn``.
    """
    names = [s.name for s in stages]
    if not names or len(set(names)) < len(names) or "base" in names:
        raise InputError('Stages need names of their own, not "base", and there must be at least one.')
    missing = [name for name in names if name not in tests]
    if missing:
        raise InputError(
            'tests has no set "{missing_0}": every stage needs a test set of its name.', missing_0=missing[0]
        )
    for stage in (*earlier, *stages):
        for name, groups in tests.items():
            check_no_leak(
                stage.train + (stage.dev or []),
                groups,
                (_("stage {name}").format(name=stage.name), _("test {name}").format(name=name)),
            )
    known, columns, rows = list(earlier), list(tests), ["base", *names]
    settings = _check_strategy(strategy, stages)
    words = strategy if isinstance(strategy, str) else ", ".join(f"{k} {v}" for k, v in strategy.items())
    matrix = Forgetting(rows, columns, np.full((len(rows), len(columns)), np.nan), words or "best epoch")

    def measure(row):
        for j, name in enumerate(columns):
            values = evaluate(reranker, tests[name]).per_query("ndcg@10")
            matrix.values[rows.index(row), j], matrix.queries[row, name] = values.mean(), values
        if not quiet:
            print(f"{_padded(_named(row), -12)}  " + "  ".join(f"{c} {matrix.at(row, c):.3f}" for c in columns))

    measure("base")
    for stage in stages:
        # The first stage has nothing before it when the caller names nothing.
        now = settings if known else settings | {"replay": 0.0}
        matrix.log.append(learn(reranker, stage, known, now, recipe, quiet=True))
        measure(stage.name)
        known.append(stage)
    return matrix
