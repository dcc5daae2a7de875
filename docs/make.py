"""Build the site of the course from the executed copies, in both languages, without running a notebook.

.venv/bin/python docs/make.py [--build build]     (or: make site)
"""

import argparse
import json
import os
import re
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The page at the top: which language? It works without a script, and remembers nothing.
DOOR = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Teach a reranker a new trade · 教重排序模型学会一个新行业</title>
<style>body{font:1.2rem/1.6 system-ui,sans-serif;margin:20vh auto;max-width:30rem;padding:0 1rem}a{display:block;margin:1rem 0}
@media(prefers-color-scheme:dark){body{background:#131416;color:#e6e6e6}a{color:#8ab4f8}}</style>
<script>location.replace((/^zh/i.test(navigator.language)?"zh":"en")+"/index.html")</script></head>
<body><main><h1>Teach a reranker a new trade</h1><a href="en/index.html">Read in English</a><a href="zh/index.html" lang="zh">阅读中文版</a>
</main></body></html>
"""


def gather_language(language, build):
    """Write Sphinx's sources of one language under build/site-sources; return the folder of the sources."""
    import gather
    import generated
    import measured

    base = build / "site-sources" / language
    shutil.rmtree(base, ignore_errors=True)
    folders = {"build": build, "sources": base / "pages", "extra": base / "extra"}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    sources, tools = folders["sources"], {}
    for path, page in gather.pages().items():
        if page == "index":
            continue
        own = gather.in_language(path, language)
        if own is None:
            tools[page] = gather.stub_page(path, page, sources)
        elif own.suffix == ".ipynb":
            tools[page] = gather.notebook_page(own, page, language, folders)
        else:
            tools[page] = gather.markdown_page(own, page, language, sources)
    measured.run_page(build, sources, folders["extra"], language)
    generated.list_pages(sources, language)
    generated.glossary_page(sources, language)
    generated.front_page(build, sources, folders["extra"], language)
    if language == "en":
        generated.commands_page(sources)
        generated.api_pages(sources)
    else:
        generated.english_only(sources)
    (base / "terms.txt").write_text("".join(f"{t} 9999 n\n" for t in generated.chinese_terms()), encoding="utf-8")
    (base / "tools.json").write_text(json.dumps(tools, ensure_ascii=False), encoding="utf-8")
    return base


def build_language(language, build, out):
    """Gather one language and run Sphinx on it; return (exit code, seconds, what it warned of)."""
    from sphinx.cmd.build import build_main

    started = time.time()
    os.environ["SITE_LANGUAGE"] = os.environ["COURSE_LANGUAGE"] = language
    base = gather_language(language, build)
    warnings = base / "warnings.txt"
    os.environ["SITE_SOURCES"] = str(base)
    arguments = [
        "-b",
        "html",
        "-q",
        "-c",
        HERE,
        "-d",
        base / "doctrees",
        "-w",
        warnings,
        base / "pages",
        out / language,
    ]
    code = build_main([str(a) for a in arguments])
    return code, time.time() - started, warnings.read_text(encoding="utf-8")


def size(folder):
    """Return the megabytes of a folder's files."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20


def outside(folder):
    """Return the addresses outside the site that its pages link to."""
    found = set()
    for page in folder.rglob("*.html"):
        found |= set(re.findall(r'href="(https?://[^"#]+)', page.read_text(encoding="utf-8")))
    return sorted(found)


def main(arguments=None):
    """Build the site; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--build", default=HERE.parent / "build", type=Path, help="folder of the run; the site goes to its site/"
    )
    build, started = parser.parse_args(arguments).build.resolve(), time.time()
    from words import LANGUAGES

    from course_utils.files import whole_folder

    with whole_folder(build / "site") as out:
        with ProcessPoolExecutor(len(LANGUAGES)) as pool:
            done = list(pool.map(build_language, LANGUAGES, [build] * len(LANGUAGES), [Path(out)] * len(LANGUAGES)))
        for language, (code, seconds, warnings) in zip(LANGUAGES, done, strict=True):
            print(f"  {language}: {seconds:.0f} s, {len(warnings.splitlines())} lines of warnings")
            if code:
                print(f"Sphinx ended with {code} on {language}; the site is as it was.")
                return code
        shutil.rmtree(Path(out) / "jupyter_execute", ignore_errors=True)  # MyST-NB's own copies of pictures
        (Path(out) / "index.html").write_text(DOOR, encoding="utf-8")
        (build / "site-sources" / "links.txt").write_text("\n".join(outside(Path(out))) + "\n", encoding="utf-8")
        (Path(out) / ".nojekyll").write_text("", encoding="utf-8")
    where = build / "site" / "index.html"
    print(
        f"The site: {where} ({size(build / 'site'):.1f} MB, {time.time() - started:.0f} s). Open it, or put the folder on any web server."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
