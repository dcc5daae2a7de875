"""Many trades from one base: what a delta costs, what it gives, and what merging and routing do. Writes domains.md and .json.

    python benchmarks/domains.py                                   (the bundled base, the course's data)
    python benchmarks/domains.py --real FOLDER --out FOLDER        (the same on folders of real sets, beside the course's)

A real folder holds sub-folders such as medical-en/train.jsonl and medical-en/test.jsonl; the part before the first "-" is
the trade, "general" is the guarded one.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from transformers import logging

from course_utils.data.grid import DOMAINS, LANGUAGES, load_domain
from course_utils.data.groups import rankable, split, subset
from course_utils.data.read import read_groups
from course_utils.domains.delta import attach, detach, save_delta, swapped
from course_utils.domains.merging import Matrix, combine, cross_matrix, score_sets, sweep_weights
from course_utils.domains.routing import route_report, train_router
from course_utils.domains.serve import Domains, storage_bytes
from course_utils.domains.train import adapt_layers, adapt_lora
from course_utils.errors import InputError
from course_utils.model.prompt import DEFAULT_INSTRUCTION, INSTRUCTIONS
from course_utils.model.reranker import Reranker
from course_utils.training.recipe import Recipe

GENERAL = "general"


@dataclass
class Sets:
    """The groups of one trade by set name ("medical-en"); a set may lack a part."""

    train: dict = field(default_factory=dict)
    dev: dict = field(default_factory=dict)
    test: dict = field(default_factory=dict)


def pooled(parts):
    """Return the groups of all sets in one list."""
    return [g for groups in parts.values() for g in groups]


def course_sets(args):
    """Return trade -> Sets of the course's own data."""
    trades = {}
    for domain in DOMAINS:
        own = trades[domain] = Sets()
        for language in args.languages:
            for part, size in (("train", args.queries), ("dev", args.dev_queries), ("test", args.test_queries)):
                groups = subset(load_domain(domain, language, part), size, args.seed)
                getattr(own, part)[f"{domain}-{language}"] = groups
    return trades


def real_sets(folder, args):
    """Return trade -> Sets of a folder of real sets; dev is 15 % of train, the test file is only read for the report."""
    trades = {}
    for place in sorted(Path(folder).iterdir()):
        trade = place.name.split("-")[0].replace("finance", "financial")
        if trade not in DOMAINS or not place.is_dir():
            continue
        own = trades.setdefault(trade, Sets())
        if (place / "train.jsonl").exists():
            groups = rankable(read_groups(place / "train.jsonl", max_relevance=9, drop_repeated=True))
            train, dev = split(groups, (0.85, 0.15), seed=args.seed)
            own.train[place.name] = subset(train, args.queries, args.seed)
            own.dev[place.name] = subset(dev, args.dev_queries, args.seed)
        if (place / "test.jsonl").exists():
            groups = rankable(read_groups(place / "test.jsonl", max_relevance=9, drop_repeated=True))
            own.test[place.name] = subset(groups, args.test_queries, args.seed)
    missing = [d for d in DOMAINS if d not in trades or not trades[d].train or not trades[d].test]
    if missing:
        raise InputError(f"{folder} holds no train and test files for {missing[0]}-...")
    return trades


def settings_of(args):
    """Return the arguments for a report, without folders of the machine it ran on."""
    return {k: v for k, v in vars(args).items() if k not in ("real", "out")}


class Report:
    """Sections of Markdown and a dict of figures, both on disk after every section."""

    def __init__(self, folder):
        self.folder, self.text, self.figures = Path(folder), [], {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, key, title, words, *tables, **figures):
        """Write a section; tables are Matrix, figures plain values for the JSON."""
        self.text.append(f"## {title}\n\n{words}\n\n" + "\n\n".join(map(str, tables)))
        self.figures[key] = {**figures, "tables": [asdict(t) for t in tables]}
        for name, text in (
            ("domains.md", "# Domains from one base\n\n" + "\n\n".join(self.text) + "\n"),
            ("domains.json", json.dumps(self.figures, indent=1, ensure_ascii=False) + "\n"),
        ):
            temporary = self.folder / f".{name}.part"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.folder / name)
        print(self.text[-1] + "\n", flush=True)


def study(reranker, trades, args, report, key, title):
    """Run every experiment on one collection of trades."""
    names = [t for t in trades if t != GENERAL]
    tests = {name: groups for own in trades.values() for name, groups in own.test.items()}
    instructions = {name: INSTRUCTIONS[t] for t, own in trades.items() for part in (own.dev, own.test) for name in part}
    base = dict(zip(tests, score_sets(reranker, tests, instructions), strict=True))
    base_bytes = storage_bytes(reranker.model.parameters())

    def mean(values, trade):
        return statistics.mean(values[name] for name in trades[trade].test)

    usual = Recipe(
        layers=args.layers, epochs=args.epochs, negatives=None, ema_decay=0, seed=args.seed,
        batch_queries=args.batch_queries,
    )  # fmt: skip

    def trained(trade, how, train=None, dev=None, seed=args.seed, recipe=usual, **more):
        reranker.instruction = INSTRUCTIONS[trade]
        train, dev = train or pooled(trades[trade].train), dev or pooled(trades[trade].dev)
        delta, run = how(reranker, train, dev, recipe.replace(seed=seed), name=trade, quiet=True, **more)
        reranker.instruction = DEFAULT_INSTRUCTION
        return delta, run.seconds

    # Whole layers, LoRA, everything: three trades each.
    ways = {
        f"last {args.layers} layers": (adapt_layers, {}),
        f"LoRA rank {args.rank}": (adapt_lora, {"rank": args.rank}),
        f"LoRA rank {args.rank}, all layers": (adapt_lora, {"recipe": usual.replace(layers="all"), "rank": args.rank}),
        "everything": (adapt_layers, {"recipe": usual.replace(layers="all")}),
    }
    rows, kept, after = {}, {}, {}
    for way, (how, more) in ways.items():
        for trade in names:
            delta, seconds = trained(trade, how, **more)
            with swapped(reranker, delta):
                now = dict(zip(tests, score_sets(reranker, tests, instructions), strict=True))
            kept[way, trade], after[way, trade] = delta, now
            rows[f"{trade}, {way}"] = [
                int(delta.figures["trained_parameters"]),
                100 * delta.nbytes / base_bytes,
                round(seconds, 1),
                mean(base, trade),
                mean(now, trade),
                mean(now, trade) - mean(base, trade),
                mean(now, GENERAL) - mean(base, GENERAL),
            ]
    columns = ["parameters", "% of base", "seconds", "before", "after", "gain", "general"]
    words = (
        "nDCG@10 on test, mean over the trade's sets. `general` is the change on the general sets: below 0 is "
        "forgetting. `% of base` is the size of the delta."
    )
    report.add(f"{key}-ways", f"{title}: what to train", words, Matrix(list(rows), columns, [*rows.values()], "trade"))

    # Each trade against its own full copy: written out whole, loaded, scored.
    layers, lora = list(ways)[:2]
    rows = {}
    for way in (layers, lora):
        for trade in names:
            delta, own = kept[way, trade], trades[trade].test
            row = copy_row(reranker, delta, own, after[way, trade], mean, trade)
            rows[f"{trade}, {way}"] = [*row, mean(after["everything", trade], trade)]
    columns = [
        "delta MB",
        "full copy MB",
        "delta nDCG@10",
        "full copy nDCG@10",
        "largest score gap",
        "everything trained",
    ]
    words = "The delta attached to the base, and the same weights saved as a whole model and loaded again."
    report.add(
        f"{key}-copies", f"{title}: against a full copy", words, Matrix(list(rows), columns, [*rows.values()], "")
    )

    exact = {way: max(rows[f"{t}, {way}"][4] for t in names) for way in (layers, lora)}
    switch = served(reranker, trades, names, kept, (layers, lora), report, key, title)
    merged(reranker, trades, names, kept, layers, trained, tests, instructions, args, report, key, title)

    # Every set on its own, each tested on all.
    deltas = {}
    for trade, own in trades.items():
        for name, groups in own.train.items():
            deltas[name], _ = trained(trade, adapt_layers, groups, own.dev[name])
    matrix = cross_matrix(reranker, deltas, tests, instructions)
    words = "nDCG@10 on test. A row is one set of weights, a column one test set under its own instruction."
    report.add(f"{key}-matrix", f"{title}: trained on x, tested on y", words, matrix)
    sizes = {way: max(100 * kept[way, t].nbytes / base_bytes for t in names) for way in (layers, lora)}
    gaps = {w: min(mean(after[w, t], t) - mean(after["everything", t], t) for t in names) for w in (layers, lora)}
    asked = []
    for way, limit in ((layers, "under 40"), (lora, "under 5")):
        asked += [
            [f"{way}: largest delta, % of base", limit, sizes[way]],
            [f"{way}: median switch, ms", "under 20", switch[way]],
            [f"{way}: largest score gap to the same weights as a full copy", "0", f"{exact[way]:.1e}"],
            [f"{way}: worst nDCG@10 gap to a copy with everything trained", "at least -0.01", gaps[way]],
        ]
    table = Matrix([a[0] for a in asked], ["asked", "measured"], [a[1:] for a in asked], "")
    report.add(
        f"{key}-asked", f"{title}: asked and measured", "nDCG@10 gaps are means over a trade's test sets.", table
    )


def copy_row(reranker, delta, own, now, mean, trade):
    """Return sizes and scores of a delta beside those of a full copy."""
    with tempfile.TemporaryDirectory() as folder:
        small = save_delta(delta, Path(folder) / "delta")
        attach(reranker, delta)
        groups = pooled(own)
        attached = np.concatenate(reranker.score_groups(groups))
        whole = reranker.save(Path(folder) / "copy")
        detach(reranker)
        dtype = next(reranker.model.parameters()).dtype
        copy = Reranker.load(whole, device=reranker.device, dtype=dtype, quiet=True)
        alone = np.concatenate(copy.score_groups(groups))
        values = dict(zip(own, score_sets(copy, own), strict=True))
        sizes = [sum(f.stat().st_size for f in p.glob("*.safetensors")) / 2**20 for p in (small, whole)]
    return [*sizes, mean(now, trade), mean(values, trade), float(np.abs(attached - alone).max())]


def served(reranker, trades, names, kept, ways, report, key, title, rounds=60):
    """Several trades in memory: bytes, switching, a mixed stream by label and by router; return median switch [ms]."""
    rows = {}
    for way in ways:
        domains = Domains(reranker, [kept[way, t] for t in names])
        memory, seconds = domains.memory(), []
        for i in range(rounds):
            synchronise(reranker)
            started = time.perf_counter()
            domains.use(names[i % len(names)])
            synchronise(reranker)
            seconds.append(time.perf_counter() - started)
        in_use = domains.memory()["total"]
        domains.use(GENERAL)
        mb = [memory["base"], sum(memory["deltas"].values()), memory["total"], in_use]
        rows[way] = [x / 2**20 for x in mb] + [1e3 * statistics.median(seconds), 1e3 * sorted(seconds)[-4]]
    columns = ["base MB", "deltas MB", "all in memory MB", "with one in use MB", "switch ms", "switch ms, 95 %"]
    words = f"{len(names)} trades on one base; {len(names) + 1} full models would take {len(names) + 1} x the base."
    report.add(f"{key}-served", f"{title}: in memory", words, Matrix(list(rows), columns, [*rows.values()], ""))
    started = time.perf_counter()
    router = train_router(
        {t: [g.query for g in pooled(own.train)] for t, own in trades.items()} if key == "real" else None
    )
    seconds = time.perf_counter() - started
    domains = Domains(reranker, [kept[ways[0], t] for t in names], router)
    table = route_report(domains, router, {t: pooled(own.test) for t, own in trades.items()})
    words = (
        f"Trained in {seconds:.1f} s, nothing stored. nDCG@10 of the base, with the right label, and with the routed one; "
        "then on the wrongly routed queries alone."
    )
    report.add(f"{key}-router", f"{title}: routed by the query", words, table, seconds=seconds)
    return {way: rows[way][4] for way in ways}


def merged(reranker, trades, names, kept, layers, trained, tests, instructions, args, report, key, title):
    """Interpolation, averaging of seeds, adding up trades."""
    guard_dev, guard_test = trades[GENERAL].dev, trades[GENERAL].test
    for trade in names:
        own = trades[trade]
        dev = {**own.dev, **guard_dev}
        found = sweep_weights(reranker, kept[layers, trade], dev, {**own.test, **guard_test}, instructions=instructions)
        words = f"alpha is chosen on the mean over the dev sets: {found.best:g}. Below, test."
        report.add(
            f"{key}-alpha-{trade}", f"{title}: from the base to {trade}", words, found.dev, found.test, best=found.best
        )
    if args.seeds > 1:
        rows = {}
        for trade in names:
            more = [trained(trade, adapt_layers, seed=args.seed + s)[0] for s in range(1, args.seeds)]
            seeds = [kept[layers, trade], *more]
            deltas = {f"seed {i}": d for i, d in enumerate(seeds)} | {"mean of weights": combine(reranker, seeds)}
            sets = {**trades[trade].test, **guard_test}
            values = cross_matrix(reranker, deltas, sets, instructions).values
            in_trade = [statistics.mean(row[: len(trades[trade].test)]) for row in values]
            general = [statistics.mean(row[len(trades[trade].test) :]) for row in values]
            runs = in_trade[1:-1]
            rows[trade] = [in_trade[0], statistics.mean(runs), min(runs), max(runs), in_trade[-1]]
            rows[trade] += [general[0], statistics.mean(general[1:-1]), general[-1]]
        columns = ["base", "mean of seeds", "worst seed", "best seed", "mean of weights"]
        columns += ["general: base", "general: mean of seeds", "general: mean of weights"]
        words = f"nDCG@10 on test; {args.seeds} seeds."
        report.add(
            f"{key}-seeds", f"{title}: averaging seeds", words, Matrix(list(rows), columns, [*rows.values()], "trade")
        )
    dev = {name: groups for own in trades.values() for name, groups in own.dev.items()}
    found = sweep_weights(reranker, [kept[layers, t] for t in names], dev, tests, instructions=instructions)
    one_each = cross_matrix(reranker, {t: kept[layers, t] for t in names}, tests, instructions)
    words = f"base + weight x (sum of the trades' changes); weight chosen on dev: {found.best:g}. Last, each trade's own delta."
    report.add(
        f"{key}-sum", f"{title}: one model for all trades", words, found.dev, found.test, one_each, best=found.best
    )


def synchronise(reranker):
    """Wait for the GPU, where there is one, so that times mean something."""
    if reranker.device.type == "cuda":
        torch.cuda.synchronize()


def main():
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help='"nano", a folder or a hub name')
    parser.add_argument("--real", help="folder of real sets; runs after the course's own")
    parser.add_argument("--only-real", action="store_true", help="leave the course's own data out")
    parser.add_argument("--out", default="build/domains", help="folder for domains.md and domains.json")
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=LANGUAGES)
    parser.add_argument("--queries", type=int, default=600, help="training queries a set")
    parser.add_argument("--dev-queries", type=int, default=150, help="dev queries a set")
    parser.add_argument("--test-queries", type=int, default=400, help="test queries a set")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-queries", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="for the averaging; 1 leaves it out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-length", type=int, default=512)
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
        study(reranker, course_sets(args), args, report, "course", "The course's data")
    if args.real:
        study(reranker, real_sets(args.real, args), args, report, "real", "Real sets")
    print(f"{time.perf_counter() - started:.0f} s; written to {report.folder / 'domains.md'}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{error}")
