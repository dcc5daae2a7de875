"""Figures that lessons show beside the reader's own: the file, the command that makes it, and what a lesson prints of it."""

import json
import re

import numpy as np
import pytest

from benchmarks import record
from benchmarks.common import model_folder, model_key
from course_utils import profile
from course_utils.errors import InputError
from course_utils.files import write_json
from course_utils.show import beside

KEPT = json.loads(profile.RECORDED.read_text(encoding="utf-8"))
BEFORE = np.linspace(0, 0.8, 20)


def test_every_lesson_that_shows_recorded_figures_has_them():
    assert list(KEPT) == list(record.LESSONS)
    for number, kept in KEPT.items():
        assert kept["command"] == f"python -m benchmarks.record --lesson {number} --seeds {len(kept['seeds'])}"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["date"]) and "threads" in kept["machine"]
        assert kept["profile"] == "laptop" and kept["seeds"] == [0, 1, 2]
        assert kept["weights"] == model_key(model_folder("nano")), (
            f"record lesson {number} again: nano has other weights"
        )
        for own in kept["changes"].values():
            assert own["low"] <= own["mean"] <= own["high"] and len(own["seeds"]) == len(kept["seeds"])
            assert own["mean"] == pytest.approx(np.mean(own["seeds"]), abs=1e-4)


def test_lessons_train_with_the_profile_s_seed():
    for path in record.LESSONS.values():
        code = "\n".join(record.code(path))
        recipes = re.findall(r"Recipe\([^)]*\)", code)
        assert any("seed=profile.seed" in recipe for recipe in recipes), path.name


def test_a_lesson_shows_yours_beside_the_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(profile, "RECORDED", tmp_path / "recorded.json")
    monkeypatch.delenv("COURSE_RECORD", raising=False)
    kept = {"profile": "laptop", "seeds": [0, 1], "date": "2026-01-02", "machine": "a chip"}
    kept["changes"] = {"adapted": {"mean": 0.02, "low": -0.01, "high": 0.05, "seeds": [0.01, 0.03]}}
    write_json(profile.RECORDED, {"05": kept})
    shown = str(beside("05", {"mine": (BEFORE, BEFORE + 0.1)}))
    assert "| mine | +0.100 [+0.100, +0.100] | +0.020 [-0.010, +0.050] | +0.010 +0.030 |" in shown
    assert shown.endswith("Recorded: laptop profile, 2 seeds, 2026-01-02, a chip.")
    with pytest.raises(InputError, match="holds 1 changes of lesson 05, which shows 2"):
        beside("05", {"a": (BEFORE, BEFORE), "b": (BEFORE, BEFORE)})


def test_a_recording_keeps_each_query_and_a_change_is_the_mean_over_seeds(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RECORD", str(tmp_path / "lines.jsonl"))
    for gain in (0.0, 0.1, 0.2):
        assert "| a | " in str(beside("05", {"a": (BEFORE, BEFORE + gain)}))
    runs = [
        {"seconds": 60.0, "changes": json.loads(line)["changes"]}
        for line in (tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    found = record.summary(runs)
    assert found["minutes"] == 1.0 and found["changes"]["a"]["queries"] == 20
    assert found["changes"]["a"]["mean"] == pytest.approx(0.1) and found["changes"]["a"]["seeds"] == [0.0, 0.1, 0.2]
    assert found["changes"]["a"]["low"] == pytest.approx(found["changes"]["a"]["high"]), "all queries gain the same"


def test_recording_one_lesson_keeps_the_others_and_runs_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RECORDED", tmp_path / "recorded.json")
    monkeypatch.setattr(record, "BUILD", tmp_path)
    ran = []

    def run_lesson(path, folder, environment):
        ran.append(environment["COURSE_SEED"])
        change = {"lesson": "03", "changes": {"a": [[0.5, 0.5], [0.6, 0.5 + 0.1 * int(environment["COURSE_SEED"])]]}}
        with open(environment["COURSE_RECORD"], "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps(change) + "\n")
        return 1.0, ""

    monkeypatch.setattr(record, "run_lesson", run_lesson)
    write_json(tmp_path / "recorded.json", {"99": {"gain": 9}})
    for _ in range(2):
        assert record.main(["--lesson", "03"]) == 0
    kept = json.loads((tmp_path / "recorded.json").read_text(encoding="utf-8"))
    assert sorted(ran) == ["0", "1", "2"] and kept["99"] == {"gain": 9}
    assert kept["03"]["changes"]["a"]["seeds"] == [0.05, 0.1, 0.15]
    with pytest.raises(SystemExit):
        record.main(["--lesson", "98"])


@pytest.mark.parametrize("text", [None, "", "[]", '{"04": {}}'])
def test_a_file_without_the_lesson_is_explained(tmp_path, monkeypatch, text):
    path = tmp_path / "recorded.json"
    monkeypatch.setattr(profile, "RECORDED", path)
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"no figures of lesson 03: .*benchmarks\.record --lesson 03"):
        profile.PROFILES["smoke"].recorded("03")


def test_a_seed_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("COURSE_SEED", "one")
    with pytest.raises(InputError, match="COURSE_SEED"):
        profile.get_profile("smoke", quiet=True)
    monkeypatch.setenv("COURSE_SEED", "2")
    assert profile.get_profile("laptop", quiet=True).seed == 2
