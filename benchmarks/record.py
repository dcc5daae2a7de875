"""Record the figures that lessons show beside the reader's own: notebooks/recorded.json.

python -m benchmarks.record                every lesson that calls `beside`
python -m benchmarks.record --lesson 03    one lesson

The lessons themselves are run, as they stand, in the laptop profile, once a seed, two at a time, one thread each. What a run
found is kept under build/recorded, so that a stopped recording goes on; a change of the lesson's code, of the data or of nano begins anew.
"""

import argparse
import ast
import datetime
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np

from benchmarks.common import BUILD, machine_line, model_folder, model_key
from benchmarks.lists import fingerprint
from course_utils.cli.course import run_lesson
from course_utils.evaluation import paired_bootstrap
from course_utils.files import ROOT, data_folder, sha256, write_json
from course_utils.profile import RECORDED

PROFILE = "laptop"


def code(path):
    """Return the code of a notebook, without comments."""
    cells = (c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    return [ast.unparse(ast.parse(source)) for source in cells]


def data_key():
    """Return a short hash of the course's data, models left out."""
    folder = data_folder()
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and "models" not in p.relative_to(folder).parts)
    return fingerprint([[p.relative_to(folder).as_posix(), sha256(p)] for p in files])


def lessons():
    """Return {name: notebook} of what calls ``beside(name, ...)``; "09-zh" is lesson 09 in Chinese, on other data."""
    found = {}
    for folder, ending in (("notebooks", ""), ("notebooks/zh", "-zh")):
        for path in (ROOT / folder).glob("[0-9]*.ipynb"):
            name = path.name[:2] + ending
            if f'beside("{name}"' in path.read_text(encoding="utf-8").replace('\\"', '"'):
                found[name] = path
    return dict(sorted(found.items()))


LESSONS = lessons()


def run_seed(lesson, seed):
    """Run one lesson with one seed, unless its run is kept; return {"seconds", "changes"}."""
    folder = BUILD / "recorded"
    key = fingerprint([*code(LESSONS[lesson]), model_key(model_folder("nano")), data_key(), PROFILE])
    kept = folder / f"{lesson}-seed{seed}-{key[:12]}.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        lines = folder / f"{lesson}-seed{seed}.jsonl"
        lines.unlink(missing_ok=True)
        names = {"COURSE_PROFILE": PROFILE, "COURSE_SEED": str(seed), "COURSE_RECORD": str(lines.resolve())}
        names |= {
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "COURSE_LANGUAGE": "zh" if lesson.endswith("-zh") else "en",
        }
        started = time.time()
        _, error = run_lesson(LESSONS[lesson], folder / f"seed{seed}", {**os.environ, **names})
        if error:
            raise SystemExit(f"lesson {lesson}, seed {seed}: {error}")
        (found,) = map(json.loads, lines.read_text(encoding="utf-8").splitlines())
        write_json(kept, {"seconds": time.time() - started, "changes": found["changes"]})
    print(f"lesson {lesson}, seed {seed}: {kept}", flush=True)
    return json.loads(kept.read_text(encoding="utf-8"))


def summary(runs):
    """Return what the file keeps of the runs of a lesson, one a seed.

    A query's value is its mean over the seeds; the interval is over queries, and does not hold the luck of other seeds.
    """
    changes = {}
    for name in runs[0]["changes"]:
        before, after = (np.array([run["changes"][name][end] for run in runs]) for end in (0, 1))
        d = paired_bootstrap(before.mean(axis=0), after.mean(axis=0))
        seeds = [round(float(x), 4) for x in (after - before).mean(axis=1)]
        changes[name] = {"mean": d.mean, "low": d.low, "high": d.high, "seeds": seeds, "queries": before.shape[1]}
    return {"minutes": round(float(np.median([run["seconds"] for run in runs])) / 60, 1), "changes": changes}


def main(arguments=None):
    """Record; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lesson", choices=LESSONS, help="default: every lesson that shows recorded figures")
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, 11), metavar="1-10", help="default: 3")
    parsed = parser.parse_args(arguments)
    with ThreadPoolExecutor(2) as pool:
        lessons = [parsed.lesson] if parsed.lesson else list(LESSONS)
        runs = {name: [pool.submit(run_seed, name, seed) for seed in range(parsed.seeds)] for name in lessons}
        for name, own in runs.items():
            made = {
                "command": f"python -m benchmarks.record --lesson {name} --seeds {parsed.seeds}",
                "date": f"{datetime.date.today():%Y-%m-%d}",
                "machine": machine_line(1),
                "profile": PROFILE,
                "weights": model_key(model_folder("nano")),
                "seeds": list(range(parsed.seeds)),
                **summary([run.result() for run in own]),
            }
            kept = json.loads(Path(RECORDED).read_text(encoding="utf-8")) if Path(RECORDED).exists() else {}
            write_json(RECORDED, dict(sorted({**kept, name: made}.items())))
            print(f"lesson {name}: written to {RECORDED}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
