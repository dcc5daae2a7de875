"""The Chinese edition beside the English one: same cells, same code, nothing stale, one rendering of a term."""

import json
import re
import shutil
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import chinese

import notebooks as tools

ZH = tools.CHINESE
LESSONS = sorted(ZH.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((ZH / "solutions").glob("*.ipynb"))
EXERCISES = sorted((ZH / "exercises").glob("*.ipynb"))
ALL = [*LESSONS, *SOLUTIONS, *EXERCISES]
PAGES = [ROOT / "README.zh.md", ROOT / "data" / "README.zh.md", ROOT / "data" / "models" / "nano" / "README.zh.md"]
GLOSSARY = ZH / "术语表.md"
FRAME = ("**用时**", "**硬件**", "**内存峰值**", "**开始之前**", "**学完本课，你能**")
NUMERALS = dict(zip("零一二三四五六七八九十", range(11), strict=True)) | {"两": 2, "十一": 11, "十二": 12}
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
DECIMAL = re.compile(r"(?<![\w.])\d[\d,]*\.\d+(?![\w.]*\d)")


def name(path):
    return path.relative_to(ZH).as_posix()


def texts(path, kind="markdown"):
    return [chinese.source(c) for c in tools.read(path)["cells"] if c["cell_type"] == kind]


def test_every_chinese_notebook_has_an_english_one():
    assert [name(p) for p in ALL if not tools.twin(p).exists()] == []
    assert {p.name for p in SOLUTIONS} == {p.name for p in EXERCISES}, "run: python scripts/notebooks.py exercises"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_same_cells_same_code_and_nothing_stale(path):
    assert [f"{name(path)} {where}: {what}" for where, what in chinese.faults(path)] == []


@pytest.mark.parametrize("path", ALL, ids=name)
def test_generated_parts_are_as_the_generator_writes_them(path):
    notebook = tools.read(path)
    assert [c["id"] for c in notebook["cells"]] == [f"cell-{i:02d}" for i in range(len(notebook["cells"]))]
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    assert [(c["outputs"], c["execution_count"]) for c in code] == [([], None)] * len(code)
    assert chinese.source(code[0]) == tools.setup_source("zh")
    rows = [line for text in texts(path) for line in text.splitlines() if "<!-- badges -->" in line]
    assert rows == ([tools.badge_row(path)] if path.parent == ZH else [])
    if path.parent == ZH:
        assert f"](../{path.name})" in rows[0]
        assert f"](zh/{path.name})" in tools.badge_row(tools.twin(path))


@pytest.mark.parametrize("path", EXERCISES, ids=name)
def test_exercises_are_generated_from_solutions(path):
    made = tools.exercise_cells(tools.read(ZH / "solutions" / path.name)["cells"], "zh")
    assert tools.read(path)["cells"] == made, "run: python scripts/notebooks.py exercises"
    assert sum(tools.STUB_ZH.strip() in text for text in texts(path, "code")) >= 3


@pytest.mark.parametrize("path", ALL, ids=name)
def test_links_lead_somewhere_and_no_line_is_cut_off(path):
    for text in texts(path):
        for target in re.findall(r"(?<!!)\[[^\]]+\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            assert (path.parent / target).exists(), target
    lines = [line for text in texts(path, "code") for line in text.splitlines()]
    assert [x for x in lines if sum(1 + (ord(c) > 0x2E80) for c in x) > 100] == []
    assert not re.search(r'[ "\'(=](/home|/root|/tmp|/mnt|/opt|/work)/', path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*ALL, *ZH.glob("*.md"), *PAGES], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_the_chinese_notebook_where_there_is_one(path):
    found = texts(path) if path.suffix == ".ipynb" else [path.read_text(encoding="utf-8")]
    assert [tools.relink(path, text) for text in found] == found, "run: python scripts/notebooks.py badges"


def test_every_chinese_page_is_known_here():
    names = [p for p in ROOT.rglob("*.zh.md") if not {".venv", "build"} & set(p.relative_to(ROOT).parts)]
    assert sorted(names) == sorted(PAGES)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_chinese_page_has_links_that_hold_and_only_figures_of_the_english_one(path):
    chinese_text, english = (p.read_text(encoding="utf-8") for p in (path, path.with_name("README.md")))
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", chinese_text)
    assert [t for t in targets if not (path.parent / t).exists()] == []
    assert "README.md" in targets
    assert "](README.zh.md)" in english
    assert set(DECIMAL.findall(chinese_text)) <= set(DECIMAL.findall(english))


@pytest.mark.parametrize("path", LESSONS, ids=name)
def test_a_lesson_has_its_frame(path):
    markdown = texts(path)
    assert [part for part in FRAME if part not in markdown[0]] == []
    headings = [m for text in markdown for m in re.findall(r"^## (.+)$", text, flags=re.M)]
    end = ["小结", "小测验", "下一步"] if "_bonus_" in path.name else ["小结", "小测验", "练习", "下一步"]
    assert headings[-len(end) :] == end
    quiz = "\n".join(markdown).split("## 小测验")[1].split("\n## ")[0]
    choices = re.findall(r"<details>\s*<summary>.+?</summary>(.+?)</details>", quiz, flags=re.S)
    english = "\n".join(texts(tools.twin(path))).split("## Quiz")[1].split("\n## ")[0]
    verdicts = re.findall(r"</summary>\W*(Right|Wrong)\b", english)
    assert [answer.strip().lstrip("*")[0] for answer in choices] == ["对" if v == "Right" else "错" for v in verdicts]


MINUTES = {"zh": re.compile(r"(\d+) 分钟，(容易|中等|较难)"), "en": re.compile(r"(\d+) minutes, (easy|medium|hard)")}
HARDNESS = {"easy": "容易", "medium": "中等", "hard": "较难"}


@pytest.mark.parametrize("path", [*LESSONS, *SOLUTIONS], ids=name)
def test_minutes_of_exercises_are_those_of_the_english_text(path):
    found = MINUTES["zh"].findall("\n".join(texts(path)))
    wanted = MINUTES["en"].findall("\n".join(texts(tools.twin(path))))
    assert found == [(minutes, HARDNESS[word]) for minutes, word in wanted]


def facts(text):
    """Return {(fact, value)} of the marked numbers of a text in either language."""
    found = re.findall(
        r"([-+]?\d[\d,.]*(?:e-?\d+)?|[A-Za-z]+|[零一二两三四五六七八九十]+) ?<!-- fact: ([\w.@-]+) -->", text
    )
    value = {**NUMERALS, **{w: i for i, w in enumerate(WORDS)}}
    return sorted((fact, value[n.lower()] if n.lower() in value else float(n.replace(",", ""))) for n, fact in found)


@pytest.mark.parametrize("path", ALL, ids=name)
def test_numbers_are_those_of_the_english_text(path):
    for english, text in zip(texts(tools.twin(path)), texts(path), strict=True):
        assert facts(text) == facts(english)
        assert set(DECIMAL.findall(text)) <= set(DECIMAL.findall(english)), text


def test_the_guide_has_the_minutes_of_the_english_guide_and_links_that_lead_somewhere():
    text, english = ((folder / "README.md").read_text("utf-8") for folder in (ZH, tools.NOTEBOOKS))
    assert chinese.guide(text) == text, "run: python scripts/notebooks.py badges"
    assert [x.count("\n| ") for x in text.split("\n## ")] == [x.count("\n| ") for x in english.split("\n## ")]
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert f"\n## {target[1:]}\n" in text if target.startswith("#") else (ZH / target).exists(), target


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A small project with one lesson in both languages, as ``stamp`` leaves it; return its Chinese notebook."""
    monkeypatch.setattr(tools, "NOTEBOOKS", tmp_path)
    for module in (tools, chinese):
        monkeypatch.setattr(module, "CHINESE", tmp_path / "zh")
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(chinese, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(tools, "setup_source", lambda language="en": f"language = '{language}'")
    monkeypatch.setattr(tools, "settings", lambda: {"repository": "a/b", "branch": "main", "tag": "v1"})
    english = """# %% [markdown]
# # A lesson
#
# <!-- badges -->
# %% tags=["setup"]
# %% [markdown]
# A **query** asks.
# %%
# A remark on what follows.
name = "two"
print(f"there are {len(name)} letters in it: {name}")
# %% [markdown]
# ## Recap
#
# That was all of it.
"""
    zh = """# %% [markdown]
# # 一课
#
# <!-- badges -->
# %% tags=["setup"]
# %% [markdown]
# **查询**提出问题。
# %%
# 先说明一下。
name = "两个"
print(f"{name} 一共有 {len(name)} 个字母")
# %% [markdown]
# ## 小结
#
# 就是这些。
"""
    for target, text in ((tmp_path / "01_a.ipynb", english), (tmp_path / "zh" / "01_a.ipynb", zh)):
        source = tmp_path / "text.py"
        source.write_text(text, encoding="utf-8")
        assert tools.main(["from-py", str(source), str(target)]) == 0
    assert chinese.stamp("01_a.ipynb", []) == 0
    return tmp_path / "zh" / "01_a.ipynb"


def change(path, number, old, new):
    notebook = tools.read(path)
    text = chinese.source(notebook["cells"][number])
    assert old in text
    notebook["cells"][number]["source"] = text.replace(old, new).splitlines(keepends=True)
    tools.write(path, notebook["cells"])


def test_a_stamped_notebook_has_no_faults_and_links_both_ways(copy, capsys):
    assert chinese.faults(copy) == []
    assert chinese.stale() == 0
    assert "](../01_a.ipynb)" in texts(copy)[0]
    assert "[中文版](zh/01_a.ipynb)" in texts(tools.twin(copy))[0]
    assert "no Chinese cell is stale" in capsys.readouterr().out


def test_a_link_leads_to_the_english_notebook_until_there_is_a_chinese_one(copy):
    (copy.parent.parent / "02_b.ipynb").write_text("{}", encoding="utf-8")
    assert tools.relink(copy, "[二](02_b.ipynb)，[一](../01_a.ipynb)") == "[二](../02_b.ipynb)，[一](01_a.ipynb)"
    (copy.parent / "02_b.ipynb").write_text("{}", encoding="utf-8")
    assert tools.relink(copy, "[二](../02_b.ipynb)") == "[二](02_b.ipynb)"


def test_a_changed_word_in_an_english_cell_is_named(copy, capsys):
    change(tools.twin(copy), 2, "asks", "wants")
    assert [where for where, _ in chinese.faults(copy)] == ["cell-02"]
    assert "stale" in chinese.faults(copy)[0][1]
    assert chinese.stale() == 1
    said = capsys.readouterr().out
    assert "zh/01_a.ipynb cell-02" in said
    assert "A **query** wants." in said
    assert "**查询**提出问题。" in said
    assert chinese.stamp("01_a.ipynb", []) == 1  # not by itself: somebody must have read it
    assert chinese.stamp("01_a.ipynb", ["cell-02"]) == 0


def test_other_code_english_comments_and_prints_are_named(copy):
    change(copy, 3, "len(name)", "len(name) + 1")
    assert "other code" in chinese.faults(copy)[0][1]
    change(copy, 3, "len(name) + 1", "len(name)")
    change(copy, 3, "# 先说明一下。", "# A remark on what follows.")
    assert "English comment" in chinese.faults(copy)[0][1]
    change(copy, 3, "# A remark on what follows.", "# 说明。")
    change(copy, 3, " 一共有 ", " has all in all ")
    assert "prints English" in chinese.faults(copy)[0][1]


def test_a_new_english_cell_moves_the_others_and_becomes_a_skeleton(copy, capsys):
    notebook = tools.read(tools.twin(copy))
    notebook["cells"].insert(3, tools.cell("markdown", "One more thought on this.", 0))
    for number, c in enumerate(notebook["cells"]):
        c["id"] = f"cell-{number:02d}"
    tools.write(tools.twin(copy), notebook["cells"])
    assert "run the command stamp" in chinese.faults(copy)[0][1]
    assert chinese.stamp("01_a.ipynb", []) == 1
    assert {where for where, _ in chinese.faults(copy)} == {"cell-03"}
    assert "就是这些。" in texts(copy)[-1]
    change(copy, 3, "One more thought on this.", "再想一步。")
    assert chinese.stamp("01_a.ipynb", []) == 0


def test_text_goes_to_a_py_file_and_back(copy):
    file = copy.parent / "text.py"
    file.write_text(tools.to_py(tools.read(copy)["cells"]), encoding="utf-8")
    shutil.copy(copy, copy.parent / "before.ipynb")
    assert tools.main(["from-py", str(file), str(copy)]) == 0
    assert json.loads(copy.read_text("utf-8")) == json.loads((copy.parent / "before.ipynb").read_text("utf-8"))
    file.write_text(file.read_text("utf-8").replace("提出问题", "就是问题"), encoding="utf-8")
    tools.main(["from-py", str(file), str(copy)])
    assert [where for where, _ in chinese.faults(copy)] == ["cell-02"]  # a new text has no stamp yet


def glossary():
    """Return [(English term, renderings, renderings not to use, explanation)] of the glossary."""
    rows = [line.strip("|").split("|") for line in GLOSSARY.read_text("utf-8").splitlines() if line.startswith("| ")][
        1:
    ]
    assert {len(r) for r in rows} == {4}
    cells = [[c.strip() for c in row] for row in rows]
    return [(term, own.split("、"), other.split("、"), said) for term, own, other, said in cells]


def test_a_term_has_one_row_and_a_rendering_one_term():
    rows = glossary()
    assert len(rows) >= 90
    terms, used = [r[0] for r in rows], [w for r in rows for w in r[1]]
    assert len(set(terms)) == len(terms)
    assert len(set(used)) == len(used)
    others = [w for r in rows for w in r[2]]
    assert len(set(others)) == len(others)
    assert set(others) & set(used) == set()
    assert all(said.endswith("。") and 6 <= len(said) <= 70 for *_, said in rows)


def disallowed(text):
    """Return the renderings in a text that the glossary rules out."""
    rows = glossary()
    for word in sorted({w for r in rows for w in r[1]}, key=len, reverse=True):
        text = text.replace(word, " ")  # what is allowed may hold what is not: 模型卡片 holds 模型卡
    return sorted({w for r in rows for w in r[2] if w in text})


CHINESE_TEXTS = [*ALL, *sorted({*ZH.glob("*.md"), *PAGES, *ROOT.glob("course_utils/locale/**/*.po")})]


@pytest.mark.parametrize("path", CHINESE_TEXTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_text_uses_a_rendering_that_the_glossary_rules_out(path):
    text = path.read_text(encoding="utf-8")
    if path == GLOSSARY:
        text = "\n".join(said for *_, said in glossary())
    assert disallowed(text) == []


def test_the_glossary_test_finds_what_it_looks_for():
    assert disallowed("这个重排器会造成数据泄露。") == ["数据泄露", "重排器"]
    assert disallowed("模型卡片和数据卡片说明重排序模型。") == []
