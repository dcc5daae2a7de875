"""Gather the pages of the site: notebooks with their outputs and the project's Markdown, with links that hold inside the site."""

import base64
import hashlib
import json
import os
import re
import sys
from pathlib import Path

from words import SAID, TITLES_ZH

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import notebooks as course_notebooks  # noqa: E402  the course's own script: its settings and its cells

NOTEBOOKS = ROOT / "notebooks"
KINDS = {"lessons": "", "exercises": "exercises", "solutions": "solutions"}
CARDS = {
    "README.md": "index",
    "notebooks/README.md": "teach",
    "data/README.md": "data-card",
    "data/models/nano/README.md": "model-card",
    "benchmarks/failures.md": "failures",
    "ARCHITECTURE.md": "architecture",
    "CONTRIBUTING.md": "contributing",
}
WIDGET = "application/vnd.jupyter.widget-view+json"
IMAGE = re.compile(r'src="data:image/png;base64,([^"]+)"')
# Not an image's address: pictures of badges are taken out before.
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*)\]\(([^()\s]+)\)")


def pages():
    """Return {path in the project: name of its page}, in the order of the site. Names come from the folders."""
    out = {}
    for kind, folder in KINDS.items():
        for path in sorted((NOTEBOOKS / folder).glob("[0-9]*.ipynb")):
            out[path.relative_to(ROOT).as_posix()] = f"{kind}/{path.stem}"
    out |= {path: page for path, page in CARDS.items() if (ROOT / path).is_file()}
    for path in sorted((ROOT / "benchmarks").glob("*.md")):
        out.setdefault(f"benchmarks/{path.name}", f"benchmarks/{path.stem}")
    return out


def in_language(path, language):
    """Return the file that holds ``path`` in a language, or None where nobody wrote it."""
    path = ROOT / path
    if language == "en":
        return path
    if path.is_relative_to(NOTEBOOKS):
        places = [course_notebooks.CHINESE / path.relative_to(NOTEBOOKS)]
    else:
        places = [path.with_name(f"{path.stem}{mark}{path.suffix}") for mark in (".zh", "_zh", ".zh-CN")]
    return next((p for p in places if p.is_file()), None)


def address(path):
    """Return where a file of the project can be read on the web, at the release that the course names."""
    s = course_notebooks.settings()
    return f"https://github.com/{s['repository']}/blob/{s['tag']}/{path}"


def relinked(text, path, page, known):
    """Return Markdown whose relative links lead to pages of the site, or else to the file on the web.

    Args:
        text: the Markdown.
        path: the file it comes from, a Path in the project.
        page: the name of its page.
        known: what ``known_pages`` returns.
    """

    def replace(match):
        label, target = match[1], match[2]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        name, mark, anchor = target.partition("#")
        full = Path(os.path.normpath(path.parent / name))
        if not full.exists() or not full.is_relative_to(ROOT):
            return match[0]  # left as it is: the build warns and a test fails
        where = full.relative_to(ROOT).as_posix()
        # The front page has not the README's headings; a page that stands for the English one links to that on the web.
        if where in known and not (anchor and known[where] == "index.md") and known[where].rpartition(".")[0] != page:
            target = Path(os.path.relpath(known[where], Path(page).parent)).as_posix()
            return f"[{label}]({target}{mark}{anchor})"
        return f"[{label}]({address(where)}{mark}{anchor})"

    return LINK.sub(replace, text)


def known_pages(language):
    """Return {path in the project, English or of this language: the file among Sphinx's sources that shows it}."""
    out = {"notebooks/zh/术语表.md": "glossary.md", "docs/en/glossary.md": "glossary.md"}
    for path, page in pages().items():
        own = in_language(path, language)
        shown_in = f"{page}{'.md' if own is None else own.suffix}"
        out[path] = shown_in
        if own is not None:
            out[own.relative_to(ROOT).as_posix()] = shown_in
    return out


def executed(path, language, kind, build):
    """Return (cells, what to say) of a notebook: those of its executed copy where that is of the same text."""
    cells = course_notebooks.read(path)["cells"]
    if kind != "lessons":
        return cells, "yours" if kind == "exercises" else "answers"
    copy = build / "lessons" / ("" if language == "en" else language) / path.name
    if not copy.is_file():
        return cells, "not run"
    ran = course_notebooks.read(copy)["cells"]
    if [text(c) for c in ran if c["cell_type"] == "code"] != [text(c) for c in cells if c["cell_type"] == "code"]:
        return cells, "older"
    outputs = {c["id"]: c for c in ran if c["cell_type"] == "code"}
    ran = [outputs.get(c["id"], c) for c in cells]  # words as they are now, outputs from the run
    errors = any(o["output_type"] == "error" for c in ran for o in c.get("outputs", ()))
    return ran, "failed" if errors else ""


def text(cell):
    """Return the source of a cell as one string."""
    return "".join(cell["source"])


def shown(output, pictures, page):
    """Return an output as the site shows it: no live widget beside its still copy, pictures as files of their own.

    Args:
        output: an output of a cell.
        pictures: folder for pictures, beside the page.
        page: name of the page, for the names of its pictures.
    """
    data = output.get("data")
    if not data:
        return output
    if WIDGET in data and len(data) > 1:
        data = {kind: value for kind, value in data.items() if kind != WIDGET}

    def keep(match):
        raw = base64.b64decode(match[1])
        name = f"{Path(page).name}-{hashlib.sha256(raw).hexdigest()[:10]}.png"
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(raw)
        return f'src="pictures/{name}" loading="lazy"'

    if "text/html" in data:
        data = data | {"text/html": IMAGE.sub(keep, "".join(data["text/html"]))}
    return output | {"data": data}


def notebook_page(path, page, language, folders):
    """Write one notebook as a page; return what its toolbar needs.

    Args:
        path: the notebook in the project.
        page: name of the page.
        language: en or zh.
        folders: {"build", "sources", "extra"}: the run's folder, Sphinx's sources, files that are copied as they are.
    """
    kind, said = page.partition("/")[0], SAID[language]
    cells, remark = executed(path, language, kind, folders["build"])
    known, out = known_pages(language), []
    for cell in cells:
        source = text(cell)
        if cell["cell_type"] == "markdown":
            source = re.sub(r"^.*<!-- badges -->.*$\n?", "", source, flags=re.M)
            cell = cell | {"source": relinked(source, path, page, known)}
        else:
            tags = cell["metadata"].get("tags", [])
            outputs = [shown(o, folders["extra"] / kind / "pictures", page) for o in cell["outputs"]]
            cell = cell | {"outputs": outputs}
            if "setup" in tags:
                cell["metadata"] = cell["metadata"] | {"tags": [*tags, "hide-input"]}
        out.append(cell)
    if remark:
        note = f"```{{note}}\n{said[remark]}\n```"
        out.insert(1, {"cell_type": "markdown", "id": "site-note", "metadata": {}, "source": note})
    target = folders["sources"] / f"{page}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    meta = {"cells": out, "metadata": course_notebooks.METADATA, "nbformat": 4, "nbformat_minor": 5}
    target.write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
    download = folders["extra"] / "downloads" / kind / path.name
    download.parent.mkdir(parents=True, exist_ok=True)
    download.write_bytes(path.read_bytes())
    where = path.relative_to(ROOT).as_posix()
    return {
        "colab": address(where).replace("https://github.com/", "https://colab.research.google.com/github/"),
        "download": f"downloads/{kind}/{path.name}",
        "source": address(where),
        "related": related(page),
    }


def related(page):
    """Return [(word, page)] of a notebook's neighbours: lesson, exercises, solutions of the same name."""
    kind, _, name = page.partition("/")
    words = {"lessons": "lesson of", "exercises": "exercise of", "solutions": "solution of"}
    have = set(pages().values())
    return [(words[k], f"{k}/{name}") for k in KINDS if k != kind and f"{k}/{name}" in have]


def markdown_page(path, page, language, sources):
    """Write a Markdown file of the project as a page; return what its toolbar needs."""
    body = relinked(path.read_text(encoding="utf-8"), path, page, known_pages(language))
    write(sources, page, body)
    return {"source": address(path.relative_to(ROOT).as_posix())}


def stub_page(path, page, sources):
    """Write a Chinese page that leads to the English one."""
    write(sources, page, stub_text(page, TITLES_ZH.get(page) or title_of(ROOT / path)))
    return {}


def stub_text(page, title):
    """Return the Markdown of a Chinese page that leads to the English page of the same name."""
    said, up = SAID["zh"], "../" * (page.count("/") + 1)
    return f'# {title}\n\n{said["stub"]}<a href="{up}en/{page}.html" lang="zh">{said["stub link"]}</a>。\n'


def title_of(path):
    """Return the first heading of a notebook or Markdown file."""
    words = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        words = text(json.loads(words)["cells"][0])
    return re.search(r"^# (.+)$", words, flags=re.M)[1].strip()


def write(sources, page, body):
    """Write a Markdown page for Sphinx."""
    target = sources / f"{page}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(body, encoding="utf-8")
