"""Learning medical, then legal, then financial in a row: what each strategy forgets, and what the update gate refuses.

    python -m benchmarks.continual                                   (the bundled base, the course's data)
    python -m benchmarks.continual --real FOLDER --out FOLDER        (the same on folders of real sets, beside the course's)

Writes continual.md and continual.json. English and Chinese are mixed in every stage. General data are what the base knows
already: they are replayed and guarded, never a stage. A real folder is laid out as for benchmarks.domains.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import quiet, write_page
from benchmarks.trades import GENERAL, add_size_options, course_sets, pooled, real_sets, settings_of
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
from course_utils.files import write_json
from course_utils.model.prompt import DEFAULT_INSTRUCTION
from course_utils.model.reranker import Reranker
from course_utils.text import markdown_table
from course_utils.training.freezing import train_only
from course_utils.training.recipe import Recipe
from course_utils.training.weights import load_tensors, trained_tensors
from course_utils.updates.forgetting import (
    Forgetting,
    average_forgetting,
    backward_transfer,
    forward_transfer,
    own_gain,
)
from course_utils.updates.gate import Gate, update
from course_utils.updates.stream import STRATEGIES, Stage, learn_stream
from course_utils.updates.versions import rollback, version_table

ORDER = ("medical", "legal", "financial")
MOST_LOST, LEAST_KEPT = 0.02, 0.9  # what the default strategy is asked to do


def share(value):
    """Return a share in percent, or a dash where there is none."""
    return "-" if value is None else f"{100 * value:.0f} %"


def losses(matrix):
    """Return {test set: nDCG@10 lost from right after it was learned to the end}; negative where it became better.

    A set without a stage counts from the base; the last stage's own set is left out, since nothing came after it.
    """
    learned = {c: c if c in matrix.rows else matrix.rows[0] for c in matrix.columns if c != matrix.rows[-1]}
    return {c: matrix.at(row, c) - matrix.at(matrix.rows[-1], c) for c, row in learned.items()}


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


def stages_of(trades):
    """Return ({trade: Stage}, {trade: test groups}) of all sets of a trade together, general first."""
    stages = {name: Stage(name, pooled(trades[name].train), pooled(trades[name].dev)) for name in (GENERAL, *ORDER)}
    return stages, {name: pooled(trades[name].test) for name in (GENERAL, *ORDER)}


def run_strategies(reranker, trades, args, title):
    """Return ({strategy: one Forgetting a seed}, calibration section after the default strategy or "")."""
    stages, tests = stages_of(trades)
    learned, general = [stages[name] for name in ORDER], [stages[GENERAL]]
    train_only(reranker.model, args.layers)
    start, found, calibrated = trained_tensors(reranker.model), {}, ""
    for strategy in args.strategies:
        found[strategy] = []
        for seed in range(args.seed, args.seed + args.seeds):
            print(f"{title}: {strategy}, seed {seed}", flush=True)
            load_tensors(reranker.model, start)
            recipe = recipe_of(args).replace(seed=seed)
            found[strategy].append(learn_stream(reranker, learned, tests, general, strategy, recipe))
        if strategy == "default":
            calibrated = calibration_study(reranker, learned, tests)
    load_tensors(reranker.model, start)
    return found, calibrated


def figures_of(mean, runs, trades, plain_gain):
    """Return the figures of one strategy: ``mean`` is the Forgetting over seeds, ``runs`` one a seed."""
    lost = losses(mean)
    by_seed = [by_language(m, trades) for m in runs]
    single = {name: float(np.mean([s[name] for s in by_seed])) for name in by_seed[0]}
    worst, worst_single = max(lost, key=lost.get), max(single, key=single.get)
    gain = own_gain(mean)
    return {
        "values": mean.values.tolist(),
        "worst": worst,
        "worst_loss": lost[worst],
        "worst_single": worst_single,
        "worst_single_loss": single[worst_single],
        "average_forgetting": average_forgetting(mean),
        "backward_transfer": backward_transfer(mean),
        "forward_transfer": forward_transfer(mean),
        "gain": gain,
        "gain_at_the_end": float(np.mean([mean.at(mean.rows[-1], s) - mean.at("base", s) for s in ORDER])),
        "kept": gain / plain_gain if plain_gain > 0 else None,  # plain gained nothing: no share
        "log": [m.log for m in runs],
    }


def stream_study(reranker, trades, args, title):
    """Run every strategy over the stages; return (Markdown, figures)."""
    found, calibrated = run_strategies(reranker, trades, args, title)
    means = {
        s: Forgetting(runs[0].rows, runs[0].columns, np.mean([m.values for m in runs], axis=0), s)
        for s, runs in found.items()
    }
    plain_gain = own_gain(means["plain"]) if "plain" in means else 0.0
    figures = {s: figures_of(means[s], runs, trades, plain_gain) for s, runs in found.items()}
    rows = [
        [
            s, f"{f['worst_loss']:+.3f} ({f['worst']})", f"{f['worst_single_loss']:+.3f} ({f['worst_single']})",
            f"{f['average_forgetting']:.3f}", f"{f['backward_transfer']:+.3f}", f"{f['forward_transfer']:+.3f}",
            f"{f['gain']:+.3f}", share(f["kept"]), f"{f['gain_at_the_end']:+.3f}",
            ", ".join(f"{row['alpha']:g}" for row in f["log"][0]),
            f"{np.mean([sum(row['seconds'] for row in log) for log in f['log']]):.0f}",
        ]
        for s, f in figures.items()
    ]  # fmt: skip
    header = ["strategy", "worst loss on an earlier set", "the same, one language", "average forgetting",
              "backward transfer", "forward transfer", "gain when learned", "of plain's gain", "gain at the end",
              "share of new weights", "seconds"]  # fmt: skip
    sizes = ", ".join(f"{name} {len(groups)}" for name, groups in stages_of(trades)[1].items())
    text = [
        f"nDCG@10, mean of {args.seeds} seed(s). Test queries: {sizes}.",
        markdown_table(header, rows),
        *verdicts(found, means, figures),
        *(f"### {s}\n\n{mean}" for s, mean in means.items()),
        *([calibrated] if calibrated else []),
    ]
    first = next(iter(means.values()))
    return "\n\n".join(text), {"rows": first.rows, "columns": first.columns, "strategies": figures}


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
        markdown_table(["temperature", "log loss", "expected calibration error"], rows),
        f"Best F1 on dev, half of the queries without their answers. On test: {seen}",
    ])  # fmt: skip


def gate_study(reranker, trades, args):
    """Let a good medical batch and legal batches with ever more flipped labels through the gate; return (Markdown, figures)."""
    stage, tests = stages_of(trades)
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
        markdown_table(["batch", "strategy", "decision", "reason"], rows), "The folder afterwards:", states,
    ]), figures  # fmt: skip


def write(out, text, figures):
    """Write continual.md and continual.json."""
    write_page(out / "continual.md", "\n\n".join(text) + "\n")
    write_json(out / "continual.json", figures)


def main():
    """Run the command line; see the module's docstring."""
    quiet()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_size_options(parser)
    parser.add_argument("--out", default="build/continual", help="folder for continual.md and continual.json")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--poison", nargs="*", type=float, default=[1.0, 0.5, 0.25, 0.0],
                        help="shares of queries with flipped labels; none leaves the gate out")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=None, help="default: by the size of the model")
    parser.add_argument("--seeds", type=int, default=1)
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
