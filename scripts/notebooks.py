"""Make and keep notebooks: stable ids, no outputs, generated exercises, badges from one setting.

python scripts/notebooks.py from-py FILE.py NOTEBOOK.ipynb   a py:percent file becomes a notebook
python scripts/notebooks.py exercises                        regenerate notebooks/exercises from notebooks/solutions
python scripts/notebooks.py badges                           write badge rows and setup cells
python scripts/notebooks.py clean                            strip outputs and counts
"""

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
STUB = "# Write your code here. The text above and its hint name what you need.\n"


def settings():
    """Return [tool.course] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["course"]


def setup_source():
    """Return the text of the setup cell with the address and the release of the repository filled in."""
    text = (ROOT / "scripts" / "setup_cell.py").read_text(encoding="utf-8")
    url, tag = f"https://github.com/{settings()['repository']}", settings()["tag"]
    return text.replace("{url}", url).replace("{tag}", tag).rstrip("\n")


def cell(kind, source, number, tags=()):
    """Return a notebook cell as a dict with a stable id."""
    out = {"cell_type": kind, "id": f"cell-{number:02d}", "metadata": {"tags": list(tags)} if tags else {}}
    if kind == "code":
        out |= {"execution_count": None, "outputs": []}
    return out | {"source": source.splitlines(keepends=True)}


def from_py(text):
    """Return the cells of a py:percent text."""
    cells = []
    for block in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = block.partition("\n")
        tags = json.loads(match[1]) if (match := re.search(r"tags=(\[.*?\])", head)) else []
        if "[markdown]" in head:
            body = "\n".join(re.sub(r"^# ?", "", line) for line in body.strip("\n").splitlines())
            cells.append(cell("markdown", body.strip("\n"), len(cells), tags))
        else:
            body = setup_source() if "setup" in tags else body.strip("\n")
            cells.append(cell("code", body, len(cells), tags))
    return cells


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


def exercise_cells(cells):
    """Return the cells of an exercise notebook: the part between the markers becomes a stub."""
    out = []
    for c in cells:
        source = "".join(c["source"])
        if "solution" in c["metadata"].get("tags", []):
            continue
        if c["cell_type"] == "code":
            source = re.sub(r"^# --- solution\n.*?^# --- end\n?", STUB, source, flags=re.S | re.M)
        else:
            source = source.replace(" (solutions)", "")
        out.append({**cell(c["cell_type"], source.rstrip("\n"), len(out)), "metadata": c["metadata"]})
    return out


def badge_row(path):
    """Return the badge line of a notebook."""
    where, s = Path(path).resolve().relative_to(ROOT).as_posix(), settings()
    colab = f"https://colab.research.google.com/github/{s['repository']}/blob/{s['branch']}/{where}"
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    source = f"https://github.com/{s['repository']}/blob/{s['branch']}/{where}"
    # A line that begins with a comment is HTML to Markdown and its links would show as raw text: the marker goes last.
    return f"[![Open this lesson in Colab]({image})]({colab}) [View on GitHub]({source}) <!-- badges -->"


def refresh(path):
    """Write badge row and setup cell of one notebook anew, and strip outputs."""
    cells = []
    for c in read(path)["cells"]:
        source = "".join(c["source"])
        if "setup" in c["metadata"].get("tags", []):
            source = setup_source()
        if c["cell_type"] == "markdown":
            source = re.sub(r"^.*<!-- badges -->.*$", badge_row(path), source, flags=re.M)
        tags = c["metadata"].get("tags", [])
        cells.append(cell(c["cell_type"], source, len(cells), tags))
    write(path, cells)


def regenerate():
    """Write every exercise notebook from its solution."""
    for path in sorted((NOTEBOOKS / "solutions").glob("*.ipynb")):
        target = NOTEBOOKS / "exercises" / path.name
        write(target, exercise_cells(read(path)["cells"]))
        refresh(target)


def all_notebooks():
    """Return every notebook of the course."""
    return sorted(NOTEBOOKS.rglob("*.ipynb"))


def main(arguments):
    """Run one of the commands of the module's docstring."""
    match arguments:
        case ["from-py", source, target]:
            write(target, from_py(Path(source).read_text(encoding="utf-8")))
            refresh(target)
        case ["exercises"]:
            regenerate()
        case ["badges"] | ["clean"]:
            for path in all_notebooks():
                refresh(path)
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
