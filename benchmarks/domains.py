"""Many trades from one base: what a delta costs, what it gives, and what merging and routing do. Writes domains.md and .json.

    python -m benchmarks.domains                                   (the bundled base, the course's data)
    python -m benchmarks.domains --real FOLDER --out FOLDER        (the same on folders of real sets, beside the course's)

A real folder holds sub-folders such as medical-en/train.jsonl and medical-en/test.jsonl; the part before the first "-" is
the trade, "general" is the guarded one.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.common import quiet, write_page
from benchmarks.domains_study import Study
from benchmarks.trades import add_size_options, course_sets, real_sets, settings_of
from course_utils.errors import InputError
from course_utils.files import write_json
from course_utils.model.prompt import DEFAULT_INSTRUCTION
from course_utils.model.reranker import Reranker


class Report:
    """Sections of Markdown and a dict of figures, both on disk after every section."""

    def __init__(self, folder):
        self.folder, self.text, self.figures = Path(folder), [], {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, key, title, words, *tables, **figures):
        """Write a section; tables are Matrix, figures plain values for the JSON."""
        self.text.append(f"## {title}\n\n{words}\n\n" + "\n\n".join(map(str, tables)))
        self.figures[key] = {**figures, "tables": [asdict(t) for t in tables]}
        write_page(self.folder / "domains.md", "# Domains from one base\n\n" + "\n\n".join(self.text) + "\n")
        write_json(self.folder / "domains.json", self.figures)
        print(self.text[-1] + "\n", flush=True)


def main():
    """Run the command line; see the module's docstring."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_options(parser)
    parser.add_argument("--out", default="build/domains", help="folder for domains.md and domains.json")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="for the averaging; 1 leaves it out")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    reranker = Reranker.load(args.model, max_length=args.max_length, quiet=True)
    reranker.instruction = DEFAULT_INSTRUCTION
    report = Report(args.out)
    total = sum(p.numel() for p in reranker.model.parameters())
    dtype = str(next(reranker.model.parameters()).dtype).removeprefix("torch.")
    words = (
        f"{args.model}, {total:,} parameters, {dtype} on {reranker.device.type}, {torch.get_num_threads()} threads; "
    )
    words += f"{args.epochs} epochs, at most {args.queries} training queries a set, seed {args.seed}."
    report.add("run", "The run", words, arguments=settings_of(args), parameters=total)
    started = time.perf_counter()
    if not args.only_real:
        Study(reranker, course_sets(args), args, report, "course", "The course's data").run()
    if args.real:
        Study(reranker, real_sets(args.real, args), args, report, "real", "Real sets").run()
    print(f"{time.perf_counter() - started:.0f} s; written to {report.folder / 'domains.md'}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{error}")
