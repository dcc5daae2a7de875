"""The update gate: a new version replaces the one in use only if it is better for sure and nothing guarded falls."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course_utils.data.counts import usable
from course_utils.data.groups import check_no_leak, rankable, subset, without_answers
from course_utils.domains.delta import _attached, _groups_hash
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.files import lock
from course_utils.language import _
from course_utils.model.checkpoint import _read_json
from course_utils.text import _Markdown, markdown_table
from course_utils.training.freezing import borrowed, train_only
from course_utils.training.recipe import Recipe
from course_utils.training.weights import load_tensors, trained_tensors
from course_utils.updates.stream import Stage, _check_strategy, _parts, learn
from course_utils.updates.verdict import _LEAST, _MARGIN, _check_limits, _measured, judge
from course_utils.updates.versions import _RECORD, _begin, _publish, load_version


@dataclass(frozen=True)
class Gate:
    """What a new version has to pass. A gate that cannot decide is refused when it is made.

    The gain on ``target`` must be real: its 95 % paired bootstrap interval lies above 0. No guarded set may fall by more
    than ``margin``, and none that falls may end more than that below the best earlier version that was measured on it. The interval
    of every guard is reported; where it reaches below the margin, the reason says so.

    Attributes:
        target: test groups of the new data's domain whose labels somebody checked. Part of the new data itself will not
            do: if its labels are wrong, learning them looks like a gain.
        guards: {name: list of Group}, sets that must not fall.
        margin: nDCG@10 that a guarded set may fall, from 0 to 1.
        least: queries that the target and every guard must have, those without a right or a wrong document not counted.
            30 is a usual least number for an interval of a mean; with few queries chance decides.
        strict: let no guard's interval reach below the margin either. That takes hundreds of queries a guard.

    Raises:
        InputError: no guard, one called "target", too few queries, or a margin that is not a number from 0 to 1.
    """

    target: list
    guards: dict
    margin: float = _MARGIN
    least: int = _LEAST
    strict: bool = False

    def __post_init__(self):
        if "target" in self.guards or not self.guards:
            raise InputError(
                'guards needs at least one set that must not fall, and none of them may be called "target".'
            )
        self.usable()

    def usable(self, reranker=None):
        """Return {set: (groups that can be ranked, Counts of the others)}, the target first; see ``data.usable``.

        Raises:
            InputError: too few are left, with a ``reranker`` also because they do not fit into its prompt.
        """
        found = {name: usable(groups, reranker) for name, groups in {"target": self.target, **self.guards}.items()}
        _check_limits(self.margin, self.least, {name: counts.kept for name, (_, counts) in found.items()})
        return found


@dataclass
class _Update(_Markdown):
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
        head = f"{self.version} {_('accepted') if self.accepted else _('refused, kept aside')}: {self.reason}"
        return f"{head}\n\n{markdown_table([_('set'), _('nDCG@10, after - before')], self.figures.items())}"


def update(folder, reranker, new, gate, earlier=(), strategy="default", recipe=Recipe(), *, quiet=False):
    """Learn new data from the current version on; put the result in use only if it passes the gate.

    A version that fails is kept aside with the reason, and the reranker is as before. All that can be refused is refused
    before the folder is touched; one process at a time works in it.

    Args:
        folder: the folder of versions; made when it is not there, with the reranker as it is as the first version.
        reranker: a Reranker on the base of these versions; it holds the current version at the end.
        new: the Stage that arrived. Its dev groups choose the epoch, so none of them may be in the gate's sets.
        gate: the Gate.
        earlier: Stages for replay and interpolation, see ``learn``.
        strategy: see ``learn``.
        recipe: see ``learn``; ``layers`` are the same for all versions of a folder.
        quiet: print nothing.

    Returns:
        An object with ``accepted``, ``version``, ``path``, ``reason`` and ``figures`` ({set: Difference}), shown as a table.

    Raises:
        InputError: the folder belongs to another base or other layers, or another process works in it; a leak into the
            gate's sets; as ``learn``.
    """
    folder, model, sets = Path(folder), reranker.model, gate.usable(reranker)
    new = Stage(new.name, *_parts(new, recipe.seed))
    _check(reranker, new, sets, earlier, strategy, recipe)
    given, asked = new, [g for groups, _ in sets.values() for g in groups]
    new = new._replace(train=without_answers(new.train, asked))  # nobody learns to say no to what the gate asks for
    if given.train and not new.train:
        raise InputError("No query of {name} has a wrong document that is not a right answer of the gate's sets; add other wrong ones.", name=new.name)  # fmt: skip
    train_only(model, recipe.layers)
    with lock(folder):
        previous = _begin(folder, reranker)
        _check_folder(folder, previous, reranker, recipe.layers)
        load_version(folder, reranker, previous)
        with borrowed(model, recipe.layers):
            agreed = _agreement(reranker, new.train)
            before = {name: evaluate(reranker, groups).per_query() for name, (groups, _) in sets.items()}
            done = learn(reranker, new, earlier, strategy, recipe, quiet=quiet)
            after = {name: evaluate(reranker, groups).per_query() for name, (groups, _) in sets.items()}
            accepted, reason, figures = judge(folder, previous, gate, sets, (before, after), new.train, agreed)
            record = {
                "accepted": accepted,
                "reason": reason,
                "previous": previous,
                "stage": new.name,
                "queries": len(new.train),
                "data": _groups_hash(new.train),
                "strategy": _check_strategy(strategy, earlier),
                "recipe": done["recipe"],
                "learned": {k: v for k, v in done.items() if k not in ("stage", "recipe")},
                "agreement": agreed,
                **_measured(gate, sets, before, after, figures),
            }  # fmt: skip
            path = _publish(folder, reranker, record)
            learned = trained_tensors(model) if accepted else {}
        load_tensors(model, learned)
    return _Update(accepted, path.name, path, reason, figures)


def _check(reranker, new, sets, earlier, strategy, recipe):
    """Raise InputError for whatever can be known to be wrong before the folder is touched."""
    if _attached(reranker) is not None:
        raise InputError("A delta is attached to this reranker; detach it before a version is loaded.")
    _check_strategy(strategy, earlier)
    for stage in (*earlier, new):
        for name, (groups, _counts) in sets.items():
            check_no_leak(
                list(stage.train) + list(stage.dev or []), groups, (_("stage {name}").format(name=stage.name), name)
            )
    recipe.resolved(reranker.model, len(new.train))


def _check_folder(folder, previous, reranker, layers):
    begun = _read_json(folder / previous / _RECORD)
    names = {name for name, p in reranker.model.named_parameters() if p.requires_grad}
    if names != set(begun["tensors"]):
        raise InputError(
            "The versions in {folder} hold {n_tensors} tensors and the last {layers} layers hold {n_names}; use the layers "
            "that the folder was begun with (--layers), or another folder.",
            folder=folder,
            n_tensors=len(begun["tensors"]),
            layers=layers,
            n_names=len(names),
        )
    if begun["instruction"] != reranker.instruction:
        raise InputError(
            'The versions in {folder} were made with the instruction "{instruction}"; give it (--instruction, '
            "reranker.instruction), or use another folder.",
            folder=folder,
            instruction=begun["instruction"],
        )


def _agreement(reranker, groups, queries=200, seed=0):
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
