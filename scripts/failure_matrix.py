"""Run every fault of tests/failure_cases.py and write what happens to benchmarks/failures.md.

python scripts/failure_matrix.py
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

HEAD = """# What happens when something is wrong

{count} faults, each made on purpose in a folder with small files and a tiny model: the command, the exit code, what is said, and
what is there afterwards. "Nothing" means that no file is new; in every row all files that were there before are the same to the
byte, and no traceback is shown. Made by `python scripts/failure_matrix.py`; the same table runs as `tests/test_failures.py`,
which also fills a disk, kills a training and closes pipes for real.
"""


def tiny_folder(folder):
    """Save a tiny random reranker to ``folder``."""
    sys.path.insert(0, str(ROOT / "tests"))  # the table and the tiny model are the tests'
    from conftest import tiny_model
    from transformers import AutoTokenizer

    from course_utils.model import Reranker
    from course_utils.model.hub import BUNDLED

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)
    Reranker(tiny_model(tokenizer, layers=2), tokenizer, max_length=256, name="tiny").save(folder)


def cell(text, limit=260):
    """Return text as a cell of a Markdown table."""
    text = " ".join(text.encode("utf-8", "replace").decode("utf-8").split()).replace("|", "\\|").replace("`", "'")
    text = re.sub(r"[^\x20-\ufffd]|[\u2028\u2029\x85\x0c]", "?", text)
    return text if len(text) <= limit else f"{text[:limit]}..."


def row(case, found, wrong):
    """Return the line of a case in the table."""
    command = case.command if isinstance(case.command, str) else " ".join(case.command)
    errors = [line for line in found.err.splitlines() if line.startswith(("error: ", "note: ", "stopped"))]
    said = errors[-1] if errors else (found.out.strip().splitlines() or ["nothing"])[0]
    said = re.sub(r"\S*/reranker-course-\w+\.txt", "FILE", said)
    left = "; ".join(case.new).replace(".*", "...").replace("\\", "") or "nothing"
    mark = f"FAILS: {'; '.join(wrong)}" if wrong else left
    return f"| {cell(case.fault)} | `{cell(command, 120)}` | {found.code} | {cell(said)} | {mark} |"


def main():
    """Write the page; return 1 when a case does not end as the table says."""
    with tempfile.TemporaryDirectory() as folder:
        tiny_folder(Path(folder) / "model")
        from failure_cases import CASES
        from failures import make_world, problems, run

        lines, failed = [HEAD.format(count=len(CASES))], 0
        for kind, cases in groupby(CASES, key=lambda case: case.kind):
            lines += [
                f"## {kind}",
                "",
                "| fault | command | code | what is said | what is new |",
                "|---|---|---|---|---|",
            ]
            for i, case in enumerate(cases):
                print(f"{kind}: {case.fault}", flush=True)
                world = Path(folder) / f"{kind.replace(' ', '-')}-{i}"
                world.mkdir()
                make_world(world, Path(folder) / "model")
                with contextlib.redirect_stderr(io.StringIO()):
                    found = run(case, world)
                wrong = problems(case, found)
                failed += bool(wrong)
                lines.append(row(case, found, wrong).replace(f"{world}/", "").replace(f"{ROOT}/", ""))
            lines.append("")
    (ROOT / "benchmarks" / "failures.md").write_text("\n".join(lines), encoding="utf-8")
    print(f"{len(CASES)} faults, {failed} that do not end as they should")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
