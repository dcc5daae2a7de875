"""The update gate: a new version replaces the one in use only if it is better for sure and nothing guarded falls."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from course_utils.data.groups import check_no_leak, rankable, subset
from course_utils.domains.delta import groups_fingerprint
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate, paired_bootstrap
from course_utils.model.checkpoint import read_json
from course_utils.training.freezing import train_only
from course_utils.training.recipe import Recipe
from course_utils.training.weights import trained_tensors
from course_utils.updates.stream import Stage, check_strategy, learn, parts
from course_utils.updates.versions import RECORD, begin, load_version, publish


@dataclass
class Update:
    """What ``update`` decided.

    Attributes:
        accepted: whether the new version is in use now.
        version: its name.
        path: its folder.
        reason: why, in words.
        figures: {set: Difference in nDCG@10}, the target first.
    """

    accepted: bool
    version: str
    path: Path
    reason: str
    figures: dict

    def __str__(self):
        rows = [f"| {name} | {d} |" for name, d in self.figures.items()]
        head = f"{self.version} {'accepted' if self.accepted else 'refused, kept aside'}: {self.reason}"
        return "\n".join([head, "", "| set | nDCG@10, after - before |", "|---|---|", *rows])

    def _repr_markdown_(self):
        return str(self)


def update(folder, reranker, new, target, guards, earlier=(), strategy="default", recipe=Recipe(), *, margin=0.02,
           allowed=0.01, quiet=False):  # fmt: skip
    """Learn new data from the current version on; put the result in use only if it passes the gate.

    The gate: the gain on ``target`` is real (its 95 % paired bootstrap interval lies above 0) and no guarded set falls by
    more than ``margin``. A version that fails is kept aside with the reason, and the reranker is as before.

    Args:
        folder: the folder of versions; made when it is not there, with the reranker as it is as the first version.
        reranker: a Reranker on the base of these versions; it holds the current version at the end.
        new: the Stage that arrived.
        target: test groups of the new data's domain whose labels somebody checked. Part of the new data itself will not
            do: if its labels are wrong, learning them looks like a gain.
        guards: {name: list of Group}, sets that must not fall.
        earlier: Stages for replay and interpolation, see ``learn``.
        strategy: see ``learn``.
        recipe: see ``learn``; its layers are the same for all versions of a folder.
        margin: nDCG@10 that a guarded set may fall.
        allowed: nDCG@10 that an earlier dev set may lose in the choice of the interpolation, see ``learn``.
        quiet: print nothing.

    Returns:
        Update.

    Raises:
        InputError: the folder belongs to another base or other layers; a leak into target or guards; as ``learn``.
    """
    folder, model, sets = Path(folder), reranker.model, {"target": target, **guards}
    check_strategy(strategy)
    if "target" in guards or not guards:
        raise InputError('guards needs at least one set that must not fall, and none of them may be called "target".')
    new = Stage(new.name, *parts(new, recipe.seed))
    for stage in (*earlier, new):
        for name, groups in sets.items():
            check_no_leak(list(stage.train) + list(stage.dev or []), groups, (f"stage {stage.name}", name))
    train_only(model, recipe.layers)
    previous = begin(folder, reranker)
    begun = read_json(folder / previous / RECORD)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    if names != set(begun["tensors"]):
        raise InputError(
            f"The versions in {folder} hold {len(begun['tensors'])} tensors and layers={recipe.layers} trains {len(names)}; "
            "use the layers that the folder was begun with, or another folder."
        )
    if begun["instruction"] != reranker.instruction:
        raise InputError(
            f'The versions in {folder} were made with the instruction "{begun["instruction"]}"; '
            "set reranker.instruction to it, or use another folder."
        )
    load_version(folder, reranker, previous)
    held = trained_tensors(model)
    try:
        agreed = agreement(reranker, new.train)
        before = {name: evaluate(reranker, groups).per_query() for name, groups in sets.items()}
        done = learn(reranker, new, earlier, strategy, recipe, allowed=allowed, quiet=quiet)
        after = {name: evaluate(reranker, groups).per_query() for name, groups in sets.items()}
        accepted, reason, figures = decide(before, after, margin, agreed)
        record = {
            "accepted": accepted,
            "reason": reason,
            "previous": previous,
            "stage": new.name,
            "queries": len(new.train),
            "data": groups_fingerprint(new.train),
            "strategy": check_strategy(strategy),
            "learned": {k: v for k, v in done.items() if k != "stage"},
            "agreement": agreed,
            "margin": margin,
            "figures": {
                name: {"before": before[name].mean(), "after": after[name].mean(), **asdict(d)}
                for name, d in figures.items()
            },
        }
        path = publish(folder, reranker, record)
    except BaseException:
        put_back(model, held)
        raise
    if not accepted:
        put_back(model, held)
    return Update(accepted, path.name, path, reason, figures)


def decide(before, after, margin=0.02, agreed=None):
    """Return (accepted, reason, {set: Difference}) of a new version.

    Args:
        before: {set: nDCG@10 of each query} of the version in use, "target" among the sets; all others are guarded.
        after: the same of the new version.
        margin: nDCG@10 that a guarded set may fall.
        agreed: see ``agreement``; below 0.5 it is part of a refusal's reason.
    """
    figures = {name: paired_bootstrap(before[name], after[name]) for name in before}
    gain, guards = figures["target"], {n: d for n, d in figures.items() if n != "target"}
    interval = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] nDCG@10"
    wrong = []
    if not any(d.wins or d.losses for d in figures.values()):
        wrong.append("it ranks every query as well as the version in use, so nothing useful was learned")
    elif gain.high < 0:
        wrong.append(f"it is worse in its own domain: {interval}")
    elif gain.low <= 0:
        wrong.append(f"its gain in the domain may be chance: {interval}, and the interval must lie above 0")
    fell = {n: d for n, d in guards.items() if d.mean < -margin}
    wrong += [f"{n} fell by {-d.mean:.3f}, more than the margin of {margin:g}" for n, d in fell.items()]
    if not wrong:
        worst = min(guards, key=lambda n: guards[n].mean)
        return True, (
            f"The gain in the domain is real: {interval}. No guarded set fell by more than {margin:g} "
            f"(worst: {worst} {guards[worst].mean:+.3f})."
        ), figures  # fmt: skip
    reason = "; ".join(wrong) + "."
    if agreed is not None and agreed < 0.5:
        reason += (
            f" The new data contradict the version in use: it ranks only {100 * agreed:.0f} % of their pairs as labelled, "
            "where chance gives 50 %. Check the labels."
        )
    return False, reason[0].upper() + reason[1:], figures


def agreement(reranker, groups, queries=200, seed=0):
    """Return the share of (relevant, other) document pairs of a query that the reranker orders as labelled.

    0.5 is chance; far below it, the labels are more likely wrong than the reranker. Ties count half.
    """
    groups = subset(rankable(groups), queries, seed)
    shares = []
    for scores, g in zip(reranker.score_groups(groups), groups, strict=True):
        right = np.asarray(g.relevance) > 0
        gaps = scores[right][:, None] - scores[~right][None]
        shares.append(((gaps > 0) + 0.5 * (gaps == 0)).mean())
    return float(np.mean(shares))


def put_back(model, tensors):
    """Restore trainable parameters, their dtype included: training that stopped midway leaves them in float32."""
    for name, p in model.named_parameters():
        if name in tensors:
            p.data = tensors[name].to(p.device)
            p.grad = None
    model.eval()
