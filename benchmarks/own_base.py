"""Bring your own base: a language model that never saw the prompt becomes a reranker, then learns trades. Writes own_base.md.

    python scripts/get_smollm2.py build/models/smollm2
    python -m benchmarks.own_base --real FOLDER [--base smollm2] [--seeds 3] [--json OUT.json]

own_base.md is of --sets finance-en-tatqa,legal-en-tosdr --ways last3,last3-half --queries 100 --encoder-queries 100 --epochs 2 --states FOLDER,
own_base_ways.md of --course --ways last3,lora,all --queries 100 --train-queries 80 --epochs 2 --states FOLDER --json benchmarks/own_base_ways.json.

FOLDER holds general-en-xquad/train.jsonl, and train.jsonl and test.jsonl of English trades. A general stage trains all layers;
from there each trade is learned from all of its training queries, four ways and over the seeds, beside nano and a small
encoder (both as in benchmarks.real_sets, whose options hold here too). Every figure is kept as it comes, and the general stage
in build/own_base with its checkpoints, so a second call goes on where the first one stopped. On a processor this takes days
for all cells: a seed is finished on every set before the next one begins.
"""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks import encoder, real_sets, real_sets_page
from benchmarks.common import BUILD, HERE, Cells, in_own_process, model_folder, model_key, quiet, write_page
from benchmarks.lists import fingerprint, read_lists
from course_utils.data.groups import subset
from course_utils.errors import InputError
from course_utils.machine import peak_memory_mb
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe

GENERAL = "general-en-xquad"
BESIDE = "nano"  # adapted too, with its defaults
RATES = "last3=3e-4,last3-half=3e-4,lora=5e-4,all=5e-5"
STAGE = Recipe(layers="all", epochs=2, negatives=3, learning_rate=1e-4, keep="best")


def general_stage(base, groups, folder, recipe, work):
    """Train all layers of a base on general lists and save it as ``folder``; return its seconds, memory and history."""
    reranker = Reranker.load(base, dtype=torch.float32, quiet=True)
    run = adapt(reranker, groups, recipe=recipe, work_dir=work, quiet=True)
    reranker.save(folder)
    return {
        "seconds": run.seconds, "peak_mb": peak_memory_mb(), "queries": len(groups), "history": run.history,
    }  # fmt: skip


def general_model(cells, args):
    """Return the folder of the base after its general stage; train it where it is not there for this base and these lists."""
    path = Path(args.real) / GENERAL / "train.jsonl"
    if not path.is_file():
        raise InputError(f"There is no {path}: the general stage learns from it.")
    base = model_folder(args.base)
    groups = subset(read_lists(path), args.general_queries)
    folder = Path(args.work) / f"{Path(args.base).name}-general"
    of = fingerprint(groups, [model_key(base), STAGE.asdict()])
    if cells.data.get("general", {}).get("of") != of or not (folder / "config.json").exists():
        found = in_own_process(
            general_stage, args.threads, base, groups, folder, STAGE, Path(args.work) / f"{folder.name}-work"
        )
        cells.data["general"] = {"of": of, **found}
        cells.keep()
    return folder


def page(cells):
    """Return the report as Markdown."""
    if "facts" not in cells.data:
        return "# Bring your own base\n"
    stage = cells.data["general"]
    words = (
        f"Written by `python -m benchmarks.own_base`. General stage: all layers, {STAGE.epochs} epochs over {stage['queries']} "
        f"queries of {GENERAL}, {STAGE.negatives} negatives a query and epoch, {stage['seconds'] / 60:.0f} minutes, "
        f"{stage['peak_mb']:,.0f} MB; on its own held-out queries nDCG@10 went from {stage['history'][0]['ndcg@10']:.3f}, zero-shot, "
        f"to {max(row['ndcg@10'] for row in stage['history']):.3f}. From there the trades are learned, at rates "
        f"{cells.data['rates']}; nano has its own. {cells.data.get('beside', '')}"  # what ran on the same cores, if somebody noted it
    )
    return real_sets_page.page(cells, "Bring your own base", words)


def parser():
    """Return the options: those of real_sets, and the base's own."""
    out = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[real_sets.parser(False)]
    )
    out.add_argument("--base", default="smollm2", help="smollm2 or a folder of a causal language model")
    out.add_argument("--work", default=str(BUILD / "own_base"), metavar="FOLDER")
    out.add_argument("--general-queries", type=int, default=300, help="of the general stage")
    beside = f"nano,{real_sets_page.ENCODER}" if encoder.installed() else "nano"
    out.set_defaults(models=beside, ways="last3,last3-half,lora,all", rates=RATES, json=HERE / "own_base.json")
    return out


def main(argv=None):
    """Run the stages and write the page; return 0, or 2 with one sentence on standard error."""
    args = parser().parse_args(argv)
    quiet()
    torch.set_num_threads(args.threads)

    def step(models, ways, rates=""):
        real_sets.measure(
            cells, sets, argparse.Namespace(**vars(args) | {"models": models, "ways": ways, "rates": rates})
        )

    try:
        sets = real_sets.chosen_sets(args)
        if not args.sets:
            sets = {name: own for name, own in sets.items() if "-en" in name and own.train}
        cells = Cells(args.json, lambda c: write_page(args.json.with_suffix(".md"), page(c)))
        cells.data["rates"] = args.rates
        general = general_model(cells, args)
        step(str(general), args.ways, args.rates)
        step(BESIDE, "last3")
        step(f"{args.models},{args.base}", "none")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {args.json} and {args.json.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
