"""The checks of lesson 03 accept a right answer and say in words what is wrong with wrong ones."""

import re

import pytest
import torch

from course_utils.checks import NotYet, lesson03


def names_of_last(names, k):
    number = {n: int(match[1]) for n in names if (match := re.search(r"layers\.(\d+)\.", n))}
    first = max(number.values()) + 1 - k
    return [n for n, i in number.items() if i >= first]


def test_names_right(capsys):
    lesson03.check_names(names_of_last)
    assert "28 layers" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda names, k: [n for n in names if any(f"layer.{i}" in n for i in range(28 - k, 28))], "is missing"),
        (lambda names, k: [n for n in names if any(f"layers.{i}" in n for i in (3, 4, 5)[-k:])], "is not in one of"),
        (lambda names, k: [*names_of_last(names, k), "model.norm.weight"], "model.norm.weight"),
        (lambda names, k: names_of_last(names, k - 1) if k > 1 else names_of_last(names, k), "is missing"),
        (lambda names, k: None, "returns nothing"),
    ],
    ids=["guessed name", "prefix", "norm too", "off by one", "nothing"],
)
def test_names_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson03.check_names(answer)


def accidents(model, k):
    train = {n: p.requires_grad for n, p in model.named_parameters()}
    wanted = {*names_of_last(train, k), "model.norm.weight"}
    return [n for n in train if train[n] and n not in wanted], [n for n in wanted if not train[n]]


def test_accidents_right(capsys):
    lesson03.check_accidents(accidents)
    assert "four models" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda model, k: ([], []), "embed_tokens.* trains but should not; you did not"),
        (lambda model, k: ([n for n in accidents(model, k)[0] if "embed" not in n], accidents(model, k)[1]), "embed"),
        (lambda model, k: (accidents(model, k)[0], []), "should train but does not; you did not"),
        (lambda model, k: accidents(model, k - 1), "that is not so"),
        (lambda model, k: accidents(model, k)[::-1], "that is not so|did not"),
        (lambda model, k: accidents(model, k)[0], "Return two lists"),
        (lambda model, k: None, "Return two lists"),
    ],
    ids=["nothing", "forgets the tie", "extra only", "wrong k", "turned round", "one list", "no return"],
)
def test_accidents_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson03.check_accidents(answer)


def training_bytes(model):
    return sum(p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in model.parameters())


def test_training_bytes_right(capsys):
    lesson03.check_training_bytes(training_bytes)
    assert "to the byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda model: sum(p.numel() * p.element_size() for p in model.parameters()), "counted the weights"),
        (lambda model: sum(16 * p.numel() for p in model.parameters()), "you predict"),
        (lambda model: sum(p.numel() * (16 if p.requires_grad else 4) for p in model.parameters()), "bfloat16"),
        (lambda model: sum(p.numel() * 4 * (3 if p.requires_grad else 1) for p in model.parameters()), "two means"),
        (lambda model: sum(16 * p.numel() for p in model.parameters() if p.requires_grad), "only what trains"),
        (lambda model: None, "returns nothing"),
    ],
    ids=["weights only", "all train", "all float32", "one mean", "frozen left out", "nothing"],
)
def test_training_bytes_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson03.check_training_bytes(answer)


def run_layers(model, states, layers):
    angles = model.model.rotary_emb(states, torch.arange(states.shape[1])[None])
    for layer in layers:
        states = layer(states, position_embeddings=angles)
    return states


def continue_from(model, states, first):
    return model.model.norm(run_layers(model, states, model.model.layers[first:]))


def wrong_angles(model, states, first):
    angles = model.model.rotary_emb(states, torch.zeros(1, states.shape[1], dtype=torch.long))
    for layer in model.model.layers[first:]:
        states = layer(states, position_embeddings=angles)
    return model.model.norm(states)


def no_angles(model, states, first):
    for layer in model.model.layers[first:]:
        states = layer(states)
    return model.model.norm(states)


def last_layer_only(model, states, first):
    angles = model.model.rotary_emb(states, torch.arange(states.shape[1])[None])
    for layer in model.model.layers[first:]:
        out = layer(states, position_embeddings=angles)
    return model.model.norm(out)


def test_continue_right(capsys):
    lesson03.check_continue(continue_from)
    assert "Right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda model, states, first: run_layers(model, states, model.model.layers[first:]), "final norm is missing"),
        (lambda model, states, first: continue_from(model, states, 0), "below layer"),
        (lambda model, states, first: continue_from(model, states, first + 1), r"yours are \[2, 3, 4, 5\]"),
        (wrong_angles, "rotary angles"),
        (no_angles, "got no angles"),
        (
            lambda model, states, first: model.model.norm(run_layers(model, states, model.model.layers[-2:])),
            "yours|below",
        ),
        (last_layer_only, "the layer before it|yours"),
        (lambda model, states, first: continue_from(model, states, first)[:, -1], "shape"),
        (lambda model, states, first: None, "as a tensor"),
    ],
    ids=[
        "no norm",
        "from the bottom",
        "one layer late",
        "wrong angles",
        "no angles",
        "the last two",
        "not chained",
        "last token only",
        "nothing",
    ],
)
def test_continue_wrong(answer, words):
    with pytest.raises(NotYet, match=words):
        lesson03.check_continue(answer)


VERDICTS = {"A": "better", "B": "not settled", "C": "forgets", "D": "worse", "E": "not settled"}


def test_judge_right(capsys):
    lesson03.check_judge(VERDICTS.get)
    assert "five ways" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"B": "better"}, "B again: its lead has the largest mean"),
        ({"C": "better"}, "a bad trade"),
        ({"D": "not settled"}, "below 0"),
        ({"E": "same"}, "you return 'same'"),
        ({"A": None}, "you return None"),
    ],
)
def test_judge_wrong(change, words):
    with pytest.raises(NotYet, match=words):
        lesson03.check_judge((VERDICTS | change).get)
