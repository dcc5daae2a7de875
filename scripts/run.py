"""Set up .venv and run a task; only the standard library, so that any Python 3.11 to 3.13 can start it.

python scripts/run.py course | test | lab | setup | site | bench | test-browser
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from contextlib import nullcontext
from pathlib import Path

from warm_kernel import serving

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PACKAGES = VENV / ("Lib" if os.name == "nt" else f"lib/python3.{sys.version_info.minor}") / "site-packages"
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
# The extras that are installed for each kind of task; a kind holds what those before it hold.
LESSONS = "lab,interop,onnx,files,serve"
EXTRAS = {"lessons": LESSONS, "site": f"{LESSONS},site", "test": "test"}
KINDS = {"course": "site", "site": "site", "test": "test", "test-browser": "test", "bench": "test"}


def words():
    """Return the package's module of languages, or None under a Python that ``setup`` will refuse."""
    sys.path.insert(0, str(ROOT))
    try:
        from course_utils import language
    except (AttributeError, ImportError, SyntaxError):
        return None
    return language


def _(text):
    """Return ``text`` in the language of the session, by the catalogue of the package."""
    module = words()
    return module._(text) if module else text


def say(text):
    print(text, flush=True)


def fail(text):
    say(_("FAILED: {text}").format(text=text))
    sys.exit(1)


def wanted():
    """Return a hash of everything that decides what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def stamp(kind):
    """Return the file that says for which ``wanted`` the packages of this kind were installed."""
    return VENV / f"installed-{kind}"


def setup(kind="lessons"):
    """Make .venv and install into it, unless that was done for the same files and the same Python."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        fail(_("Python {version} is not supported; use 3.11, 3.12 or 3.13.").format(version=sys.version.split()[0]))
    enough = [stamp(k) for k in [*EXTRAS][[*EXTRAS].index(kind) :]]
    if PYTHON.exists() and any(s.exists() and s.read_text() == wanted() for s in enough):
        return
    started = time.time()
    text = _(
        "setting up {folder} (once): torch, about 200 MB to fetch for a CPU; then transformers, JupyterLab and what the "
        "{lessons} import, about 350 MB; 2 GB on disk"
    )
    say(text.format(folder=VENV.name, lessons=_("tests") if kind == "test" else _("lessons")))
    if not PYTHON.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        venv.create(VENV, with_pip=True)
    # torch first and by its exact version, so that a local or CPU build of it is used where one is offered.
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    # pip compiles on one core, file by file: compileall does it on all of them.
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-compile", "-q"]
    for name, command in (
        (torch, [*pip, torch]),
        (_("the rest"), [*pip, "-c", "constraints.txt", "-e", f".[{EXTRAS[kind]}]"]),
    ):
        begun = time.time()
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            fail(_("installing packages; the lines above say which one. Check the network and run the command again."))
        say(_("{name}: {seconds:.0f} s").format(name=name, seconds=time.time() - begun))
    # Packages hold templates that are no Python: what does not compile is no loss.
    compiled = [str(PYTHON), "-m", "compileall", "-q", "-j", "0", str(PACKAGES)]
    subprocess.run(compiled, stdout=subprocess.DEVNULL, check=False)
    stamp(kind).write_text(wanted())
    say(_("set up in {seconds:.0f} s").format(seconds=time.time() - started))


def step(name, command, fine=(0,), **environment):
    """Run one command with a heading and its time; end everything with one line when its exit code is not ``fine``.

    A value of None in ``environment`` takes a name out of it.
    """
    say(f"\n== {name}")
    started = time.time()
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", **environment}
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"
    env = {name: value for name, value in env.items() if value is not None}
    code = subprocess.run([str(c) for c in command], cwd=ROOT, env=env, check=False).returncode
    if code not in fine:
        fail(_("{name} (exit code {code}); the lines above say where.").format(name=name, code=code))
    say(_("== {name}: done in {seconds:.0f} s").format(name=name, seconds=time.time() - started))


def course(arguments):
    step(_("course"), [PYTHON, "-m", "course_utils", "course", *arguments])
    if {"--help", "--lessons-only"} & {*arguments} or "--out" in " ".join(arguments):
        return
    site([])


def has(*modules):
    """Return whether .venv can import all of these."""
    look = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {modules!r})))"
    return subprocess.run([str(PYTHON), "-c", look], check=False).returncode == 0


def site(arguments):
    step(_("site"), [PYTHON, "docs/make.py", *arguments])


def test(arguments):
    step("ruff", [PYTHON, "-m", "ruff", "check", "."])
    step("ruff format", [PYTHON, "-m", "ruff", "format", "--check", "."])
    # Quick ones first; a file's tests stay in one process, so that what they share is made once.
    pytest = [PYTHON, "-m", "pytest", "-q", "-p", "no:nbmake", "-n", "2", "--dist", "loadfile"]
    for name, which in (("unit tests", "not slow and not browser"), ("slow tests", "slow and not browser")):
        fine = (0, 5) if arguments else (0,)  # 5: none of the tests that somebody asked for
        step(name, [*pytest, "-m", which, *arguments], fine, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    # Chinese solutions have the code of the English ones; a workflow runs them once a week.
    folders = [ROOT / "notebooks" / name for name in ("", "solutions", "zh")]
    notebooks = [path for folder in folders for path in sorted(folder.glob("*.ipynb"))]
    nbmake = [PYTHON, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "--nbmake", "--nbmake-timeout=900"]
    own = {"COURSE_PROFILE": "smoke", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    warm = serving(PYTHON, {**os.environ, **own}) if hasattr(os, "fork") else nullcontext({})
    with warm as more:
        kernel = ["--nbmake-kernel=warm"] if more else []
        # COURSE_LANGUAGE: each notebook's own.
        step(
            _("notebooks (nbmake, smoke profile)"), [*nbmake, *kernel, *notebooks], COURSE_LANGUAGE=None, **own, **more
        )


def lab(arguments):
    folder = "notebooks/zh" if words()._language() == "zh" else "notebooks"
    step("JupyterLab", [PYTHON, "-m", "jupyter", "lab", f"{folder}/00_start_here.ipynb", *arguments])


def bench(arguments):
    step("benchmarks", [PYTHON, "-m", "benchmarks.speed", *arguments])


def test_browser(arguments):
    if subprocess.run([str(PYTHON), "-c", "import playwright"], capture_output=True, check=False).returncode:
        step("Playwright", [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-q", "playwright>=1.45"])
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))):
        install_chromium()
    if not has("axe_playwright_python"):
        step(
            "axe", [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-q", "axe-playwright-python>=0.1.5"]
        )
    files = ["tests/test_browser.py", "tests/test_site_browser.py"]
    step("browser tests", [PYTHON, "-m", "pytest", "-q", "-m", "browser", *files, *arguments])


def install_chromium():
    """Install Debian's Chromium and a small Chinese font, or end with a line that says what to do."""
    advice = "install Chromium or Chrome so that it is on the PATH, then run this again"
    if not shutil.which("apt-get"):
        fail(f"no Chromium here; {advice}.")
    say("\n== Chromium (apt-get)")
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    packages = ["chromium", "fonts-wqy-microhei"]
    try:
        for command in (["apt-get", "-q", "update"], ["apt-get", "-q", "-y", "install", *packages]):
            subprocess.run([*sudo, *command], check=True, stdout=subprocess.DEVNULL)
    except (subprocess.CalledProcessError, FileNotFoundError):
        fail(f"apt-get could not install {' and '.join(packages)}; {advice} (apt-get install {' '.join(packages)}).")


TASKS = {
    "course": course,
    "test": test,
    "lab": lab,
    "setup": lambda arguments: say(_("{folder} is ready").format(folder=VENV.name)),
    "site": site,
    "bench": bench,
    "test-browser": test_browser,
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TASKS:
        fail(_("say what to run: python scripts/run.py {tasks}").format(tasks=" | ".join(TASKS)))
    try:
        setup(KINDS.get(sys.argv[1], "lessons"))
        TASKS[sys.argv[1]](sys.argv[2:])
    except KeyboardInterrupt:
        fail(_("stopped by you"))
