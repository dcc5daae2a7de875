"""Checks for the exercises of lesson 02, Data."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from course_utils.checks import _attempt, _careful, need, ok
from course_utils.data.groups import Group
from course_utils.data.negatives import mine
from course_utils.data.read import read_pairs
from course_utils.errors import InputError
from course_utils.language import _
from course_utils.model import prompt, sigmoid

ROWS = [
    {"query": "糖尿病症状", "document": " 多饮、多尿、体重下降。 ", "relevance": "Yes"},
    {"query": "糖尿病症状", "document": "低盐饮食有助于控制血压。", "relevance": 0},
    {"query": "糖尿病症状", "document": "低盐饮食有助于控制血压。", "relevance": "NO "},
    {"query": "what is gout", "document": "A joint disease.", "relevance": "1"},
    {"query": "what is gout", "document": "Sudden pain in a toe.", "relevance": 1},
    {"query": "what is gout ", "document": "Sudden pain in a toe.", "relevance": 0},
    {"query": "what is gout", "document": "  ", "relevance": 0},
    {"query": "what is gout", "document": "A kind of grape.", "relevance": "maybe"},
    {"query": "what is gout", "document": "A long walk."},
    {"query": None, "document": "A long walk.", "relevance": 0},
    {"query": "flu", "document": "A fever that comes with a virus.", "relevance": " 0"},
]
_CLEAN = [
    ("糖尿病症状", "多饮、多尿、体重下降。", 1),
    ("糖尿病症状", "低盐饮食有助于控制血压。", 0),
    ("what is gout", "A joint disease.", 1),
    ("flu", "A fever that comes with a virus.", 0),
]


@_careful
def check_clean(clean):
    """Exercise 1: ``clean(rows)`` returns (query, document, relevance) of the rows that can be used."""
    words = dict.fromkeys(("KeyError", "AttributeError", "TypeError"), _("Rows may lack a field, or hold None."))
    found = [tuple(row) for row in _attempt(clean, [dict(row) for row in ROWS], **words)]
    for query, document, relevance in found:
        need(
            query == query.strip() and document == document.strip(),
            'There are spaces around "{query}" or its document.',
            query=query,
        )
        need(
            type(relevance) is int and relevance in (0, 1),
            "The relevance {relevance!r} is not the number 0 or 1: turn words and texts into numbers.",
            relevance=relevance,
        )
    contradicted = [p for p in found if p[1] == "Sudden pain in a toe."]
    need(
        not contradicted, "One pair carries both labels (look at the space behind a query): neither row can be trusted."
    )
    need(len(set(found)) == len(found), "A pair stands twice: keep the first.")
    missing, extra = [p for p in _CLEAN if p not in found], [p for p in found if p not in _CLEAN]
    labels = {p: r["relevance"] for p in missing for r in ROWS if r["document"] and r["document"].strip() == p[1]}
    need(
        not missing,
        "{missing} is missing from what you return; its label is written {labels!r}.",
        missing=missing[:1],
        labels=labels.get((missing or [None])[0]),
    )
    need(not extra, "{extra} should have been left out.", extra=extra[:1])
    need(found == _CLEAN, "The rows are right, but not in their order in the file.")
    read_pairs([dict(zip(("query", "document", "relevance"), p, strict=True)) for p in found])
    ok(
        "Right: {n_found} of {n_rows} rows can be used, and read_pairs accepts them.",
        n_found=len(found),
        n_rows=len(ROWS),
    )


# What people write, and what to say to it; rules take logits of right answers, logits of candidates, the margin.
_MARGIN_MISTAKES = (
    ("You compare logits; turn both into probabilities first.", lambda r, c, m: c <= m * max(r)),
    ("You keep everything; drop what lies above the limit of probabilities.", lambda r, c, m: [True] * len(c)),
    ("It is turned round: True keeps probabilities up to the limit.", lambda r, c, m: sigmoid(c) > m * sigmoid(max(r))),
    ("You take the worst right answer; take the best of the probabilities.", lambda r, c, m: sigmoid(c) <= m * sigmoid(min(r))),
    ("You take the first right answer; take the best of the probabilities.", lambda r, c, m: sigmoid(c) <= m * sigmoid(r[0])),
    ("You leave the margin out: multiply the best of the probabilities by it.", lambda r, c, m: sigmoid(c) <= sigmoid(max(r))),
    ("You always take 0.95; take the margin that is given.", lambda r, c, m: sigmoid(c) <= 0.95 * sigmoid(max(r))),
    ("You take the margin alone; multiply it by the best of the probabilities.", lambda r, c, m: sigmoid(c) <= m),
)  # fmt: skip


@_careful
def check_margin(kept):
    """Exercise 2: ``kept(right, candidates, margin)`` says for each candidate logit whether it stays as a negative."""
    random = np.random.default_rng(0)
    cases = []
    for case in range(30):
        margin = 0.95 if case % 2 else 0.7
        right, others = random.normal(1, 2, 1 + case % 3), random.normal(0, 2, 8)
        answer = [bool(k) for k in kept(right.tolist(), others.tolist(), margin)]
        need(
            len(answer) == 8, "For 8 candidates there are {n_answer} answers; give one for each.", n_answer=len(answer)
        )
        # The package's own filter decides, with a reranker that hands out these logits.
        texts = [f"word {i}" for i in range(8)]
        order = {}

        def score_groups(groups, right=right, others=others, order=order):
            order.update({t: others[int(t.split()[1])] for t in groups[1][1]})
            return [right, np.array([order[t] for t in groups[1][1]])]

        group = Group("word", tuple(f"right {i}" for i in range(len(right))), (1,) * len(right))
        settings = {"hard": 8, "random_negatives": 0, "margin": margin}
        found = mine([group], texts, reranker=SimpleNamespace(score_groups=score_groups), **settings)[0]
        cases.append((right, others, margin, answer, [t in found[0].documents for t in texts]))
    wrong = [(r, o[i], e[i]) for r, o, _m, a, e in cases for i in range(8) if a[i] != e[i]]
    if wrong:
        right, other, stays = wrong[0]
        fits = [
            text for text, rule in _MARGIN_MISTAKES
            if all(a == [bool(k) for k in rule(r, o, m)] for r, o, m, a, _ in cases)
        ]  # fmt: skip
        advice = _(fits[0]) if fits else _("Compare probabilities, not logits, with the best right answer.")
        need(
            False,
            _("Right answers with logits {right}, a candidate with {other:.2f}: it should {word}. {advice}").format(
                right=np.round(right, 2).tolist(),
                other=other,
                word=_("stay") if stays else _("be dropped"),
                advice=advice,
            ),
        )
    ok("Right: the same candidates stay as with negatives.mine, in 30 random cases.")


class _Salted(str):
    # A topic whose hash is what it might be in another run of Python: sets come in another order.
    def __hash__(self):
        return hash(("another run", str(self)))

    def __eq__(self, other):
        return str(self) == str(other)


@_careful
def check_split_by_topic(split_by_topic):
    """Exercise 3: ``split_by_topic(groups, share, seed)`` returns (train, test) that share no topic."""
    sizes = [1 if t % 20 else 30 for t in range(40)]  # so uneven that a share of the groups is no share of the topics
    groups = [
        Group(f"q{t}-{i}", (f"d{t}-{i}", "x"), (1, 0), f"topic {t}") for t, n in enumerate(sizes) for i in range(n)
    ]
    for seed, share in ((0, 0.25), (1, 0.25), (2, 0.4), (3, 0.4)):
        train, test = split_by_topic(list(groups), share, seed)
        again = split_by_topic(list(groups), share, seed)
        need(
            [g.query for g in train] == [g.query for g in again[0]],
            "Two calls with the same seed differ: use random.Random(seed), not the module's own functions.",
        )
        salted = split_by_topic([replace(g, topic=_Salted(g.topic)) for g in groups], share, seed)
        need(
            [g.query for g in train] == [g.query for g in salted[0]],
            "Your split hangs on the order of a set, which changes from one start of Python to the next: sort the topics "
            "before you shuffle them.",
        )
        both = [g.query for g in [*train, *test]]
        need(sorted(both) == sorted(g.query for g in groups), "Every group should be in exactly one part.")
        shared = {g.topic for g in train} & {g.topic for g in test}
        need(
            not shared,
            'The topic "{shared}" is in both parts: shuffle topics, not groups.',
            shared=min(shared, default=""),
        )
        part = len({g.topic for g in test}) / 40
        need(
            abs(part - share) < 0.06,
            "The test part holds {part:.0%} of the topics; a share of {share:.0%} was asked for.",
            part=part,
            share=share,
        )
    first, second = ({g.topic for g in split_by_topic(list(groups), 0.25, seed)[1]} for seed in (0, 1))
    need(first != second, "Another seed should give another split.")
    ok("Right: no topic is in both parts, nothing is lost, and the seed decides.")


@_careful
def check_max_length(smallest, tokenizer):
    """Exercise 4: ``smallest(tokenizer, groups, share)`` is the least max_length that cuts at most that share."""
    # Some lengths stand several times and some once, so that counts matter and the next place is another length.
    texts = ["痛风发作时脚趾红肿疼痛。" * n for n in (2, 2, 2, 2, 3, 3, 5, 7, 9, 10)] + [
        "A joint hurts at night and the skin is red. " * n for n in (2, 2, 2, 3, 4, 5, 6, 9, 11, 12)
    ]
    groups = [Group("what is gout 痛风", tuple(texts), (1,) + (0,) * (len(texts) - 1))]
    pairs = groups

    def cut(length):
        try:
            return prompt._encode_groups(tokenizer, pairs, max_length=length).truncated / len(texts)
        except InputError:
            return 1.0

    for share in (0.0, 0.1, 0.5):
        outside = _("With n lengths the last place is n - 1; no document may be cut when the share is 0.")
        length = _attempt(smallest, tokenizer, groups, share, IndexError=outside)
        need(length is not None, "Your function returns nothing; end it with return.")
        length = int(length) if isinstance(length, np.integer) else length
        need(isinstance(length, int), "{length!r} is not a whole number of tokens.", length=length)
        need(
            cut(length) <= share,
            _(
                "max_length {length} cuts {cut:.0%} of the documents, more than {share:.0%}. Count the whole prompt."
            ).format(length=length, cut=cut(length), share=share),
        )
        need(
            cut(length - 1) > share,
            _("For {share:.0%}, max_length {length} is enough, but {length_2} would be too.").format(
                share=share, length=length, length_2=length - 1
            ),
        )
    ok("Right: one token less would cut too many, for three shares.")
