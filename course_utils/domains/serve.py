"""Many domains on one base: train a delta for each, whole layers or LoRA, and serve a mixed stream of queries."""

import threading
from contextlib import ExitStack
from dataclasses import replace

from course_utils.domains.delta import (
    _BASE,
    _base_hash,
    _check_fits,
    _full_tensors,
    _swap_in,
    detach,
)
from course_utils.errors import InputError
from course_utils.model.prompt import _as_lists
from course_utils.model.reranker import Counted


class Domains:
    """Several domains on one base in memory; one is in use at a time, the base itself as "general".

    Args:
        reranker: the base Reranker.
        deltas: iterable of Delta. Whole layers are switched by reference, in about a millisecond; LoRA factors are merged
            at each switch, which for 0.6 billion weights on one CPU core takes 50 ms in fp32 and 250 ms in bf16; give
            ``combine(reranker, [delta], [1])`` to keep it merged.
        router: something with ``predict(list of queries) -> names``, see ``routing``; asked when no names are given.

    Attributes:
        current: name of the domain in use.
    """

    BASE = _BASE

    def __init__(self, reranker, deltas=(), router=None):
        self.reranker, self.router, self.current = detach(reranker), router, self.BASE
        self._fingerprint, self._deltas, self._lock = _base_hash(reranker), {}, threading.RLock()
        for delta in deltas:
            self.add(delta)

    @property
    def names(self):
        """Names that ``use`` and ``score`` take."""
        return [self.BASE, *self._deltas]

    def add(self, delta):
        """Keep one more delta, on the base's device and in its dtype; a delta of the same name is replaced.

        Raises:
            InputError: when it was made for another base.
        """
        _check_fits(self.reranker, delta, self._fingerprint)
        device, in_use = self.reranker.device, self.current == delta.name and delta.name in self._deltas
        if in_use:
            detach(self.reranker)
        whole = delta.kind == "layers"
        placed = _full_tensors(self.reranker, delta) if whole else {n: t.to(device) for n, t in delta.tensors.items()}
        self._deltas[delta.name] = replace(delta, tensors=placed)
        if in_use:
            self._switch(delta.name)

    def _switch(self, name):
        detach(self.reranker)
        if name in self._deltas:
            delta = self._deltas[name]
            _swap_in(self.reranker, delta, _full_tensors(self.reranker, delta))
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
            raise InputError(
                'There is no domain "{unknown_0}"; there are {names}.',
                unknown_0=unknown[0],
                names=", ".join(self.names),
            )

    def score(self, groups, domains=None):
        """Score a mixed stream and return one array of logits a query, in order.

        Queries are put together by domain, so that each domain is switched to once.

        Args:
            groups: list of Group, or of (query, documents).
            domains: one name a query, or one for all; by default the router decides from the query.

        Raises:
            InputError: an unknown name, not one name a query, or no names and no router.
        """
        groups = _as_lists(groups)
        if domains is None:
            if self.router is None:
                raise InputError("Give a domain for each query, or make Domains with a router.")
            domains = self.router.predict([query for query, _ in groups]) if groups else []
        names = [domains] * len(groups) if isinstance(domains, str) else [str(d) for d in domains]
        if len(names) != len(groups):
            raise InputError(
                "There are {n_groups} queries and {n_names} domains; give one domain a query.",
                n_groups=len(groups),
                n_names=len(names),
            )
        self._known(names)
        scores, cut = [None] * len(groups), 0
        with self._lock:
            for name in dict.fromkeys(names):
                own = [i for i, n in enumerate(names) if n == name]
                with self.use(name):
                    found = self.reranker.score_groups([groups[i] for i in own])
                    for i, value in zip(own, found, strict=True):
                        scores[i] = value
                    cut += found.truncated
        scores = Counted(scores)
        scores.truncated = cut
        return scores


def storage_bytes(tensors):
    """Return the bytes of memory behind tensors; memory that several share counts once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
