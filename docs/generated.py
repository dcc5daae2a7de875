"""Pages that are made when the site is built: the run's measurements, the command line, the API, lists of exercises and tables."""

import argparse
import contextlib
import html
import importlib
import io
import json
import os
import re
import shlex
import tempfile
from pathlib import Path

import gather
from gather import ROOT, in_language, pages, title_of, write
from words import SAID

# In the order of the lessons; training serves 03 and 04, and evaluation is lesson 05.
ROOMS = ("model", "data", "training", "evaluation", "domains", "updates", "ship", "show", "bonus", "checks", "cli")
GROUND = ("files", "machine", "profile", "errors", "text")
# Commands whose output the page shows: quick, offline, and the same on every machine.
EXAMPLES = (
    "rank --query 'how is rice cooked' --documents FOLDER/documents.txt",
    "data prepare data/handbook/en/questions.csv data/handbook/en/handbook.csv "
    "--columns 'query=What people ask,document=Answer is in' --out FOLDER/prepared",
    "adapt --train FOLDER/missing.jsonl --out FOLDER/adapted",
)
DOCUMENTS = """Rinse the rice, add one and a half times as much water, and simmer it under a lid for twelve minutes.
A lease may be ended by notice in writing.
Boil the pasta in salted water until it is firm to the bite.
"""


def measured(build):
    """Return what the last run of the course wrote about itself, or None."""
    path = build / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def picture(run, folder, language):
    """Draw before and after of a run into ``folder``; return its HTML, or "" without a run that measured.

    Args:
        run: what ``measured`` returned.
        folder: where the picture goes.
        language: en or zh, of the words in the picture.
    """
    if not run or not run["measured"]:
        return ""
    os.environ["COURSE_LANGUAGE"] = language
    os.environ.setdefault("MPLBACKEND", "agg")
    from course_utils.show import plots
    from course_utils.show.style import _drawable, image_html

    rows = [(name, r["before"], r["after"], r["low"], r["high"]) for name, r in run["measured"].items()]
    said = "nDCG@10 before and after training"
    said = _drawable("训练前后的 nDCG@10", said) if language == "zh" else said
    output = {"data": {"text/html": image_html(plots.before_after(rows, title=said))}}
    return gather.shown(output, folder / "pictures", "front")["data"]["text/html"].replace(' loading="lazy"', "")


def verdict(run, language):
    """Return a sentence that says how many of a run's sets changed for sure."""
    rows = run["measured"].values()
    up, down = sum(r["low"] > 0 for r in rows), sum(r["high"] < 0 for r in rows)
    rest = len(rows) - up - down
    if language == "zh":
        return (
            f"这次运行（{run['profile']} 档位，一个随机种子）测了 {len(rows)} 个测试集：{up} 个确定变好（95% 置信区间整个在 0 以上），"
            f"{down} 个确定变差，{rest} 个区间含 0，不能算提升。"
        )
    return (
        f"This run ({run['profile']} profile, one seed) measured {len(rows)} test sets: {up} better for sure (the whole 95 % interval "
        f"lies above 0), {down} worse for sure, {rest} not settled (the interval holds 0)."
    )


def run_page(build, sources, extra, language):
    """Write the page of this run: picture, table, time of each lesson."""
    said, run = SAID[language], measured(build)
    if not run:
        return write(sources, "run", f"# {said['run title']}\n\n{said['no run']}\n")
    heads = {
        "en": "data,document alone,BM25,before,after,difference,interval,general before,general after,training queries,test queries,seconds",
        "zh": "数据,只看文档,BM25,适配前,适配后,差值,区间,通用测试（前）,通用测试（后）,训练查询,测试查询,秒",
    }[language].split(",")
    how = {
        "en": "nDCG@10 on test topics that the model never saw; 95 % paired bootstrap over queries. “Document alone” is a rule that never "
        "reads the query; BM25 matches words; the general test shows what was forgotten.",
        "zh": "在模型没见过的测试主题上测 nDCG@10；区间是对查询做自助法得到的 95% 区间。“只看文档”是从不读查询的规则；BM25 按词匹配；通用测试说明忘掉了多少。",
    }[language]
    lines = [f"# {said['run title']}", "", verdict(run, language), "", picture(run, extra, language), "", how, ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, r in run["measured"].items():
        cells = [name, *(f"{r[k]:.3f}" for k in ("document_alone", "bm25", "before", "after"))]
        cells += [f"{r['difference']:+.3f}", f"{r['low']:+.3f} … {r['high']:+.3f}"]
        cells += [f"{r['general_before']:.3f}", f"{r['general_after']:.3f}"]
        cells += [str(r["train_queries"]), str(r["test_queries"]), f"{r['seconds']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"## {said['lessons']}",
        "",
        {"en": "| lesson | seconds |", "zh": "| 课 | 秒 |"}[language],
        "|---|---|",
    ]
    have = set(pages().values())
    for name, lesson in run["lessons"].items():
        link = f"[{name}](lessons/{name})" if f"lessons/{name}" in have else name
        lines.append(f"| {link} | {lesson['seconds']:.0f}{' ⚠' if lesson['error'] else ''} |")
    write(sources, "run", "\n".join(lines) + "\n")


def parsers():
    """Yield (name, help text) of each command and sub-command, as its ``--help`` prints it."""
    from course_utils.cli.parser import build_parser

    def walk(parser, name):
        yield name, parser.format_help()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, own in action.choices.items():
                    yield from walk(own, f"{name} {word}".strip())

    yield from walk(build_parser(), "")


def outputs():
    """Run EXAMPLES; yield (command, what it printed, exit code)."""
    from course_utils.cli.parser import main

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(ROOT):
        Path(folder, "documents.txt").write_text(DOCUMENTS, encoding="utf-8")
        for command in EXAMPLES:
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = main(shlex.split(command.replace("FOLDER", folder)))
            shown = said.getvalue().replace(f"{folder}/", "").replace(f"{ROOT}/", "")
            yield command.replace("FOLDER/", ""), re.sub(r".*\r", "", shown).rstrip(), code


def commands_page(sources):
    """Write the page of the command line: help of every command, and some with what they print."""
    os.environ["COLUMNS"] = "96"
    lines = [f"# {SAID['en']['commands title']}", ""]
    lines += [
        "Each command explains itself with `--help`; what that prints stands below. Exit code 2 means bad input, said in one sentence; "
    ]
    lines += ["130, stopped by you.", "", "## What it looks like", ""]
    lines += [
        "These ran when the site was built. `documents.txt` holds three lines:",
        "",
        "```text",
        DOCUMENTS.rstrip(),
        "```",
        "",
    ]
    for command, shown, code in outputs():
        lines += ["```console", f"$ python -m course_utils {command}", shown, "```", "", f"Exit code {code}.", ""]
    for name, text in parsers():
        lines += [f"## {name or 'All commands'}", "", "```text", text.rstrip(), "```", ""]
    write(sources, "commands", "\n".join(lines))
    return {}


def api_pages(sources):
    """Write a page for each room, from the docstrings of its public names."""
    index = [
        f"# {SAID['en']['api title']}",
        "",
        "The rooms of `course_utils` in the order of the lessons. Import from a room: ",
    ]
    index += ["`from course_utils.training import adapt`.", "", "```{toctree}", ":maxdepth: 1", ""]
    for room in ROOMS:
        module = importlib.import_module(f"course_utils.{room}")
        body = [
            f"# course_utils.{room}",
            "",
            "```{eval-rst}",
            f".. automodule:: course_utils.{room}",
            "   :members:",
            "```",
            "",
        ]
        for name in getattr(module, "__all__", ()):  # a module among the public names has its own functions
            inner = getattr(module, name, None)
            if type(inner) is type(module):
                body += [
                    f"## {inner.__name__}",
                    "",
                    "```{eval-rst}",
                    f".. automodule:: {inner.__name__}",
                    "   :members:",
                    "```",
                    "",
                ]
        write(sources, f"api/{room}", "\n".join(body))
        index.append(room)
    body = ["# Ground floor", "", "Single modules that every room may use.", ""]
    for name in GROUND:
        body += [
            f"## course_utils.{name}",
            "",
            "```{eval-rst}",
            f".. automodule:: course_utils.{name}",
            "   :members:",
            "```",
            "",
        ]
    write(sources, "api/ground", "\n".join(body))
    write(sources, "api/index", "\n".join([*index, "ground", "```", ""]))


def list_pages(sources, language):
    """Write the pages that list exercises, solutions and benchmarks."""
    said = SAID[language]
    for kind in ("exercises", "solutions"):
        names = [(numbered(path, p, language), p) for path, p in pages().items() if p.startswith(f"{kind}/")]
        listed(sources, f"{kind}/index", said[kind], said[f"{kind} text"], names)
    names = [("", p) for p in pages().values() if p.startswith("benchmarks/")]
    what = {
        "en": "What the figures of this course come from. Each page says by which command and on which machine it was measured.",
        "zh": "本课程里的数字从这里来。每一页都写明用哪条命令、在哪台机器上测得。",
    }[language]
    listed(sources, "benchmarks/index", said["benchmarks title"], what, names)


def listed(sources, page, title, words, names):
    """Write a page with a title, a sentence and links to pages of its folder, given as (title or "", page)."""
    inside = [(title, name.partition("/")[2]) for title, name in names]
    inside = "\n".join(f"{title} <{name}>" if title else name for title, name in inside)
    write(sources, page, f"# {title}\n\n{words}\n\n```{{toctree}}\n:maxdepth: 1\n\n{inside}\n```\n")


def numbered(path, page, language):
    """Return the title of a notebook with the number that its file begins with."""
    number = page.partition("/")[2].partition("_")[0]
    return f"{number} {title_of(in_language(path, language) or ROOT / path)}"


def front_page(build, sources, extra, language):
    """Write the front page from docs/LANGUAGE/index.md: picture of this run, lessons, the way through the site."""
    said, run = SAID[language], measured(build)
    shown = picture(run, extra, language)
    words = verdict(run, language) if shown else said["no run"]
    body = (ROOT / "docs" / language / "index.md").read_text(encoding="utf-8")
    lessons = [p for p in pages().values() if p.startswith("lessons/")]
    rows = []
    for path, page in pages().items():
        if page.startswith("lessons/"):
            rows.append(f"- [{numbered(path, page, language)}]({page})")
    tree = trees([f"{numbered(path, p, language)} <{p}>" for path, p in pages().items() if p in lessons], said)
    fill = {"PICTURE": f"{shown}\n\n{words}", "LESSONS": "\n".join(rows), "TREES": tree}
    for mark, value in fill.items():
        body = body.replace(f"@{mark}@", value)
    write(sources, "index", body)


def trees(lessons, said):
    """Return the hidden toctrees that make the sidebar and the order of previous and next."""
    have = set(pages().values())
    rest = [
        p for p in ("data-card", "model-card", "failures", "benchmarks/index", "teach", "contributing", "architecture")
    ]
    groups = {
        "lessons": lessons,
        "practice": ["exercises/index", "solutions/index"],
        "reference": ["glossary", "commands", "api/index"],
        "teaching": ["run", *(p for p in rest if p in have or p.endswith("index"))],
    }
    return "\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {said[name]}\n\n" + "\n".join(inside) + "\n```\n"
        for name, inside in groups.items()
    )


def terms():
    """Return [(English, Chinese, explanation in Chinese)] from the translators' table; empty where there is none."""
    table, out = gather.course_notebooks.CHINESE / "术语表.md", []
    for row in table.read_text(encoding="utf-8").splitlines() if table.is_file() else ():
        cells = [html.unescape(c.strip()) for c in row.strip("|").split("|")]
        if row.startswith("|") and len(cells) == 4 and cells[0] != "英文" and not cells[0].startswith("--"):
            out.append((cells[0], cells[1], cells[3]))
    return out


def chinese_terms():
    """Return the Chinese terms of the glossary, which search keeps whole."""
    words = {word for _, chinese, _ in terms() for word in chinese.split("、")}
    return sorted(word for word in words if not word.isascii() and " " not in word)


def glossary_page(sources, language):
    """Write the glossary: the English one from docs/en, the Chinese one from the table that translators keep."""
    if language == "en":
        return write(sources, "glossary", (ROOT / "docs" / "en" / "glossary.md").read_text(encoding="utf-8"))
    if not terms():
        return gather.stub_page("docs/en/glossary.md", "glossary", sources)
    lines = ["# 术语表", "", "每个术语只用一种译法。", "", "```{glossary}"]
    for english, chinese, explained in terms():
        lines += [f"{chinese}（{english}）" if english != chinese else english, f"  {explained}", ""]
    write(sources, "glossary", "\n".join([*lines, "```", ""]))
