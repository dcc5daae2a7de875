"""Sphinx's settings for both languages; docs/make.py says which one and where its sources lie."""

import html
import json
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from search import Words  # noqa: E402
from words import LANGUAGES, SAID  # noqa: E402

LANGUAGE = os.environ.get("SITE_LANGUAGE", "en")
SOURCES = Path(os.environ["SITE_SOURCES"])
TOOLS = json.loads((SOURCES / "tools.json").read_text(encoding="utf-8"))
WORDS = SAID[LANGUAGE]

project = html_title = WORDS["title"]
language = {"en": "en", "zh": "zh_CN"}[LANGUAGE]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
templates_path = [str(HERE / "templates")]

# Notebooks are shown as they ran; nothing is executed here.
nb_execution_mode = "off"
nb_render_markdown_format = "gfm"
nb_ipywidgets_js = {}  # the still copies need no script, least of all one from elsewhere
nb_code_prompt_show, nb_code_prompt_hide = WORDS["show"], WORDS["hide"]
nb_merge_streams = True
myst_heading_anchors = 4
myst_enable_extensions = []  # no mathematics: a price in dollars stays a price, and no MathJax is fetched
suppress_warnings = ["myst.header"]  # files that GitHub shows may skip a level

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
add_module_names = False

html_theme = "furo"
html_static_path = [str(HERE / "static")]
html_css_files, html_js_files = ["site.css"], ["site.js"]
html_extra_path = [str(SOURCES / "extra")]
html_search_language = "zh"  # finds Chinese words and English ones, see search.py
html_search_options = {"dict": str(SOURCES / "terms.txt")}
html_copy_source = html_show_sourcelink = html_use_index = False
html_domain_indices = False
html_show_sphinx = False
html_show_copyright = False
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#00558c", "color-brand-content": "#00558c"},
    "dark_css_variables": {"color-brand-primary": "#7cc4f5", "color-brand-content": "#7cc4f5"},
    "top_of_page_buttons": [],
}


def toolbar(page):
    """Return the HTML of the row above a page: the other language, and for a notebook Colab, download, its neighbours."""
    up = "../" * page.count("/")
    other = next(name for name in LANGUAGES if name != LANGUAGE)
    tools, links = TOOLS.get(page, {}), []
    for word, target in tools.get("related", ()):
        links.append((WORDS[word], f"{up}{target}.html", ""))
    if "colab" in tools:
        links.append((WORDS["colab"], tools["colab"], ""))
        links.append((WORDS["download"], up + tools["download"], " download"))
    if "source" in tools:
        links.append((WORDS["source"], tools["source"], ""))
    row = [f'<a href="{html.escape(target)}"{more}>{html.escape(word)}</a>' for word, target, more in links]
    row.append(f'<button type="button" class="print" hidden>{WORDS["print"]}</button>')
    title = html.escape(WORDS["switch title"])
    switch = f'<a class="language" href="{up}../{other}/{page}.html" lang="{other}" hreflang="{other}" title="{title}">{WORDS["switch"]}</a>'
    return f'<nav class="tools" aria-label="{WORDS["page"]}">{switch}{"".join(row)}</nav>'


def add_toolbar(app, pagename, templatename, context, doctree):
    """Put the toolbar above the body of a page; give the captions of the sidebar a level."""
    context["toolbar"] = toolbar(pagename)
    if "body" in context:
        context["body"] = context["toolbar"] + context["body"]
    if "furo_navigation_tree" in context:  # a heading has a level, or a screen reader cannot place it
        tree = context["furo_navigation_tree"].replace('role="heading">', 'role="heading" aria-level="2">')
        context["furo_navigation_tree"] = tree


def escape_metrics(app, what, name, obj, options, lines):
    """Keep ndcg@10 a metric: reStructuredText would make it an e-mail address."""
    lines[:] = [re.sub(r"(\w)@(\d)", r"\1\\@\2", line) for line in lines]


def setup(app):
    """Register the search and the toolbar."""
    app.add_search_language(Words)
    app.connect("html-page-context", add_toolbar, priority=900)  # after the theme
    app.connect("autodoc-process-docstring", escape_metrics, priority=400)  # before napoleon makes fields of it
    return {"parallel_read_safe": True, "parallel_write_safe": True}
