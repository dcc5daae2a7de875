"""Pages that are made when the site is built: the front page, the command line, the API, the glossary, lists of pages."""

import argparse
import contextlib
import html
import importlib
import io
import os
import re
import shlex
import tempfile
from pathlib import Path

import gather
from gather import ROOT, in_language, pages, title_of, write
from measured import measured, picture, verdict
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


def english_only(sources):
    """Write the Chinese pages of what is in English alone: commands and docstrings. Each leads to its English page."""
    rooms = [*ROOMS, "ground"]
    titles = {f"api/{room}": f"course_utils.{room}" for room in rooms}
    titles |= {"commands": SAID["zh"]["commands title"], "api/index": SAID["zh"]["api title"]}
    for page, title in titles.items():
        more = "\n```{toctree}\n:maxdepth: 1\n\n" + "\n".join(rooms) + "\n```\n" if page == "api/index" else ""
        write(sources, page, gather.stub_text(page, title) + more)


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
