"""What the benchmarks share: where things lie, on which machine, models to measure, cells that are kept, tables."""

import hashlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from course_utils.errors import InputError
from course_utils.evaluation.measure import paired_bootstrap
from course_utils.files import ROOT, sha256, whole, write_json
from course_utils.model.hub import BUNDLED

HERE = ROOT / "benchmarks"
BUILD = ROOT / "build"
QWEN_SHAPE = "qwen3-0.6b-shape"
# Command that makes the folder of a model where it is not there.
MAKERS = {QWEN_SHAPE: "benchmarks.make_qwen_shape", "smollm2": "scripts.get_smollm2"}


def quiet():
    """Keep the libraries off the network and off the screen: every model here is a folder, and pages are the output."""
    import huggingface_hub
    from transformers import logging

    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
    huggingface_hub.constants.HF_HUB_OFFLINE = os.environ["HF_HUB_OFFLINE"] == "1"
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def machine(threads):
    """Return the chip, the system and the versions that figures were measured with, as a dict."""
    chip, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8")
        chip = next((x.split(":", 1)[1].strip() for x in text.splitlines() if x.startswith("model name")), chip)
    versions = {}
    for name in ("torch", "transformers", "sentence-transformers", "accelerate", "datasets", "tokenizers"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    gpu = f"{torch.cuda.get_device_name()}" if torch.cuda.is_available() else None
    return {
        "chip": chip, "cores": os.cpu_count(), "threads": threads, "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(), "gpu": gpu, "versions": versions,
    }  # fmt: skip


def machine_line(threads):
    """Return ``machine`` in words, for the head of a page."""
    m = machine(threads)
    libraries = ", ".join(
        f"{name} {m['versions'][name]}" for name in ("torch", "transformers") if name in m["versions"]
    )
    gpu = f", {m['gpu']}" if m["gpu"] else ""
    return f"{m['chip']}, {m['cores']} cores, {threads} threads{gpu}, {m['system']}, Python {m['python']}, {libraries}"


def model_folder(model):
    """Return the folder of a model by name or path; a known one is made under build/models where it is not there.

    Args:
        model: "nano", a key of MAKERS, or a folder.

    Raises:
        InputError: no such folder, or its command failed.
    """
    if model in BUNDLED:
        return Path(BUNDLED[model])
    folder = BUILD / "models" / model if model in MAKERS else Path(model)
    if model in MAKERS and not (folder / "config.json").exists():
        online = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        command = [sys.executable, "-m", MAKERS[model], str(folder)]
        if subprocess.run(command, cwd=ROOT, env=online, check=False).returncode:
            raise InputError(f"{model} could not be made; the lines above say why.")
    if not (folder / "config.json").exists():
        raise InputError(f"{model} is no model: give nano, {', '.join(MAKERS)}, or a folder with a config.json.")
    return folder


def model_key(folder):
    """Return a short hash of the weights in a model folder: figures are kept for these weights alone."""
    weights = sorted(Path(folder).glob("*.safetensors"))
    return hashlib.sha256("".join(map(sha256, weights)).encode()).hexdigest()[:16]


def in_own_process(job, threads, *arguments, preload=()):
    """Return ``job(*arguments)``, run in a process of its own, so that its peak memory is its own.

    Args:
        job: a function at the top of a module.
        threads: of torch in that process.
        arguments: for ``job``; they and the result are pickled.
        preload: modules to import once for all such processes, where the system can fork.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["torch", "transformers", *preload])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_call, job, threads, arguments).result()


def _call(job, threads, arguments):
    torch.set_num_threads(threads)
    quiet()
    return job(*arguments)


class Cells:
    """Figures that took long, kept in a JSON file as they come: a second run of the same command goes on.

    A cell is found by its names and holds for one fingerprint (of lists, weights and settings); for another it is
    measured anew.
    """

    def __init__(self, path, after=None):
        """Read ``path`` where it is there; ``after`` is called with the cells whenever one was added."""
        self.path, self.after = Path(path), after
        self.data = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        if not isinstance(self.data, dict):
            raise InputError(f"{path} holds no cells of an earlier run; name another file.")

    def get(self, *names):
        """Return the cell of these names, or None."""
        place = self.data.get("cells", {})
        for name in names:
            place = place.get(name, {})
        return place or None

    def of(self, names, fingerprint, work):
        """Return the cell ``names``; ``work()`` gives its figures, a dict, where they are not there yet."""
        place = self.data.setdefault("cells", {})
        for name in names:
            place = place.setdefault(name, {})
        if place.get("of") != fingerprint:
            found = work()
            place.clear()
            place.update(of=fingerprint, **found)
            mean = found["ndcg@10"] if "ndcg@10" in found else statistics.fmean(unpacked(found["values"]))
            print(f"{' · '.join(names)}: {mean:.3f}", flush=True)
            self.keep()
        return place

    def keep(self):
        """Write the file, then call ``after``."""
        write_json(self.path, self.data)
        if self.after:
            self.after(self)


def packed(values):
    """Return one value a query as one line of text, which a JSON file holds better than a column of numbers."""
    return " ".join(f"{v:.5f}" for v in values)


def unpacked(text):
    """Return the list of numbers that ``packed`` wrote."""
    return [float(v) for v in text.split()]


def median(values):
    """Return the median of what is not None, or None of nothing."""
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def number(value, digits=2):
    """Return a table cell."""
    return "-" if value is None else f"{value:,.{digits}f}"


def interval(before, after):
    """Return the mean paired difference with its 95 % interval over queries as a table cell."""
    d = paired_bootstrap(before, after)
    return f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]"


def write_page(path, text):
    """Write a page whole or not at all."""
    with whole(path) as file:
        file.write(text)


def run_cells(path, page, work):
    """Fill the cells at ``path`` by ``work(cells)``, write the page beside them as they come; return the exit code.

    Bad input is one sentence on standard error and exit code 2.
    """
    try:
        cells = Cells(path, lambda c: write_page(path.with_suffix(".md"), page(c)))
        work(cells)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cells.keep()
    print(f"written to {path} and {path.with_suffix('.md')}")
    return 0
