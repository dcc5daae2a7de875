"""What adapting gives on the course's own trades, beside yardsticks that cannot be fooled.

    python -m benchmarks.course_trades [--model nano] [--seeds 3] [--sets medical-en,legal-zh] [--json OUT.json]

For each trade and language: random order, the document alone, BM25, the base, the base plus the rule that reads documents
alone, and the base adapted to the trade's train lists with the defaults (which keep half of the way) and general replay. Two
tests: new questions to documents of training, and new topics. Beside them: the general test, the other trades' lists of the
same language (what rises there too is style, not the trade), the gain by kind of knowledge, runs whose epoch dev chooses, and
runs with 4 negatives in place of 2.
Figures are kept in OUT.json as they come.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import (
    HERE,
    in_own_process,
    machine_line,
    model_folder,
    model_key,
    packed,
    quiet,
    run_cells,
)
from benchmarks.course_trades_page import page
from benchmarks.lists import fingerprint
from benchmarks.ruled import with_rule
from course_utils.data import LANGUAGES, TRADES, load_domain, subset
from course_utils.data.negatives import bm25_scores
from course_utils.errors import InputError
from course_utils.evaluation import document_alone, evaluate, evaluate_scores
from course_utils.model import Reranker
from course_utils.training import Recipe, adapt

TESTS = ("questions", "test")
WAYS = {
    "adapted": {},
    "best epoch": {"keep": "best", "negatives": 4},
    "half with 4": {"keep": "halfway", "negatives": 4},
}


def cell(found):
    """Return an Evaluation as a cell: the mean and one value a query."""
    return {"ndcg@10": found.summary["ndcg@10"], "values": packed(found.per_query())}


def plain(kind, train, test):
    """Return the cell of a way that needs no model."""
    if kind == "random":
        return cell(evaluate_scores([np.zeros(len(g.documents)) for g in test], test))
    return cell(evaluate_scores(bm25_scores(test) if kind == "BM25" else document_alone(train, test), test))


def as_it_is(folder, parts):
    """Return cells of the base on each test, and of the base plus the rule, whose weight dev chooses."""
    reranker = Reranker.load(folder, quiet=True)
    scores = {part: reranker.score_groups(parts[part]) for part in ("dev", *TESTS)}
    found, weight = with_rule(scores, parts["train"], parts)
    base = {part: cell(evaluate_scores(scores[part], parts[part])) for part in TESTS}
    ruled = {part: cell(own) for part, own in found.items()}
    others = {name: cell(evaluate(reranker, parts[name])) for name in parts if name not in ("train", "dev", *TESTS)}
    return {"base": base | others, "rule": ruled, "weight": weight, "ndcg@10": base["test"]["ndcg@10"]}


def learned(folder, parts, replay, recipe):
    """Adapt to the train lists; return cells of both tests, the general test and the other trades' lists."""
    reranker = Reranker.load(folder, quiet=True)
    run = adapt(reranker, parts["train"], parts["dev"], recipe, replay=replay, quiet=True)
    found = {name: cell(evaluate(reranker, parts[name])) for name in parts if name not in ("train", "dev")}
    return found | {"seconds": run.seconds, "best_epoch": run.best_epoch, "ndcg@10": found["test"]["ndcg@10"]}


def parts_of(domain, language, few):
    """Return the lists of one trade by name: train, dev, both tests, the general test, the other trades' tests.

    ``few`` queries of each other trade and twice as many of the general test, or all where it is None.
    """
    parts = {p: load_domain(domain, language, p) for p in ("train", "dev", *TESTS)}
    parts["general"] = subset(load_domain("general", language, "test"), few and 2 * few)
    for other in TRADES:
        if other != domain:
            parts[other] = subset(load_domain(other, language, "test"), few)
    return parts


def measure(cells, names, args):
    """Fill every cell: what needs no model, the base, then the adaptations seed by seed."""
    folder = model_folder(args.model)
    key = model_key(folder)
    all_parts = {n: parts_of(*n.split("-"), args.others) for n in names}
    cells.data["facts"] = (
        f"nDCG@10, model {Path(args.model).name} ({key}), last 3 layers, {args.epochs} epochs, general replay, {args.seeds} seeds; "
        f"{machine_line(args.threads)}"
    )
    cells.data["sizes"] = {n: {p: len(g) for p, g in parts.items()} for n, parts in all_parts.items()}
    cells.data["topics"] = {n: {p: [g.topic for g in parts[p]] for p in TESTS} for n, parts in all_parts.items()}
    cells.data["queries"] = {n: {p: [g.query for g in parts[p]] for p in TESTS} for n, parts in all_parts.items()}
    for name, parts in all_parts.items():
        for part in TESTS:
            for kind in ("random", "document alone", "BM25"):
                of = fingerprint(parts["train"], parts[part])
                cells.of((name, kind, part), of, lambda k=kind, p=parts, t=part: plain(k, p["train"], p[t]))
        cells.of((name, "as it is"), fingerprint(*parts.values(), [key]), lambda p=parts: as_it_is(folder, p))
    for seed in range(args.seeds):
        for name, parts in all_parts.items():
            replay = load_domain("general", name.split("-")[1], "train")
            for way, choices in WAYS.items():
                recipe = Recipe(seed=seed, epochs=args.epochs, **choices)
                of = fingerprint(*parts.values(), [key, recipe.asdict()])
                cells.of(
                    (name, way, str(seed)), of,
                    lambda p=parts, r=recipe, g=replay: in_own_process(learned, args.threads, folder, p, g, r),
                )  # fmt: skip


def main(argv=None):
    """Measure and write the page; return 0, or 2 with one sentence on standard error."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--model", default="nano", help="nano or a folder")
    parser.add_argument("--sets", default="", help="only these, for example medical-en,legal-zh")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=Recipe().epochs)
    parser.add_argument("--others", type=int, help="queries of each other trade's test; default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, default=HERE / "course_trades.json", metavar="OUT")
    args = parser.parse_args(argv)
    quiet()
    torch.set_num_threads(args.threads)
    every = [f"{domain}-{language}" for domain in TRADES for language in LANGUAGES]
    names = [n for n in args.sets.split(",") if n] or every

    def work(cells):
        if unknown := set(names) - set(every):
            raise InputError(f'There is no set "{min(unknown)}"; there are {", ".join(every)}.')
        measure(cells, names, args)

    return run_cells(args.json, page, work)


if __name__ == "__main__":
    sys.exit(main())
