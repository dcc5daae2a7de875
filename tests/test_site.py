"""The site: built once from small executed copies; its links, pictures, headings, sizes, and nothing from other hosts."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import gather
import words

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """What the tests ask of a page: links, ids, images, headings, what is loaded, open tags."""

    def __init__(self, path):
        super().__init__()
        self.path, self.links, self.ids, self.images, self.headings, self.loads = path, [], set(), [], [], []
        self.language, self.words = None, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "html":
            self.language = a.get("lang")
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if tag == "img":
            self.images.append(a)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag in ("script", "img", "iframe", "audio", "video", "source", "embed") and a.get("src"):
            self.loads.append(a["src"])
        if tag == "link" and a.get("rel") in ("stylesheet", "icon", "shortcut icon", "preload", "prefetch"):
            self.loads.append(a.get("href"))

    def handle_data(self, data):
        self.words.append(data)


def executed(path, folder):
    """Write a copy of a lesson as if it had run: a picture, a table, a live panel beside its still copy."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    shown = {
        "output_type": "display_data",
        "metadata": {},
        "data": {
            "text/html": f'<img alt="Slope chart" src="data:image/png;base64,{PIXEL}"><table><tr><th scope="col">a</th></tr></table>',
            "application/vnd.jupyter.widget-view+json": {"model_id": "m", "version_major": 2, "version_minor": 0},
        },
    }
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    code[1]["outputs"] = [shown, {"output_type": "stream", "name": "stdout", "text": "it ran 重排序模型\n"}]
    (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")


RUN = {
    "profile": "smoke",
    "lessons": {"00_start_here": {"seconds": 40.0, "error": ""}},
    "measured": {
        name: {
            "document_alone": 0.45, "bm25": 0.5, "before": 0.5, "after": 0.5 + gain, "low": gain - 0.02, "high": gain + 0.02,
            "difference": gain, "general_before": 0.7, "general_after": 0.69, "train_queries": 200, "test_queries": 100, "seconds": 9.0,
        }
        for name, gain in {"medical-en": 0.05, "legal-zh": 0.0}.items()
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a site built from copies of two lessons that "ran", the second of an older text."""
    for module in ("sphinx", "myst_nb", "furo"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e .[site]")
    build = tmp_path_factory.mktemp("build")
    (build / "lessons").mkdir()
    first, second = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))[:2]
    executed(first, build / "lessons")
    executed(second, build / "lessons")
    older = build / "lessons" / second.name
    older.write_text(older.read_text(encoding="utf-8").replace("import ", "import  ", 1), encoding="utf-8")
    (build / "run.json").write_text(json.dumps(RUN), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "docs/make.py", "--build", build], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return build / "site"


@pytest.fixture(scope="module")
def read(site):
    """{path of a page: what is in it}."""
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


pytestmark = pytest.mark.slow


def test_both_languages_have_the_same_pages(site):
    pages = {lang: {p.relative_to(site / lang) for p in (site / lang).rglob("*.html")} for lang in words.LANGUAGES}
    assert pages["en"] == pages["zh"]
    for page in gather.pages().values():
        assert (site / "en" / f"{page}.html").is_file(), page


def test_sphinx_has_nothing_to_say(site):
    for language in words.LANGUAGES:
        assert (site.parent / "site-sources" / language / "warnings.txt").read_text(encoding="utf-8") == ""


def test_every_link_inside_the_site_leads_somewhere(site, read):
    broken = []
    for path, page in read.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name.partition("?")[0]).resolve() if name else path
            if not target.exists():
                broken.append(f"{path.relative_to(site)} -> {link}")
            elif anchor and target in read and anchor not in read[target].ids:
                broken.append(f"{path.relative_to(site)} -> {link} (no such place)")
    assert broken == []


def test_links_leave_the_site_only_by_https_and_are_listed(site, read):
    outside = {link for page in read.values() for link in page.links if re.match(r"[a-z]+:", link)}
    listed = (site.parent / "site-sources" / "links.txt").read_text(encoding="utf-8").split()
    assert {link.partition("#")[0] for link in outside if link.startswith("https://")} - set(listed) == set()
    assert {link for link in outside if not link.startswith("https://")} <= {"http://127.0.0.1:8000"}


def test_nothing_is_loaded_from_elsewhere(site, read):
    loads = {(path, load) for path, page in read.items() for load in page.loads}
    assert {(p, load) for p, load in loads if re.match(r"([a-z]+:)?//", load)} == set()
    missing = {
        (p, load)
        for p, load in loads
        if not load.startswith("data:") and not (p.parent / load.partition("?")[0]).exists()
    }
    assert missing == set()
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", text), path
    for path in site.rglob("*.js"):
        assert not re.search(r"mathjax|requirejs|cdn\.", path.read_text(encoding="utf-8"), re.I), path


def test_every_picture_has_words_for_who_cannot_see_it(read):
    assert sum(len(page.images) for page in read.values()) >= 3
    assert [(p, a) for p, page in read.items() for a in page.images if not (a.get("alt") or "").strip()] == []


def test_headings_begin_with_one_and_skip_no_level(read):
    wrong = []
    for path, page in read.items():
        steps = zip(page.headings, page.headings[1:], strict=False)
        if page.headings.count(1) != 1 or page.headings[0] != 1 or any(b > a + 1 for a, b in steps):
            wrong.append((path.as_posix(), page.headings))
    assert wrong == []


def test_search_names_a_stemmer_that_is_there(site):
    for language in words.LANGUAGES:
        script = (site / language / "_static" / "language_data.js").read_text(encoding="utf-8")
        name = re.search(r"window\.Stemmer = (\w+);", script)[1]
        assert f"{name}=function" in script.replace(" ", ""), name
        assert "var splitQuery" in script


def test_pages_say_their_language(site, read):
    for path, page in read.items():
        if path.parent != site:
            assert page.language == {"en": "en", "zh": "zh-CN"}[path.relative_to(site).parts[0]]


def test_the_site_is_light(site, read):
    def weight(path):
        loads = {load.partition("?")[0] for load in read[path].loads if not load.startswith("data:")}
        return path.stat().st_size + sum((path.parent / load).stat().st_size for load in loads)

    for language in words.LANGUAGES:
        assert weight(site / language / "index.html") < 500_000
    assert sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) < 25 * 2**20


def test_a_lesson_shows_its_run_and_one_that_changed_says_so(site, read):
    first, second = (f"lessons/{p.stem}.html" for p in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))[:2])
    text = "".join(read[site / "en" / first].words)
    assert "it ran" in text
    assert words.SAID["en"]["older"][:40] not in text
    picture = next(a for a in read[site / "en" / first].images if a["alt"] == "Slope chart")
    assert picture["src"].startswith("pictures/")
    assert "widget-view" not in (site / "en" / first).read_text(encoding="utf-8")
    assert words.SAID["en"]["older"][:40] in "".join(read[site / "en" / second].words)


def test_colab_and_download_come_from_the_settings(site, read):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        page = read[site / "en" / "lessons" / f"{path.stem}.html"]
        assert (
            f"https://colab.research.google.com/github/{settings['repository']}/blob/{settings['tag']}/notebooks/{path.name}"
            in page.links
        )
        assert (site / "en" / "downloads" / "lessons" / path.name).read_bytes() == path.read_bytes()


def test_the_front_page_tells_this_run_and_two_commands(site, read):
    text = " ".join("".join(read[site / "en" / "index.html"].words).split())
    assert "measured 2 test sets: 1 better for sure" in text
    assert "1 not settled" in text
    assert "make course" in text
    assert "make lab" in text
    assert read[site / "en" / "index.html"].images[0]["alt"].startswith("Slope chart")


def test_every_command_and_every_public_name_is_there(site, read):
    from course_utils.cli.parser import build_parser

    commands = "".join(read[site / "en" / "commands.html"].words)
    action = next(a for a in build_parser()._actions if getattr(a, "choices", None) and a.dest == "command")
    assert [name for name in action.choices if f"usage: python -m course_utils {name}" not in commands] == []
    ids = {i for path, page in read.items() if "api" in path.parts for i in page.ids}
    missing = []
    for room in ("model", "data", "training", "evaluation", "domains", "updates", "ship"):
        module = importlib.import_module(f"course_utils.{room}")
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and f"course_utils.{room}.{name}" not in ids:
                missing.append(f"{room}.{name}")
    assert missing == []


def test_the_glossary_explains_every_term_of_the_translators():
    table = ROOT / "notebooks" / "zh" / "术语表.md"
    rows = [
        row.strip("| ").split("|") for row in table.read_text(encoding="utf-8").splitlines() if row.startswith("| ")
    ]
    terms = {row[0].strip() for row in rows} - {"英文"}
    glossary = (ROOT / "docs" / "en" / "glossary.md").read_text(encoding="utf-8")
    have = re.findall(r"^(\S.*)\n  \S", glossary, flags=re.M)
    assert terms - set(have) == set()
    assert len(have) == len(set(have)), "one term, one explanation"


def test_a_site_that_was_there_stays_when_the_build_fails(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mine.txt").write_text("not the course's")
    done = subprocess.run(
        [sys.executable, "docs/make.py", "--build", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert (tmp_path / "site" / "mine.txt").read_text() == "not the course's"
    shutil.rmtree(tmp_path / "site")


def test_the_chinese_lessons_run_without_measuring_again(tmp_path, monkeypatch):
    from course_utils.cli import course, main

    (tmp_path / "notebooks" / "zh").mkdir(parents=True)
    (tmp_path / "notebooks" / "zh" / "00_a.ipynb").write_text("{}")
    ran = []
    monkeypatch.setenv("COURSE_LANGUAGE", "en")  # put back as it was: the command sets it
    monkeypatch.setattr(course, "LESSONS", tmp_path / "notebooks")
    monkeypatch.setattr(course, "run_lesson", lambda *a: ran.append(a) or (1.0, ""))
    assert (
        main(["course", "--profile", "smoke", "--out", str(tmp_path / "build"), "--language", "zh", "--lessons-only"])
        == 0
    )
    [(path, folder, environment)] = ran
    assert (path.name, folder) == ("00_a.ipynb", tmp_path / "build" / "lessons" / "zh")
    assert environment["COURSE_LANGUAGE"] == "zh"
    assert not (tmp_path / "build" / "run.json").exists()


def test_measurements_begin_among_the_last_lessons():
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    from course_utils.cli import course

    begun = []

    def note(name):
        begun.append(name)
        return name

    for mixed, order in ((True, "01234A5B6C789"), (False, "0123456789ABC")):
        begun.clear()
        with ThreadPoolExecutor(1) as pool:
            runs, measures = ([partial(note, name) for name in names] for names in ("0123456789", "ABC"))
            futures = course.begin(pool, runs, measures, mixed)
        assert "".join(begun) == order
        assert ["".join(f.result() for f in own) for own in futures] == ["0123456789", "ABC"]


def test_a_run_leaves_what_the_site_tells_of_it(tmp_path):
    from course_utils.cli import course

    result = {
        k: 0.1
        for k in ("document_alone", "bm25", "low", "high", "train_queries", "test_queries", "seconds", "delta_ndcg@10")
    }
    result |= {k: {"ndcg@10": 0.5} for k in ("before", "after", "general_before", "general_after")}
    record = course.run_record("smoke", [(tmp_path / "00_a.ipynb", 2.0, "")], [("medical-en", result)])
    assert record.keys() == RUN.keys()
    assert record["measured"]["medical-en"].keys() == RUN["measured"]["medical-en"].keys()
    assert record["lessons"] == {"00_a": {"seconds": 2.0, "error": ""}}


def test_a_chinese_summary_leads_to_the_english_card_and_not_to_itself():
    known = gather.known_pages("zh")
    path = ROOT / "data" / "README.zh.md"
    assert known["data/README.md"] == known["data/README.zh.md"] == "data-card.md"
    text = gather.relinked("[English](README.md) [nano](models/nano/README.md)", path, "data-card", known)
    assert re.fullmatch(r"\[English\]\(https://[^)]+/data/README\.md\) \[nano\]\(model-card\.md\)", text)
    lesson = ROOT / "notebooks" / "zh" / "03_freezing.ipynb"
    text = gather.relinked("[x](exercises/03_freezing.ipynb)", lesson, "lessons/03_freezing", known)
    assert text == "[x](../exercises/03_freezing.ipynb)"
