"""Near-duplicates, exactly and quickly: texts that share most of their neighbouring words."""

from collections import Counter, defaultdict
from dataclasses import replace
from math import ceil

from course_utils.text import _UNIT, normalise

# Passages count as near-duplicates from 0.5 on three neighbouring words: about one word in nine changed. Queries are
# short and their frames repeat ("what are the symptoms of ..."), so they do from 0.8 on two.
DOCUMENTS = {"threshold": 0.5, "width": 3}
QUERIES = {"threshold": 0.8, "width": 2}


def _shingles(text, width=3):
    """Return the set of hashes of all runs of ``width`` words (in Chinese: characters) of the normalised text."""
    units = _UNIT.findall(normalise(text))
    return {hash(tuple(units[i : i + width])) for i in range(max(1, len(units) - width + 1))}


def _near_index(texts, threshold=0.5, width=3):
    """Return a function that finds, for a text, all of ``texts`` with a Jaccard similarity of at least ``threshold``.

    Two sets that alike share at least one of their rarest shingles; only those are indexed and looked up, and still
    nothing is missed. Source: Bayardo, Ma and Srikant, "Scaling up all pairs similarity search", WWW 2007.

    Args:
        texts: list of str.
        threshold: shingles in both texts / shingles in either, above 0 and at most 1.
        width: words (Chinese: characters) a shingle.

    Returns:
        ``find(text)``, which returns a list of (index into ``texts``, similarity).
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is not above 0 and at most 1")
    sets = [_shingles(t, width) for t in texts]
    frequency = Counter(h for own in sets for h in own)
    places = defaultdict(list)

    def rarest(own):
        order = sorted(own, key=lambda h: (frequency[h], h))
        return order[: len(own) - ceil(threshold * len(own) - 1e-9) + 1]

    for i, own in enumerate(sets):
        for h in rarest(own):
            places[h].append(i)

    def find(text):
        own, found = _shingles(text, width), []
        for i in sorted({i for h in rarest(own) for i in places.get(h, ())}):
            shared = len(own & sets[i])
            similarity = shared / (len(own) + len(sets[i]) - shared)
            if similarity >= threshold:
                found.append((i, similarity))
        return found

    return find


def _twinned(groups):
    """Return groups with the right documents alone and what is nearly the same as one."""
    right = list(dict.fromkeys(d for g in groups for d in g.positives))
    find = _near_index(right, **DOCUMENTS)
    near = {text: [right[i] for i, _share in find(text)] for text in right}
    keys = [list(dict.fromkeys(twin for d in g.positives for twin in near[d])) for g in groups]
    return [replace(g, documents=own, relevance=[1] * len(own), scores=()) for g, own in zip(groups, keys, strict=True)]


def near_duplicates(left, right, threshold=0.5, width=3):
    """Return (text of ``left``, text of ``right``, similarity) of all near-duplicates; arguments as in ``_near_index``."""
    right = list(right)
    find = _near_index(right, threshold, width)
    return [(text, right[j], similarity) for text in left for j, similarity in find(text)]
