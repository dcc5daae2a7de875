"""Ranking lists to measure on: folders of real sets, the course's own, cut to a size."""

import hashlib
import json
import random
from pathlib import Path
from typing import NamedTuple

from course_utils.data import DOMAINS, LANGUAGES, load_domain
from course_utils.data.groups import Group, leaks, rankable, split, subset, without_answers
from course_utils.data.read import read_groups
from course_utils.errors import InputError

SIZES = {"long": "medical-en", "short": "legal-en-tosdr"}  # documents of about 100 and of about 50 words


class Lists(NamedTuple):
    """A set: lists to train on (None where there are none), to choose the epoch by (None: cut from train), to test on."""

    train: list
    dev: list
    test: list


def read_lists(path):
    """Return the groups of a file that can be ranked; a document given twice for a query counts once."""
    return rankable(read_groups(path, max_relevance=9, drop_repeated=True))


def real_sets(folder):
    """Return {name: Lists} of ``folder``/NAME/test.jsonl and train.jsonl.

    Raises:
        InputError: no such folder, or no test.jsonl in any folder below it.
    """
    places = sorted(p.parent for p in Path(folder).glob("*/test.jsonl"))
    if not places:
        raise InputError(f"{folder} holds no NAME/test.jsonl; give a folder with one folder a set.")
    out = {}
    for place in places:
        train = place / "train.jsonl"
        out[place.name] = Lists(read_lists(train) if train.exists() else None, None, read_lists(place / "test.jsonl"))
    return out


def course_sets():
    """Return {"course medical-en": Lists, ...} of the course's own eight sets."""
    return {
        f"course {domain}-{language}": Lists(
            *(rankable(load_domain(domain, language, part)) for part in ("train", "dev", "test"))
        )
        for domain in DOMAINS
        for language in LANGUAGES
    }


def held_out(train):
    """Return (train, dev): 15 % of the queries by chance, as the kept figures had them.

    ``training.hold_out`` also keeps what is nearly alike out of dev, which came later.
    """
    left, dev = split(rankable(train), (0.85, 0.15))
    return without_answers(left, dev), dev


def fingerprint(*parts):
    """Return a short hash of lists of Group (or None) and of plain values."""
    digest = hashlib.sha256()
    for part in parts:
        rows = [[g.query, g.documents, g.relevance] if isinstance(g, Group) else g for g in part or ()]
        digest.update(json.dumps(rows, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def cut_groups(path, queries, seed=0, size=10, words=None):
    """Return ``queries`` Groups of ``size`` documents of at most ``words`` words, relevant ones kept.

    Raises:
        InputError: no file, or no query with that many documents in it.
    """
    groups = [g for g in read_lists(path) if len(g.documents) >= size]
    if not groups:
        raise InputError(f"{path}: no query has {size} documents; cut to fewer.")
    out = []
    for g in subset(groups, queries, seed):
        order = sorted(range(len(g.documents)), key=lambda i: -g.relevance[i])[:size]
        random.Random(seed).shuffle(order)
        documents = tuple(" ".join(g.documents[i].split()[:words]) for i in order)
        out.append(Group(g.query, documents, tuple(int(g.relevance[i] > 0) for i in order)))
    return rankable(out)


def groups_of(real, length, part, queries, seed=0, words=None):
    """Return ``queries`` Groups of ten documents from the set of a length in SIZES; see ``cut_groups``."""
    return cut_groups(Path(real) / SIZES[length] / f"{part}.jsonl", queries, seed, words=words)


def apart(groups, count):
    """Return (train, dev): the last ``count`` Groups are dev, and no query or relevant document of theirs is in train."""
    dev = groups[-count:]
    found = leaks(groups[:-count], dev, near=False)
    queries, documents = ({text for text, _, _ in own} for own in (found.queries, found.documents))
    return [g for g in groups[:-count] if g.query not in queries and not documents & {*g.positives}], dev


def one_list(real, length, count):
    """Return (query, ``count`` documents): those of one query, filled up with those of others.

    Raises:
        InputError: the test file holds fewer different documents.
    """
    path = Path(real) / SIZES[length] / "test.jsonl"
    groups = read_lists(path)
    documents = list(dict.fromkeys(d for g in groups for d in g.documents))
    if len(documents) < count:
        raise InputError(f"{path} holds {len(documents)} different documents; a list of {count} cannot be made.")
    return groups[0].query, documents[:count]
