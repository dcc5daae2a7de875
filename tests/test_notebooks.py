"""Contract of the notebooks, checked without running them: frame, headings, alternative text, badges, no outputs."""

import ast
import importlib.util
import itertools
import json
import re
import sys
import unicodedata

import pytest
from conftest import ROOT

NOTEBOOKS = ROOT / "notebooks"
BONUS = sorted(NOTEBOOKS.glob("*_bonus_*.ipynb"))  # a lesson without exercises, outside the day of the course
LESSONS = sorted({*NOTEBOOKS.glob("[0-9]*.ipynb")} - {*BONUS})
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))
EXERCISES = sorted((NOTEBOOKS / "exercises").glob("*.ipynb"))
ALL = [*LESSONS, *BONUS, *SOLUTIONS, *EXERCISES]

spec = importlib.util.spec_from_file_location("notebook_tools", ROOT / "scripts" / "notebooks.py")
tools = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tools)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def sources(path, kind):
    return ["".join(c["source"]) for c in read(path)["cells"] if c["cell_type"] == kind]


def name(path):
    return path.relative_to(NOTEBOOKS).as_posix()


def test_the_suite_is_looking_at_the_notebooks():
    assert any(p.name == "00_start_here.ipynb" for p in LESSONS)
    assert len(LESSONS) >= 2


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_outputs_no_counts_stable_ids(path):
    notebook = read(path)
    assert "widgets" not in notebook["metadata"]
    assert notebook["nbformat"] == 4
    ids = [c["id"] for c in notebook["cells"]]
    assert ids == [f"cell-{i:02d}" for i in range(len(ids))]
    for c in notebook["cells"]:
        if c["cell_type"] == "code":
            assert c["outputs"] == []
            assert c["execution_count"] is None


@pytest.mark.parametrize("path", ALL, ids=name)
def test_one_title_and_heading_levels_that_never_skip(path):
    levels = []
    for text in sources(path, "markdown"):
        text = re.sub(r"```.*?```", "", text, flags=re.S)
        levels += [len(m[1]) for m in re.finditer(r"^(#{1,6}) \S", text, flags=re.M)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


@pytest.mark.parametrize("path", ALL, ids=name)
def test_images_carry_alternative_text_and_links_lead_somewhere(path):
    for text in sources(path, "markdown"):
        for alt, _target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
            assert alt.strip()
        for tag in re.findall(r"<img\b[^>]*>", text):
            assert re.search(r'alt="[^"]+"', tag)
        for target in re.findall(r"(?<!!)\[[^\]]+\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", ALL, ids=name)
def test_the_badge_row_is_made_from_the_one_setting(path):
    rows = [line for text in sources(path, "markdown") for line in text.splitlines() if "<!-- badges -->" in line]
    if path.parent == NOTEBOOKS:
        assert rows == [tools.badge_row(path)]
    else:
        assert all(row == tools.badge_row(path) for row in rows)


@pytest.mark.parametrize("path", ALL, ids=name)
def test_the_setup_cell_comes_first_and_is_the_common_one(path):
    cells = [c for c in read(path)["cells"] if c["cell_type"] == "code"]
    assert cells[0]["metadata"].get("tags") == ["setup"]
    assert "".join(cells[0]["source"]) == tools.setup_source()
    assert not any("setup" in c["metadata"].get("tags", []) for c in cells[1:])


@pytest.mark.parametrize("path", ALL, ids=name)
def test_code_cells_parse_and_import_only_what_is_installed(path):
    for text in sources(path, "code"):
        assert not re.search(r"^\s*[!%]", text, flags=re.M), "a failed ! or % line would not fail a test run"
        tree = ast.parse(text)
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for module in names:
                top = module.split(".")[0]
                assert top in sys.stdlib_module_names or importlib.util.find_spec(top), f"{module} is not installed"


def width(line):
    """Return the columns a line takes: a Chinese character takes two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line)


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_code_line_is_cut_off_at_the_edge_of_its_cell(path):
    assert [line for text in sources(path, "code") for line in text.splitlines() if width(line) > 100] == []


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_machine_paths_secrets_or_remote_code(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r'[ "\'(=](/home|/root|/tmp|/mnt|/opt|/work)/', text)
    assert not re.search(r"hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9]{20,}", text)
    assert "trust_remote_code=True" not in text


@pytest.mark.parametrize("path", [*LESSONS, *BONUS], ids=name)
def test_a_lesson_has_its_frame(path):
    markdown = sources(path, "markdown")
    head = markdown[0]
    for part in (
        "**Time**",
        "**Hardware**",
        "**Peak memory**",
        "**Before you start**",
        "**After this lesson you can**",
    ):
        assert part in head, part
    headings = [m for text in markdown for m in re.findall(r"^## (.+)$", text, flags=re.M)]
    end = ["Recap", "Quiz", "Next"] if path in BONUS else ["Recap", "Quiz", "Exercises", "Next"]
    assert headings[-len(end) :] == end


def bullets(text):
    return re.findall(r"^[-*] (.+)$", text, flags=re.M)


@pytest.mark.parametrize("path", [*LESSONS, *BONUS], ids=name)
def test_the_recap_mirrors_the_objectives(path):
    markdown = sources(path, "markdown")
    objectives = bullets(markdown[0].split("**After this lesson you can**")[1])
    recap = next(t for t in markdown if re.search(r"^## Recap$", t, flags=re.M))
    own = bullets(recap.split("## Recap")[1].split("\n## ")[0])
    assert 3 <= len(objectives) <= 5
    assert len(own) == len(objectives)


@pytest.mark.parametrize("path", [*LESSONS, *BONUS], ids=name)
def test_a_lesson_has_the_size_of_one_sitting(path):
    cells = read(path)["cells"]
    assert 15 <= len(cells) <= 48
    words = sum(
        len(re.findall(r"[A-Za-z']+", re.sub(r"<[^>]+>|\(http[^)]*\)", " ", t))) for t in sources(path, "markdown")
    )
    assert 700 <= words <= 2100, words
    lengths = sorted(len(t.splitlines()) for t in sources(path, "code")[1:])
    assert lengths[len(lengths) // 2] <= 12
    assert lengths[-1] <= 28


@pytest.mark.parametrize("path", [*LESSONS, *BONUS], ids=name)
def test_every_choice_of_a_quiz_is_explained(path):
    text = "\n".join(sources(path, "markdown")).split("## Quiz")[1].split("\n## ")[0]
    choices = re.findall(r"<details>\s*<summary>(.+?)</summary>(.+?)</details>", text, flags=re.S)
    assert len(choices) >= 6
    verdicts = [re.match(r"\W*(Right|Wrong)\b", answer.strip()) for _, answer in choices]
    assert all(verdicts)
    assert {v[1] for v in verdicts} == {"Right", "Wrong"}


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_every_lesson_has_exercises_with_solutions(path):
    assert (NOTEBOOKS / "solutions" / path.name).exists()
    assert (NOTEBOOKS / "exercises" / path.name).exists()


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_exercises_are_generated_from_solutions(path, tmp_path):
    target = NOTEBOOKS / "exercises" / path.name
    expected = tools.exercise_cells(read(path)["cells"])
    actual = read(target)["cells"]

    def plain(cells):
        texts = ("".join(c["source"]) for c in cells)
        return [re.sub(r"^.*<!-- badges -->.*$", "", t, flags=re.M) for t in texts]

    assert plain(actual) == plain(expected), "run: python scripts/notebooks.py exercises"
    stubs = [t for t in plain(actual) if tools.STUB.strip() in t]
    assert len(stubs) >= 3
    assert "# --- solution" not in "".join(plain(actual))


@pytest.mark.parametrize("path", SOLUTIONS, ids=name)
def test_every_exercise_is_checked_and_has_help(path):
    code = [t for t in sources(path, "code") if "# --- solution" in t]
    assert len(code) >= 3
    for text in code:
        assert text.count("# --- solution") == text.count("# --- end") == 1
        assert re.search(r"check_\w+\(", text.split("# --- end")[1])
    help_ = "\n".join(sources(path, "markdown"))
    assert help_.count("<details>") >= 2 * len(code)
    assert re.search(r"minutes", help_)


MINUTES = re.compile(r"(\d+) minutes, (easy|medium|hard)")


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_a_lesson_announces_its_exercises_as_they_are(path):
    announced = "\n".join(sources(path, "markdown")).split("## Exercises")[1].split("\n## ")[0]
    tasks = "\n".join(sources(NOTEBOOKS / "solutions" / path.name, "markdown"))
    assert MINUTES.findall(announced) == MINUTES.findall(tasks)


def guide_tables():
    """Return {lesson: [(section, 90-minute plan, day plan)]} of the instructor guide."""
    text = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    parts = re.split(r"^\*\*(\d\d) .+\*\*$", text.split("## Minutes a section")[1].split("\n## ")[0], flags=re.M)
    row = re.compile(r"^\| (?!section)(.+?) \| (.*?) ?\| (.*?) ?\|$", flags=re.M)
    return {number: row.findall(table) for number, table in zip(parts[1::2], parts[2::2], strict=True)}


def test_the_instructor_guide_has_minutes_for_every_section():
    tables = guide_tables()
    assert list(tables) == [p.name[:2] for p in LESSONS]
    for path in LESSONS:
        headings = [m for text in sources(path, "markdown") for m in re.findall(r"^## (.+)$", text, flags=re.M)]
        assert [section for section, _, _ in tables[path.name[:2]]] == [*headings[:-4], "Exercises"], name(path)


def test_the_minutes_of_the_instructor_guide_add_up():
    rows = [row for table in guide_tables().values() for row in table]
    for column, total in ((1, 90), (2, 6 * 60)):
        assert sum(int(row[column]) for row in rows if row[column].isdigit()) == total
        assert all(row[column] in ("", "-") or row[column].isdigit() for row in rows)


def test_the_links_of_the_instructor_guide_lead_somewhere():
    text = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target[1:] in anchors if target.startswith("#") else (NOTEBOOKS / target).exists(), target
