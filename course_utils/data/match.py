"""Find the right documents of questions among the passages of a handbook."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import PurePath

from course_utils.data.columns import _choices
from course_utils.data.near import DOCUMENTS, _near_index
from course_utils.data.negatives import _SearchBm25
from course_utils.errors import InputError
from course_utils.language import _
from course_utils.text import CJK, _bare, _name, _units, normalise


def _match(groups, pieces, handbook):
    """Return (groups whose right documents are passages, {query: neighbours}, {query: copies}, sentences).

    Neighbours and copies are texts that must not be negatives of the query.

    A right document may be the name of a passage or of its document, the same text, a part of a passage, a text that was
    cut into several, or nearly the same as one. Of several pieces the one that BM25 likes best stands for the right one;
    the others, and the neighbours that share its sentences, are no negatives: a piece beside the answer often answers too.
    Nor are copies: passages that hold the text of the answer or are nearly the same as a right one. A list of names, such
    as "005; 006", is the passages called so.

    Args:
        groups: list of Group with right documents.
        pieces: list of Passage.
        handbook: what was read as pieces, in words.

    Raises:
        InputError: half of the right documents or more look like ids and no passage is called so.
    """
    index, kinds, around, copies, out = _Index(pieces), defaultdict(list), {}, {}, []
    groups = [index.split(g) for g in groups]
    places = {d: index.find(d) for g in groups for d in g.positives}
    ids = any(kind == "named" for kind, _found in places.values())  # then a short text of no passage is a wrong id
    for g in groups:
        right, near, held, labels = [], {}, {}, dict(zip(g.documents, g.relevance, strict=True))
        for document in g.positives:
            kind, found = places[document]
            kind = "strange" if ids and kind == "unknown" and index.looks_like_id(document) else kind
            kinds[kind].append(document)
            if kind == "strange":
                continue
            best = index.best(g.query, found) if len(found) > 1 and kind != "inside" else found
            texts = [p.text for p in best] if kind not in ("nearly", "unknown") else [document]
            right += [(t, labels[document]) for t in texts if t not in dict(right)]
            held |= {t: None for d in {*texts, *[document][kind == "named" :]} for t in index.holding(d)}
            near |= {p.text: None for piece in found for p in index.beside(piece)}
        wrong = {}
        for document, r in zip(g.documents, g.relevance, strict=True):
            name = index.names.get(_name(document), []) if ids and r <= 0 else []
            text = index.best(g.query, name)[0].text if name else document
            if r <= 0 and text not in dict(right) and (name or not (ids and index.looks_like_id(document))):
                wrong[text] = r
        own = [*right, *wrong.items()]
        out.append(replace(g, documents=[d for d, _ in own], relevance=[r for _, r in own], scores=()))
        around[g.query] = [t for t in near if t not in dict(own)]
        copies[g.query] = sorted(held.keys() - near.keys() - dict(own).keys())
    out, gone = [g for g in out if g.positives], sum(not g.positives for g in out)
    said = {
        "named": _("by the name of a passage"),
        "same": _("are a passage as it stands"),
        "inside": _("are part of a passage, which is taken whole"),
        "cut": _("were cut into several passages, of which the best match is taken"),
        "nearly": _("are nearly the same as a passage and are kept as they are"),
        "unknown": _('are in no passage, for example "{example}", and stand in the lists alone'),
        "strange": _(
            'look like ids that no passage has, for example "{wrong}", and are left out, and with them {gone} questions'
        ),
    }
    total, unknown = sum(map(len, kinds.values())), kinds["unknown"]
    strange = kinds["strange"] or [d for d in unknown if index.looks_like_id(d)]
    if 2 * len(strange) >= total:
        raise InputError(
            '{count:,} of {total:,} right documents of the questions look like ids of passages, for example "{name}", but '
            "the passages are called {called} and so on ({handbook}); name the column with these ids, "
            'passage_columns={{"id": "..."}} (--passage-columns id=COLUMN), call the files so, or give whole passages.',
            count=len(strange), total=total, name=strange[0], called=_choices([p.id for p in pieces[:2]]), handbook=handbook,
        )  # fmt: skip
    some = {"example": "".join(unknown[:1])[:40], "wrong": "".join(strange[:1]), "gone": gone}
    parts = _("; ").join(f"{len(kinds[kind]):,} {w.format(**some)}" for kind, w in said.items() if kinds[kind])
    said = [_("Of {counts:,} right documents {parts}.").format(counts=total, parts=parts)]
    if n := sum(map(len, copies.values())):
        said.append(_("{n:,} times a passage holds a right answer too or is nearly the same as it: no wrong one of its question.").format(n=n))  # fmt: skip
    return out, around, copies, said


def _named(text):
    """Return the parts of a text that may be a list of names: "005; 006"."""
    return [part.strip() for part in re.split(r"[;,|/\n；，、]", text) if part.strip()]


def _possible_names(text):
    """Return what a text may name: itself, and the parts of a list of ids; an id such as "HB/12" stays whole."""
    return [text, *(_named(text) if _is_id(text) and "/" not in text else ())]


def _is_id(text):
    """Return whether a text can only name passages: "N-047", "§ 12", "rules.txt", "第甲子条", "3.1.2.4; 3.1.2.5"."""
    short = len(text) <= 40 and _units(text) <= (8 if re.search(f"[{CJK}]", text) else 3)
    parts = _named(text)  # with a digit in each, and few Chinese characters: else it is a sentence
    return short or all(re.fullmatch(r"(?=.*\d)\S{1,12}", p) and len(re.findall(f"[{CJK}]", p)) <= 3 for p in parts)


def _other_names(document):
    """Return what people call a document beside its name: a file without its folder or suffix, "7" for the number 007."""
    place = PurePath(document)
    file = re.fullmatch(r"\.[A-Za-z]\w{1,7}", place.suffix)  # "4/1.2" of a row is none
    return {name for name in ((place.name, place.stem) if file else (_bare(document),)) if name}


class _Index:
    # Ways to find a passage: by name, by text, by a part of it, by likeness.

    def __init__(self, pieces):
        self.pieces = pieces
        self.names, self.texts, self.documents = defaultdict(list), defaultdict(list), defaultdict(list)
        for p in pieces:
            for name in {p.id, p.document}:
                self.names[_name(name)].append(p)
            self.texts[normalise(p.text)].append(p)
            self.documents[p.document].append(p)
        others = defaultdict(list)  # what else a passage may be called, where no passage has that for its name
        for p in pieces:
            for name in _other_names(p.document):
                others[_name(name)].append(p)
        self.names |= {name: own for name, own in others.items() if name not in self.names}
        self.all = {key: normalise(" ".join(p.text for p in own)) for key, own in self.documents.items()}
        self.near = _near_index([p.text for p in pieces], **DOCUMENTS)
        self.held = {}

    def looks_like_id(self, document):
        """Return whether a text is a name by its form, and no short answer that stands in a passage: "2 weeks"."""
        plain = normalise(document)
        return _is_id(document) and not (_units(document) > 1 and any(plain in text for text in self.texts))

    def split(self, g):
        """Return a group with the names of a list instead of the list, where all are names of passages."""
        own = {}
        for d, r in zip(g.documents, g.relevance, strict=True):
            parts = [d] if _name(d) in self.names or normalise(d) in self.texts else _named(d) or [d]
            for part in parts if all(_name(p) in self.names for p in parts) else [d]:
                own[part] = max(r, own.get(part, r))
        return replace(g, documents=[*own], relevance=[*own.values()], scores=())

    def holding(self, document):
        """Return the passages that hold a text, or are nearly the same."""
        if document not in self.held:
            plain = normalise(document)
            long = _units(plain) > 4  # a shorter one stands in many passages that answer nothing
            found = [p.text for text, own in self.texts.items() if long and plain in text for p in own]
            self.held[document] = [*found, *(self.pieces[i].text for i, _ in self.near(document))]
        return self.held[document]

    def find(self, document):
        """Return (how it was found, list of Passage)."""
        plain = normalise(document)
        if plain in self.texts:
            return "same", self.texts[plain][:1]
        own = self.names.get(_name(document), [])
        if len({p.document for p in own}) == 1:
            return "named", own
        if len(plain) >= 20:
            inside = [p for text, own in self.texts.items() if plain in text for p in own[:1]]
            if inside:
                return "inside", inside[:1]
            pieces = [p for text, own in self.texts.items() if len(text) >= 20 and text in plain for p in own]
            if pieces:
                return "cut", pieces
            home = next((key for key, text in self.all.items() if plain in text), None)
            if home is not None:  # it runs over the seam of two pieces
                return "cut", self.documents[home]
        alike = sorted(self.near(document), key=lambda m: -m[1])
        return ("nearly", [self.pieces[i] for i, _ in alike]) if alike else ("unknown", [])

    def best(self, query, pieces):
        """Return the one of several passages that BM25 likes best for a query, as a list."""
        texts = [p.text for p in pieces]
        scores = _SearchBm25(texts).scores(query) if len(set(texts)) == len(texts) else []
        return [pieces[int(scores.argmax())] if len(scores) else pieces[0]]

    def beside(self, piece):
        """Return a passage and its neighbours in the document, which share sentences with it."""
        return [p for p in self.documents[piece.document] if abs(p.place - piece.place) <= 1]
