"""Wrong answers that people gave: each is refused in words that fit it, and none ends in a raw traceback."""

import math
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_checks_01 import front_cut
from test_checks_02 import kept, smallest, split_by_topic
from test_checks_04 import batches, suspects
from test_checks_05 import interval
from test_checks_06 import add_up, route_cost
from test_checks_07 import backward, gate, pull

from course_utils.checks import (
    NotYet,
    _careful,
    lesson00,
    lesson01,
    lesson02,
    lesson03,
    lesson04,
    lesson05,
    lesson06,
    lesson07,
    lesson08,
)  # fmt: skip
from course_utils.data import load_domain, subset, token_lengths
from course_utils.evaluation import evaluate_scores
from course_utils.model import sigmoid

LABELS = {"1": 1, "yes": 1, "0": 0, "no": 0}


def refused(words, check, *given):
    """Assert that a check says ``words``, and shows no frame but the learner's sentence."""
    with pytest.raises(NotYet, match=words) as found:
        check(*given)
    assert found.value.__cause__ is None and found.value.__suppress_context__
    assert found.value._render_traceback_() == [f"NotYet: {found.value}"]


def test_scores_are_no_ranking():
    documents = ["a", "b", "c", "d"]
    refused("holds a float32; keep what reranker.rank", lesson00.check_ranking, documents, 0, np.zeros(4, np.float32))
    refused("holds a str", lesson00.check_ranking, documents, 0, documents)


def test_ndcg_without_the_zero_case():
    def ndcg(labels):
        gains = [label / math.log2(rank + 1) for rank, label in enumerate(labels, 1)]
        best = sum(1 / math.log2(rank + 1) for rank in range(1, sum(labels) + 1))
        return sum(gains) / best

    words = r'ZeroDivisionError: .* at "return sum\(gains\) / best". It was given labels = \[0, 0, 0\]. Without a right'
    refused(words, lesson00.check_ndcg, ndcg)


def test_another_language_and_dev_taken_for_test():
    def run(groups):
        return evaluate_scores([np.arange(len(g.documents), 0, -1.0) for g in groups], groups)

    parts = {p: subset(load_domain("legal", "zh", p), 6) for p in ("train", "dev", "test")}
    before, done = run(parts["test"]), SimpleNamespace(best_epoch=0)
    lesson00.check_adapted(parts["train"], parts["dev"], parts["test"], before, before, done)
    english = {p: subset(load_domain("legal", "en", p), 6) for p in parts}
    own = run(english["test"])
    refused("legal, en", lesson00.check_adapted, english["train"], english["dev"], english["test"], own, own, done)
    medical = subset(load_domain("medical", "zh", "train"), 6)
    refused("medical, zh, train", lesson00.check_adapted, medical, parts["dev"], parts["test"], before, before, done)
    refused("share", lesson00.check_adapted, parts["train"], parts["test"], parts["test"], before, before, done)
    other = load_domain("legal", "zh", "test")
    rest = [g for g in other if g.query not in {h.query for h in parts["test"]}][:6]
    asked = "dev holds queries of legal, zh, test|share"
    refused(asked, lesson00.check_adapted, parts["train"], rest, parts["test"], before, before, done)


def test_logits_taken_for_shares():
    refused("Logits are no shares", lesson01.check_probability, lambda yes, no: yes / (yes + no))


def test_the_front_of_a_document_cut(tokenizer):
    refused("kept the document's end", lesson01.check_build, front_cut, tokenizer)


def test_one_logit_in_place_of_a_difference():
    def row(model, yes_id, no_id):
        return model.get_output_embeddings().weight.detach()[yes_id]

    refused('logit of "yes" alone', lesson01.check_head_row, row)


@pytest.mark.parametrize(("change", "words"), [(str.strip, "'Yes'"), (str.lower, "' 0'")])
def test_labels_not_lower_cased_or_not_stripped(change, words):
    def clean(rows):
        labels = {}
        for row in rows:
            query, document = (str(row.get(field) or "").strip() for field in ("query", "document"))
            label = LABELS.get(change(str(row.get("relevance"))))
            if query and document and label is not None:
                labels.setdefault((query, document), set()).add(label)
        return [(*pair, min(own)) for pair, own in labels.items() if len(own) == 1]

    refused(f"its label is written {words}", lesson02.check_clean, clean)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda right, own, margin: [c <= margin * max(right) for c in own], "compare logits"),
        (lambda right, own, margin: [True] * len(own), "keep everything"),
        (lambda right, own, margin: [not k for k in kept(right, own, margin)], "turned round"),
        (lambda right, own, margin: kept([min(right)], own, margin), "worst right answer"),
        (lambda right, own, margin: kept(right, own, 1.0), "leave the margin out"),
        (lambda right, own, margin: [p <= margin for p in sigmoid(own)], "margin alone"),
    ],
)
def test_each_wrong_margin_has_words_of_its_own(rule, words):
    refused(words, lesson02.check_margin, rule)


def test_a_split_by_the_order_of_a_set():
    def split(groups, share, seed):
        topics = list({g.topic for g in groups})
        random.Random(seed).shuffle(topics)
        chosen = set(topics[: round(share * len(topics))])
        return [g for g in groups if g.topic not in chosen], [g for g in groups if g.topic in chosen]

    refused("order of a set", lesson02.check_split_by_topic, split)
    in_file_order = lambda groups, share, seed: split_by_topic(groups, share, seed)  # noqa: E731
    lesson02.check_split_by_topic(in_file_order)


def test_lengths_off_by_one_and_counts_ignored(tokenizer):
    def off(step):
        def answer(tokenizer, groups, share):
            lengths = sorted(token_lengths(groups, tokenizer).counts.elements())
            return lengths[len(lengths) - 1 - int(share * len(lengths)) + step]

        return answer

    def once_each(tokenizer, groups, share):
        lengths = sorted(token_lengths(groups, tokenizer).counts)
        return lengths[len(lengths) - 1 - int(share * len(lengths))]

    refused("cuts .* more than", lesson02.check_max_length, off(-1), tokenizer)
    refused("last place is n - 1", lesson02.check_max_length, off(1), tokenizer)
    refused("would be too|more than", lesson02.check_max_length, once_each, tokenizer)
    lesson02.check_max_length(smallest, tokenizer)
    for share in (0.1, 0.5):  # neighbours of the right place are other lengths
        off_by_one = lambda t, g, s, share=share: smallest(t, g, s) if s != share else off(1)(t, g, s)  # noqa: E731
        refused("would be too", lesson02.check_max_length, off_by_one, tokenizer)


def test_a_loss_without_gradient():
    def loss(scores, labels):
        scores, wrong = scores.tolist(), scores[labels == 0].tolist()
        top = max(scores)
        own = [s for s, y in zip(scores, labels.tolist(), strict=True) if y]
        return sum(top + math.log(sum(math.exp(x - top) for x in [s, *wrong])) - s for s in own) / len(own)

    refused("no gradient", lesson04.check_listwise, loss)
    refused("no gradient", lesson04.check_listwise, lambda s, y: torch.tensor(loss(s, y)))


def test_groups_in_place_of_their_indices():
    refused("return indices of groups", lesson04.check_suspects, lambda g, s: [g[i] for i in suspects(g, s)])


def test_lengths_in_place_of_indices():
    answer = lambda lengths, size: [[lengths[i] for i in b] for b in batches(lengths, size)]  # noqa: E731
    refused("indices into lengths", lesson04.check_batches, answer)


def test_an_interval_of_standard_errors_and_rounds_ignored():
    def standard(before, after, rounds, seed):
        gaps = after - before
        width = 1.96 * gaps.std(ddof=1) / math.sqrt(len(gaps))
        return gaps.mean() - width, gaps.mean() + width

    refused("standard errors", lesson05.check_interval, standard)
    refused("rounds = 1", lesson05.check_interval, lambda b, a, rounds, seed: interval(b, a, 2000, seed))


def test_bins_closed_on_the_right():
    def error(p, y, bins):
        place = np.clip(np.ceil(p * bins).astype(int) - 1, 0, bins - 1)
        return float(sum(abs((p - y)[place == i].sum()) for i in range(bins)) / len(p))

    refused("upper one", lesson05.check_calibration_error, error)


def test_a_name_that_a_dict_lacks():
    def every_name(base, deltas, weights):
        pairs = list(zip(deltas, weights, strict=True))
        return {n: base[n] + sum(w * (d[n] - base[n]) for d, w in pairs) for n in deltas[0]}

    refused("KeyError: 'a'.*did not change there", lesson06.check_add_up, every_name)
    lesson06.check_add_up(add_up)
    all_of_them = lambda m, start, w: w / 2 * sum(((p - start[n]) ** 2).sum() for n, p in m.named_parameters())  # noqa: E731
    refused("KeyError: '0.weight'.*are free", lesson07.check_pull, all_of_them)
    lesson07.check_pull(pull)


def test_a_mean_over_no_wrong_route():
    def cost(ndcg, routes, labels):
        losses = [ndcg[y][i] - ndcg[r][i] for i, (r, y) in enumerate(zip(routes, labels, strict=True))]
        wrong = [x for x, r, y in zip(losses, routes, labels, strict=True) if r != y]
        return 1 - len(wrong) / len(losses), sum(losses) / len(losses), sum(wrong) / len(wrong)

    refused("third number is 0.0", lesson06.check_route_cost, cost)
    lesson06.check_route_cost(route_cost)


def test_the_best_value_so_far_is_another_measure():
    def forgetting(values):
        columns = range(values.shape[1] - 1)
        return sum(values[-1, j] - values[j + 1 : -1, j].max() for j in columns) / len(columns)

    refused("best value so far", lesson07.check_backward, forgetting)
    lesson07.check_backward(backward)


def test_a_fall_by_exactly_the_margin_is_no_reason():
    def strict(low, high, changes, margin):
        reasons = ["target"] * (low <= 0) + [name for name, c in changes.items() if c <= -margin]
        return not reasons, reasons

    refused("exactly the margin, the gate accepts", lesson07.check_gate, strict)
    lesson07.check_gate(gate)


CHECKS = {name: getattr(m, name) for m in (lesson00, lesson01, lesson02, lesson03, lesson04, lesson05,
                                                   lesson06, lesson07, lesson08)
          for name in dir(m) if name.startswith("check_")}  # fmt: skip


def fails(*given):
    raise RuntimeError("boom")


@pytest.mark.parametrize("kind", [fails, lambda *given: object(), lambda *given: None, lambda: 1, 7, "text", None, [1]])
@pytest.mark.parametrize("name", CHECKS)
def test_no_check_ends_in_a_raw_traceback(name, kind, tokenizer):
    others = {"check_build": [tokenizer], "check_max_length": [tokenizer], "check_winners": [None, None]}
    given = [kind, *others.get(name, [])]
    if name == "check_adapted":
        given = [kind] * 6
    if name == "check_ranking":
        given = [kind, 0, kind]
    with pytest.raises(NotYet) as found:
        CHECKS[name](*given)
    assert re.match(r"\S.{15}", str(found.value))
    if kind is fails and name not in ("check_adapted", "check_ranking", "check_winners"):
        assert 'stops with RuntimeError: boom, at "raise RuntimeError("boom")"' in str(found.value)


def test_a_learners_notyet_and_interrupts_pass_through():
    def interrupted(*given):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lesson00.check_ndcg(interrupted)

    @_careful
    def check(answer):
        raise NotYet("look again")

    refused("^look again$", check, 1)
