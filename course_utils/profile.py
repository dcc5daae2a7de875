"""How large a run is: smoke, laptop or full."""

import json
import os
from dataclasses import asdict, dataclass, replace

import torch

from course_utils.errors import InputError
from course_utils.files import ROOT
from course_utils.language import _
from course_utils.machine import pick_device

HUB_MODEL = "Qwen/Qwen3-Reranker-0.6B"
RECORDED = ROOT / "notebooks" / "recorded.json"  # written by benchmarks.record


@dataclass(frozen=True)
class Profile:
    """Sizes that a lesson uses.

    Attributes:
        name: smoke, laptop or full.
        model: what ``Reranker.load`` is given.
        queries: training queries a lesson uses at most.
        test_queries: test queries a lesson uses at most.
        epochs: passes over the training queries.
        max_length: tokens of one prompt at most.
        seeds: how often an experiment is repeated.
        seed: of training; ``benchmarks.record`` sets COURSE_SEED to run a lesson with others.
    """

    name: str
    model: str
    queries: int
    test_queries: int
    epochs: int
    max_length: int
    seeds: int
    seed: int = 0

    @staticmethod
    def recorded(lesson):
        """Return the figures that were measured for a lesson at a larger size, as ``benchmarks.record`` keeps them.

        Args:
            lesson: its number, for example "03".

        Raises:
            InputError: the file is not there or cannot be read, or holds nothing of this lesson.
        """
        try:
            return json.loads(RECORDED.read_text(encoding="utf-8"))[lesson]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                "{file} holds no figures of lesson {lesson}: take the file from the course again, or make them with "
                "python -m benchmarks.record --lesson {lesson}.",
                file=RECORDED,
                lesson=lesson,
            ) from None


PROFILES = {
    "smoke": Profile("smoke", "nano", 48, 40, 2, 256, 1),
    "laptop": Profile("laptop", "nano", 600, 400, 4, 512, 3),
    "full": Profile("full", HUB_MODEL, 600, 400, 3, 1024, 1),
}


def get_profile(name=None, quiet=False):
    """Return the profile ``name``, else that of COURSE_PROFILE, else one chosen from the hardware; print it.

    Without a GPU the choice is laptop (the bundled model); with a GPU of 14 GiB or more (lesson 02 trains all of the model) it is full.

    Raises:
        InputError: for an unknown name, or a COURSE_SEED that is no whole number.
    """
    name = name or os.environ.get("COURSE_PROFILE")
    why = _("asked for")
    if not name:
        big = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory >= 14 * 2**30
        name, why = ("full", _("a GPU is here")) if big else ("laptop", _("no large GPU here"))
    if name not in PROFILES:
        raise InputError(
            'COURSE_PROFILE is "{name}"; choose one of {profiles}.', name=name, profiles=", ".join(PROFILES)
        )
    profile = PROFILES[name]
    if seed := os.environ.get("COURSE_SEED"):
        if not seed.isdecimal():
            raise InputError('COURSE_SEED is "{seed}"; it is a whole number from 0.', seed=seed)
        profile = replace(profile, seed=int(seed), seeds=1)
    if not quiet:
        sizes = ", ".join(f"{k} {v}" for k, v in asdict(profile).items() if k not in ("name", "model", "seed"))
        print(
            _("profile {name} ({why}): model {model}, device {pick_device}\n{sizes}").format(
                name=profile.name, why=why, model=profile.model, pick_device=pick_device(), sizes=sizes
            )
        )
    return profile
