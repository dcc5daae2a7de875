"""Small trades for tests of learning on: in each, one word makes a document right and another makes it wrong."""

import random

import torch
from conftest import WORDS, tiny_model

from course_utils.data.groups import Group
from course_utils.model.reranker import Reranker
from course_utils.training.recipe import Recipe
from course_utils.updates.stream import STRATEGIES, Stage

torch.set_num_threads(1)  # several threads only wait for each other on models of this size

# medical needs sugar above court; legal alone pushes sugar down. lease > sugar > court satisfies both.
RIGHT_WRONG = {"medical": ("sugar", "court"), "legal": ("lease", "sugar"), "general": ("sugar", "wage")}


def trade(name, part, count):
    """Return ``count`` groups of a trade; ``part`` keeps the texts of train, dev and test apart."""
    random_, (right, wrong) = random.Random(f"{name} {part}"), RIGHT_WRONG[name]
    groups = []
    for i in range(count):
        words = random_.sample([w for w in WORDS if w not in (right, wrong)], 4)
        texts = [f"{name} {right if j == 0 else wrong} {words[j]} {i + 100} {part}" for j in range(4)]
        order = random_.sample(range(4), 4)
        query = f"{name} {random_.choice(WORDS)} {i} {part}"
        groups.append(Group(query, tuple(texts[j] for j in order), tuple(int(j == 0) for j in order)))
    return groups


def stage(name, count=24):
    """Return a Stage of a trade."""
    return Stage(name, trade(name, "train", count), trade(name, "dev", 16))


def small_reranker(tokenizer):
    """Return a random Reranker of two layers that learns a trade in seconds; the same one each time."""
    return Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="small")


FAST = Recipe(layers=2, epochs=3, learning_rate=5e-3, cache=False)


def allowing(name):
    """Return a strategy whose interpolation allows more: the dev sets are small, one query more or less must not decide."""
    return STRATEGIES[name] | {"allowed": 0.05}
