"""Write the annotated tree into README.md: every folder, and every module of the package with its first line.

python scripts/tree.py          write it
python scripts/tree.py --check  only say whether it is as it would be written
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- tree: start -->", "<!-- tree: end -->"
LONGEST = 112  # characters of a remark
# What has no first line of its own to quote. Folders that are not named here get the line of their __init__.
REMARKS = {
    ".ci/": "what continuous integration runs",
    ".devcontainer/": "opens in Codespaces and VS Code with everything installed",
    ".github/": "workflows: tests on each change, newest releases weekly, a GPU run on a release, the site",
    "ARCHITECTURE.md": "the way of the data, what may import what, where to change what",
    "CONTRIBUTING.md": "how to change a lesson, its Chinese twin, and the messages",
    "Makefile": "make course, test, lab, setup, site, bench, test-browser",
    "README.md": "this page",
    "README.zh.md": "this page in Chinese, shorter",
    "benchmarks/": "what the figures on this page come from, and their tables",
    "constraints.txt": "exact versions that the tests ran with",
    "course_utils/": "the helper package, in rooms by lesson",
    "data/": "the course's own data in English and Chinese with its data card; the bundled model in models/nano",
    "docs/": "the site: how it is built from the executed lessons, its front pages, the English glossary",
    "environment.yml": "the same requirements for conda",
    "notebooks/": "the lessons",
    "notebooks/exercises/": "generated from the solutions",
    "notebooks/solutions/": "the source of the exercises",
    "notebooks/zh/": "the same lessons in Chinese, cell by cell, and the glossary",
    "pyproject.toml": "requirements, packaging, settings of the tools",
    "scripts/": "what a maintainer runs",
    "scripts/setup_cell.py": "the first cell of every lesson: installs the course where it is not",
    "tests/": "unit and contract tests, one file a module or a kind of fault; each says in its first line what for",
}
MODULES = ("course_utils", "scripts")  # folders whose modules are listed one by one
WHOLE = ("data", ".github")  # folders whose inside is not listed


def tracked():
    """Return the paths that git knows, as text."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(n for n in names.split("\0") if n and (ROOT / n).exists())


def first_line(path):
    """Return the first sentence of a module's docstring, short enough for one line."""
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    text = " ".join(text.replace("``", "").split())
    text = re.split(r"(?<=[a-z)\d])\. ", text)[0].rstrip(".:")
    if len(text) > LONGEST:
        cut = max(text.rfind(mark, 0, LONGEST) for mark in (", ", ": ", "; ", " ("))
        text = text[:cut] if cut > 30 else text[:LONGEST].rpartition(" ")[0]
    return text.rstrip(",:;")


def entries():
    """Return [(depth, name, remark)] of what is listed, folders before the files in them."""
    found = {}
    for path in tracked():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth]) + "/"
            inside = any(folder.startswith(f"{w}/") and folder != f"{w}/" for w in WHOLE)
            if folder in REMARKS or (not inside and (ROOT / folder / "__init__.py").exists()):
                found[folder] = REMARKS.get(folder) or first_line(ROOT / folder / "__init__.py")
        if path in REMARKS:
            found[path] = REMARKS[path]
        elif parts[0] in MODULES and path.endswith(".py") and parts[-1] != "__init__.py":
            found[path] = first_line(ROOT / path)
    return [(p.rstrip("/").count("/"), p, remark) for p, remark in sorted(found.items(), key=order)]


def order(item):
    """Return what sorts folders first, and the files of a folder after its folders."""
    parts = item[0].rstrip("/").split("/")
    last = (0 if item[0].endswith("/") else 1, parts[-1])
    return [*((0, p) for p in parts[:-1]), last]


def tree():
    """Return the tree as text."""
    lines = []
    for depth, path, remark in entries():
        name = "  " * depth + path.rstrip("/").rpartition("/")[2] + ("/" if path.endswith("/") else "")
        lines.append(f"{name:<26} {remark}")
    return "\n".join(lines)


def main(arguments):
    """Write the tree, or with --check compare it; return the exit code."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        print(f"README.md lacks the marks {START} and {END}.")
        return 1
    new = f"{before}{start}\n```\n{tree()}\n```\n{end}{after}"
    if arguments == ["--check"]:
        print(
            "as it should be" if new == text else "README.md's tree is not that of the project: python scripts/tree.py"
        )
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
