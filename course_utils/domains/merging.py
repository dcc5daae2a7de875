"""Mix weights instead of training again: part of the way to a domain, the mean of several seeds, domains added up.

All of it is one formula, base + sum of w_i (adapted_i - base), with weights that are chosen on dev and reported on test.
"""

from dataclasses import dataclass

from course_utils.domains.delta import Delta, _base_hash, _base_value, _check_fits, _full_tensors
from course_utils.errors import InputError
from course_utils.language import _
from course_utils.text import _Markdown, markdown_table


def _named(name):
    """Return the name of a row or a column: the base in the language of the reader, other names as they are."""
    return _("base") if name == "base" else name


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
        return markdown_table([self.corner, *map(_named, self.columns)], rows, left=1)


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
