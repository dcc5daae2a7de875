"""Try the setup cell of the lessons as Colab meets it: in a fresh environment that already has torch, numpy, ipywidgets 7.

python scripts/try_setup_cell.py PYTHON [PACKAGE ...]

PYTHON is an interpreter, for example python3.12; PACKAGE ... are put into the environment beforehand (default: BEFORE, below).
In a temporary folder, which is removed at the end, this makes a virtual environment, runs lesson 00 in the smoke profile in a
folder that holds nothing else, so that its first cell fetches and installs the course, and compares versions. For that run git
is told to clone this repository, as last committed, in place of the project's address. pip has to reach a package index. Where
only a CUDA build of torch is offered this takes about 6 GB of disk. One line a check; the exit code is 1 where one failed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from notebooks import NOTEBOOKS, ROOT, settings, setup_source

LESSON = "00_start_here"
KEPT = ("torch", "numpy", "ipywidgets")
TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
# Versions of the time of Colab's, older than the newest where that shows whether the cell replaces them.
BEFORE = [TORCH, "numpy<2.2", "ipywidgets==7.7.1", "notebook<7", "ipykernel<7", "matplotlib<3.11", "pandas<3"]


def say(text):
    print(text, flush=True)


class Trial:
    """A fresh environment in ``folder``, and the checks made in it."""

    def __init__(self, folder, python):
        self.folder, self.failed = Path(folder), 0
        self.content, self.elsewhere = self.folder / "content", self.folder / "elsewhere"
        self.content.mkdir()
        self.elsewhere.mkdir()
        config = self.folder / "gitconfig"
        address = f"https://github.com/{settings()['repository']}"
        mirror = (
            self.folder / "mirror.git"
        )  # with the release's tag on the last commit, which a checkout may not have yet
        subprocess.run(["git", "clone", "-q", "--bare", str(ROOT), str(mirror)], check=True)
        subprocess.run(
            ["git", "-C", str(mirror), "tag", "-f", settings()["tag"], "HEAD"], check=True, capture_output=True
        )
        config.write_text(
            f'[url "{mirror.as_uri()}"]\n\tinsteadOf = {address}\n[safe]\n\tdirectory = *\n', encoding="utf-8"
        )
        self.env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "JUPYTER_PATH")}
        self.env |= {
            "GIT_CONFIG_GLOBAL": str(config),
            "PYTHONNOUSERSITE": "1",
            "JUPYTER_DATA_DIR": str(self.folder / "jupyter"),
            "COURSE_PROFILE": "smoke",
            "HF_HUB_OFFLINE": "1",
        }
        venv = self.folder / "venv"
        subprocess.run([python, "-m", "venv", str(venv)], check=True, env=self.env)
        self.python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def run(self, *arguments, cwd=None):
        """Run the environment's Python; return (whether it went well, what it printed)."""
        done = subprocess.run(
            [str(self.python), *map(str, arguments)],
            cwd=cwd or self.elsewhere,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        return done.returncode == 0, done.stdout

    def check(self, name, good, detail=""):
        """Print one line, and the last of what was printed where the check failed."""
        self.failed += not good
        say(f"{'ok    ' if good else 'FAILED'} {name}" + ("" if good else f"\n{detail[-3000:]}"))

    def timed(self, name, *arguments, **options):
        """Run the environment's Python and check that it went well."""
        started = time.time()
        good, text = self.run(*arguments, **options)
        self.check(f"{name} ({time.time() - started:.0f} s)", good, text)
        return good

    def versions(self):
        """Return {package: version} of the environment."""
        text = self.run("-m", "pip", "--disable-pip-version-check", "list", "--format=json")[1]
        line = next(line for line in text.splitlines() if line.startswith("[{"))
        return {p["name"].lower(): p["version"] for p in json.loads(line)}


def attempt(trial, packages):
    """Make the checks in a Trial."""
    if not trial.timed("packages that are there before", "-m", "pip", "install", "-q", *packages):
        return
    before = trial.versions()
    trial.check("the course is not there before", not trial.run("-c", "import course_utils")[0])
    shutil.copy(NOTEBOOKS / f"{LESSON}.ipynb", trial.content)
    execute = ("-m", "jupyter", "nbconvert", "--to", "notebook", "--inplace", "--execute", f"{LESSON}.ipynb",
               "--ExecutePreprocessor.timeout=3600")  # fmt: skip
    trial.timed("lesson 00 runs, its first cell installs the course", *execute, cwd=trial.content)
    trial.check("the course was cloned beside the lesson", (trial.content / "reranker-course" / ".git").is_dir())
    after = trial.versions()
    for name in KEPT:
        was, now = before.get(name), after.get(name)
        trial.check(f"{name} {was} was left as it was", was is not None and now == was, f"now {now}")
    trial.check("no requirement is broken", *trial.run("-m", "pip", "check"))
    trial.check("the course is there afterwards, in another folder", *trial.run("-c", "import course_utils"))
    again = "import sys, subprocess\nsubprocess.run = None  # the cell must not need it again\n" + setup_source()
    trial.check("the cell does nothing the second time", *trial.run("-c", again, cwd=trial.content))
    changed = [f"{n} {v} -> {after.get(n)}" for n, v in before.items() if after.get(n) != v]
    say(f"{len(after) - len(before)} packages added; replaced: {', '.join(changed) or 'none'}")


def main(arguments):
    """Make the checks; return the exit code."""
    if not arguments or arguments[0].startswith("-") or not shutil.which(arguments[0]):
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trial = Trial(folder, arguments[0])
        say(trial.run("-c", "import sys; print('Python', sys.version.split()[0])")[1].strip())
        attempt(trial, arguments[1:] or BEFORE)
    return 1 if trial.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
