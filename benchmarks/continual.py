"""Learning medical, then legal, then financial in a row: what each strategy forgets, and what the update gate refuses.

    python benchmarks/continual.py                                   (the bundled base, the course's data)
    python benchmarks/continual.py --real FOLDER --out FOLDER        (the same on folders of real sets, beside the course's)

Writes continual.md and continual.json. English and Chinese are mixed in every stage. General data are what the base knows
already: they are replayed and guarded, never a stage. A real folder is laid out as in benchmarks/domains.py.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from transformers.utils import logging

from benchmarks.domains import course_sets, pooled, real_sets, settings_of
from course_utils.data.grid import LANGUAGES
from course_utils.data.groups import shuffle_labels
from course_utils.errors import InputError
from course_utils.evaluation.calibration import (
    apply_threshold,
    choose_threshold,
    fit_temperature,
    log_loss,
    reliability,
    take_answers_away,
)
from course_utils.evaluation.measure import evaluate, paired_bootstrap
from course_utils.model.prompt import DEFAULT_INSTRUCTION
from course_utils.model.reranker import Reranker
from course_utils.training.freezing import train_only
from course_utils.training.recipe import Recipe
from course_utils.training.weights import load_tensors, trained_tensors
from course_utils.updates.forgetting import (
    Forgetting,
    average_forgetting,
    backward_transfer,
    forward_transfer,
    losses,
    own_gain,
)
from course_utils.updates.gate import Gate, update
from course_utils.updates.stream import STRATEGIES, Stage, learn_stream
from course_utils.updates.versions import rollback, version_table

GENERAL, ORDER = "general", ("medical", "legal", "financial")
MOST_LOST, LEAST_KEPT = 0.02, 0.9  # what the default strategy is asked to do


def table(header, rows):
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows))


def share(value):
    """Return a share in percent, or a dash where there is none."""
    return "-" if value is None else f"{100 * value:.0f} %"


def by_language(matrix, trades):
    """Return {single set: nDCG@10 lost from right after it was learned to the end}, as ``losses`` for pooled sets."""
    out = {}
    for name in losses(matrix):
        learned = name if name in matrix.rows else matrix.rows[0]
        ends = np.cumsum([len(groups) for groups in trades[name].test.values()])[:-1]
        parts = [np.split(matrix.queries[row, name], ends) for row in (learned, matrix.rows[-1])]
        out |= {one: float(a.mean() - b.mean()) for one, a, b in zip(trades[name].test, *parts, strict=True)}
    return out


def recipe_of(args):
    """Return the Recipe that the command line asks for; all pairs in every epoch, the weights themselves."""
    return Recipe(
        layers=args.layers, epochs=args.epochs, batch_queries=args.batch_queries, seed=args.seed, negatives=None,
        ema_decay=0, learning_rate=args.learning_rate,
    )  # fmt: skip


def stream_study(reranker, trades, args, title):
    """Run every strategy over the stages; return (Markdown, figures)."""
    stages = [Stage(name, pooled(trades[name].train), pooled(trades[name].dev)) for name in ORDER]
    general = Stage(GENERAL, pooled(trades[GENERAL].train), pooled(trades[GENERAL].dev))
    tests = {name: pooled(trades[name].test) for name in (GENERAL, *ORDER)}
    train_only(reranker.model, args.layers)
    start, found = trained_tensors(reranker.model), {}
    for strategy in args.strategies:
        found[strategy] = []
        for seed in range(args.seed, args.seed + args.seeds):
            print(f"{title}: {strategy}, seed {seed}", flush=True)
            load_tensors(reranker.model, start)
            recipe = recipe_of(args).replace(seed=seed)
            found[strategy].append(learn_stream(reranker, stages, tests, [general], strategy, recipe))
        if strategy == "default":
            calibrated = calibration_study(reranker, stages, tests)
    load_tensors(reranker.model, start)
    means = {
        s: Forgetting(runs[0].rows, runs[0].columns, np.mean([m.values for m in runs], axis=0), s)
        for s, runs in found.items()
    }
    plain_gain = own_gain(means["plain"]) if "plain" in means else 0.0
    rows, figures = [], {}
    for strategy, runs in found.items():
        mean = means[strategy]
        lost = losses(mean)
        worst = max(lost, key=lost.get)
        single = [by_language(m, trades) for m in runs]
        single = {name: float(np.mean([s[name] for s in single])) for name in single[0]}
        worst_single = max(single, key=single.get)
        end = float(np.mean([mean.at(mean.rows[-1], s) - mean.at("base", s) for s in ORDER]))
        figures[strategy] = {
            "values": mean.values.tolist(),
            "worst_loss": lost[worst],
            "worst_single_loss": single[worst_single],
            "average_forgetting": average_forgetting(mean),
            "backward_transfer": backward_transfer(mean),
            "forward_transfer": forward_transfer(mean),
            "gain": own_gain(mean),
            "gain_at_the_end": end,
            "kept": own_gain(mean) / plain_gain if plain_gain > 0 else None,  # plain gained nothing: no share
            "log": [m.log for m in runs],
        }
        rows.append([
            strategy, f"{lost[worst]:+.3f} ({worst})", f"{single[worst_single]:+.3f} ({worst_single})",
            f"{average_forgetting(mean):.3f}", f"{backward_transfer(mean):+.3f}", f"{forward_transfer(mean):+.3f}",
            f"{own_gain(mean):+.3f}", share(figures[strategy]["kept"]), f"{end:+.3f}",
            ", ".join(f"{row['alpha']:g}" for row in runs[0].log),
            f"{np.mean([sum(row['seconds'] for row in m.log) for m in runs]):.0f}",
        ])  # fmt: skip
    header = ["strategy", "worst loss on an earlier set", "the same, one language", "average forgetting",
              "backward transfer", "forward transfer", "gain when learned", "of plain's gain", "gain at the end",
              "share of new weights", "seconds"]  # fmt: skip
    text = [
        f"nDCG@10, mean of {args.seeds} seed(s). Test queries: {', '.join(f'{n} {len(g)}' for n, g in tests.items())}.",
        table(header, rows),
        *verdicts(found, means, figures),
        *(f"### {s}\n\n{mean}" for s, mean in means.items()),
    ]
    if "default" in found:
        text.append(calibrated)
    return "\n\n".join(text), {"rows": next(iter(means.values())).rows, "columns": list(tests), "strategies": figures}


def verdicts(found, means, figures):
    """Return sentences that hold the default strategy against what it is asked to do."""
    if not {"plain", "default"} <= set(found):
        return []
    plain, kept = figures["plain"], figures["default"]
    earlier = [c for c in means["plain"].columns if c != means["plain"].rows[-1]]
    last = means["plain"].rows[-1]
    before, after = (
        np.mean([np.concatenate([m.queries[last, c] for c in earlier]) for m in found[s]], axis=0) for s in ("plain", "default")
    )  # fmt: skip
    gap = paired_bootstrap(before, after)
    small, enough = kept["worst_loss"] <= MOST_LOST, (kept["kept"] or 0.0) >= LEAST_KEPT
    return [
        f"Plain learning loses {plain['worst_loss']:.3f} nDCG@10 on its worst earlier set. The default strategy loses "
        f"{kept['worst_loss']:.3f} ({'within' if small else 'more than'} the {MOST_LOST} asked for) and has "
        f"{share(kept['kept'])} of plain's gain ({'at least' if enough else 'less than'} the {LEAST_KEPT:.0%} asked "
        f"for). At the end it is {gap} nDCG@10 against plain on the sets learned or known before the last stage."
    ]


def calibration_study(reranker, stages, tests):
    """Return a section: the temperature and the threshold chosen on dev, their effect on test."""
    dev = evaluate(reranker, [g for stage in stages for g in stage.dev])
    test = evaluate(reranker, [g for stage in stages for g in tests[stage.name]])
    t = fit_temperature(dev.scores, dev.relevance)
    rows = [
        [f"{x:.2f}", f"{log_loss(test.scores, test.relevance, x):.4f}",
         f"{reliability(test.scores, test.relevance, x).error:.4f}"] for x in (1.0, t)
    ]  # fmt: skip
    chosen = choose_threshold(*take_answers_away(dev.scores, dev.relevance))
    seen = apply_threshold(*take_answers_away(test.scores, test.relevance, seed=1), chosen.value)
    return "\n\n".join([
        "### Calibration after the default strategy", "Temperature chosen on dev, measured on test, all stages together.",
        table(["temperature", "log loss", "expected calibration error"], rows),
        f"Best F1 on dev, half of the queries without their answers. On test: {seen}",
    ])  # fmt: skip


def gate_study(reranker, trades, args):
    """Let a good medical batch and legal batches with ever more flipped labels through the gate; return (Markdown, figures)."""
    stage = {name: Stage(name, pooled(trades[name].train), pooled(trades[name].dev)) for name in (GENERAL, *ORDER)}
    tests = {name: pooled(trades[name].test) for name in (GENERAL, *ORDER)}
    rows, figures = [], []

    def attempt(folder, name, new, guards, earlier, strategy):
        try:
            gate = Gate(tests[name], {g: tests[g] for g in guards}, least=min(30, *map(len, tests.values())))
            done = update(
                folder, reranker, new, gate, [stage[e] for e in earlier], strategy, recipe_of(args), quiet=True
            )
        except InputError as error:  # flipped labels can put one relevant document into train and dev
            rows.append([new.name, strategy, "refused before training", str(error)])
            figures.append({"batch": new.name, "strategy": strategy, "accepted": False, "reason": str(error)})
            return None
        print(f"gate: {new.name}, {strategy}: {done.reason}", flush=True)
        rows.append([new.name, strategy, "accepted" if done.accepted else "refused", done.reason])
        figures.append({"batch": new.name, "strategy": strategy, "accepted": done.accepted, "reason": done.reason})
        return done

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "versions"
        attempt(folder, "medical", stage["medical"], [GENERAL], [GENERAL], "default")
        for flipped in args.poison:
            legal = stage["legal"]
            new = legal._replace(
                name=f"legal, {flipped:.0%} of the queries with flipped labels" if flipped else "legal, as it is",
                train=shuffle_labels(legal.train, flipped, args.seed),
                dev=shuffle_labels(legal.dev, flipped, args.seed + 1),
            )
            for strategy in ("plain", "default"):
                done = attempt(folder, "legal", new, [GENERAL, "medical"], [GENERAL, "medical"], strategy)
                if done and done.accepted:
                    rollback(folder, reranker)  # the next attempt starts from the same version
        states = version_table(folder)
    return "\n\n".join([
        "### The update gate", "Target: the test set of the batch's domain. Guards may fall by 0.02.",
        table(["batch", "strategy", "decision", "reason"], rows), "The folder afterwards:", states,
    ]), figures  # fmt: skip


def write(out, text, figures):
    """Write continual.md and continual.json so that a kill leaves the last whole ones."""
    for name, content in (
        ("continual.md", "\n\n".join(text) + "\n"),
        ("continual.json", json.dumps(figures, indent=1, ensure_ascii=False) + "\n"),
    ):
        temporary = out / f".{name}.part"
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(out / name)


def main():
    logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help='"nano", a folder or a hub name')
    parser.add_argument("--real", help="folder of real sets; runs after the course's own")
    parser.add_argument("--only-real", action="store_true", help="leave the course's own data out")
    parser.add_argument("--out", default="build/continual", help="folder for continual.md and continual.json")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--poison", nargs="*", type=float, default=[1.0, 0.5, 0.25, 0.0],
                        help="shares of queries with flipped labels; none leaves the gate out")  # fmt: skip
    parser.add_argument("--languages", nargs="+", default=list(LANGUAGES), choices=LANGUAGES)
    parser.add_argument("--queries", type=int, default=600, help="training queries a set")
    parser.add_argument("--dev-queries", type=int, default=150, help="dev queries a set")
    parser.add_argument("--test-queries", type=int, default=400, help="test queries a set")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=None, help="default: by the size of the model")
    parser.add_argument("--batch-queries", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-length", type=int, default=512)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    started, out = time.perf_counter(), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    collections = {} if args.only_real else {"The course's data": course_sets(args)}
    if args.real:
        collections["Real sets"] = real_sets(args.real, args)
    text, figures = ["# Learning on without forgetting"], {"arguments": settings_of(args)}
    reranker = Reranker.load(args.model, max_length=args.max_length, quiet=True)
    reranker.instruction = DEFAULT_INSTRUCTION
    total = sum(p.numel() for p in reranker.model.parameters())
    text.append(
        f"{args.model}, {total:,} parameters on {reranker.device.type}, {torch.get_num_threads()} threads; last "
        f"{args.layers} layers, {args.epochs} epochs, at most {args.queries} training queries a set."
    )
    for title, trades in collections.items():
        stream, own = stream_study(reranker, trades, args, title)
        text.append(f"## {title}\n\n{stream}")
        figures[title] = {"stream": own}
        write(out, text, figures)
        if args.poison:
            gate, figures[title]["gate"] = gate_study(reranker, trades, args)
            text.append(gate)
            write(out, text, figures)
    print(f"{time.perf_counter() - started:.0f} s; written to {out / 'continual.md'}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"{error}")
