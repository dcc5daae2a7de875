"""What a person reads in a Chinese session beside the lessons: usage and errors, downloads, server, exports, tables, report."""

import argparse
import ast
import inspect
import json
import os
import re
import sys
import types

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import messages

from course_utils.cli import course, terminal
from course_utils.cli.parser import build_parser, main
from course_utils.domains.merging import Matrix
from course_utils.model import hub
from course_utils.ship import export, folders, onnx, server
from course_utils.ship.batching import Limits, _Refused
from course_utils.ship.serving import serving_lines
from course_utils.text import _columns
from course_utils.training.freezing import freeze_all_but_last
from course_utils.updates.forgetting import Forgetting

# What argparse says to whoever writes a parser, not to whoever uses it.
FOR_PROGRAMMERS = re.compile(
    r"conflict|mutually|merge actions|dest=|'required' is|not callable|__call__|must start with|multiple subparser|deprecated"
    r"|subcommands|default: %|^argument \"-\"|can't open|unknown parser|unexpected option string|%\(prog\)s: "
)
ENGLISH = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")  # two words one after the other


@pytest.fixture(autouse=True)
def chinese(monkeypatch):
    monkeypatch.setenv("COURSE_LANGUAGE", "zh")


def english(text):
    """Return the English that is left in a text without code: what stands in ``, commands, options with their values."""
    code = r"`[^`]*`|python -m course_utils( [a-z]+)*|python scripts/run.py lab|(data|delta) [a-z]+|JSON Lines|(?<!\w)--?[a-z-]+ [\w{][^ \n]*|a/b"
    return ENGLISH.findall(re.sub(code, "", text))


def test_argparse_says_nothing_to_a_reader_that_has_no_chinese():
    said = set()
    for node in ast.walk(ast.parse(inspect.getsource(argparse))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "ngettext"):
            said |= {a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    assert "show this help message and exit" in said
    assert {text for text in said if not FOR_PROGRAMMERS.search(text)} - set(messages.messages()) == set()


def parsers(parser):
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own in action.choices.values():
                yield from parsers(own)


def test_help_is_in_chinese():
    found = list(parsers(build_parser()))
    assert len(found) > 15
    for parser in found:
        text = parser.format_help()
        assert text.startswith("用法：")
        body = text.partition("\n\n")[2].rpartition("\n\n")[0]  # between usage and example
        assert english(body) == [], parser.prog


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("adapt --train a", "还缺少：--test, --out, --json"),
        ("adapt --layers x", "参数 --layers：'x' 不合要求，应该是：整数或 all"),
        ("nosuch", "没有 'nosuch' 这个选择（可选：'doctor'"),
        ("rank --query a --documents b --zz", "不认识：--zz"),
        ("adapt --layers", "需要一个值"),
        ("adapt --max", "选项 --max 不明确，可能是 --max-queries"),
        ("doctor --help=3", "不接受值 '3'"),
    ],
)
def test_a_wrong_command_is_answered_in_chinese(argv, words, capsys):
    assert main(argv.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("错误：") and words in said
    assert english(said) == []


def test_every_failed_download_is_told_in_chinese(tmp_path):
    wanted = {text for text in hub._SAID.values()}
    assert len(wanted) > 12
    for key in hub._SAID:
        error = type(str(key), (Exception,), {})("why")
        if isinstance(key, int):
            error.response = types.SimpleNamespace(status_code=key, headers={})
        said = hub._explain(error, "a/b", "v1", tmp_path / "store")
        assert re.search("[\u4e00-\u9fff]{4}", said) and english(said) == [], said
        assert "{" not in said


def test_a_missing_model_offline_is_told_in_chinese(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="本地缓存里没有可用的 a/b（从来没有下载过）"):
        hub.model_folder("a/b")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "请求体不是 JSON"),
        (b"[]", "请求体不是对象"),
        (b'{"query": " ", "documents": ["a"]}', "query 是空的"),
        (b'{"query": 3, "documents": ["a"]}', 'query 不是文本；请给字符串或 {"text": "..."}'),
        (b'{"query": "q", "documents": []}', "documents 不是至少有一篇文档的列表"),
        (b'{"query": "q", "documents": ["a", "b", "c"]}', "3 篇文档超过了 2 篇"),
        (b'{"query": "q", "documents": ["a"], "top_n": 0}', "top_n 是 0"),
        (b'{"query": "q", "documents": ["a"], "raw_scores": 1}', "raw_scores 是 1；请给 true 或 false"),
        (b'{"query": "q", "documents": ["\\ud800"]}', "documents[0] 里有半个字符"),
    ],
)
def test_the_server_refuses_in_chinese(body, words):
    with pytest.raises(_Refused) as caught:
        server._parsed(body, Limits(documents=2))
    answer = server._error(caught.value.status, caught.value)
    assert words in json.loads(answer.body)["message"]


READMES = {
    "causal": export._CAUSAL_README,
    "cross-encoder": export._CROSS_ENCODER_README,
    "one label": export._ONE_LABEL_README,
    "onnx": onnx._ONNX_README,
}


@pytest.mark.parametrize("name", READMES)
def test_the_readme_of_an_export_is_in_chinese_with_the_same_code(name, tiny, tmp_path, monkeypatch):
    texts = {}
    for language in ("en", "zh"):
        monkeypatch.setenv("COURSE_LANGUAGE", language)
        folders._write_readme(tiny, tmp_path, "transformers", READMES[name])
        texts[language] = (tmp_path / "README.md").read_text(encoding="utf-8")
    for text in texts.values():
        assert text.startswith("---\nlibrary_name: transformers\npipeline_tag: text-ranking\n---\n# Qwen3-Reranker")
    code = [re.findall(r"```python\n.*?```", text, flags=re.S) for text in texts.values()]
    assert code[0] == code[1]
    assert re.findall("`[^`\n]+`", texts["zh"]) and set(re.findall("`[^`\n]+`", texts["zh"])) <= set(
        re.findall("`[^`\n]+`", texts["en"])
    )
    plain = re.sub(r"```.*?```|---.*?---|- 指令：.*", "", texts["zh"], flags=re.S)
    assert english(plain) == []


def test_lines_that_start_servers_keep_their_commands(monkeypatch):
    chinese = serving_lines("A", "B", 9)
    monkeypatch.setenv("COURSE_LANGUAGE", "en")
    for name, text in serving_lines("A", "B", 9).items():
        commands = [line for line in text.splitlines() if not line.startswith("#")]
        own = chinese[name].splitlines()
        assert [line for line in own if not line.startswith("#")] == commands
        assert english("\n".join(line for line in own if line.startswith("#"))) == []


def test_the_base_in_a_table_is_in_chinese_and_your_names_stay():
    table = str(Matrix(["base", "hospital"], ["wards", "base"], [[1, 2]] * 2, "all"))
    assert table.splitlines()[0] == "| all | wards | 基座 |"
    assert "| 基座 |" in table and "| hospital |" in table
    matrix = str(Forgetting(["base", "a"], ["general", "a"], np.array([[0.5, 0.4], [0.5, 0.6]])))
    assert matrix.splitlines()[0] == "| 之后 | general | a |"
    assert "| 基座 | 0.500 | 0.400 |" in matrix


def test_the_table_of_what_trains_is_in_chinese_and_its_columns_stand_below_each_other(tiny):
    lines = str(freeze_all_but_last(tiny.model, 1)).splitlines()
    assert lines[0].split() == ["部分", "参数量", "可训练"]
    assert [line.split()[0] for line in lines[1:]] == ["词嵌入", "第", "第", "第", "第", "归一化和输出", "全部"]
    assert {_columns(line) for line in lines[:-1]} == {56}


def test_a_table_of_a_command_counts_two_columns_for_a_chinese_character():
    text = terminal.aligned([["模型", "x"], ["nano", "y"], ["适配后的模型", "z"]])
    assert [_columns(line[: line.index(mark)]) for line, mark in zip(text.splitlines(), "xyz", strict=True)] == [14] * 3


RESULT = {
    "document_alone": 0.45, "bm25": 0.5, "before": {"ndcg@10": 0.5}, "after": {"ndcg@10": 0.6}, "delta_ndcg@10": 0.1,
    "low": 0.05, "high": 0.15, "general_before": {"ndcg@10": 0.8}, "general_after": {"ndcg@10": 0.79},
    "train_queries": 200, "test_queries": 60, "seconds": 12.0,
}  # fmt: skip


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_report_is_in_the_language_of_the_session(language, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_LANGUAGE", language)
    lesson = ROOT / "notebooks" / ("" if language == "en" else "zh") / "03_freezing.ipynb"
    rows = [("medical-zh", RESULT), ("legal-en", RESULT)]
    course.write_page(tmp_path, "smoke", [(lesson, 61.0, "")], rows)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.S)
    assert page.count("<tr>") == 3 and page.count("<td>") == 20
    assert "+0.100 [+0.050, +0.150]" in text and "medical-zh" in text
    if language == "en":
        assert '<html lang="en">' in page and "href='lessons/03_freezing.html'>03 " in page and "61 s" in text
        assert not re.search("[\u4e00-\u9fff]", text)
    else:
        assert (
            '<html lang="zh-CN">' in page
            and "href='lessons/zh/03_freezing.html'>03 选定训练哪些参数" in page
            and "61 秒" in text
        )
        assert english(text) == []
        assert english(course.table(rows)) == []


@pytest.mark.parametrize(("language", "lesson"), [("zh", "zh/00_a.ipynb"), ("en", "00_a.ipynb")])
def test_the_course_runs_and_measures_in_the_language_of_the_session(language, lesson, tmp_path, monkeypatch, capsys):
    notebook = json.dumps({"cells": [{"source": ["# A lesson\n", "text"]}]})
    for path in (tmp_path / "notebooks" / "00_a.ipynb", tmp_path / "notebooks" / "zh" / "00_a.ipynb"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(notebook, encoding="utf-8")
    ran = []
    monkeypatch.setenv("COURSE_LANGUAGE", language)
    monkeypatch.setattr(course, "LESSONS", tmp_path / "notebooks")
    monkeypatch.setattr(course, "run_lesson", lambda *given: ran.append(given) or (1.0, ""))
    monkeypatch.setattr(course, "measures_of", lambda *given: [lambda: ("medical-zh", RESULT)])
    out = tmp_path / "build"
    assert main(["course", "--profile", "smoke", "--out", str(out)]) == 0
    [(path, _folder, environment)] = ran
    assert path == tmp_path / "notebooks" / lesson
    assert environment["COURSE_LANGUAGE"] == language
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["measured"]["medical-zh"]["difference"] == 0.1
    assert f"lessons/{lesson.replace('.ipynb', '.html')}" in (out / "index.html").read_text(encoding="utf-8")
    if language == "zh":
        said = capsys.readouterr().out
        assert english(said.replace(str(tmp_path), "")) == []
        assert re.search(r"00_a.ipynb +1 秒", said)


def test_the_script_that_starts_everything_speaks_chinese(monkeypatch, capsys):
    import run as script

    with pytest.raises(SystemExit):
        script.step("课程", [sys.executable, "-c", "raise SystemExit(3)"])
    assert capsys.readouterr().out.splitlines()[-1] == "失败：课程（退出码 3）；出错的地方见上面几行。"
    monkeypatch.setenv("COURSE_LANGUAGE", "en")
    script.step("course", [sys.executable, "-c", ""])
    assert re.fullmatch(r"\n== course\n== course: done in \d+ s\n", capsys.readouterr().out)


def test_make_test_runs_every_chinese_lesson(monkeypatch):
    import run as script

    steps = []
    monkeypatch.setattr(script, "step", lambda name, command, fine=(0,), **given: steps.append((command, given)))
    script.test([])
    [command] = [command for command, given in steps if given.get("COURSE_LANGUAGE", "") is None]
    ran, notebooks = {p for p in command if str(p).endswith(".ipynb")}, ROOT / "notebooks"
    assert {p for p in ran if p.parent == notebooks / "zh"} == {*(notebooks / "zh").glob("*.ipynb")}
    english = {p for p in ran if p.parent != notebooks / "zh"}
    assert english == {*notebooks.glob("*.ipynb"), *(notebooks / "solutions").glob("*.ipynb")}
    assert len(english) == 2 * len([*notebooks.glob("*.ipynb")]) - 1


def test_make_lab_opens_the_first_lesson_in_the_language_of_the_session(monkeypatch):
    import run as script

    opened = []
    monkeypatch.setattr(script, "step", lambda name, command, **given: opened.append(command[-1]))
    script.lab([])
    monkeypatch.setenv("COURSE_LANGUAGE", "en")
    script.lab([])
    assert opened == ["notebooks/zh/00_start_here.ipynb", "notebooks/00_start_here.ipynb"]
    assert all((ROOT / path).is_file() for path in opened)


def test_kinds_of_knowledge_are_named_in_chinese():
    from course_utils.data import read_cases

    found = set(read_cases("medical", "en").slices().values())
    assert {"缩写", "适用人群", "潦草：错字"} <= found
    assert not [name for name in found if re.search("[A-Za-z]", name)]


@pytest.mark.slow
def test_the_page_of_an_executed_lesson_says_its_language(tmp_path):
    import nbformat

    cells = [nbformat.v4.new_code_cell("import os; print(os.environ['COURSE_LANGUAGE'])")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "00_a.ipynb")
    _seconds, error = course.run_lesson(tmp_path / "00_a.ipynb", tmp_path / "out", dict(os.environ))
    page = (tmp_path / "out" / "00_a.html").read_text(encoding="utf-8")
    assert error == "" and '<html lang="zh">' in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_prepare_does_not_ask_for_the_negatives_that_it_makes(language, monkeypatch):
    from course_utils.data import prepare
    from course_utils.files import data_folder

    monkeypatch.setenv("COURSE_LANGUAGE", language)
    files = data_folder() / "handbook" / "zh"
    columns = {"query": "员工的问法", "document": "答案出处"}
    notes = prepare(files / "questions.csv", files / "handbook.csv", columns=columns).notes
    assert not any("add negatives before training" in n or "训练之前请加入负例" in n for n in notes)
    if language == "zh":
        assert notes[0].endswith("没有用到：提问部门。")
