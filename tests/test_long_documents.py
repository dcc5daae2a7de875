"""A document's best piece decides: a late answer is seen, its place is told, short documents score as always."""

from itertools import pairwise

import numpy as np
import pytest

from course_utils.data import pieces
from course_utils.errors import InputError
from course_utils.ship import rank_long, score_long

FILLER = "The clinic has a garden. Visitors may sit there in the afternoon. Parking costs two euros. "
LATE = FILLER * 30 + "Against fever give the child small sips of water and paracetamol."


def test_row_8_a_long_document_whose_last_sentence_answers_comes_first(nano):
    documents = ["The bus leaves at noon.", LATE, "Rent is due on the first day of the month."]
    ranking = rank_long(nano, "what helps a child with fever?", documents)
    assert ranking[0].index == 1 and "sips of water" in ranking[0].piece
    assert documents[1][ranking[0].start : ranking[0].end] == ranking[0].piece
    with pytest.warns(UserWarning, match="cut"):
        cut = nano.rank("what helps a child with fever?", documents)
    assert ranking[0].score > next(r.score for r in cut if r.index == 1)


def test_short_documents_score_as_rank_scores_them(nano):
    documents = ["Give fluids.", "高血压患者应当低盐饮食。", ""]
    (scores,), (places,) = score_long(nano, [("fever 盐", documents)])
    assert np.abs(scores - nano.score_groups([("fever 盐", documents)])[0]).max() < 1e-5
    assert places == [[(0, len(d)) for d in documents]][0]


def test_the_score_is_that_of_the_best_piece_scored_alone(nano):
    spans = pieces(LATE, 120, 1)
    alone = nano.score_groups([("fever", [LATE[a:b]]) for a, b in spans])
    (scores,), ((place,),) = score_long(nano, [("fever", [LATE])])
    best = int(np.argmax([s[0] for s in alone]))
    assert abs(scores[0] - alone[best][0]) < 1e-5 and place == spans[best]


def test_pieces_cover_every_word_in_order():
    for text in (
        LATE,
        "糖尿病患者应当控制饮食。每天运动三十分钟！" * 30,
        "word " * 500,
        "same. " * 300,
        "a\n\n\nb " * 200,
    ):
        spans = pieces(text, 50, 1)
        assert len(spans) > 1 and spans[0][0] <= len(text) - len(text.lstrip()) and spans[-1][1] >= len(text.rstrip())
        for (a, b), (c, _) in pairwise(spans):
            assert a < c and not text[b:c].strip()
    assert pieces("short", 50) == [(0, 5)] and pieces("", 50) == [(0, 0)]


def test_a_query_without_documents_and_an_empty_query(nano):
    assert [len(s) for s in score_long(nano, [("q", ["a"]), ("r", [])])[0]] == [1, 0]
    for query, documents in (("", ["a"]), ("q", [])):
        with pytest.raises(InputError):
            rank_long(nano, query, documents)
