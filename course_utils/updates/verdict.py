"""The verdict of a gate: better for sure, and no guarded set fallen by more than the margin, now or since earlier versions."""

from contextlib import suppress
from dataclasses import asdict

import numpy as np

from course_utils.data.groups import _nearly_shared
from course_utils.domains.delta import _groups_hash
from course_utils.errors import InputError
from course_utils.evaluation.measure import paired_bootstrap
from course_utils.language import _
from course_utils.model.checkpoint import _read_json
from course_utils.updates.versions import _RECORD, _version_folders

_MARGIN, _LEAST = 0.02, 30


def judge(folder, previous, gate, sets, values, train=(), agreed=None):
    """Return what ``decide`` returns of a new version, with what the folder's earlier versions and the data tell.

    Args:
        folder: of the versions.
        previous: name of the version in use.
        gate: the Gate.
        sets: {set: (groups that can be ranked, Counts)}, the target first.
        values: (before, after), see ``decide``.
        train: groups that the new version learned from, as far as known.
        agreed: see ``decide``.
    """
    best, tries = _past(folder, previous, {name: _groups_hash(groups) for name, (groups, _) in sets.items()})
    accepted, reason, figures = decide(*values, gate.margin, agreed, gate.least, gate.strict, best)
    if tries:
        reason += _(" Earlier tries on this target against this version in use: {n}. Of 40 models without a gain about one passes by chance: after a few tries take a new target.").format(n=tries)  # fmt: skip
    near = {name: _nearly_shared(train, groups) for name, (groups, _) in sets.items()} if train else {}
    if any(near.values()):
        shown = _(", ").join(f"{name} {n}" for name, n in near.items() if n)
        reason += _(" Some queries or right documents of the gate's sets are nearly the same as some of the new data ({shown}): a gain there may be memory.").format(shown=shown)  # fmt: skip
    return accepted, reason, figures


def _past(folder, previous, hashes):
    """Return ({guard: best mean nDCG@10 of versions up to ``previous`` on the same set}, earlier tries on the same target)."""
    records = {}
    for path in _version_folders(folder):
        with suppress(InputError):  # a damaged record tells nothing
            records[path.name] = _read_json(path / _RECORD)
    best, name, tries = {}, previous, 0
    for record in records.values():
        with suppress(KeyError, TypeError):
            tries += record["previous"] == previous and record["sets"]["target"] == hashes["target"]
    while isinstance(name, str) and name in records:
        record = records.pop(name)
        name = record.get("previous")
        for guard, value in hashes.items():
            with suppress(KeyError, TypeError):
                if record["sets"][guard] == value:
                    own = record["figures"][guard]
                    best[guard] = max(best.get(guard, 0.0), own["before"], own["after"])
    return best, tries


def _measured(gate, sets, before, after, figures):
    """Return what a version's record says of the gate and of what was measured at it."""
    return {
        "gate": {"margin": gate.margin, "least": gate.least, "strict": gate.strict},
        "sets": {name: _groups_hash(groups) for name, (groups, _) in sets.items()},
        "counts": {name: counts.as_dict() for name, (_, counts) in sets.items()},
        "figures": {
            name: {"before": before[name].mean(), "after": after[name].mean(), **asdict(d)}
            for name, d in figures.items()
        },
    }


def _check_limits(margin, least, queries):
    if isinstance(margin, bool) or not (isinstance(margin, (int, float)) and 0 <= margin <= 1):
        raise InputError(
            "The margin is {margin!r}; it is nDCG@10 that a guarded set may fall, a number from 0 to 1.", margin=margin
        )
    if isinstance(least, bool) or not (isinstance(least, int) and least >= 2):
        raise InputError(
            "least is {least!r}; it is the number of queries that a set must have, a whole one from 2.", least=least
        )
    for name, count in queries.items():
        if count < least:
            raise InputError(
                "{word} has {count} queries that can be ranked, and the gate decides on at least {least}: with few, "
                "chance decides. Give more, or lower least and say so.",
                word=_("The target") if name == "target" else _("The guard {name}").format(name=name),
                count=count,
                least=least,
            )


def decide(before, after, margin=_MARGIN, agreed=None, least=_LEAST, strict=False, best=None):
    """Return (accepted, reason, {set: Difference}) of a new version.

    Args:
        before: {set: nDCG@10 of each query} of the version in use, "target" among the sets; all others are guarded.
        after: the same of the new version.
        margin: nDCG@10 that a guarded set may fall.
        agreed: share of pairs of the new data that the version in use ranks as labelled; below 0.5 it is part of a
            refusal's reason.
        least: queries that every set must have.
        strict: refuse where a guard's interval reaches below the margin, too.
        best: {guard: mean nDCG@10 of the best version so far}; small falls may not add up to more than the margin below it.

    Raises:
        InputError: too few queries, a margin that is not a number from 0 to 1, values that are not finite.
    """
    _check_limits(margin, least, {name: len(values) for name, values in before.items()})
    for name in before:
        if not (np.isfinite(before[name]).all() and np.isfinite(after[name]).all()):
            raise InputError("The nDCG@10 of {name} is not a number for some query: the scores are broken.", name=name)
    figures = {name: paired_bootstrap(before[name], after[name]) for name in before}
    gain, guards = figures["target"], {n: d for n, d in figures.items() if n != "target"}
    interval = f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] nDCG@10"
    wrong = []
    if not any(d.wins or d.losses for d in figures.values()):
        wrong.append(_("it ranks every query as well as the version in use, so nothing useful was learned"))
    elif gain.high < 0:
        wrong.append(_("it is worse in its own domain: {interval}").format(interval=interval))
    elif gain.low <= 0:
        wrong.append(
            _("its gain in the domain may be chance: {interval}, and the interval must lie above 0").format(
                interval=interval
            )
        )
    fell = [n for n, d in guards.items() if d.mean < -margin]
    wrong += [
        _("{n} fell by {mean:.3f}, more than the margin of {margin:g}").format(n=n, mean=-guards[n].mean, margin=margin)
        for n in fell
    ]
    sunk = {
        n: (best or {}).get(n, -np.inf) - after[n].mean() for n, d in guards.items() if n not in fell and d.mean < 0
    }
    said = _("{n} is {below:.3f} below the best version so far, more than the margin of {margin:g}: small falls add up")
    wrong += [said.format(n=n, below=below, margin=margin) for n, below in sunk.items() if below > margin]
    unsure = [n for n, d in guards.items() if d.low < -margin and n not in fell]
    doubts = [
        _("{n} by up to {low:.3f} on {n_before} queries").format(n=n, low=-guards[n].low, n_before=len(before[n]))
        for n in unsure
    ]
    said = _("a fall beyond the margin of {margin:g} is not excluded: {doubts}")
    doubt = said.format(margin=margin, doubts=_(", ").join(doubts)) if doubts else ""
    if doubt and strict:
        wrong.append(doubt)
    if not wrong:
        worst = min(guards, key=lambda n: guards[n].mean)
        return True, (
            _("The gain in the domain is real: {interval}. No guarded set fell by more than {margin:g} (worst: {worst} {mean:+.3f}).").format(interval=interval, margin=margin, worst=worst, mean=guards[worst].mean) + (_(" But {doubt}.").format(doubt=doubt) if doubt else "")
        ), figures  # fmt: skip
    reason = _("{text}.").format(text=_("; ").join(wrong))
    if agreed is not None and agreed < 0.5:
        reason += _(
            " The new data contradict the version in use: it ranks only {agreed:.0f} % of their pairs as labelled, "
            "where chance gives 50 %. Check the labels."
        ).format(agreed=100 * agreed)
    return False, reason[0].upper() + reason[1:], figures
