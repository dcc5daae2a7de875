"""The trades' own lists: what a file must hold, that splits keep apart, and that no document betrays its label."""

from collections import Counter

import numpy as np
import pytest

from course_utils import data
from course_utils.data import LANGUAGES, TRADES, cases, near
from course_utils.data.groups import check_no_leak
from course_utils.data.negatives import bm25_scores
from course_utils.errors import InputError
from course_utils.evaluation import add_rule, by_slice, document_alone, evaluate_scores, paired_bootstrap

SETS = [(domain, language) for domain in TRADES for language in LANGUAGES]
SMALL = """# gout
## acronym: NSAID
= Alpha one.
- first question
- second question {also 2}
= Beta two.
- third question {partly 3}
- ~typo forth qestion
= Gamma three.
- fifth question
- ~none nobody answers this
# pseudogout {with gout}
## style
= Delta four.
- sixth question
= Epsilon five.
- seventh question
"""


@pytest.fixture(scope="module", params=SETS, ids="/".join)
def one(request):
    """The passages and queries of a trade and its lists by part."""
    own = data.read_cases(*request.param)
    return own, {part: own.groups(part) for part in cases.PARTS}


def test_a_trade_has_the_promised_slices(one):
    own, _ = one
    assert len(own.topics()) >= 30 and len({p.text for p in own.passages}) == len(own.passages) >= 250
    counts = Counter(own.slices().values())
    for name in set(cases.SLICES) - {"table"}:
        assert counts[name] >= 40, name
    assert sum(n for name, n in counts.items() if name.startswith("messy")) >= 60
    asked = Counter(q.passage for q in own.queries if not q.kind)
    assert min(asked[i] for i in range(len(own.passages))) >= 4
    assert sum(max(q.grades.values(), default=0) == 2 for q in own.queries) >= 15


@pytest.mark.slow
def test_nothing_crosses_from_training_to_new_topics(one):
    own, groups = one
    texts = {s: [p.text for p in own.passages if own.splits[p.topic] == s] for s in ("train", "dev", "test")}
    for a, b in (("train", "dev"), ("train", "test"), ("dev", "test")):
        check_no_leak(groups[a], groups[b])
        assert not near.near_duplicates(texts[a], texts[b], **near.DOCUMENTS)
    for first, second in own.siblings:
        assert own.splits[first] == own.splits[second]
    assert not {g.query for g in groups["train"]} & {g.query for g in groups["questions"]}
    assert {d for g in groups["questions"] for d in g.documents} <= {d for g in groups["train"] for d in g.documents}


def test_every_candidate_is_a_right_answer_and_about_as_often_a_wrong_one(one):
    _, groups = one
    for part in ("train", "dev", "test"):
        right, wrong = Counter(), Counter()
        for g in groups[part]:
            assert len(set(g.documents)) == len(g.documents) >= 8 and any(g.relevance)
            for d, r in zip(g.documents, g.relevance, strict=True):
                (right if r else wrong)[d] += 1
        assert set(wrong) <= set(right)
        assert np.quantile([wrong[d] for d in right], 0.9) <= 1.5 * np.quantile([wrong[d] for d in right], 0.1) + 4


@pytest.mark.slow
def test_a_rule_that_never_reads_the_query_is_no_better_than_chance(one):
    """The fault that this course once had: posts that were never right made a gain of 0.1 out of question marks."""
    _, groups = one
    for part in ("dev", "test", "questions"):
        chance = evaluate_scores([np.zeros(len(g.documents)) for g in groups[part]], groups[part]).summary["ndcg@10"]
        rule = evaluate_scores(document_alone(groups["train"], groups[part]), groups[part]).summary["ndcg@10"]
        assert rule <= chance + (0.04 if part == "dev" else 0.02), (part, rule, chance)


def test_words_alone_are_neither_enough_nor_useless(one):
    _, groups = one
    bm25 = evaluate_scores(bm25_scores(groups["test"]), groups["test"]).summary["ndcg@10"]
    assert 0.45 <= bm25 <= 0.75


def test_a_file_is_read_with_its_marks():
    own = cases._parse(SMALL, "cases.md")
    assert own.topics() == ["gout", "pseudogout"] and own.siblings == [("pseudogout", "gout")]
    assert [q.grades for q in own.queries] == [{0: 1}, {0: 1, 1: 1}, {1: 2, 2: 1}, {1: 1}, {2: 1}, {}, {3: 1}, {4: 1}]
    assert own.slices()["forth qestion"] == "messy: typo" and own.passages[0].knowledge == ("NSAID",)
    splits = cases._make_splits(own)
    assert sorted(map(len, splits.values())) == [0, 0, 2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("## acronym: NSAID", "## words", "line 2: .* is no slice"),
        ("{also 2}", "{also 1}", "line 5: {also 1} names no other passage"),
        ("{also 2}", "{also 2.1}", "line 5: {also 2.1} names no other passage"),
        ("{also 2}", "{also 9}", "line 5: {also 9} names no other passage"),
        ("- third question {partly 3}", "- first question", "line 7: the query stands already in line 4"),
        ("= Alpha one.", "Alpha one.", "line 3: neither"),
        (SMALL, "", "holds no queries"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(old, new, message):
    with pytest.raises(InputError, match=message):
        cases._parse(SMALL.replace(old, new, 1), "cases.md")


def test_unknown_names_are_errors_with_the_choices(tmp_path):
    with pytest.raises(InputError, match="choose one of train, dev, test, questions"):
        data.load_domain("medical", "en", "valid")
    with pytest.raises(InputError, match="choose cases or grid"):
        data.load_domain("medical", "en", "test", source="posts")
    with pytest.raises(InputError, match=r"There is no .*cases.md"):
        data.load_domain("medical", "xx", "test", tmp_path, source="cases")


def test_an_interval_over_topics_is_wider_where_topics_move_together():
    before, after = np.zeros(40), np.repeat([0.3, -0.1, 0.2, 0.0], 10)
    queries, topics = (paired_bootstrap(before, after, topics=t) for t in (None, np.repeat(list("abcd"), 10)))
    assert queries.mean == topics.mean == pytest.approx(0.1)
    assert topics.high - topics.low > 1.5 * (queries.high - queries.low)


def test_gains_by_slice_and_a_rule_beside_a_model():
    groups = [data.Group(f"q{i}", ("a", "b"), (1, 0)) for i in range(50)]
    slices = {f"q{i}": "acronym" if i < 30 else "style" for i in range(50)}
    found = by_slice(np.zeros(50), np.arange(50) < 30, groups, slices, least=25)
    assert list(found) == ["acronym"] and found["acronym"].mean == 1
    scores = [np.array([1.0, 2.0, 3.0])]
    assert add_rule(scores, [np.array([9.0, 0.0, 0.0])], 0)[0].argmax() == 2
    assert add_rule(scores, [np.array([9.0, 0.0, 0.0])], 9)[0].argmax() == 0
