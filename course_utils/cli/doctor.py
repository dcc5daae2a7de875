"""doctor: what a helper would ask about first."""

import os
import shutil
import time

from course_utils.cli import options
from course_utils.errors import InputError
from course_utils.language import _

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "huggingface-hub", "safetensors", "numpy", "scikit-learn",
            "matplotlib", "ipywidgets", "bm25s", "peft", "sentence-transformers", "jupyterlab")  # fmt: skip


def add(commands):
    """Add the command to the parser."""
    options.command(commands, "doctor", _("check the environment; paste the output into a question"), "doctor", run)


def run(args):
    """Print versions, hardware, memory, disk, and the bundled model's answer to an easy question."""
    import psutil

    from course_utils.machine import has_fast_bf16, pick_device
    from course_utils.profile import get_profile

    _print_versions()
    device, memory = pick_device(), psutil.virtual_memory().total / 2**30
    print(_("{cpu_count} cores, {memory:.1f} GB memory").format(cpu_count=os.cpu_count(), memory=memory))
    print(
        _("device {device}, bf16 {word} here").format(
            device=device, word=_("fast") if has_fast_bf16(device) else _("not fast")
        )
    )
    print(_("{free:.1f} GB free on this disk").format(free=shutil.disk_usage(".").free / 2**30))
    _print_cached()
    get_profile()
    right, wrong = _ask()
    if right <= wrong:
        raise InputError("NOT WELL: the bundled model ranks a wrong answer first; install the course again.")
    print(_("all well"))


def _print_versions():
    import importlib.metadata
    import platform

    from course_utils import __version__

    print(f"reranker-course {__version__}")
    print(
        _("python {python_version} on {system} {machine}").format(
            python_version=platform.python_version(), system=platform.system(), machine=platform.machine()
        )
    )
    for name in PACKAGES:
        try:
            print(f"  {name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(_("  {name} is not installed").format(name=name))


def _print_cached():
    from huggingface_hub import try_to_load_from_cache

    from course_utils.model.hub import HUB_MODEL

    cached = isinstance(try_to_load_from_cache(HUB_MODEL, "config.json"), str)
    print(f"{HUB_MODEL}: {_('in the local cache') if cached else _('not downloaded')}")


def _ask():
    """Return the bundled model's scores of a right and a wrong document."""
    from course_utils.model import Reranker

    started = time.perf_counter()
    reranker = Reranker.load("nano", quiet=True)
    right, wrong = reranker.score([("how is rice cooked", "To cook rice, rinse it and boil it in water."),
                                   ("how is rice cooked", "The bus to the airport leaves at noon.")])  # fmt: skip
    seconds = time.perf_counter() - started
    print(
        _("bundled model in nano: scores {right:.2f} and {wrong:.2f} in {seconds:.1f} s").format(
            right=right, wrong=wrong, seconds=seconds
        )
    )
    return right, wrong
