# On Colab, or wherever the course is not installed yet, this fetches release {tag} and installs
# it, with the versions it was tested with for what is missing. Elsewhere it installs nothing.
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

# Messages and pictures in the language of this notebook, unless COURSE_LANGUAGE says otherwise.
os.environ.setdefault("COURSE_LANGUAGE", "en")


def is_course(folder):
    file = folder / "pyproject.toml"
    return file.is_file() and '\nname = "reranker-course"\n' in file.read_text(encoding="utf-8")


if importlib.util.find_spec("course_utils") is None:
    above = (Path.cwd(), *Path.cwd().parents)
    folder = next(filter(is_course, above), Path("reranker-course"))
    if not folder.exists():
        url = "{url}"
        git = ["git", "clone", "-q", "--depth", "1", "--branch", "{tag}"]
        subprocess.run([*git, url, str(folder)], check=True)
    assert is_course(folder), f"{folder.resolve()} is something else: move it away, run this again."
    here = {d.name.lower().replace("_", "-") for d in importlib.metadata.distributions()}
    tested = (folder / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (folder / "build").mkdir(exist_ok=True)
    missing = folder / "build" / "constraints.txt"
    missing.write_text("\n".join(line for line in tested if line.partition("==")[0] not in here))
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-c", str(missing), "-e", str(folder)], check=True)
    sys.path.insert(0, str(folder.resolve()))
