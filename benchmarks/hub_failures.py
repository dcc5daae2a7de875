"""What happens when the model hub does not answer as it should: fault -> message -> what is on the disk afterwards.

Runs every fault of tests/fake_hub.py against ``course_utils.model.hub`` with its real waits, then takes the fault away and
calls again. A few faults are also given to ``huggingface_hub.snapshot_download`` alone: what the bounds and the checksum
of the course are for.

    python -m benchmarks.hub_failures        (about eleven minutes; writes benchmarks/hub_failures.md)
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
from tests import fake_hub
from tests.conftest import tiny_model
from tests.fake_hub import COMMIT, FAULTS, point_to, serve, state

TIMEOUT = hub.TIMEOUT
SILENCE = 40  # seconds, of a hub that falls silent
BESIDE = (
    "429: busy at the files",
    "500: the hub is broken",
    "connection cut in the weights",
    "slow answer to the second listing",
    "slow answer about the files",
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
        point_to(fake.url, cache, patch, TIMEOUT)
        for key, value in fault.answers.items():
            setattr(fake, key, SILENCE if key in ("stall", "slow", "mute", "dumb") else value)
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


def one_cut(fake, cache):
    """Return how many bytes of the weights are sent again when the connection is cut once, at 0.6 of them."""
    fake.heal()
    fake.cut = 0.6
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        point_to(fake.url, cache, patch, TIMEOUT, sleep=lambda _: setattr(fake, "cut", None))
        folder = model_folder(fake_hub.NAME, quiet=True)
    return fake.sent - (folder / "model.safetensors").stat().st_size


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
            again_kb = one_cut(fake, place / "one") / 1024
            for i, fault in enumerate(FAULTS):
                cache = place / f"cache{i}"
                words = [(cache, "CACHE"), (place, "PLACE"), (COMMIT, "COMMIT")]
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
"slow" is an answer after {SILENCE} s. "Then" is the next call, with the fault gone. CACHE (in PLACE), HUB and COMMIT stand for this
run's folder, address and commit.

What resuming costs: the connection is cut once, after {0.6 * whole / 1024:.0f} KB of the weights, and the call goes on by itself;
{again_kb:.0f} KB are sent twice (less than a chunk of 1024 KB). When a call has given up, the next one fetches the file from its start.

| fault | message (an `InputError`, exit code 2) | seconds | on the disk after | then |
|---|---|---|---|---|
{chr(10).join(lines)}

## Beside `huggingface_hub.snapshot_download` alone

The same faults, with the timeouts of the library (10 s). "Sent then" is what the hub had to send of the weights in the next, good call.

| fault | here: seconds | sent then | snapshot_download: seconds | sent then | error | on the disk after |
|---|---|---|---|---|---|---|
{chr(10).join(beside)}
"""
    write_page(HERE / "hub_failures.md", text)


if __name__ == "__main__":
    main()
