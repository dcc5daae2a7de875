"""The kernel that the notebooks of `make test` run in: a fresh process each, with the imports of the one before it."""

import os
import sys
import time

import nbclient
import nbformat
import psutil
import pytest
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")]


@pytest.fixture(scope="module")
def warm():
    sys.path.insert(0, str(ROOT / "scripts"))
    from warm_kernel import serving

    sys.path.pop(0)
    with serving(sys.executable, dict(os.environ), ("ipykernel.kernelapp", "html.parser")) as more:
        yield more


@pytest.fixture
def run(warm, tmp_path, monkeypatch):
    """Return a function that runs cells in a new kernel and returns what each printed."""
    monkeypatch.setenv("JUPYTER_PATH", warm["JUPYTER_PATH"])

    def run(*cells, **environment):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        client = nbclient.NotebookClient(
            notebook, timeout=60, kernel_name="warm", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute(env={**os.environ, **environment})
        return ["".join(o.get("text", "") for o in c.outputs).strip() for c in notebook.cells]

    return run


def test_a_notebook_gets_a_process_an_environment_and_a_folder_of_its_own(run, tmp_path):
    cells = (
        "import os, sys; print(os.getpid(), os.getcwd(), os.environ.get('OWN'))",
        "x = 1; sys.kept = 2; print('scripts' in ''.join(sys.path), sys.argv[0])",
        "print('html.parser' in sys.modules, os.environ.pop('HOME', 0) and 1)",
    )
    first = run(*cells, OWN="here")
    number, folder, own = first[0].split(" ")
    assert (folder, own) == (str(tmp_path), "here")
    assert first[1].startswith("False ") and first[2] == "True 1"
    second = run("import os, sys; print(os.getpid(), os.environ.get('OWN'), hasattr(sys, 'kept'), 'x' in globals())")
    assert second[0].split(" ")[0] != number and second[0].split(" ", 1)[1] == "None False False"
    assert not psutil.pid_exists(int(number)), "a kernel ends with its notebook"


def test_a_failing_cell_fails_and_a_kernel_that_is_killed_is_gone(run):
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        run("1 / 0")
    with pytest.raises(nbclient.exceptions.DeadKernelError):
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_notebook_that_takes_too_long_is_stopped(warm, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", warm["JUPYTER_PATH"])
    code = f"import os, time\nopen(r'{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    with pytest.raises(nbclient.exceptions.CellTimeoutError):
        nbclient.NotebookClient(notebook, timeout=3, kernel_name="warm").execute()
    end = time.time() + 20
    while psutil.pid_exists(int((tmp_path / "pid").read_text())) and time.time() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_process_that_cannot_import_says_so():
    from warm_kernel import serving

    with (
        pytest.raises(SystemExit, match="ended with exit code 1"),
        serving(sys.executable, dict(os.environ), ("no_such",)),
    ):
        pass
