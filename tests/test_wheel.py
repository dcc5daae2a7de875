"""The wheel, used outside the checkout: the command line, the bundled model, the course's data, the checks."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from conftest import ROOT
from test_house import tracked

PARTS = ("pyproject.toml", "README.md", "LICENSE", "course_utils", "data")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A folder with what is in the wheel; built from a copy of what git knows, as from the repository's address."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for source in tracked(*PARTS):
        place = copy / source.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-q",
        "-w",
        out,
        copy,
    ]
    done = subprocess.run([str(word) for word in build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            archive.extract(name, out / "site")  # our own archive, built a moment ago
    return out / "site"


@pytest.fixture
def python(unpacked, tmp_path):
    """Run Python in an empty folder that knows the wheel and not the checkout; return what it printed."""

    def run(*arguments):
        env = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def test_the_list_of_packages_is_the_tree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {p.parent for p in (ROOT / "course_utils").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == names | {"course_utils.bundled"}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_data(unpacked):
    here = {p.relative_to(ROOT / "data") for p in tracked("data")}
    assert here == {p.relative_to(ROOT / "data") for p in (ROOT / "data").rglob("*") if p.is_file()}, (
        "git must know them"
    )
    there = unpacked / "course_utils" / "bundled"
    assert {p.relative_to(there) for p in there.rglob("*") if p.is_file()} == here


@pytest.mark.slow
def test_the_console_script_is_the_command_line(unpacked):
    (entry,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert "reranker-course = course_utils.cli:main" in entry.read_text()


@pytest.mark.slow
def test_rank_doctor_data_and_a_check_work_outside_the_checkout(python, unpacked, tmp_path):
    (tmp_path / "documents.txt").write_text(
        "The bus leaves at noon.\nTo cook rice, rinse it and boil it in water.\nA cat sleeps.\nRain fell.\n"
    )
    script = f"""
import sys
import course_utils
from course_utils.checks import lesson00
from course_utils.cli import main
from course_utils.data import load_domain
from course_utils.model import Reranker

assert course_utils.__file__.startswith({str(unpacked)!r})
assert len(load_domain("medical", "en", "test")) > 50
assert main(["rank", "--query", "how is rice cooked", "--documents", "documents.txt"]) == 0
assert main(["doctor"]) == 0
documents = open("documents.txt").read().split("\\n")[:4]
lesson00.check_ranking(documents, 1, Reranker.load("nano", quiet=True).rank("how is rice cooked", documents))
"""
    (tmp_path / "script.py").write_text(script)
    out = python(tmp_path / "script.py")
    assert out.splitlines()[0].endswith("boil it in water.")
    assert "all well" in out
    assert "Right: 4 documents in order." in out
