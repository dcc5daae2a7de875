"""Mix weights instead of training again: part of the way to a domain, the mean of several seeds, domains added up.

All of it is one formula, base + sum of w_i (adapted_i - base), with weights that are chosen on dev and reported on test.
"""

from dataclasses import dataclass

from course_utils.data.groups import check_no_leak
from course_utils.domains.delta import Delta, _base_hash, _base_value, _check_fits, _full_tensors, swapped
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate
from course_utils.language import _
from course_utils.text import _Markdown, markdown_table

_SCALES = tuple(i / 10 for i in range(11))


# Rows, columns and corners of our own; other names are the user's and stay as they are.
_NAMES = (
    "base", "trained on", "weight", "mean", "on test", "as trained", "chosen", "domain", "all", "queries", "accuracy",
    "right label", "routed", "wrong", "right label there", "routed there",
)  # fmt: skip


def _named(name):
    """Return the name of a row or a column in the language of the reader; a number in brackets behind it stays."""
    word, mark, rest = str(name).partition(" (")
    return f"{_(word)}{mark}{rest}" if word in _NAMES else name


@dataclass
class Matrix(_Markdown):
    """Numbers with names, printed as a Markdown table.

    Attributes:
        rows: name of each row.
        columns: name of each column.
        values: one list a row, one number (or None) a column.
        corner: what the rows are, for example "trained on".
    """

    rows: list
    columns: list
    values: list
    corner: str = ""

    def __getitem__(self, key):
        row, column = key
        return self.values[self.rows.index(row)][self.columns.index(column)]

    def __str__(self):
        def cell(x):
            return "" if x is None else f"{x:,}" if isinstance(x, int) else f"{x:.3f}" if isinstance(x, float) else x

        rows = [[_named(name), *map(cell, own)] for name, own in zip(self.rows, self.values, strict=True)]
        return markdown_table([_(self.corner), *map(_named, self.columns)], rows, left=1)


def combine(reranker, deltas, weights=None):
    """Return the Delta base + sum of w_i (adapted_i - base), computed in float64.

    One delta with a weight below 1 lies part of the way to the domain: often most of the gain stays and most of the
    forgetting goes (WiSE-FT, arXiv 2109.01903). Several seeds of one domain with their mean score at the cost of one (model
    soups, arXiv 2203.05482). Several domains add up (task arithmetic, arXiv 2212.04089; for rerankers, arXiv 2505.00649).

    A tensor that a delta does not hold did not change there. LoRA deltas are merged first, so the result is of kind
    "layers". Its instruction is that of the deltas when they have the same, else the reranker's own.

    Args:
        reranker: the Reranker with the base weights; a delta that is attached to it does not count.
        deltas: list of Delta, all made for this base.
        weights: one number a delta; default: their mean.

    Raises:
        InputError: no delta, not one weight a delta, a weight that is not a finite number, or a delta of another base.
    """
    deltas = list(deltas)
    weights = [1 / max(1, len(deltas))] * len(deltas) if weights is None else [float(w) for w in weights]
    if not deltas or len(deltas) != len(weights):
        raise InputError(
            "There are {n_deltas} deltas and {n_weights} weights; give one weight a delta.",
            n_deltas=len(deltas),
            n_weights=len(weights),
        )
    if not all(abs(w) < 1e3 for w in weights):
        raise InputError("The weights are {weights}; choose numbers near 0 to 1.", weights=weights)
    fingerprint = _base_hash(reranker)
    for delta in deltas:
        _check_fits(reranker, delta, fingerprint)
    return _combine(reranker, deltas, weights, fingerprint)


def _combine(reranker, deltas, weights, fingerprint):
    full = [_full_tensors(reranker, d) for d in deltas]
    tensors = {}
    for n in dict.fromkeys(n for own in full for n in own):
        held = [(w, own[n]) for w, own in zip(weights, full, strict=True) if n in own]
        base = _base_value(reranker, n)
        # This order of terms gives exactly the base for weight 0 and exactly the delta for weight 1.
        mixed = (1 - sum(w for w, _ in held)) * base.cpu().double() + sum(w * t.cpu().double() for w, t in held)
        tensors[n] = mixed.to(base.dtype).to(base.device)
    names, said = list(dict.fromkeys(d.name for d in deltas)), {d.instruction for d in deltas}
    terms = " + ".join(f"{w:.3g} {d.name}" for w, d in zip(weights, deltas, strict=True))
    return Delta(
        tensors, names[0] if len(names) == 1 else terms, deltas[0].base, fingerprint,
        layers=sorted({i for d in deltas for i in d.layers}),
        instruction=said.pop() if len(said) == 1 else reranker.instruction,
        data=" ".join(dict.fromkeys(d.data for d in deltas)), figures={"weights": weights},
    )  # fmt: skip


def _score_sets(reranker, test_sets, instructions=None, metric="ndcg@10"):
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
            values.append(_score_sets(reranker, test_sets, instructions, metric))
    return Matrix(["base", *named], list(test_sets), values, "trained on")


@dataclass
class _WeightSweep(_Markdown):
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
        return f"{self.dev}\n\n{_('chosen on dev: {best:g}').format(best=self.best)}\n\n{self.test}"


def sweep_weights(reranker, deltas, dev, test, scales=_SCALES, instructions=None, metric="ndcg@10"):
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
            check_no_leak(
                own, groups, (_("dev set {name}").format(name=chooses), _("test set {name}").format(name=reports))
            )
    fingerprint = combine(reranker, deltas, [scales[0]] * len(deltas)).base_fingerprint  # checks what is given

    def mixed(scale):
        return _combine(reranker, deltas, [scale] * len(deltas), fingerprint)

    def measure(delta, sets):
        with swapped(reranker, delta):
            return _score_sets(reranker, sets, instructions, metric)

    rows = [[*own, sum(own) / len(own)] for scale in scales for own in [measure(mixed(scale), dev)]]
    best = scales[max(range(len(scales)), key=lambda i: rows[i][-1])]
    chosen = mixed(best)
    reports = [measure(delta, test) for delta in (mixed(0.0), mixed(1.0), chosen)]
    return _WeightSweep(
        Matrix([f"{s:g}" for s in scales], [*dev, "mean"], rows, "weight"),
        Matrix(["base (0)", "as trained (1)", f"chosen ({best:g})"], list(test), reports, "on test"),
        best,
        chosen,
    )
