"""What a training learns from and what measures it: dev held out of train, general queries mixed in, nothing in both."""

from contextlib import suppress

from course_utils.data.groups import (
    _apart_from,
    _split_twins,
    check_no_leak,
    leaks,
    rankable,
    split,
    subset,
    without_answers,
)
from course_utils.errors import InputError
from course_utils.training.recipe import Recipe


def hold_out(train, seed=0, name="train"):
    """Return (train, dev): 15 % of the queries are held out, and their answers leave the lists of the others.

    A query whose right document is nearly the same as one of train goes back to train; where that would be most of dev,
    such queries are dealt out together from the start.

    Args:
        train: list of Group, all of them rankable.
        seed: for the choice of queries.
        name: what the message calls the list.

    Raises:
        InputError: fewer than 4 queries.
    """
    if len(train) < 4:
        raise InputError(
            "{name} has {n_train} rankable queries, too few to hold some out; give 4 at least, or dev groups.",
            name=name, n_train=len(train)
        )  # fmt: skip
    shares = (0.85, 0.15)
    left, dev = split(train, shares, seed=seed)
    near = {text for text, _twin, _share in leaks(dev, left, kinds=("documents",)).near_documents}
    stays, size = dev, 0
    while len(stays) != size:  # what shares a right document with one that goes back goes, too
        size, stays = len(stays), [g for g in stays if near.isdisjoint(g.positives)]
        near |= {d for g in dev if not near.isdisjoint(g.positives) for d in g.positives}
    if len(stays) * 2 < len(dev):
        stays = dev
        with suppress(InputError):  # all hang together: then as they are
            stays = _split_twins(train, shares, seed)[1]
    kept = set(map(id, stays))
    return without_answers([g for g in train if id(g) not in kept], stays), stays


def training_data(train, dev=None, replay=(), replay_share=Recipe.replay_share, seed=0):
    """Return (train with replayed groups, dev) as ``adapt`` uses them; arguments and errors as there.

    Answers of a dev set that is cut from ``train`` leave the training lists, see ``data.without_answers``. Groups of ``replay``
    that share a query with ``train``, or a query or a right answer with dev, are left out, and dev's answers among their
    wrong documents.
    """
    train = rankable(train)
    if dev is None:
        train, dev = hold_out(train, seed)
    dev = rankable(dev)
    if not train or not dev:
        raise InputError("No query has both a relevant and a non-relevant document: there is nothing to learn from.")
    check_no_leak(train, dev, ("train", "dev"))
    mixed = list(train)
    if replay and replay_share > 0:  # nothing that dev asks or answers may come in by this way
        own = {g.query for g in train}
        replay = [g for g in _apart_from(replay, dev) if g.query not in own]
        mixed += subset(replay, max(1, round(replay_share * len(train))), seed)
    return mixed, dev
