"""The site in a real browser, from the file system: both languages, search, hints, phone, keyboard, axe in light and dark.

Run with ``make test-browser``. COURSE_SITE may name a site that is there (build/site); else a small one is built. Screenshots:
build/screenshots/site.
"""

import functools
import http.server
import importlib.util
import json
import os
import threading
from pathlib import Path

import pytest
from conftest import ROOT
from test_browser import SCREENSHOTS, chromium  # noqa: F401  a fixture
from test_site import site as small_site  # noqa: F401  a fixture

pytestmark = pytest.mark.browser

LANGUAGES = ("en", "zh")
LESSON, EXERCISE = "lessons/00_start_here", "exercises/00_start_here"
PHONE, DESK = {"width": 375, "height": 720}, {"width": 1280, "height": 900}
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def site(request):
    """The folder of a site."""
    if folder := os.environ.get("COURSE_SITE"):
        return Path(folder).resolve()
    return request.getfixturevalue("small_site")


@pytest.fixture
def visit(chromium, site):  # noqa: F811
    """A function that opens a page of the site in a new window; whatever asks another host for something fails the test."""
    asked, contexts = [], []

    def open_page(name, size=DESK, scheme="light", base=None):
        context = chromium.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda r: asked.append(r.url))
        page.goto(f"{base or site.as_uri()}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [u for u in asked if not u.startswith(("file:", "data:", "blob:", "http://127.0.0.1:"))] == []


@pytest.fixture
def served(site):
    """The address of the site on a local web server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def keep(page, name, whole=False):
    folder = SCREENSHOTS / "site"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=whole)


def search(page, words):
    """Type words into the search of a page; return the addresses of what is found, best first."""
    field = page.locator("input[name=q]").first
    field.fill(words)
    field.press("Enter")
    page.locator("#search-results .search-summary, #search-results p").first.wait_for()
    page.wait_for_function("document.querySelectorAll('#search-results li').length > 0")
    return [a.get_attribute("href") for a in page.locator("#search-results li > a").all()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_walk_through_the_lessons_with_previous_and_next(visit, language):
    page, seen = visit(f"{language}/index.html"), []
    assert page.locator("h1").count() == 1
    page.locator("article a[href='lessons/00_start_here.html']").first.click()
    for _ in range(3):
        seen.append(page.url.rpartition("/")[2])
        page.locator("a.next-page").click()
    assert seen[0] == "00_start_here.html"
    assert len(set(seen)) == 3
    page.locator("a.prev-page").click()
    assert page.url.endswith(seen[-1])


def test_the_language_switch_stays_on_the_page(visit):
    page = visit(f"en/{LESSON}.html")
    page.locator("a.language").click()
    assert page.url.endswith(f"zh/{LESSON}.html")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.locator("a.language").click()
    assert page.url.endswith(f"en/{LESSON}.html")


def test_a_hint_unfolds_by_keyboard_and_the_solution_is_one_click_away(visit):
    page = visit(f"en/{EXERCISE}.html")
    hint = page.locator("details", has=page.locator("summary", has_text="Hint")).first
    assert hint.get_attribute("open") is None
    hint.locator("summary").focus()
    page.keyboard.press("Enter")
    assert hint.get_attribute("open") is not None
    page.get_by_role("link", name="Its solutions").click()
    assert page.url.endswith("solutions/00_start_here.html")


@pytest.mark.parametrize(
    ("language", "words"),
    [("zh", "重排序模型"), ("zh", "灾难性遗忘是什么"), ("en", "forgetting"), ("en", "calibration")],
)
def test_search_finds_words_from_the_file_system(visit, language, words):
    page = visit(f"{language}/index.html")
    found = search(page, words)
    assert found
    page.locator("#search-results li > a").first.click()
    assert "search.html" not in page.url


def test_search_shows_excerpts_on_a_web_server(visit, served):
    page = visit("zh/index.html", base=served)
    assert search(page, "重排序模型")
    page.locator("#search-results li .context").first.wait_for()


@pytest.mark.parametrize("name", ["index", LESSON, EXERCISE, "commands", "glossary", "failures", "data-card", "run"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_phone_scrolls_no_page_sideways(visit, language, name):
    page = visit(f"{language}/{name}.html", PHONE)
    assert page.evaluate(SIDEWAYS) <= 0


def test_everything_is_reached_by_keyboard(visit):
    page = visit(f"en/{LESSON}.html")
    page.keyboard.press("Tab")
    assert "#" in page.evaluate("document.activeElement.getAttribute('href') || ''"), "first comes the skip link"
    seen = set()
    for _ in range(160):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "(e => e.className + ' ' + (e.name || '') + ' ' + (e.textContent || '').trim())(document.activeElement)"
            )
        )
    assert any("language" in s for s in seen)
    assert any("search" in s for s in seen)
    assert any("theme-toggle" in s for s in seen)
    assert any("Print" in s for s in seen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name",
    [
        "en/index",
        f"en/{LESSON}",
        f"en/{EXERCISE}",
        "en/api/model",
        "en/commands",
        "en/run",
        f"zh/{LESSON}",
        "zh/index",
        "zh/glossary",
    ],
)
def test_axe_finds_nothing_serious(visit, name, scheme):
    if importlib.util.find_spec("axe_playwright_python") is None:
        pytest.skip("axe-playwright-python is not installed")
    from axe_playwright_python.sync_playwright import Axe

    page = visit(f"{name}.html", scheme=scheme)
    violations = Axe().run(page).response["violations"]
    serious = [
        (v["id"], [n["html"][:200] for n in v["nodes"][:3]])
        for v in violations
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == [], json.dumps(serious, indent=1, ensure_ascii=False)


def test_paper_shows_no_buttons(visit):
    page = visit(f"en/{LESSON}.html")
    page.emulate_media(media="print")
    assert not page.locator(".tools").is_visible()
    assert page.locator("h1").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("device", "size"), [("desktop", DESK), ("phone", PHONE)])
def test_screenshots_are_kept(visit, device, size, scheme):
    for name in ("en/index", f"en/{LESSON}", f"en/{EXERCISE}", "en/api/training", "zh/index", f"zh/{LESSON}"):
        keep(visit(f"{name}.html", size, scheme), f"{name.replace('/', '-')}-{device}-{scheme}")
    page = visit("zh/search.html?q=重排序模型", size, scheme)
    page.wait_for_function("document.querySelectorAll('#search-results li').length > 0")
    keep(page, f"zh-search-{device}-{scheme}")
    assert len(list((SCREENSHOTS / "site").glob(f"*-{device}-{scheme}.png"))) == 7


def test_the_door_leads_to_a_language(visit):
    page = visit("index.html")
    page.wait_for_url("**/en/index.html")
    assert (ROOT / "docs" / "en" / "index.md").is_file()
