"""Figures that lessons print beside the reader's own: the file, its command, and that lesson and file speak of the same."""

import ast
import importlib.util
import json
import re

import numpy as np
import pytest
from conftest import ROOT

from benchmarks.common import model_folder, model_key
from benchmarks.recorded import lesson03
from course_utils import profile
from course_utils.errors import InputError
from course_utils.files import write_json

spec = importlib.util.spec_from_file_location("record", ROOT / "scripts" / "record.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
KEPT = json.loads(profile.RECORDED.read_text(encoding="utf-8"))


def lesson(number):
    path = next((ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def test_every_recorder_has_figures_and_every_lesson_finds_its_own():
    assert set(KEPT) == set(tool.RECORDERS)
    asked = {n for p in (ROOT / "notebooks").glob("[0-9]*.ipynb") for n in re.findall(r'recorded\("(\d\d)"\)', lesson(p.name[:2]))}  # fmt: skip
    assert asked <= set(KEPT)
    for number, kept in KEPT.items():
        assert kept["command"] == f"python scripts/record.py --lesson {number} --seeds {len(kept['seeds'])}"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["date"]) and "threads" in kept["machine"]
        assert profile.PROFILES["smoke"].recorded(number) == kept


def test_figures_belong_to_the_bundled_model_and_to_the_recipes_of_the_recorder():
    kept = KEPT["03"]
    assert kept["weights"] == model_key(model_folder("nano")), "record lesson 03 again: nano has other weights"
    assert kept["queries"] == lesson03.QUERIES
    assert all(len(way["medical"]["seeds"]) == len(kept["seeds"]) for way in kept["ways"].values())
    assert list(kept["ways"]) == list(lesson03.WAYS)


def test_lesson_03_trains_the_ways_that_are_recorded():
    code = lesson("03")
    tree = ast.parse(code)
    recipes = next(
        n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "recipes"
    )
    known = {"recipe": lesson03.RECIPE}
    assert eval(compile(ast.Expression(recipes), "lesson", "eval"), known) == lesson03.WAYS


def test_an_interval_holds_its_mean_and_a_change_is_the_mean_over_seeds():
    base, after = np.linspace(0, 0.8, 20), [np.linspace(0, 0.8, 20) + gain for gain in (0.0, 0.1, 0.2)]
    found = lesson03.change(base, after)
    assert found["mean"] == pytest.approx(0.1) and found["seeds"] == pytest.approx([0.0, 0.1, 0.2])
    assert found["low"] == pytest.approx(found["high"]), "all queries gain the same"
    for way in KEPT["03"]["ways"].values():
        for name in {"medical", "general", f"against {lesson03.FIRST}"} & set(way):
            d = way[name]
            assert d["low"] <= d["mean"] <= d["high"] and d["mean"] == pytest.approx(np.mean(d["seeds"]), abs=1e-4)


def test_recording_one_lesson_keeps_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "RECORDED", tmp_path / "recorded.json")
    monkeypatch.setattr(tool, "BUILD", tmp_path)
    monkeypatch.setattr(tool, "quiet", lambda: None)
    monkeypatch.setattr(tool.torch, "set_num_threads", lambda n: None)
    monkeypatch.setattr(lesson03, "record", lambda cells, seeds: {"gain": seeds})
    write_json(tmp_path / "recorded.json", {"99": {"gain": 9}})
    assert tool.main(["--lesson", "03"]) == 0
    kept = json.loads((tmp_path / "recorded.json").read_text(encoding="utf-8"))
    assert kept["99"] == {"gain": 9} and kept["03"]["gain"] == 3 and kept["03"]["date"]
    with pytest.raises(SystemExit):
        tool.main(["--lesson", "98"])


@pytest.mark.parametrize("text", [None, "", "[]", '{"04": {}}'])
def test_a_file_without_the_lesson_is_explained(tmp_path, monkeypatch, text):
    path = tmp_path / "recorded.json"
    monkeypatch.setattr(profile, "RECORDED", path)
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"no figures of lesson 03: .*record\.py --lesson 03"):
        profile.PROFILES["smoke"].recorded("03")
