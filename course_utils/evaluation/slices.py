"""Where a gain comes from: by kind of knowledge, and beside a rule that never reads the query."""

import numpy as np

from course_utils.evaluation.measure import paired_bootstrap


def by_slice(before, after, groups, slices, least=20):
    """Return {slice: Difference} of two score lists over the same groups, in the order of ``slices``' first queries.

    Args:
        before, after: one nDCG@10 (or other value) a Group.
        groups: list of Group, same order.
        slices: dict from query to the name of its slice, see ``read_cases(...).slices()``; other queries are left out.
        least: slices with fewer queries are left out: their interval says nothing.
    """
    places = {}
    for i, g in enumerate(groups):
        if g.query in slices:
            places.setdefault(slices[g.query], []).append(i)
    before, after = np.asarray(before), np.asarray(after)
    return {name: paired_bootstrap(before[own], after[own]) for name, own in places.items() if len(own) >= least}


def add_rule(scores, rule, weight):
    """Return ``scores`` plus ``weight`` times the scores of a rule, each brought to mean 0 and spread 1 within its list.

    What a model gains from this sum it could have learnt without reading queries: an honest table shows it beside the gain
    of training.

    Args:
        scores, rule: lists of arrays, one a query, one score a document, same shapes.
        weight: 0 leaves the order as it is.
    """

    def even(values):
        values = np.asarray(values, dtype=np.float64)
        return (values - values.mean()) / (values.std() or 1.0)

    return [even(own) + weight * even(other) for own, other in zip(scores, rule, strict=True)]
