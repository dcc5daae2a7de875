"""From questions with their right passages and a handbook to training, dev and test lists, and what to know about them.

The order matters: split first, give every part its own passages, mine negatives inside each part.
"""

import random
from collections import defaultdict
from dataclasses import replace
from math import ceil
from pathlib import Path

from tqdm.auto import tqdm

from course_utils.data.columns import _naming
from course_utils.data.groups import _split_twins, check_no_leak, leaks, rankable, without_answers
from course_utils.data.match import _match, _possible_names
from course_utils.data.near import DOCUMENTS, _near_index
from course_utils.data.negatives import Bm25, _mined_lists, _SearchBm25
from course_utils.data.passages import read_passages
from course_utils.data.plan import _CHANGE, _DEPTHS, PARTS, Plan, _Prepared
from course_utils.data.reading import _NO_WRONG, _as_rows, read_data
from course_utils.errors import InputError
from course_utils.files import _write_lines, check_ours, check_outputs, whole_folder
from course_utils.language import _
from course_utils.text import normalise


def prepare(questions, passages, out=None, plan=None, *, reranker=None, first_stage=_SearchBm25, **how):
    """Make training, dev and test lists from questions with right passages and a handbook.

    Questions are split first; each passage belongs to one part: right ones to that of their questions, the others at
    random by the same shares, near-duplicates and pieces of one document together with a right one of them. Negatives of
    a part come from its own passages, so no right answer of dev or test is learned as wrong, and no wrong passage of the
    test was seen in training.

    Args:
        questions: file or data as for ``read_data``, or a list of Group. The right document of a row is a text of the
            handbook, or the name or id of a passage.
        passages: folder or file as for ``read_passages``.
        out: folder for train.jsonl, dev.jsonl, test.jsonl, passages.jsonl, suspects.jsonl, report.txt; None writes none.
        plan: a Plan.
        reranker: a Reranker whose margin drops candidates that are likely right answers.
        first_stage: makes of texts what finds some of them, with the ``texts`` and the ``top`` of Bm25; default: BM25 as
            ``index`` counts it. Hard negatives, recall and suspects come from it.
        how: arguments of ``read_data`` for the questions, for example columns; with ``passage_`` before their names those of
            ``read_passages``, for example ``passage_columns={"id": "Code", "document": "Text"}``.

    Returns:
        Prepared.

    Raises:
        InputError: as for ``read_data`` and ``read_passages``; right documents that look like ids and no passage is called so;
            too few questions for three parts; a file in ``out`` that was changed.
    """
    plan = plan or Plan()
    own = {k.removeprefix("passage_"): how.pop(k) for k in [*how] if k.startswith("passage_")}
    if out is not None:
        inputs = [p for p in (questions, passages) if isinstance(p, (str, Path))]
        check_outputs([], inputs, folders=[out])
        check_ours(out)
    groups, notes = _questions(questions, how)
    with _naming(None, before="passage_"):
        named = [name for g in groups for d in g.positives for name in _possible_names(d)]
        skip = questions if isinstance(questions, (str, Path)) else None
        pieces, said = read_passages(passages, plan.size, plan.overlap, named=named, skip=skip, **own)
    handbook = _("{where}: {text}").format(where=passages, text=_("; ").join(said))
    groups, around, copies, said = _match(groups, pieces, handbook)
    notes += [_("{parts}.").format(parts=handbook), *said]
    split_groups, said = _split(groups, pieces, plan)
    notes.append(said)
    pools = _pools(split_groups, pieces, around, plan)
    around = {query: [*own, *copies[query]] for query, own in around.items()}
    parts, dropped = {}, 0
    for part, own in split_groups.items():
        parts[part], n = _mined(own, first_stage(pools[part]), around, plan, part, reranker)
        dropped += n
    parts = _clean(parts, notes)
    test = len(parts["test"])
    index = first_stage([*(p.text for p in pieces), *(d for g in groups for d in g.positives)])
    done = _Prepared(
        parts, pieces, _recall(groups, index, pieces, notes), _suspects(groups, index, around, reranker), dropped,
        max(0, ceil((1.96 * _CHANGE / 0.03) ** 2) - test), notes, "BM25" if isinstance(index, Bm25) else _("The first stage"),
    )  # fmt: skip
    if out is not None:
        _write(out, done)
    return done


def _questions(questions, how):
    if isinstance(questions, list) and all(hasattr(g, "positives") for g in questions):
        groups, notes = list(questions), []
    else:
        found = read_data(questions, drop_repeated=True, **how)
        text = str(found).removesuffix(_(_NO_WRONG)).rstrip()  # they are about to be mined
        groups, notes = found.groups, [text]
    kept = [g for g in groups if g.positives]
    if not kept:
        raise InputError("No question has a right passage; give at least one a question.")
    if len(kept) < len(groups):
        notes.append(
            _("{n_groups} questions without a right passage are left out.").format(n_groups=len(groups) - len(kept))
        )
    return kept, notes


def _split(groups, pieces, plan):
    """Return ({part: groups}, a sentence on how they were split)."""
    of = {normalise(p.text): p for p in pieces}
    homes = [next((of[normalise(d)].document for d in g.positives if normalise(d) in of), "") for g in groups]
    several = {p.document for p in pieces if p.place}
    by = plan.by
    if by == "auto":
        by = "query"
        if all(g.topic for g in groups) and len({g.topic for g in groups}) > 5:
            by = "topic"
        elif sum(h in several for h in homes) > len(groups) / 2 and len(set(homes)) > 5:
            by = "document"
    topics = {"document": homes, "topic": [g.topic for g in groups]}.get(by)
    found = _split_twins(groups, plan.fractions, plan.seed, topics)
    counts = " / ".join(str(len(part)) for part in found)
    said = _("Split by {by}: {counts} questions for train, dev and test.").format(by=by, counts=counts)
    return dict(zip(PARTS, found, strict=True)), said


def _pools(parts, pieces, around, plan):
    """Return {part: texts that its negatives come from}."""
    home = {}  # document or text -> part
    of = {normalise(p.text): p.document for p in pieces}
    for part in reversed(PARTS):  # a document with right passages in two parts goes to train
        for g in parts[part]:
            for d in (*g.positives, *around.get(g.query, ())):
                home[of.get(normalise(d), normalise(d))] = part
    random_, pools = random.Random(f"pools-{plan.seed}"), defaultdict(list)
    right = {part: list(dict.fromkeys(d for g in own for d in g.positives)) for part, own in parts.items()}
    finders = {part: _near_index(texts, **DOCUMENTS) for part, texts in right.items() if texts}
    free, shown = dict.fromkeys(p.document for p in pieces if p.document not in home), {}
    for document in free:
        shown[document] = random_.choices(PARTS, plan.fractions)[0]
    for p in pieces:
        near = [part for part, find in finders.items() if find(p.text)]
        part = home.get(p.document) or shown[p.document]
        if not near or near == [part]:
            pools[part].append(p.text)
        elif len(near) == 1 and p.document in free:
            pools[near[0]].append(p.text)
    for part, texts in right.items():
        pools[part] = list(dict.fromkeys([*pools[part], *texts]))
    return pools


def _mined(groups, index, around, plan, part, reranker):
    """Return (groups with negatives, candidates that the margin dropped); pieces around a right one are not taken."""
    shielded = []
    for g in groups:
        extra = [t for t in around.get(g.query, ()) if t not in g.documents]
        shielded.append(
            replace(g, documents=[*g.documents, *extra], relevance=[*g.relevance, *[1] * len(extra)], scores=())
        )
    hard = plan.hard * (1 if part == "train" else 2)
    mined = _mined_lists(
        shielded, index, hard, plan.random_negatives, plan.ranks, reranker, plan.margin, f"{plan.seed}-{part}"
    )
    out, dropped = [], 0
    for g, (own, liked) in zip(groups, mined, strict=True):
        extra = set(around.get(g.query, ())) - set(g.documents)
        own = _filled(own, index.texts, hard + plan.random_negatives, f"{plan.seed}-{part}-{g.query}", liked)
        dropped += len({*liked} - {*own.documents})
        out.append(own._pick([i for i, d in enumerate(own.documents) if d not in extra]))
    return out, dropped


def _filled(g, pool, least, seed, liked):
    """Return a group with at least ``least`` wrong documents: lay questions share few words with passages, and BM25 none.

    What the reranker liked too much (``liked``) is none of them, unless nothing else is there.
    """
    known = {normalise(d) for d in (*g.documents, *liked)}
    short = least - sum(r <= 0 for r in g.relevance)
    free = [t for t in pool if normalise(t) not in known] if short > 0 else []
    free = free or (liked if all(r > 0 for r in g.relevance) else [])
    more = random.Random(seed).sample(free, min(short, len(free))) if free else []
    return replace(g, documents=[*g.documents, *more], relevance=[*g.relevance, *[0] * len(more)])


def _clean(parts, notes):
    """Return parts in which nothing of one tells about another; raise InputError where a part is empty."""
    train, dev, test = (parts[p] for p in PARTS)
    before = sum(len(g.documents) for g in train)
    train = without_answers(train, [*dev, *test], near=True)
    gone = before - sum(len(g.documents) for g in train)
    if gone:
        notes.append(
            _("{gone} right answers of dev or test, or nearly such, left the training lists.").format(gone=gone)
        )
    parts = {"train": train, "dev": rankable(without_answers(dev, test, near=True)), "test": rankable(test)}
    for name, own in parts.items():
        if not own:
            raise InputError("No question of {name} has a negative; give more passages or more questions.", name=name)
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        check_no_leak(parts[one], parts[other], (one, other))
    rest = [*parts["dev"], *parts["test"]]
    assert not leaks(parts["train"], rest, near=False, kinds=("answers",)).answers
    assert not leaks(parts["train"], rest, kinds=("documents",)).near_documents
    return parts


def _recall(groups, index, pieces, notes):
    """Return {k: share of questions with a right passage among the first k of BM25 over all passages}.

    A right text that is in no passage is nothing that a search could find: such questions do not count, and ``notes`` says so.
    """
    known = {p.text for p in pieces}
    asked = [g for g in groups if known & set(g.positives)]
    if len(asked) < len(groups):
        said = _(
            "What the search finds is counted over {n:,} questions; no passage is the right text of the other {other:,}."
        )
        notes.append(said.format(n=len(asked), other=len(groups) - len(asked)))
    bar = tqdm(asked, unit="query", desc=_("recall"), disable=None, delay=2)
    depth = max(_DEPTHS) + len(set(index.texts) - known)
    ranked = [[t for t in index.top(g.query, depth) if t in known] for g in bar]
    return {
        k: sum(any(t in g.positives for t in own[:k]) for g, own in zip(asked, ranked, strict=True))
        / max(1, len(asked))
        for k in _DEPTHS
    }


def _suspects(groups, index, around, reranker):
    """Return (question, passage, right passage) of passages that may be right too: above the right one, by all judges."""
    found = []
    for g in groups:
        best = index.top(g.query, 10)
        places = [i for i, t in enumerate(best) if t in g.positives]
        known = {normalise(t) for t in (*g.documents, *around.get(g.query, ()))}
        above = [t for t in best[: places[0] if places else 0] if normalise(t) not in known][:3]
        found += [(g.query, t, g.positives[0]) for t in above]
    if reranker is not None and found:
        scores = reranker.score_groups([(q, (t, right)) for q, t, right in found])
        found = [one for one, (s, right) in zip(found, scores, strict=True) if s >= right]
    return found


def _write(out, done):
    """Write all files into a folder that is whole or not there."""
    with whole_folder(out, hashed=True) as folder:
        for part, groups in done.parts.items():
            _write_lines(folder / f"{part}.jsonl", _as_rows(groups))
        rows = [{"id": p.id, "document": p.document, "text": p.text} for p in done.passages]
        _write_lines(folder / "passages.jsonl", rows)
        rows = [dict(zip(("query", "passage", "right"), s, strict=True)) for s in done.suspects]
        _write_lines(folder / "suspects.jsonl", rows)
        (folder / "report.txt").write_text(f"{done}\n", encoding="utf-8")
