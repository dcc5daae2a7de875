"""Checks for the exercises of lesson 01, How a reranker thinks."""

import numpy as np
import torch

from course_utils.checks import _attempt, _careful, _judged, need, ok
from course_utils.checks.lesson03 import _small_model
from course_utils.data.negatives import Bm25
from course_utils.language import _, _later
from course_utils.model import prompt
from course_utils.model.reranker import Ranked, sigmoid

_LIBRARY = (
    "Rinse the rice and boil it in water.",
    "Rice is grown in wet fields.",
    "Cooked rice keeps for two days in the fridge.",
    "The bus to the airport leaves at noon.",
    "低盐饮食有助于控制血压。",
    "高血压患者可以散步和游泳。",
)


@_careful
def check_probability(probability):
    """Exercise 1: ``probability(yes, no)`` is the softmax of two logits at "yes"."""
    for yes, no in ((0.0, 0.0), (3.0, 3.0), (2.5, -1.0), (-4.0, 1.5), (31.0, 30.0), (900.0, 10.0), (-5.0, 880.0)):
        answer = _attempt(
            probability, yes, no,
            OverflowError=_('The power is too large to compute. Take e to a negative power.'),
            ZeroDivisionError=_('Logits are no shares: they may be 0 or below. Take e to the power of each, then the share.'),
        )  # fmt: skip
        expected = float(torch.softmax(torch.tensor([no, yes], dtype=torch.float64), 0)[1])
        need(isinstance(answer, (int, float)), "{answer!r} is not one number.", answer=answer)
        need(
            yes == no or abs(answer - (1 - expected)) > 1e-6 or abs(answer - expected) < 1e-6,
            "With yes {yes:g} and no {no:g} you return the probability of no: turn the difference round.",
            yes=yes,
            no=no,
        )
        need(
            abs(answer - expected) < 1e-9,
            _("With yes {yes:g} and no {no:g} the probability is {expected:.4f}; you return {answer:.4f}.").format(
                yes=yes, no=no, expected=expected, answer=answer
            ),
        )
    ok("Right: the same as a softmax over the two, also for very large logits.")


class _CountingReranker:
    # Prefers long documents and keeps what it was asked; quick to run, easy to tell from BM25.

    def __init__(self):
        self.asked = []

    def rank(self, query, documents, top_k=None):
        """Return documents as Ranked, longest first, as ``Reranker.rank`` would."""
        documents = list(documents)
        need(documents, "The reranker was asked to rank nothing. Return an empty list when BM25 finds nothing.")
        self.asked.append(documents)
        order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
        return [Ranked(documents[i], float(len(documents[i])), float(sigmoid(1.0)), i) for i in order][:top_k]


@_careful
def check_search(search):
    """Exercise 2: ``search(index, reranker, query, k)`` retrieves k texts and returns them in the reranker's order."""
    index = Bm25(_LIBRARY)
    for query, k in (("how to boil rice", 3), ("how to boil rice", 2), ("高血压饮食", 2)):
        reranker, found = _CountingReranker(), index.top(query, k)
        answer = search(index, reranker, query, k)
        need(isinstance(answer, list), "Return a list of texts, not a {kind}.", kind=type(answer).__name__)
        need(all(isinstance(a, str) for a in answer), "Return the texts, not the objects of the ranking.")
        need(reranker.asked, "The reranker was never asked: BM25's order is only the first step.")
        need(
            sorted(reranker.asked[-1]) == sorted(found),
            _(
                'For "{query}" and k = {k} the reranker should read the {n_found} texts that BM25 found; it read {n_asked}.'
            ).format(query=query, k=k, n_found=len(found), n_asked=len(reranker.asked[-1])),
        )
        need(
            answer == sorted(found, key=lambda t: -len(t)),
            'For "{query}" the order is not the reranker\'s.',
            query=query,
        )
    need(search(index, _CountingReranker(), "zebra", 3) == [], "Where BM25 finds nothing, return an empty list.")
    ok("Right: the reranker's order of what BM25 found, and nothing where it found nothing.")


@_careful
def check_build(build, tokenizer):
    """Exercise 3: ``build(tokenizer, query, document, limit)`` returns ids of the prompt, only the document cut."""
    tail = tokenizer.encode(prompt.SUFFIX, add_special_tokens=False)
    pairs = (
        ("what is gout", "A joint disease with sudden pain in a toe. " * 12),
        ("痛风症状", "脚趾突然红肿疼痛。" * 20),
    )
    for query, document in pairs:
        whole = prompt._encode_groups(tokenizer, [(query, [document])]).full_ids(0, 0)
        for limit in (len(whole) + 5, len(whole) - 1, len(whole) - 40):
            expected = prompt._encode_groups(tokenizer, [(query, [document])], max_length=limit).full_ids(0, 0)
            answer = list(build(tokenizer, query, document, limit))
            name = _('For "{query}", {n_whole} tokens long, and limit {limit}').format(
                query=query, n_whole=len(whole), limit=limit
            )
            need(len(answer) <= limit, "{name} you return {n_answer} tokens.", name=name, n_answer=len(answer))
            need(answer[-len(tail) :] == tail, "{name} the prompt does not end in the suffix.", name=name)
            need(
                len(answer) == len(expected),
                _(
                    "{name} you return {n_answer} tokens; {n_expected} fit. Subtract prefix and suffix from the limit."
                ).format(name=name, n_answer=len(answer), n_expected=len(expected)),
            )
            head = prompt._common_prefix_length([expected, whole])
            tail_kept = (
                head < len(answer) and answer[-len(tail) - 8 :] == whole[-len(tail) - 8 :] and limit < len(whole)
            )
            need(
                answer == expected,
                _("{name} the ids differ from the package's. ").format(name=name)
                + (
                    _("You kept the document's end and left out what stands in front; leave out the end.")
                    if tail_kept
                    else _("Are the three parts in order?")
                ),
            )
    ok("Right: the ids of the package, token for token, at three limits and in two languages.")


@_careful
def check_head_row(head_row):
    """Exercise 4: ``head_row(model, yes_id, no_id)`` times the last state is logit(yes) - logit(no)."""
    for seed, (yes_id, no_id), tied in ((0, (7, 3), True), (1, (2, 40), True), (2, (11, 5), False)):
        model = _small_model(2, seed, tied)
        row = head_row(model, yes_id, no_id)
        need(isinstance(row, torch.Tensor), "Return a tensor, not a {kind}.", kind=type(row).__name__)
        need(
            tuple(row.shape) == (16,),
            "The row should be as long as a state, 16; its shape is {shape}.",
            shape=tuple(row.shape),
        )
        with torch.no_grad():
            out = model(input_ids=torch.arange(9)[None], output_hidden_states=True, use_cache=False)
            logits = out.logits[0, -1].numpy()
            score = float(row @ out.hidden_states[-1][0, -1])
        wanted = float(logits[yes_id] - logits[no_id])
        need(not np.isclose(score, -wanted, atol=1e-4), "The sign is turned round: yes minus no.")
        for token, own in (("yes", logits[yes_id]), ("no", logits[no_id])):
            need(
                not np.isclose(score, own, atol=1e-4),
                'Your row gives the logit of "{token}" alone, {score:.3f}; the score is a difference of two logits.',
                token=token,
                score=score,
            )
        kind = _("tied") if tied else _("untied")
        need(
            np.isclose(score, wanted, atol=1e-4),
            _(
                "On a model with {kind} embeddings the score is {wanted:.3f}, your row gives {score:.3f}. Take the rows "
                "of the output matrix."
            ).format(kind=kind, wanted=wanted, score=score),
        )
    ok("Right: one row, the same scores as the two logits, on three models.")


_PROGRAMS = {
    "A": ("fine", "three equal starts, far above dice"),
    "B": ("random", "three starts, three results"),
    "C": ("dice", "three equal starts, at the level of dice"),
    "D": ("turned", "three equal starts, far below dice: only an order that is turned round is so bad"),
    "E": ("random", "three results that differ: a high level does not excuse it"),
}


@_careful
def check_judge(judge):
    """Exercise 5: ``judge(program)`` returns "fine", "random", "dice" or "turned" for the programs A to E."""
    choose = _later('For {name} return "fine", "random", "dice" or "turned"; you return {answer!r}.')
    _judged(judge, _PROGRAMS, choose, _later("Look at {name} again: {why}."))
    ok("Right: five programs, one of them fit for use.")
