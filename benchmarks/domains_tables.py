"""Tables of ``benchmarks.domains``: trained on x tested on y, weights tried on dev, what wrong routes cost, bytes in memory."""

from dataclasses import dataclass

import numpy as np

from course_utils.data.groups import check_no_leak
from course_utils.domains.delta import Delta, _attached, _base_hash, _base_value, _check_fits, swapped
from course_utils.domains.merging import Matrix, combine
from course_utils.domains.serve import storage_bytes
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.evaluation.metrics import per_query
from course_utils.text import _Markdown

SCALES = tuple(i / 10 for i in range(11))


def score_sets(reranker, test_sets, instructions=None, metric="ndcg@10"):
    """Return the mean metric of each test set with the weights that are attached now.

    Args:
        reranker: the Reranker.
        test_sets: name -> list of Group.
        instructions: name of a test set -> the instruction it is scored under; default: the one in use.
        metric: a key of ``metrics.RANKING``.
    """
    own, out = reranker.instruction, []
    try:
        for name, groups in test_sets.items():
            reranker.instruction = (instructions or {}).get(name, own)
            out.append(evaluate(reranker, groups).summary[metric])
    finally:
        reranker.instruction = own
    return out


def cross_matrix(reranker, deltas, test_sets, instructions=None, metric="ndcg@10"):
    """Return the Matrix "trained on x tested on": the base in the first row, then every delta, on every test set.

    Args:
        reranker: the Reranker with the base weights.
        deltas: list of Delta, or dict from row name to Delta.
        test_sets: name -> list of Group.
        instructions: name of a test set -> instruction, so that a column differs in the weights alone; default: the
            base's own and each delta's own.
        metric: a key of ``metrics.RANKING``.

    Raises:
        InputError: a delta made for another base; two deltas of one name in a list.
    """
    named = dict(deltas) if isinstance(deltas, dict) else {d.name: d for d in deltas}
    if len(named) != len(deltas):
        raise InputError("Two deltas have the same name; give a dict from row name to delta.")
    fingerprint, values = _base_hash(reranker), []
    for delta in named.values():
        _check_fits(reranker, delta, fingerprint)
    for delta in (None, *named.values()):
        with swapped(reranker, delta):
            values.append(score_sets(reranker, test_sets, instructions, metric))
    return Matrix(["base", *named], list(test_sets), values, "trained on")


@dataclass
class WeightSweep(_Markdown):
    """Weights tried on dev, the choice, and what it is worth on test.

    Attributes:
        dev: Matrix, a row for each weight; its last column is the mean that decides.
        test: Matrix with the rows base (weight 0), as trained (weight 1) and chosen; all under the same instruction.
        best: the chosen weight.
        delta: the Delta at that weight.
    """

    dev: Matrix
    test: Matrix
    best: float
    delta: Delta

    def __str__(self):
        return f"{self.dev}\n\nchosen on dev: {self.best:g}\n\n{self.test}"


def sweep_weights(reranker, deltas, dev, test, scales=SCALES, instructions=None, metric="ndcg@10"):
    """Try one weight for all deltas on dev, take the best mean over its sets, report it on test.

    With one delta this is the interpolation sweep. With several it is task arithmetic with one scaling coefficient, as
    in arXiv 2212.04089. Put a general set beside the domain's own into ``dev``, else only the gain decides.

    Args:
        reranker: the Reranker with the base weights.
        deltas: a Delta or a list of them.
        dev: name -> list of Group, to choose on.
        test: name -> list of Group, for the report; never looked at before the choice, and none of them in ``dev``.
        scales: weights to try. Of two equally good ones the first is taken.
        instructions: as in ``cross_matrix``.
        metric: a key of ``metrics.RANKING``.

    Returns:
        An object with ``dev`` and ``test`` (each a Matrix), ``best`` (the weight) and ``delta`` (the Delta at it).

    Raises:
        InputError: nothing to try, choose or report on; a set that both chooses and reports; as ``combine``.
    """
    deltas, scales = [deltas] if isinstance(deltas, Delta) else list(deltas), [float(s) for s in scales]
    if not scales or not dev or not test:
        raise InputError("A sweep needs weights to try, dev sets to choose on and test sets to report on.")
    for chooses, own in dev.items():
        for reports, groups in test.items():
            check_no_leak(own, groups, (f"dev set {chooses}", f"test set {reports}"))

    def mixed(scale):
        return combine(reranker, deltas, [scale] * len(deltas))

    def measure(delta, sets):
        with swapped(reranker, delta):
            return score_sets(reranker, sets, instructions, metric)

    rows = [[*own, sum(own) / len(own)] for scale in scales for own in [measure(mixed(scale), dev)]]
    best = scales[max(range(len(scales)), key=lambda i: rows[i][-1])]
    chosen = mixed(best)
    reports = [measure(delta, test) for delta in (mixed(0.0), mixed(1.0), chosen)]
    return WeightSweep(
        Matrix([f"{s:g}" for s in scales], [*dev, "mean"], rows, "weight"),
        Matrix(["base (0)", "as trained (1)", f"chosen ({best:g})"], list(test), reports, "on test"),
        best,
        chosen,
    )


def route_report(domains, router, test_sets, metric="ndcg@10"):
    """Return a Matrix: how often the router is right, and the ranking with the base, the right label and the routed one.

    The last three columns look at wrongly routed queries alone: how many, and what the right label and the wrong one
    give there.

    Args:
        domains: a ``domains.Domains``.
        router: what ``train_router`` returns.
        test_sets: name of the right domain -> list of Group.
        metric: a key of ``metrics.RANKING``.
    """
    rows = {}
    for name, groups in test_sets.items():
        routes = [str(r) for r in router.predict([g.query for g in groups])]
        right = domains.score(groups, name)
        wrong = [i for i, route in enumerate(routes) if route != name]
        routed = list(right)
        for i, scores in zip(wrong, domains.score([groups[i] for i in wrong], [routes[i] for i in wrong]), strict=True):
            routed[i] = scores
        labels, missed = [g.relevance for g in groups], np.array([r != name for r in routes])
        base = domains.score(groups, domains.BASE)
        rows[name] = (missed, *(per_query(scores, labels, metric) for scores in (base, right, routed)))
    rows["all"] = tuple(np.concatenate(parts) for parts in zip(*rows.values(), strict=True))
    columns = ["queries", "accuracy", "base", "right label", "routed", "wrong", "right label there", "routed there"]
    values = []
    for missed, base, right, routed in rows.values():
        there = [float(x[missed].mean()) if missed.any() else None for x in (right, routed)]
        means = [float(x.mean()) for x in (base, right, routed)]
        values.append([len(missed), float(1 - missed.mean()), *means, int(missed.sum()), *there])
    return Matrix(list(rows), columns, values, "domain")


def memory(domains):
    """Return bytes of weights of a ``Domains``: {"base", "deltas": {name: bytes}, "total"}; memory that is shared counts once."""
    held = _attached(domains.reranker)
    now = [p.data for p in domains.reranker.model.parameters()]
    own = [_base_value(domains.reranker, n) for n, _ in domains.reranker.model.named_parameters()]
    deltas = {name: list(d.tensors.values()) for name, d in domains._deltas.items()}
    everything = [*now, *own, *(t for tensors in deltas.values() for t in tensors)]
    if held:
        everything += held.tensors.values()
    return {
        "base": storage_bytes(own),
        "deltas": {name: storage_bytes(tensors) for name, tensors in deltas.items()},
        "total": storage_bytes(everything),
    }
