"""Make and keep notebooks in both languages: stable ids, no outputs, generated exercises, badges from one setting.

python scripts/notebooks.py to-py NOTEBOOK.ipynb             print a notebook as a py:percent file
python scripts/notebooks.py from-py FILE.py NOTEBOOK.ipynb   a py:percent file becomes a notebook
python scripts/notebooks.py exercises                        regenerate exercises from solutions, in both languages
python scripts/notebooks.py badges                           write badge rows, setup cells, links and minutes of Chinese texts
python scripts/notebooks.py clean                            strip outputs and counts
python scripts/notebooks.py stale                            name the Chinese cells whose English cell has changed
python scripts/notebooks.py stamp zh NOTEBOOK [CELL ...]     skeleton of a Chinese notebook; note what its cells render
"""

import json
import os
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
CHINESE = NOTEBOOKS / "zh"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
STUB = "# Write your code here. The text above and its hint name what you need.\n"
STUB_ZH = "# 在这里写代码。需要用到的东西，上面的说明和提示里都有。\n"
STUCK = "Stuck? The [solutions](../solutions/{name}) have one way to do it."
STUCK_ZH = "卡住了？[答案](../solutions/{name})里有一种做法。"
# What the setup cell says to people, in Chinese; all else of it is the same.
SETUP_ZH = {
    """# On Colab, or wherever the course is not installed yet, this fetches release {tag} and installs
# it, with the versions it was tested with for what is missing. Elsewhere it installs nothing.
""": """# 在 Colab 上，或者还没有安装本课程的地方，这个单元格会下载 {tag} 版并安装；
# 缺少的依赖按测试过的版本补齐。已经装好的地方它不做任何安装。
""",
    "# Messages and pictures in the language of this notebook, unless COURSE_LANGUAGE says otherwise.": (
        "# 提示和图表用本笔记本的语言；环境变量 COURSE_LANGUAGE 可以另行指定。"
    ),
    '"COURSE_LANGUAGE", "en"': '"COURSE_LANGUAGE", "zh"',
    " is something else: move it away, run this again.": " 不是本课程的文件夹：请先移走，再运行一次。",
}


def settings():
    """Return [tool.course] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]


def language(path):
    """Return "zh" for a file under notebooks/zh or a page NAME.zh.md, else "en"."""
    return "zh" if Path(path).resolve().is_relative_to(CHINESE) or str(path).endswith(".zh.md") else "en"


def setup_source(language="en"):
    """Return the text of the setup cell with the address and the release of the repository filled in."""
    text = (ROOT / "scripts" / "setup_cell.py").read_text(encoding="utf-8")
    for english, chinese in SETUP_ZH.items() if language == "zh" else ():
        assert text.count(english) == 1, f"scripts/setup_cell.py no longer says: {english}"
        text = text.replace(english, chinese)
    url, tag = f"https://github.com/{settings()['repository']}", settings()["tag"]
    return text.replace("{url}", url).replace("{tag}", tag).rstrip("\n")


def cell(kind, source, number, tags=()):
    """Return a notebook cell as a dict with a stable id."""
    out = {"cell_type": kind, "id": f"cell-{number:02d}", "metadata": {"tags": list(tags)} if tags else {}}
    if kind == "code":
        out |= {"execution_count": None, "outputs": []}
    return out | {"source": source.splitlines(keepends=True)}


def from_py(text, language="en"):
    """Return the cells of a py:percent text."""
    cells = []
    for block in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = block.partition("\n")
        tags = json.loads(match[1]) if (match := re.search(r"tags=(\[.*?\])", head)) else []
        if "[markdown]" in head:
            body = "\n".join(re.sub(r"^# ?", "", line) for line in body.strip("\n").splitlines())
            cells.append(cell("markdown", body.strip("\n"), len(cells), tags))
        else:
            body = setup_source(language) if "setup" in tags else body.strip("\n")
            cells.append(cell("code", body, len(cells), tags))
    return cells


def to_py(cells):
    """Return cells as a py:percent text, which ``from_py`` reads back."""
    blocks = []
    for c in cells:
        source, tags = "".join(c["source"]), c["metadata"].get("tags", [])
        head = "# %%" + (" [markdown]" if c["cell_type"] == "markdown" else "")
        head += f" tags={json.dumps(tags)}" if tags else ""
        if c["cell_type"] == "markdown":
            source = "\n".join(f"# {line}".rstrip() for line in source.splitlines())
        blocks.append(f"{head}\n{source}\n")
    return "\n".join(blocks)


def read(path):
    """Return a notebook as a dict."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write(path, cells):
    """Write a notebook without outputs."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def exercise_cells(cells, language="en"):
    """Return the cells of an exercise notebook: the part between the markers becomes a stub.

    The first cell gets a link to the solutions of the same name.
    """
    stub, mark, stuck = (STUB_ZH, "（含答案）", STUCK_ZH) if language == "zh" else (STUB, " (solutions)", STUCK)
    out = []
    for c in cells:
        source, tags = "".join(c["source"]), c["metadata"].get("tags", [])
        if "solution" in tags:
            continue
        if c["cell_type"] == "code":
            source = re.sub(r"^# --- solution\n.*?^# --- end\n?", stub, source, flags=re.S | re.M)
        else:
            source = source.replace(mark, "")
        if not out and (lesson := re.search(r"\]\(\.\./([^)/]+\.ipynb)\)", source)):
            source += "\n\n" + stuck.format(name=lesson[1])
        out.append(cell(c["cell_type"], source.rstrip("\n"), len(out), tags))
    return out


def twin(path):
    """Return the same notebook in the other language, whether it exists or not."""
    path = Path(path).resolve()
    if language(path) == "zh":
        return NOTEBOOKS / path.relative_to(CHINESE)
    return CHINESE / path.relative_to(NOTEBOOKS)


def badge_row(path):
    """Return the badge line of a notebook, with a link to the same lesson in the other language where there is one."""
    where, s, chinese = Path(path).resolve().relative_to(ROOT).as_posix(), settings(), language(path) == "zh"
    colab = f"https://colab.research.google.com/github/{s['repository']}/blob/{s['branch']}/{where}"
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    source = f"https://github.com/{s['repository']}/blob/{s['branch']}/{where}"
    said = ("在 Colab 中打开本课", "在 GitHub 上查看") if chinese else ("Open this lesson in Colab", "View on GitHub")
    row = f"[![{said[0]}]({image})]({colab}) [{said[1]}]({source})"
    if (other := twin(path)).exists():
        link = Path(os.path.relpath(other, Path(path).resolve().parent)).as_posix()
        row += f" [{'English' if chinese else '中文版'}]({link})"
    # A line that begins with a comment is HTML to Markdown and its links would show as raw text: the marker goes last.
    return f"{row} <!-- badges -->"


def relink(path, text):
    """Return a Chinese text whose links lead to the Chinese notebook where there is one, else to the English one."""

    def lead(match):
        target = (path.parent / match[1]).resolve()
        if not target.is_relative_to(NOTEBOOKS) or target.exists() == (language(target) == "zh"):
            return match[0]
        other = twin(target)
        return f"]({Path(os.path.relpath(other, path.parent)).as_posix()})" if other.exists() else match[0]

    path = Path(path).resolve()
    lines = (x if "<!-- badges -->" in x else re.sub(r"\]\(([^)\s:]+\.ipynb)\)", lead, x) for x in text.split("\n"))
    return "\n".join(lines) if language(path) == "zh" else text


def refresh(path):
    """Write badge row, links to other notebooks and setup cell of one notebook anew, and strip outputs."""
    cells = []
    for c in read(path)["cells"]:
        source = "".join(c["source"])
        if "setup" in c["metadata"].get("tags", []):
            source = setup_source(language(path))
        if c["cell_type"] == "markdown":
            source = re.sub(r"^.*<!-- badges -->.*$", lambda _: badge_row(path), source, flags=re.M)
            source = relink(path, source)
        new = cell(c["cell_type"], source, len(cells), c["metadata"].get("tags", []))
        if "renders" in c["metadata"]:
            new["metadata"] = new["metadata"] | {"renders": c["metadata"]["renders"]}
        cells.append(new)
    write(path, cells)


def regenerate():
    """Write every exercise notebook from its solution."""
    for folder in (NOTEBOOKS, CHINESE):
        for path in sorted((folder / "solutions").glob("*.ipynb")):
            target = folder / "exercises" / path.name
            write(target, exercise_cells(read(path)["cells"], language(path)))
            refresh(target)


def all_notebooks():
    """Return every notebook of the course."""
    return sorted(NOTEBOOKS.rglob("*.ipynb"))


def main(arguments):
    """Run one of the commands of the module's docstring; return the exit code."""
    match arguments:
        case ["to-py", source]:
            print(to_py(read(source)["cells"]))
        case ["from-py", source, target]:
            new = from_py(Path(source).read_text(encoding="utf-8"), language(target))
            if language(target) == "zh":
                from chinese import keep_hashes

                keep_hashes(target, new)
            write(target, new)
            refresh(target)
        case ["exercises"]:
            regenerate()
        case ["badges"] | ["clean"]:
            for path in all_notebooks():
                refresh(path)
            from chinese import guide

            for path in (*CHINESE.glob("*.md"), *ROOT.glob("*.zh.md"), *(ROOT / "data").rglob("*.zh.md")):
                path.write_text(guide(relink(path, path.read_text(encoding="utf-8"))), encoding="utf-8")
        case ["stale"]:
            from chinese import stale

            return stale()
        case ["stamp", "zh", name, *ids]:
            from chinese import stamp

            return stamp(name, ids)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
