"""The project's own files agree with each other."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# conda-forge and PyPI call these by different names
CONDA_NAMES = {"pytorch": "torch", "huggingface_hub": "huggingface-hub", "matplotlib-base": "matplotlib"}


def floors(lines):
    out = {}
    for line in lines:
        name, _, limits = re.match(r"([A-Za-z0-9_.-]+)()(.*)", line).groups()
        out[CONDA_NAMES.get(name, name)] = limits
    return out


def test_environment_yml_has_the_floors_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    lines = [d for d in environment["dependencies"] if isinstance(d, str)]
    from_pip = [d for part in environment["dependencies"] if isinstance(part, dict) for d in part["pip"]]
    lines += [d for d in from_pip if not d.startswith("-e ")]
    conda = floors(lines)
    extras = PROJECT["project"]["optional-dependencies"]["lab"]
    wanted = floors([*PROJECT["project"]["dependencies"], *extras])
    assert conda.pop("python") == PROJECT["project"]["requires-python"]
    conda.pop("pip")
    assert conda == wanted
    # The course itself comes with the extras that `make setup` brings; those of JupyterLab stand among conda's.
    lessons = re.search(r'^LESSONS = "lab,(.+)"$', (ROOT / "scripts" / "run.py").read_text("utf-8"), flags=re.M)[1]
    assert [d for d in from_pip if d.startswith("-e ")] == [f"-e .[{lessons}]"]


def test_constraints_satisfy_pyproject():
    from packaging.requirements import Requirement

    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    assert len(pinned) > 50
    extras = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *(r for own in extras.values() for r in own)]:
        need = Requirement(text)
        if need.name != PROJECT["project"]["name"]:
            assert need.specifier.contains(pinned[need.name]), text


def tracked():
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / n for n in names.split("\0") if n]


def test_the_repository_stays_lean():
    sizes = {p: p.stat().st_size for p in tracked() if p.exists()}
    assert max(sizes.values()) < 20 * 2**20
    assert sum(s for p, s in sizes.items() if p.is_relative_to(ROOT / "data")) < 60 * 2**20
    assert not [p for p in sizes if p.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin"}]


def test_make_lines_are_commands_a_person_could_type():
    lines = (ROOT / "Makefile").read_text().splitlines()
    recipes = [line.strip() for line in lines if line.startswith("\t")]
    assert recipes
    assert all(line.startswith("$(PYTHON) scripts/run.py ") for line in recipes)
    run = (ROOT / "scripts" / "run.py").read_text()
    for line in recipes:
        assert f'"{line.split()[-1]}"' in run


def test_the_container_is_set_up_by_the_command_of_the_readme():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert container["postCreateCommand"] == "make setup"
    assert "`make setup`" in (ROOT / "README.md").read_text(encoding="utf-8")
    version = re.search(r"python:(\d\.\d+)-", container["image"])[1]
    assert version in ("3.11", "3.12", "3.13")
    # The interpreter that the editor takes is the one that the command makes.
    assert container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith(
        "/.venv/bin/python"
    )


def test_the_pages_workflow_publishes_what_the_site_command_writes():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["build"]["steps"]
    assert any("scripts/run.py course" in step.get("run", "") for step in steps)
    assert steps[-1]["with"]["path"] == "build/site"


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    assert "make course" in readme
    assert "python scripts/run.py course" in readme
    assert "python scripts/run.py test" in readme


def test_the_tree_in_the_readme_is_that_of_the_project():
    done = subprocess.run([sys.executable, "scripts/tree.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_architecture_names_files_that_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|training|data|model|evaluation|ship|cli|scripts)/[a-z_]+\.py)`", text):
        assert (ROOT / path).exists() or (ROOT / "course_utils" / path).exists(), path


def test_the_setup_cell_takes_the_release_of_this_version():
    assert PROJECT["tool"]["course"]["tag"] == f"v{PROJECT['project']['version']}"
    from course_utils import __version__

    assert __version__ == PROJECT["project"]["version"]


def test_the_setup_cell_takes_a_folder_for_the_course_only_by_its_marker(tmp_path):
    code = (ROOT / "scripts" / "setup_cell.py").read_text(encoding="utf-8").partition("\n\n\nif ")[0]
    names = {}
    exec(code, names)
    assert names["is_course"](ROOT)
    (tmp_path / "course_utils").mkdir()
    assert not names["is_course"](tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "reranker-course-2"\n')
    assert not names["is_course"](tmp_path)


def test_the_setup_cell_fetches_the_release_and_constrains_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from notebooks import setup_source

    (tmp_path / "course_utils").mkdir()  # a stranger of the same name, which was installed once
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.path", list(sys.path))
    calls = []

    def run(command, check):
        calls.append(command)
        if command[0] == "git":
            (tmp_path / "reranker-course").mkdir()
            (tmp_path / "reranker-course" / "pyproject.toml").write_text('[project]\nname = "reranker-course"\n')
            (tmp_path / "reranker-course" / "constraints.txt").write_text("torch==0.1\nnot-here-at-all==7.0\n")
        else:
            assert Path(command[command.index("-c") + 1]).read_text() == "not-here-at-all==7.0"

    monkeypatch.setattr(subprocess, "run", run)
    exec(setup_source(), {})
    git, pip = calls
    assert git[git.index("--branch") + 1] == PROJECT["tool"]["course"]["tag"]
    assert pip[-2:] == ["-e", "reranker-course"]
    (tmp_path / "reranker-course" / "pyproject.toml").write_text('[project]\nname = "something-else"\n')
    with pytest.raises(AssertionError, match="is something else"):
        exec(setup_source(), {})
