"""The checks of lesson 01 accept a right answer and say in words what is wrong with wrong ones."""

import math

import pytest

from course_utils.checks import NotYet, lesson01
from course_utils.model import prompt


def probability(yes, no):
    score = yes - no
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def test_probability_right(capsys):
    lesson01.check_probability(probability)
    assert "softmax" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda yes, no: math.exp(yes) / (math.exp(yes) + math.exp(no)), "too large"),
        (lambda yes, no: probability(no, yes), "turn the difference round"),
        (lambda yes, no: probability(yes, 0.0), "the probability is"),
        (lambda yes, no: [probability(yes, no)], "not one number"),
    ],
)
def test_probability_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson01.check_probability(answer)


def search(index, reranker, query, k):
    found = index.top(query, k)
    return [r.document for r in reranker.rank(query, found)] if found else []


def test_search_right(capsys):
    lesson01.check_search(search)
    assert "Right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda index, reranker, query, k: index.top(query, k), "never asked"),
        (lambda index, reranker, query, k: reranker.rank(query, index.top(query, k)), "not the objects"),
        (lambda index, reranker, query, k: [r.document for r in reranker.rank(query, index.texts)][:k], "it read 6"),
        (lambda index, reranker, query, k: search(index, reranker, query, k)[::-1], "not the reranker's"),
        (lambda index, reranker, query, k: [r.document for r in reranker.rank(query, index.top(query, k))], "nothing"),
        (lambda index, reranker, query, k: tuple(search(index, reranker, query, k)), "a list of texts"),
    ],
)
def test_search_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson01.check_search(answer)


def parts(tokenizer, query, document):
    texts = (prompt.PREFIX, prompt.content_text(query, document), prompt.SUFFIX)
    return [tokenizer.encode(t, add_special_tokens=False) for t in texts]


def whole(tokenizer, query, document):
    head, content, tail = parts(tokenizer, query, document)
    return head + content + tail


def build(tokenizer, query, document, limit):
    head, content, tail = parts(tokenizer, query, document)
    return head + content[: limit - len(head) - len(tail)] + tail


def cut_whole(tokenizer, query, document, limit):
    return whole(tokenizer, query, document)[:limit]


def too_short(tokenizer, query, document, limit):
    head, content, tail = parts(tokenizer, query, document)
    return head + content[: limit - len(head) - len(tail) - 2] + tail


def front_cut(tokenizer, query, document, limit):
    head, content, tail = parts(tokenizer, query, document)
    return head + content[-(limit - len(head) - len(tail)) :] + tail


def test_build_right(tokenizer, capsys):
    lesson01.check_build(build, tokenizer)
    assert "token for token" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (cut_whole, "end in the suffix"),
        (too_short, "fit"),
        (front_cut, "ids differ"),
        (lambda tokenizer, query, document, limit: whole(tokenizer, query, document), "you return"),
    ],
)
def test_build_wrong(answer, words, tokenizer):
    with pytest.raises(NotYet, match=words):
        lesson01.check_build(answer, tokenizer)


def head_row(model, yes_id, no_id):
    weight = model.get_output_embeddings().weight.detach()
    return weight[yes_id] - weight[no_id]


def input_row(model, yes_id, no_id):
    weight = model.get_input_embeddings().weight.detach()
    return weight[yes_id] - weight[no_id]


def test_head_row_right(capsys):
    lesson01.check_head_row(head_row)
    assert "three models" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda model, yes, no: head_row(model, no, yes), "sign is turned round"),
        (lambda model, yes, no: model.get_output_embeddings().weight.detach()[[yes, no]], "its shape is"),
        (lambda model, yes, no: head_row(model, yes, no).tolist(), "a tensor"),
        (input_row, "untied"),
    ],
)
def test_head_row_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson01.check_head_row(answer)


def judge(program):
    return {"A": "fine", "B": "random", "C": "dice", "D": "turned", "E": "random"}[program]


def test_judge_right(capsys):
    lesson01.check_judge(judge)
    assert "five programs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda program: "fine", "B again: three starts"),
        (lambda program: "fine" if program == "E" else judge(program), "does not excuse"),
        (lambda program: "dice" if program == "D" else judge(program), "turned round"),
        (lambda program: None, "you return None"),
        (lambda program: {"A": "fine"}[program], "KeyError"),
    ],
)
def test_judge_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson01.check_judge(answer)
