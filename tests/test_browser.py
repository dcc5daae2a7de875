"""Lessons in JupyterLab in a real browser: Run All, the playground, the freezing panel. Screenshots: build/screenshots.

Run with ``make test-browser``, which installs Playwright and, on Debian and Ubuntu, Chromium. JupyterLab works on a copy of
the lessons, in the smoke profile, on a free port with a token of its own.
"""

import importlib.util
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from conftest import ROOT

pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "build" / "screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = float(os.environ.get("COURSE_BROWSER_SECONDS", "600"))  # for one lesson; more on a busy machine
SETTINGS = {
    # No pop-up about news, no question about the kernel; every cell is drawn, and no empty page follows the last one.
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "notebook-extension/tracker": '{"windowingMode": "none", "autoStartDefaultKernel": true, "scrollPastEnd": false}',
}
# JupyterLab draws an error with the type of an error or, in newer releases, with that of the error stream.
ERRORS = """() => [...document.querySelectorAll('.jp-OutputArea-output')].filter(e =>
    e.dataset.mimeType === 'application/vnd.jupyter.error' ||
    (e.dataset.mimeType === 'application/vnd.jupyter.stderr' && e.innerText.includes('Traceback (most recent call last)'))
).map(e => e.innerText)"""
DONE = f"""() => {{
    const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
    const prompts = cells.map(c => c.querySelector('.jp-InputPrompt').textContent);
    return cells.length > 0 && (({ERRORS})().length > 0 || prompts.every(p => /\\[\\d+\\]/.test(p)));
}}"""


@pytest.fixture(scope="module")
def chromium():
    """A running browser, or a skip that says what is missing."""
    for package in ("playwright", "jupyterlab"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install {package}")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    as_root = (
        hasattr(os, "geteuid") and os.geteuid() == 0
    )  # Chromium's sandbox refuses root, for example in a container
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if as_root else [])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the lessons; gives a function from a lesson's name to its address."""
    folder = tmp_path_factory.mktemp("lab")
    lessons = folder / "notebooks"
    lessons.mkdir()
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        shutil.copy(path, lessons)
    fails = json.loads((lessons / "00_start_here.ipynb").read_text(encoding="utf-8"))
    fails["cells"] = [c | {"source": "1 / 0"} for c in fails["cells"] if c["cell_type"] == "code"][:1]
    (lessons / "fails.ipynb").write_text(json.dumps(fails), encoding="utf-8")
    for name, text in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    own = {
        "COURSE_PROFILE": "smoke",
        "HF_HUB_OFFLINE": "1",
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={lessons}",
    ]  # fmt: skip
    log = folder / "lab.log"
    with log.open("w") as out:
        server = subprocess.Popen(command, env={**os.environ, **own}, stdout=out, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server, log)
            yield lambda name: f"http://127.0.0.1:{port}/lab/workspaces/{name}/tree/{name}.ipynb?token={token}"
        finally:
            server.terminate()  # takes its kernels with it
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(address, server, log):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert server.poll() is None, f"JupyterLab ended: {log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not answer: {log.read_text()[-2000:]}")


@contextmanager
def lesson(chromium, lab, name):
    """Open a lesson, run all of it, keep a screenshot of the whole; yield the page."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * PATIENCE)
    try:
        page.goto(lab(name))
        page.get_by_text(re.compile(r"Python 3.* \| Idle")).wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_function(DONE, polling=1000)
        page.get_by_text(re.compile(r"Python 3.* \| Idle")).wait_for()
        height = page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollHeight")
        page.set_viewport_size({"width": 1280, "height": min(16_000, 200 + height)})
        page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        page.wait_for_timeout(1000)  # for the new size to be drawn
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")
        assert page.evaluate(ERRORS) == []
        yield page
    finally:
        page.close()


def panel_with(page, button):
    """Return the panel that holds a button of this name."""
    return page.locator(".jp-OutputArea-output", has=page.get_by_role("button", name=button, exact=True))


def wait_for_text(locator, text):
    from playwright.sync_api import expect

    expect(locator).to_contain_text(text, timeout=1000 * PATIENCE)


def test_a_cell_that_fails_is_seen(chromium, lab):
    with pytest.raises(AssertionError, match="ZeroDivisionError"), lesson(chromium, lab, "fails"):
        pass
    (SCREENSHOTS / "fails.png").unlink()


def test_lesson_00_runs_from_top_to_bottom(chromium, lab):
    with lesson(chromium, lab, "00_start_here") as page:
        # plots.show writes pictures as HTML, so an executed page holds them with their alternative text.
        assert page.locator('.jp-OutputArea img[alt^="Slope chart"]').count() == 1


def test_the_playground_of_lesson_08_is_used_with_mouse_and_keyboard(chromium, lab):
    with lesson(chromium, lab, "08_ship_it") as page:
        panel = panel_with(page, "Rank")
        assert panel.count() == 1, "one live panel, and not the still copy beside it"
        rows = panel.locator("tbody tr")
        before, count = panel.locator("table").inner_text(), rows.count()
        assert count >= 3

        query = panel.get_by_label("Query")
        query.click()
        query.press("Control+a")
        page.keyboard.type("can my landlord raise the rent")
        panel.get_by_role("button", name="Rank", exact=True).click()
        wait_for_text(panel.locator("caption"), "can my landlord raise the rent")
        after = panel.locator("table").inner_text()
        numbers = re.compile(r"0\.\d{3}")
        assert numbers.findall(after) != numbers.findall(before)
        panel.screenshot(path=SCREENSHOTS / "playground.png")

        # Keyboard alone: to the documents, a new line, on to the button, press it.
        query.focus()
        page.keyboard.press("Tab")
        assert panel.get_by_label("Documents").evaluate("e => e === document.activeElement")
        page.keyboard.press("Control+End")
        page.keyboard.type("\nThe rent may be raised once a year. 房租每年可以上涨一次。")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        wait_for_text(panel.locator("tbody"), "房租每年可以上涨一次")
        assert rows.count() == count + 1

        query.fill("")
        query.press("Enter")
        wait_for_text(panel, "The query is empty")
        example = panel.get_by_label("Example")
        names = example.locator("option").all_inner_texts()
        example.select_option(index=1)
        wait_for_text(panel.locator("caption"), names[1])
        panel.screenshot(path=SCREENSHOTS / "playground_example.png")

        # A list is opened with Space first: on a closed one JupyterLab takes the arrow keys and goes to another cell.
        example.focus()
        for key in ("Space", "ArrowUp", "Enter"):
            page.keyboard.press(key)
        wait_for_text(panel.locator("caption"), names[0])


def test_the_freezing_panel_of_lesson_03_is_used_from_the_keyboard(chromium, lab):
    with lesson(chromium, lab, "03_freezing") as page:
        panel = panel_with(page, "Measure")
        assert panel.count() == 1
        caption = panel.locator("caption")
        wait_for_text(caption, "The last 3 of")
        panel.get_by_role("slider").focus()
        page.keyboard.press("ArrowRight")
        wait_for_text(caption, "The last 4 of")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        wait_for_text(caption, "The last 2 of")
        button = panel.get_by_role("button", name="Measure")
        for _ in range(2):  # some versions stop at the slider's number on the way
            page.keyboard.press("Tab")
            if button.evaluate("e => e === document.activeElement"):
                break
        assert button.evaluate("e => e === document.activeElement")
        page.keyboard.press("Enter")
        wait_for_text(panel.locator("thead"), "Measured")
        panel.get_by_role("button", name="Measure", exact=True).wait_for()
        assert button.evaluate("e => e === document.activeElement"), "the keyboard's focus stays"
        panel.screenshot(path=SCREENSHOTS / "freezing_panel.png")
        panel.get_by_role("slider").focus()
        page.keyboard.press("Home")
        wait_for_text(panel, "Nothing would train")
