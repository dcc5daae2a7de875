"""Record the figures that lessons print beside the reader's own: notebooks/recorded.json.

python scripts/record.py                every lesson that has a recorder
python scripts/record.py --lesson 03    one lesson

A recorder is benchmarks/recorded/lessonNN.py with a function ``record(cells, seeds)``. It runs in one thread; what took long
is kept in build/recorded.json, so that a stopped run goes on, and more seeds add to fewer.
"""

import argparse
import datetime
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.common import BUILD, Cells, machine_line, quiet  # noqa: E402
from course_utils.errors import InputError  # noqa: E402
from course_utils.files import write_json  # noqa: E402
from course_utils.profile import RECORDED  # noqa: E402

RECORDERS = sorted(p.stem.removeprefix("lesson") for p in (ROOT / "benchmarks" / "recorded").glob("lesson[0-9]*.py"))


def entry(lesson, cells, seeds):
    """Return what the file keeps of a lesson: figures, and how, when and where they were made."""
    figures = importlib.import_module(f"benchmarks.recorded.lesson{lesson}").record(cells, seeds)
    made = {
        "command": f"python scripts/record.py --lesson {lesson} --seeds {seeds}",
        "date": f"{datetime.date.today():%Y-%m-%d}",
        "machine": machine_line(torch.get_num_threads()),
    }
    return made | figures


def main(arguments=None):
    """Record; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lesson", choices=RECORDERS, help="default: every lesson that has a recorder")
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11), metavar="1-10", help="default: 3")
    lesson, seeds = (parsed := parser.parse_args(arguments)).lesson, parsed.seeds
    quiet()
    torch.set_num_threads(1)
    try:
        for name in [lesson] if lesson else RECORDERS:
            made = entry(name, Cells(BUILD / "recorded.json"), seeds)
            kept = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
            write_json(RECORDED, dict(sorted({**kept, name: made}.items())))
            print(f"lesson {name}: written to {RECORDED}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
