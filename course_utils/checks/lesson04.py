"""Checks for the exercises of lesson 04, Training."""

import math
import random

import torch
from torch.nn.functional import cross_entropy

from course_utils.checks import _careful, need, ok
from course_utils.data.groups import Group
from course_utils.language import _


@_careful
def check_listwise(listwise):
    """Exercise 1: ``listwise(scores, labels)`` of one query; every right document against the wrong ones."""
    generator = torch.Generator().manual_seed(0)
    for n, right in ((3, [1]), (8, [0]), (8, [2, 5]), (6, [0, 1, 2, 3])):
        scores = 3 * torch.randn(n, generator=generator)
        labels = torch.zeros(n)
        labels[right] = 1
        # torch's own cross-entropy: one row a right document, which stands in front of all wrong ones.
        wrong = scores[labels == 0]
        rows = torch.stack([torch.cat([scores[[i]], wrong]) for i in right])
        expected = float(cross_entropy(rows, torch.zeros(len(right), dtype=torch.long)))
        answer = listwise(scores.clone().requires_grad_(), labels.clone())
        need(answer is not None, "The function returns nothing yet: end it with return and the loss.")
        need(torch.as_tensor(answer).numel() == 1, "Return one number: the mean over the right documents.")
        need(
            isinstance(answer, torch.Tensor) and answer.requires_grad,
            "Your loss carries no gradient, so nothing would train: stay with tensors, without float, item, detach or numpy.",
        )
        answer = float(answer.detach())
        alone = float((torch.logsumexp(wrong, 0) - scores[right]).mean())
        crowd = float(-torch.log_softmax(scores, 0)[right].mean())
        what = _("{n} documents, {n_right} of them right").format(n=n, n_right=len(right))
        need(
            len(right) == 1 or not math.isclose(answer, crowd, rel_tol=1e-4),
            "With {what}, you let right documents compete with each other; put each against the wrong ones alone.",
            what=what,
        )
        need(
            len(right) == 1 or not math.isclose(answer, expected * len(right), rel_tol=1e-4),
            "With {what}, you return the sum; take the mean over the right documents.",
            what=what,
        )
        need(
            not math.isclose(answer, alone, rel_tol=1e-4),
            "With {what}, the softmax goes over the wrong documents alone; the right document itself belongs in it.",
            what=what,
        )
        need(not math.isclose(answer, -expected, rel_tol=1e-4), "The sign is turned round: a loss is above 0.")
        need(
            math.isclose(answer, expected, rel_tol=1e-4, abs_tol=1e-6),
            _("With {what}, the loss is {expected:.4f}; you return {answer:.4f}.").format(
                what=what, expected=expected, answer=answer
            ),
        )
    answer = float(listwise(torch.tensor([1000.0, 990.0, -1000.0]), torch.tensor([0.0, 1.0, 0.0])))
    need(math.isfinite(answer), "With scores of 1000 your loss is not a number: exp overflows. Use torch.logsumexp.")
    need(
        abs(answer - 10) < 0.01,
        "With scores 1000, 990 (right) and -1000 the loss is 10; you return {answer:.4f}.",
        answer=answer,
    )
    ok("Right: the same as torch's cross-entropy, for one and for several right documents, and without overflow.")


@_careful
def check_epoch(epoch_to_keep):
    """Exercise 2: ``epoch_to_keep(history)`` returns the number of the epoch whose weights are worth keeping."""

    def history(ndcg, dev_loss, first=0):
        return [
            {"epoch": first + i, "loss": None if first + i == 0 else 2 / (first + i), "dev_loss": b, "ndcg@10": a}
            for i, (a, b) in enumerate(zip(ndcg, dev_loss, strict=True))
        ]

    cases = (
        (_('dev nDCG@10 rises to the end'), history([0.5, 0.6, 0.7, 0.8], [2.0, 1.5, 1.2, 1.1]), 3),
        (_('dev nDCG@10 is best in epoch 2 and the training loss falls on'), history([0.5, 0.6, 0.7, 0.6], [2, 1.5, 1.2, 1.4]), 2),
        (_('dev loss is lowest in epoch 1, dev nDCG@10 best in epoch 3'), history([0.5, 0.6, 0.62, 0.7], [2, 1.1, 1.3, 1.5]), 3),
        (_('no epoch beats the base'), history([0.5, 0.4, 0.45], [2.0, 2.5, 2.4]), 0),
        (_('epochs 2 and 4 are equally good, and the earlier one is further from overfitting'), history([0.5, 0.6, 0.7, 0.6, 0.7], [2, 1.5, 1.2, 1.3, 1.4]), 2),
        (_('the history begins with epoch 1'), history([0.5, 0.7, 0.6], [2, 1.5, 1.6], first=1), 2),
    )  # fmt: skip
    for what, rows, expected in cases:
        answer = epoch_to_keep([dict(row) for row in rows])
        need(
            answer == expected,
            _("When {what}, keep epoch {expected}; you return {answer}.").format(
                what=what, expected=expected, answer=answer
            ),
        )
    ok("Right: {n_cases} histories, among them one in which the base stays best.", n_cases=len(cases))


def moved_labels(groups, share, seed=0):
    """Return (groups, indices): in a share of the groups the right label sits on a wrong document.

    The number of right documents stays, so that counting does not find them.
    """
    random_ = random.Random(seed)
    chosen = set(random_.sample(range(len(groups)), round(share * len(groups))))
    out = []
    for i, g in enumerate(groups):
        relevance = g.relevance
        if i in chosen:
            labels = list(relevance)
            a = random_.choice([j for j, r in enumerate(labels) if r])
            b = random_.choice([j for j, r in enumerate(labels) if not r])
            labels[a], labels[b] = 0, 1
            relevance = tuple(labels)
        out.append(Group(g.query, g.documents, relevance, g.topic))
    return out, chosen


@_careful
def check_suspects(suspects):
    """Exercise 3: ``suspects(groups, scores)`` returns all indices of groups, most suspicious first."""
    random_ = random.Random(0)
    clean = [
        Group(f"query {i}", tuple(f"document {i} {j}" for j in range(8)), tuple(int(j in right) for j in range(8)))
        for i in range(50)
        for right in [random_.sample(range(8), random_.choice([1, 1, 2]))]
    ]
    # A model that ranks each query as it should be; its scores differ in level from query to query.
    scores = []
    for g in clean:
        level = random_.gauss(0, 5)
        scores.append([level + 3 * r + random_.uniform(-1, 1) for r in g.relevance])
    groups, moved = moved_labels(clean, 0.2)
    answer = suspects(groups, scores)
    need(answer is not None, "The function returns nothing yet: end it with return and the indices.")
    answer = list(answer)
    strange = next((a for a in answer if not hasattr(a, "__index__")), None)
    need(strange is None, "You return a {kind}; return indices of groups, 0, 1 and so on.", kind=type(strange).__name__)
    answer = [int(i) for i in answer]
    need(
        sorted(answer) == list(range(len(groups))),
        "Return each index from 0 to {n_groups} once.",
        n_groups=len(groups) - 1,
    )
    first, last = set(answer[: len(moved)]), set(answer[-len(moved) :])
    need(len(last & moved) < 0.8 * len(moved), "The order is turned round: the most suspicious comes first.")
    need(
        first == moved,
        "Of {n_moved} queries with a moved label you list {n_first} among the first {n_moved}. Judge the order "
        "within each query; the level of the scores differs from query to query.",
        n_moved=len(moved),
        n_first=len(first & moved),
    )
    ok(
        "Right: the {n_moved} queries with a moved label stand in front of the other {n_groups}.",
        n_moved=len(moved),
        n_groups=len(groups) - len(moved),
    )


@_careful
def check_batches(batches):
    """Exercise 4: ``batches(lengths, size)`` returns lists of indices; little padding, no more batches than needed."""
    random_ = random.Random(0)

    def computed(lengths, parts):
        return sum(len(b) * max(lengths[i] for i in b) for b in parts)

    def sliced(order, size):
        return [order[i : i + size] for i in range(0, len(order), size)]

    for n, size in ((8, 4), (30, 8), (101, 8), (5, 16)):
        lengths = [random_.choice((30, 60, 90, 400)) + random_.randint(0, 20) for _ in range(n)]
        parts = batches(list(lengths), size)
        need(parts is not None, "The function returns nothing yet: end it with return and the batches.")
        need(all(hasattr(b, "__len__") for b in parts), "Return a list of lists: each batch is a list of indices.")
        parts = [list(b) for b in parts]
        what = _("With {n} prompts and a size of {size}").format(n=n, size=size)
        flat = sorted(i for b in parts for i in b)
        need(
            flat != sorted(lengths),
            "{what}, you return lengths; return indices into lengths, from 0 to {n}.",
            what=what,
            n=n - 1,
        )
        need(flat == list(range(n)), "{what}, not every index from 0 to {n} occurs once.", what=what, n=n - 1)
        need(
            all(0 < len(b) <= size for b in parts),
            "{what}, a batch is empty or holds more than {size}.",
            what=what,
            size=size,
        )
        need(
            len(parts) == -(-n // size),
            _(
                "{what}, {n} batches are enough; you make {n_parts}. Batches of one or two have little padding, but no speed."
            ).format(what=what, n=-(-n // size), n_parts=len(parts)),
        )
        up = sorted(range(n), key=lengths.__getitem__)
        bound = max(computed(lengths, sliced(up, size)), computed(lengths, sliced(up[::-1], size)))
        tokens = computed(lengths, parts)
        need(
            tokens <= bound,
            _("{what}, {tokens} tokens are computed, padding included; {bound} are enough.").format(
                what=what, tokens=tokens, bound=bound
            ),
        )
    ok("Right: every prompt once, full batches, as little padding as sorting gives.")


@_careful
def check_search(search):
    """Exercise 5: ``search(measure, start)`` returns the best rate, factor 4 apart, winner inside what was tried."""
    for steps in (0, 1, -1, 3, -4):
        peak, tried = 5e-4 * 4.0**steps, []

        def measure(rate, peak=peak, tried=tried):
            need(
                len(tried) < 40,
                "With the best rate at {peak:.2g}, your search does not stop: {n_tried} runs so far.",
                peak=peak,
                n_tried=len(tried),
            )
            tried.append(float(rate))
            return 0.8 - 0.05 * abs(math.log(rate / peak, 4))

        answer = search(measure, 5e-4)
        what = _("With the best rate at {peak:.2g}").format(peak=peak)
        again = next((rate for i, rate in enumerate(tried) if any(math.isclose(rate, t) for t in tried[:i])), None)
        need(
            again is None,
            "{what}, you measured the rate {again} twice. Keep each result and look it up.",
            what=what,
            again=again,
        )
        need(
            answer is not None and math.isclose(answer, peak, rel_tol=0.01),
            "{what}, you return {answer}.",
            what=what,
            answer=answer,
        )
        inside = tried and min(tried) < 0.9 * peak and max(tried) > 1.1 * peak
        need(inside, "{what}, the winner lies at the edge of what you tried.", what=what)
        need(
            len(tried) <= abs(steps) + 3,
            _("{what}, {steps} runs are enough; you made {n_tried}.").format(
                what=what, steps=abs(steps) + 3, n_tried=len(tried)
            ),
        )
    slope = []

    def rising(rate):
        need(len(slope) < 8, "When the result rises with every rate, stop after 8 runs; you start one more.")
        slope.append(float(rate))
        return float(rate)

    answer = search(rising, 5e-4)
    need(
        len(slope) == 8 and answer == max(slope),
        "When the result rises with every rate, make 8 runs and return the highest rate; you make {n_slope} and "
        "return {answer}.",
        n_slope=len(slope),
        answer=answer,
    )
    ok("Right: five hills, each top found and seen from both sides, without a wasted run.")
