"""Chinese notebooks beside the English ones: the contract between two cells, which are stale, and what stamps them.

A Chinese notebook has the cells of the English one in the same order. Its code is the same but for strings and comments. Each
of its cells notes in ``metadata["renders"]`` the hash of the English text that it renders: when somebody changes that
text, the hashes differ and the cell is stale. Exercises are generated from solutions, and setup cells from one
source, so these carry no hash.
"""

import ast
import difflib
import hashlib
import io
import json
import re
import subprocess
import tokenize
from pathlib import Path

from notebooks import CHINESE, NOTEBOOKS, ROOT, cell, read, refresh, twin, write

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
BADGES = re.compile(r"^.*<!-- badges -->.*$", flags=re.M)
MINUTES = re.compile(r"^(\*\*(\d\d) .+\*\*\n\n\| .+\n\|---\|---\|---\|\n)((?:\|.+\n)+)", flags=re.M)


def source(c):
    """Return the text of a cell."""
    return "".join(c["source"])


def is_setup(c):
    """Return whether a cell is the setup cell, which is generated."""
    return "setup" in c["metadata"].get("tags", [])


def digest(c):
    """Return the hash of an English cell as a Chinese cell notes it; the badge row, which is generated, does not count."""
    return hashlib.sha256(BADGES.sub("", source(c)).encode()).hexdigest()[:12]


def guide(text):
    """Return the Chinese instructor guide with the minutes of the English one and the headings of the Chinese lessons.

    A lesson that has no Chinese twin yet keeps the names of its sections that stand in ``text``. A table with more or fewer
    sections than in English stays as it is, for somebody who reads Chinese; a test names it.
    """
    minutes = {
        number: rows.splitlines() for _, number, rows in MINUTES.findall((NOTEBOOKS / "README.md").read_text("utf-8"))
    }

    def fill(match):
        head, number, rows = match.groups()
        names = [row.split("|")[1].strip() for row in rows.splitlines()]
        for path in CHINESE.glob(f"{number}_*.ipynb"):
            names = [n for c in read(path)["cells"] for n in re.findall(r"^## (.+)$", source(c), flags=re.M)]
            names = [*names[:-4], "练习"]
        rows = minutes.get(number, ())
        if len(names) != len(rows):
            return match[0]
        return head + "".join(f"| {n} |{row.split('|', 2)[2]}\n" for n, row in zip(names, rows, strict=True))

    return MINUTES.sub(fill, text)


def chinese_notebooks():
    """Return the Chinese lessons and solutions there are."""
    return sorted([*CHINESE.glob("*.ipynb"), *(CHINESE / "solutions").glob("*.ipynb")])


class _Bare(ast.NodeTransformer):
    # Empties strings; of an f-string the expressions stay, sorted, because word order differs between languages.
    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        found = [v for v in node.values if isinstance(v, ast.FormattedValue)]
        for v in found:
            v.value = self.visit(v.value)
        return ast.JoinedStr(sorted(found, key=ast.dump)) if found else ast.Constant("")


def bare(code):
    """Return code as a text that is the same for two cells that differ in strings and comments alone."""
    return ast.dump(_Bare().visit(ast.parse(code)), indent=1)


def comments(code):
    """Return the comments of a piece of code that are written for people."""
    found = [t.string for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type == tokenize.COMMENT]
    return [c for c in found if not re.match(r"# (---|fmt:|noqa|type:)", c)]


def printed(code):
    """Return the strings that a piece of code prints as they stand, parts of f-strings too."""
    calls = [n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "print"]
    parts = [p for call in calls for a in call.args for p in (a.values if isinstance(a, ast.JoinedStr) else [a])]
    return [p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)]


def is_english(text):
    """Return whether a text for people is still in English: three words or more and no Chinese character."""
    return not HAN.search(text) and len(re.findall(r"[A-Za-z]{2,}", text)) >= 3


def marks(text):
    """Return what a Markdown text must have in common with its twin: levels of headings, facts, pictures, foldouts."""
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    return {
        "headings": [len(m) for m in re.findall(r"^(#{1,6}) \S", prose, flags=re.M)],
        "facts": sorted(re.findall(r"<!-- fact: [\w.@-]+ -->", text)),
        "sources and examples": sorted(re.findall(r"<!-- (?:source|example) -->", text)),
        "pictures": len(re.findall(r"!\[[^\]]*\]\(|<img\b", BADGES.sub("", text))),
        "<details>": text.count("<details>"),
        "code blocks": text.count("```"),
        "badge rows": text.count("<!-- badges -->"),
    }


def differences(english, chinese):
    """Return what is wrong with a Chinese cell beside its English one, in sentences; empty when nothing is."""
    said, ours, theirs = [], source(chinese), source(english)
    if chinese["cell_type"] != english["cell_type"]:
        return [f"is a {chinese['cell_type']} cell, the English one a {english['cell_type']} cell"]
    if chinese["metadata"].get("tags", []) != english["metadata"].get("tags", []):
        said.append("has other tags than the English cell")
    if is_setup(english):
        return said
    if english["cell_type"] == "markdown":
        have, want = marks(ours), marks(theirs)
        said += [f"{k}: {have[k]}, in English {want[k]}" for k in want if have[k] != want[k]]
        plain = re.sub(r"`[^`]*`|<[^>]+>|\([^)]*\)", " ", BADGES.sub("", ours))
        if ours == theirs or is_english(plain):
            said.append("is not yet in Chinese")
        return said
    try:
        if bare(ours) != bare(theirs):
            lines = difflib.unified_diff(
                bare(theirs).splitlines(), bare(ours).splitlines(), "English", "Chinese", "", "", 1
            )
            said.append("has other code than the English cell:\n" + "\n".join(list(lines)[2:14]))
        said += [f'has an English comment: "{c}"' for c in comments(ours) if is_english(c)]
        said += [f'prints English: "{t}"' for t in printed(ours) if is_english(t)]
    except (SyntaxError, tokenize.TokenError) as error:
        said.append(f"is no Python: {error}")
    return said


def faults(path):
    """Return [(cell id, what is wrong)] of a Chinese notebook: order, code, structure, hashes."""
    english, chinese = read(twin(path))["cells"], read(path)["cells"]
    if len(english) != len(chinese):
        return [("", f"has {len(chinese)} cells, the English notebook {len(english)}: run the command stamp")]
    found = []
    for e, c in zip(english, chinese, strict=True):
        if c["id"] != e["id"]:
            found.append((c["id"], f"stands where the English notebook has {e['id']}"))
        found += [(c["id"], text) for text in differences(e, c)]
        if not is_setup(e) and path.parent.name != "exercises":
            noted = c["metadata"].get("renders")
            if noted is None:
                found.append((c["id"], "notes no English text that it renders: run the command stamp"))
            elif noted != digest(e):
                found.append((c["id"], "is stale: its English text has changed (python scripts/notebooks.py stale)"))
    return found


def before(path, noted):
    """Return the English text that a hash stands for, from the history of ``path`` in git, or None."""
    where = path.relative_to(ROOT).as_posix()

    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, encoding="utf-8", check=False).stdout

    for commit in git("log", "--format=%H", "--", where).split():
        try:
            cells = json.loads(git("show", f"{commit}:{where}"))["cells"]
        except ValueError:  # the file did not exist, or was broken
            continue
        for c in cells:
            if digest(c) == noted:
                return source(c)
    return None


def stale():
    """Print every stale cell with what changed; return 1 when there is one, else 0."""
    count = 0
    for path in chinese_notebooks():
        english, chinese = read(twin(path))["cells"], read(path)["cells"]
        if len(english) != len(chinese):
            count += 1
            print(f"{path.relative_to(ROOT)}: {len(chinese)} cells, in English {len(english)}: run stamp")
            continue
        for e, c in zip(english, chinese, strict=True):
            noted = c["metadata"].get("renders")
            if is_setup(e) or noted == digest(e):
                continue
            count += 1
            print(f"\n=== {path.relative_to(ROOT)} {c['id']}")
            old = before(twin(path), noted) if noted else None
            if old is None:
                print(f"--- English now\n{source(e)}")
            else:
                print(
                    "\n".join(
                        difflib.unified_diff(old.splitlines(), source(e).splitlines(), "English then", "now", n=1)
                    )
                )
            print(f"--- Chinese\n{source(c)}")
    print(f"{count} stale cells" if count else "no Chinese cell is stale")
    return int(count > 0)


def keep_hashes(path, cells):
    """Give new cells the hash that an equal cell of the notebook at ``path`` has; changed cells get none."""
    noted = {source(c): c["metadata"].get("renders") for c in (read(path)["cells"] if Path(path).exists() else [])}
    for c in cells:
        if noted.get(source(c)):
            c["metadata"] = c["metadata"] | {"renders": noted[source(c)]}


def aligned(english, chinese):
    """Return Chinese cells in the order of the English ones, and the texts of those that lost their English cell.

    A cell follows the English text whose hash it notes; between two of these, as many cells as there are keep their place.
    What has no Chinese cell yet is the English cell itself, without a hash.
    """
    theirs = ["setup" if is_setup(e) else digest(e) for e in english]
    ours = ["setup" if is_setup(c) else c["metadata"].get("renders") for c in chinese]
    out, lost = [], []
    for what, a, b, i, j in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        same = chinese[i:j][: b - a] if what != "delete" else []
        out += same + [
            cell(e["cell_type"], source(e), 0, e["metadata"].get("tags", [])) for e in english[a + len(same) : b]
        ]
        lost += [source(c) for c in chinese[i + len(same) : j]]
    for number, c in enumerate(out):
        c["id"] = f"cell-{number:02d}"
    return out, lost


def stamp(name, ids):
    """Make or align the Chinese notebook ``name``, and note in its cells which English text they render.

    Cells without a note get one when they are in Chinese and fit their English cell; a cell that has one is stale or not,
    and gets the new one only when it is named.

    Args:
        name: a lesson or a solution, such as ``03_freezing.ipynb`` or ``solutions/03_freezing.ipynb``.
        ids: cells whose Chinese text was brought up to date, such as ``cell-07``; ``all`` for every cell.

    Returns:
        1 when a cell is not in Chinese, does not fit, or is stale; else 0.
    """
    path = CHINESE / name.removeprefix("notebooks/").removeprefix("zh/")
    if path.parent.name == "exercises" or not twin(path).exists():
        print(f"{name} is no lesson and no solution in {NOTEBOOKS.relative_to(ROOT)}")
        return 2
    english = read(twin(path))["cells"]
    chinese, lost = aligned(english, read(path)["cells"] if path.exists() else [])
    count = 0
    for e, c in zip(english, chinese, strict=True):
        if is_setup(e):
            continue
        wrong = differences(e, c)
        if not wrong and (c["id"] in ids or "all" in ids or "renders" not in c["metadata"]):
            if c["metadata"].get("renders") != digest(e):
                count += 1
            c["metadata"]["renders"] = digest(e)
    write(path, chinese)
    refresh(path)
    refresh(twin(path))  # its link to the Chinese notebook
    for text in lost:
        print(f"left out, because no English cell is left for it:\n{text}\n")
    left = faults(path)
    for cell_id, text in left:
        print(f"{cell_id} {text}")
    print(f"{path.relative_to(ROOT)}: {count} cells stamped, {len({i for i, _ in left})} to do")
    return int(bool(left))
