"""Start from a model that an earlier build made, with new text: its vocabulary, its weights, its history."""

import hashlib
import json
from pathlib import Path

from course_utils.bonus.stages import STAGES
from course_utils.errors import InputError
from course_utils.files import write_json

LEFT = ("lists", "lists and human labels")  # stages of a build that starts from a model
DONE = sum(s.share for s in STAGES if s.name not in LEFT)


def history(folder):
    """Return what ``training.json`` of an earlier build says; raise InputError where there is none."""
    path = Path(folder) / "training.json"
    if not path.is_file():
        raise InputError("There is no {path}; --start is a folder that an earlier build wrote.", path=path)
    return json.loads(path.read_text(encoding="utf-8"))


def same(work, earlier):
    """Note in a build's folder what it started from; raise InputError where it was begun otherwise.

    Stages and minutes are counted from the start, so a build that goes on with another one would end too soon or never.
    """
    hashed = hashlib.sha256((Path(earlier) / "model.safetensors").read_bytes()).hexdigest() if earlier else None
    path, now = Path(work) / "start.json", {"sha256": hashed}
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != now:
        raise InputError("{work} was begun with another --start; give the same as then, or another --out.", work=work)
    write_json(path, now)


def weights(folder):
    """Return {name: tensor} in fp32, the last norm as it was before the temperature divided it."""
    from safetensors.torch import load_file

    found = {name: t.float() for name, t in load_file(Path(folder) / "model.safetensors").items()}
    found["model.norm.weight"] *= history(folder)["temperature"]
    return found


def joined(before, facts):
    """Return the facts of a build that started from another: stages, log and minutes go on from there.

    Args:
        before: ``history`` of the model it started from.
        facts: of this build; its log counts the stages that it left out as done.
    """
    minutes = before["minutes"] + facts["minutes"]
    skipped = facts["minutes"] * DONE / (1 - DONE)
    log = [[round(m - skipped + before["minutes"], 1), named(stage), parts] for m, stage, parts in facts["log"]]
    old = [{**s, "share": s["share"] * before["minutes"] / minutes} for s in before["stages"]]
    own = [{**s, "name": named(s["name"])} for s in facts["stages"] if s["name"] in LEFT]
    new = [{**s, "share": s["share"] / (1 - DONE) * facts["minutes"] / minutes} for s in own]
    return {
        **facts,
        "minutes": minutes,
        "steps": before["steps"] + facts["steps"],
        "log": before["log"] + log,
        "stages": old + new,
        "started_from": {k: v for k, v in before.items() if k not in ("log", "stages")},
    }


def named(stage):
    """Return the name of a stage that runs again."""
    return f"{stage}, new text"
