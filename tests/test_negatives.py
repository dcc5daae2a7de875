"""Negatives from BM25, from the reranker's margin and from chance."""

import numpy as np
import pytest

from course_utils.data.groups import Group
from course_utils.data.negatives import Bm25, bm25_scores, bm25_tokens, mine, random_scores
from course_utils.errors import InputError

TEXTS = [f"gout hurts the toe, case {i}" for i in range(8)] + [f"bread needs flour, loaf {i}" for i in range(30)]
GROUPS = [Group("why does gout hurt the toe", (TEXTS[0], TEXTS[20]), (1, 0), "gout")]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Type-2 Diabetes!", ["type", "2", "diabetes"]),
        ("糖尿病症状", ["糖尿", "尿病", "病症", "症状"]),
        ("糖尿病，症状", ["糖尿", "尿病", "症状"]),
        ("血糖HbA1c高", ["血糖", "hba1c", "高"]),
        ("Ｗｏｒｄ", ["word"]),
        ("?!", []),
    ],
)
def test_chinese_is_cut_into_pairs_of_characters_and_other_text_into_words(text, tokens):
    assert bm25_tokens(text) == tokens


def test_bm25_finds_the_text_that_shares_rare_words():
    index = Bm25(["the cat sat", "the dog sat", "the dog ran to the cat house", "the dog ran to the cat house"])
    assert len(index.texts) == 3
    assert index.top("cat house", 2) == ["the dog ran to the cat house", "the cat sat"]
    assert index.top("zebra", 3) == [] and index.top("?", 3) == []
    assert index.scores("zebra").tolist() == [0, 0, 0]
    assert Bm25(["低盐饮食", "糖尿病症状有哪些"]).top("糖尿病", 1) == ["糖尿病症状有哪些"]


def test_bm25_of_nothing_is_an_error_and_of_punctuation_is_silent():
    with pytest.raises(InputError, match="no texts"):
        Bm25([])
    assert Bm25(["word", "..."]).top("...", 2) == []


def test_baseline_scores_fit_the_groups():
    groups = [*GROUPS, Group("bread", ("bread needs flour", "toe", "a"), (1, 0, 0))]
    scores = bm25_scores(groups)
    assert [len(s) for s in scores] == [2, 3] and scores[0][0] > scores[0][1] and scores[1].argmax() == 0
    chance = random_scores(groups, seed=1)
    assert [len(s) for s in chance] == [2, 3]
    assert all((a == b).all() for a, b in zip(chance, random_scores(groups, seed=1), strict=True))
    assert not (chance[0] == random_scores(groups, seed=2)[0]).all()


def test_mined_negatives_are_hard_and_random_as_asked():
    (group,), dropped = mine(GROUPS, TEXTS, hard=3, random_negatives=4)
    assert dropped == 0 and len(group.documents) == 2 + 3 + 4 and len(set(group.documents)) == 9
    labels = dict(zip(group.documents, group.relevance, strict=True))
    assert labels[TEXTS[0]] == 1 and sum(group.relevance) == 1 and labels[TEXTS[20]] == 0
    added = [d for d in group.documents if d not in GROUPS[0].documents]
    assert sum("gout" in d for d in added) >= 3
    assert (group.query, group.topic) == (GROUPS[0].query, "gout")


def test_chinese_texts_are_mined_as_a_search_counts_them():
    texts = [
        "痛风发作时脚趾剧痛",
        "他的腿很痛",
        "肝脏的功能",
        "血压偏高",
    ]  # the second shares a character and no pair of them
    (group,), _ = mine([Group("哪里痛", (texts[0],), (1,))], texts, hard=1, random_negatives=0)
    assert set(group.documents) == set(texts[:2])


def test_mining_is_repeatable_and_hides_the_order():
    many = [Group(f"gout toe {i}", (TEXTS[0],), (1,)) for i in range(40)]
    once, again, other = (mine(many, TEXTS, seed=seed)[0] for seed in (0, 0, 1))
    assert once == again != other
    assert len({g.relevance.index(1) for g in once}) > 4


def test_a_known_document_is_never_mined_whatever_its_punctuation():
    texts = ["Gout hurts the toe - case 0!", *TEXTS]
    (group,), _ = mine(GROUPS, texts, hard=50, random_negatives=50)
    assert texts[0] not in group.documents and sum(group.relevance) == 1
    assert len(group.documents) == len(TEXTS)


def test_skip_leaves_out_the_first_ranks():
    index = Bm25(TEXTS)
    best = index.top(GROUPS[0].query, 50)
    (group,), _ = mine(GROUPS, TEXTS, hard=2, random_negatives=0, ranks=(3, 50))
    added = set(group.documents) - set(GROUPS[0].documents)
    assert added == {t for t in best[3:] if t != TEXTS[0]} & added and len(added) == 2
    assert not added & set(best[:3])


class Judge:
    """A reranker that likes the texts with an even number."""

    def score_groups(self, groups):
        """Return logits: 3 for the right answer, 4 for even cases, -3 for odd ones."""
        return [
            np.array([3.0 if d == TEXTS[0] else 4.0 if int(d[-1]) % 2 == 0 else -3.0 for d in ds]) for _, ds in groups
        ]


def test_the_margin_drops_what_the_reranker_likes_as_much_as_the_answer():
    (group,), dropped = mine(GROUPS, TEXTS[:8], hard=8, random_negatives=0, reranker=Judge())
    assert dropped == 3  # cases 2, 4 and 6
    assert {d for d in group.documents if d in TEXTS[1:8]} == {TEXTS[1], TEXTS[3], TEXTS[5], TEXTS[7]}
    _, dropped = mine(GROUPS, TEXTS[:8], hard=8, random_negatives=0, reranker=Judge(), margin=1.1)
    assert dropped == 0


def test_a_query_without_an_answer_is_mined_without_a_margin():
    (group,), dropped = mine([Group("gout toe", (), ())], TEXTS, hard=2, random_negatives=1, reranker=Judge())
    assert dropped == 0 and group.relevance == (0, 0, 0)


def test_a_real_reranker_filters_too(tiny):
    (group,), dropped = mine(GROUPS, TEXTS, hard=3, random_negatives=1, reranker=tiny, margin=0.95)
    assert sum(group.relevance) == 1 and len(group.documents) <= 6 and 0 <= dropped <= 7
