"""What happens when the model hub does not answer as it should: fault -> message -> what is on the disk afterwards.

Runs every fault of tests/fake_hub.py against ``course_utils.model.hub`` with its real waits and a real timeout of 10 s, then
takes the fault away and calls again. A few faults are also given to ``huggingface_hub.snapshot_download``, for scale.

    python -m benchmarks.hub_failures        (about two minutes; writes benchmarks/hub_failures.md)
"""

import contextlib
import io
import re
import tempfile
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from transformers import AutoTokenizer, logging

from benchmarks.common import HERE, write_page
from course_utils.errors import InputError
from course_utils.model import hub
from course_utils.model.hub import BUNDLED, model_folder
from tests.conftest import tiny_model
from tests.fake_hub import COMMIT, FAULTS, point_to, serve, state

TIMEOUT = 10  # seconds without a byte, the default of huggingface_hub
PAUSES = hub.PAUSES
BESIDE = (
    "429: busy, no time told",
    "500: the hub is broken",
    "connection cut in the weights",
    "weights changed on the way",
    "no network (closed port)",
)


def plain(text, places):
    """Return ``text`` without the folders and the port of this run, fit for a table."""
    for place, word in places:
        text = text.replace(str(place), word)
    text = re.sub(r"http://127\.0\.0\.1:\d+", "HUB", text)
    return text.replace("|", "\\|")


def call(function, fault, fake, cache):
    """Return (message, seconds, state after, seconds and bytes of the good call after it)."""
    fake.heal()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        point_to(fake.url, cache, patch, TIMEOUT, PAUSES)
        for key, value in fault.answers.items():
            setattr(fake, key, value * 5 if key in ("stall", "slow") else value)
        with pytest.MonkeyPatch.context() as here:
            if fault.here:
                fault.here(here)
            began = time.perf_counter()
            try:
                function(fault)
                message = "(no error)"
            except InputError as error:
                message = str(error)
            except Exception as error:
                message = f"`{type(error).__name__}`: {str(error).strip().splitlines()[0]}"
            seconds = time.perf_counter() - began
        after = state(cache, fake.folder)
        if cache.is_file():
            cache.unlink()
        fake.heal()
        try:
            function(type(fault)("good"))
            again = state(cache, fake.folder)
        except Exception as error:
            again = f"{type(error).__name__}"
        return message, seconds, after, again, fake.sent


def ours(fault):
    """Fetch as the course does."""
    return model_folder(fault.repository, fault.revision, quiet=True)


def theirs(fault):
    """Fetch as huggingface_hub does, at the commit, as a pinned model is."""
    return huggingface_hub.snapshot_download(fault.repository, revision=COMMIT)


def main():
    """Run every fault and write the page."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.logging.set_verbosity(huggingface_hub.logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)
        tiny_model(tokenizer).save_pretrained(place / "repository")
        tokenizer.save_pretrained(place / "repository")
        whole = (place / "repository" / "model.safetensors").stat().st_size
        lines, beside = [], []
        with serve(place / "repository") as fake:
            for i, fault in enumerate(FAULTS):
                cache = place / f"cache{i}"
                words = [(cache, "CACHE"), (COMMIT, "COMMIT")]
                message, seconds, after, again, sent = call(ours, fault, fake, cache)
                resent = f"{again}, {sent / 1024:.0f} KB of weights sent"
                lines.append(f"| {fault.name} | {plain(message, words)} | {seconds:.1f} | {after} | {resent} |")
                print(lines[-1], flush=True)
                if fault.name in BESIDE:
                    cache = place / f"beside{i}"
                    their = call(theirs, fault, fake, cache)
                    beside.append(
                        f"| {fault.name} | {seconds:.1f} | {sent / 1024:.0f} KB | {their[1]:.1f} | {their[4] / 1024:.0f} KB | "
                        f"{plain(their[0], words)} | {their[2]} |"
                    )
                    print(beside[-1], flush=True)
    text = f"""# When the hub does not answer as it should

Written by `python -m benchmarks.hub_failures` (huggingface_hub {huggingface_hub.__version__}). The hub is a local stand-in
(`tests/fake_hub.py`); the model is a tiny random Qwen3 with {whole / 1024:.0f} KB of weights; the timeout is {TIMEOUT} s without a byte,
pauses between tries are {" and ".join(map(str, PAUSES))} s. "Then" is the next call, with the fault gone. CACHE, HUB and COMMIT stand for
this run's folder, address and commit.

| fault | message (an `InputError`, exit code 2) | seconds | on the disk after | then |
|---|---|---|---|---|
{chr(10).join(lines)}

## Beside `huggingface_hub.snapshot_download`

The same faults, the same timeout. "Sent then" is what the hub had to send of the weights in the next, good call.

| fault | here: seconds | sent then | snapshot_download: seconds | sent then | error | on the disk after |
|---|---|---|---|---|---|---|
{chr(10).join(beside)}
"""
    write_page(HERE / "hub_failures.md", text)


if __name__ == "__main__":
    main()
