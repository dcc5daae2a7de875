"""The experiments of ``benchmarks.domains`` on one collection of trades."""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.domains_tables import cross_matrix, memory, route_report, score_sets, sweep_weights
from benchmarks.trades import GENERAL, pooled
from course_utils.domains.delta import attach, detach, save_delta, swapped
from course_utils.domains.merging import Matrix, combine
from course_utils.domains.routing import train_router
from course_utils.domains.serve import Domains, storage_bytes
from course_utils.domains.train import adapt_layers, adapt_lora
from course_utils.model.prompt import DEFAULT_INSTRUCTION, INSTRUCTIONS
from course_utils.model.reranker import Reranker
from course_utils.training.recipe import Recipe


class Study:
    """Every experiment on one collection of trades; each writes its section of the report.

    Attributes:
        reranker: the base; it is as it was after every experiment.
        trades: trade -> Sets.
        args: the command line.
        report: where sections go.
        key: "course" or "real", in the names of sections.
        title: the same in words.
        kept: {(way, trade): Delta} once ``ways`` has run; ``after`` holds the nDCG@10 of each on every test set.
    """

    def __init__(self, reranker, trades, args, report, key, title):
        self.reranker, self.trades, self.args, self.report = reranker, trades, args, report
        self.key, self.title = key, title
        self.names = [t for t in trades if t != GENERAL]
        self.tests = {name: groups for own in trades.values() for name, groups in own.test.items()}
        self.instructions = {
            name: INSTRUCTIONS[t] for t, own in trades.items() for part in (own.dev, own.test) for name in part
        }
        self.usual = Recipe(
            layers=args.layers, epochs=args.epochs, negatives=None, ema_decay=0, seed=args.seed,
            batch_queries=args.batch_queries, keep="best",
        )  # fmt: skip
        self.layers, self.lora = f"last {args.layers} layers", f"LoRA rank {args.rank}"
        self.base_bytes = storage_bytes(reranker.model.parameters())
        self.kept, self.after = {}, {}

    def run(self):
        """Run everything, in the order of the lesson."""
        self.ways()
        exact = self.copies()
        switch = self.served()
        self.merged()
        self.seeds()
        self.sum_of_trades()
        self.matrix()
        self.asked(exact, switch)

    def add(self, name, title, words, *tables, **figures):
        """Write a section."""
        self.report.add(f"{self.key}-{name}", f"{self.title}: {title}", words, *tables, **figures)

    def mean(self, values, trade):
        """Return the mean of {set: value} over the test sets of a trade."""
        return statistics.mean(values[name] for name in self.trades[trade].test)

    def measured(self):
        """Return {set: nDCG@10} of the reranker as it is now."""
        return dict(zip(self.tests, score_sets(self.reranker, self.tests, self.instructions), strict=True))

    def trained(self, trade, how=adapt_layers, parts=None, recipe=None, name=None, **more):
        """Return (Delta, seconds) of a trade, trained on its pooled sets or on ``parts``, (train, dev) of the set ``name``."""
        own = self.trades[trade]
        train, dev = parts or (pooled(own.train), pooled(own.dev))
        self.reranker.instruction = INSTRUCTIONS[trade]
        delta, run = how(self.reranker, train, dev, recipe or self.usual, name=name or trade, quiet=True, **more)
        self.reranker.instruction = DEFAULT_INSTRUCTION
        return delta, run.seconds

    def ways(self):
        """Whole layers, LoRA, everything: every trade each."""
        everything = self.usual.replace(layers="all")
        ways = {
            self.layers: (adapt_layers, {}),
            self.lora: (adapt_lora, {"rank": self.args.rank}),
            f"{self.lora}, all layers": (adapt_lora, {"recipe": everything, "rank": self.args.rank}),
            "everything": (adapt_layers, {"recipe": everything}),
        }
        base, rows = self.measured(), {}
        for way, (how, more) in ways.items():
            for trade in self.names:
                delta, seconds = self.trained(trade, how, **more)
                with swapped(self.reranker, delta):
                    now = self.measured()
                self.kept[way, trade], self.after[way, trade] = delta, now
                before, own = self.mean(base, trade), self.mean(now, trade)
                rows[f"{trade}, {way}"] = [
                    int(delta.figures["trained_parameters"]), 100 * delta.nbytes / self.base_bytes, round(seconds, 1),
                    before, own, own - before, self.mean(now, GENERAL) - self.mean(base, GENERAL),
                ]  # fmt: skip
        columns = ["parameters", "% of base", "seconds", "before", "after", "gain", "general"]
        words = (
            "nDCG@10 on test, mean over the trade's sets. `general` is the change on the general sets: below 0 is "
            "forgetting. `% of base` is the size of the delta."
        )
        self.add("ways", "what to train", words, Matrix(list(rows), columns, [*rows.values()], "trade"))

    def copies(self):
        """Each trade against its own full copy: written out whole, loaded, scored. Return {way: largest score gap}."""
        rows = {}
        for way in (self.layers, self.lora):
            for trade in self.names:
                sizes, whole, difference = copy_row(self.reranker, self.kept[way, trade], self.trades[trade].test)
                now, everything = (self.mean(self.after[w, trade], trade) for w in (way, "everything"))
                rows[f"{trade}, {way}"] = [*sizes, now, statistics.mean(whole), difference, everything]
        columns = ["delta MB", "full copy MB", "delta nDCG@10", "full copy nDCG@10", "largest score gap"]
        columns.append("everything trained")
        words = "The delta attached to the base, and the same weights saved as a whole model and loaded again."
        self.add("copies", "against a full copy", words, Matrix(list(rows), columns, [*rows.values()], ""))
        return {way: max(rows[f"{t}, {way}"][4] for t in self.names) for way in (self.layers, self.lora)}

    def served(self, rounds=60):
        """Several trades in memory: bytes, switching, a mixed stream by label and by router; return {way: median ms}."""
        rows = {}
        for way in (self.layers, self.lora):
            domains = Domains(self.reranker, [self.kept[way, t] for t in self.names])
            before, seconds = memory(domains), []
            for i in range(rounds):
                synchronise(self.reranker)
                started = time.perf_counter()
                domains.use(self.names[i % len(self.names)])
                synchronise(self.reranker)
                seconds.append(time.perf_counter() - started)
            in_use = memory(domains)["total"]
            domains.use(GENERAL)
            mb = [before["base"], sum(before["deltas"].values()), before["total"], in_use]
            rows[way] = [x / 2**20 for x in mb] + [1e3 * statistics.median(seconds), 1e3 * sorted(seconds)[-4]]
        columns = ["base MB", "deltas MB", "all in memory MB", "with one in use MB", "switch ms", "switch ms, 95 %"]
        count = len(self.names)
        words = f"{count} trades on one base; {count + 1} full models would take {count + 1} x the base."
        self.add("served", "in memory", words, Matrix(list(rows), columns, [*rows.values()], ""))
        self.routed()
        return {way: row[4] for way, row in rows.items()}

    def routed(self):
        """A router that reads the query, trained and measured."""
        started = time.perf_counter()
        queries = {t: [g.query for g in pooled(own.train)] for t, own in self.trades.items()}
        router = train_router(queries if self.key == "real" else None)
        seconds = time.perf_counter() - started
        domains = Domains(self.reranker, [self.kept[self.layers, t] for t in self.names], router)
        table = route_report(domains, router, {t: pooled(own.test) for t, own in self.trades.items()})
        words = (
            f"Trained in {seconds:.1f} s, nothing stored. nDCG@10 of the base, with the right label, and with the routed one; "
            "then on the wrongly routed queries alone."
        )
        self.add("router", "routed by the query", words, table, seconds=seconds)

    def merged(self):
        """Between the base and each trade."""
        guard = self.trades[GENERAL]
        for trade in self.names:
            own = self.trades[trade]
            dev, test = {**own.dev, **guard.dev}, {**own.test, **guard.test}
            found = sweep_weights(
                self.reranker, self.kept[self.layers, trade], dev, test, instructions=self.instructions
            )
            words = f"alpha is chosen on the mean over the dev sets: {found.best:g}. Below, test."
            self.add(f"alpha-{trade}", f"from the base to {trade}", words, found.dev, found.test, best=found.best)

    def seeds(self):
        """Averaging the weights of several seeds."""
        if self.args.seeds < 2:
            return
        rows, guard = {}, self.trades[GENERAL].test
        for trade in self.names:
            own = self.trades[trade].test
            more = [
                self.trained(trade, recipe=self.usual.replace(seed=self.args.seed + s))[0]
                for s in range(1, self.args.seeds)
            ]
            seeds = [self.kept[self.layers, trade], *more]
            deltas = {f"seed {i}": d for i, d in enumerate(seeds)} | {"mean of weights": combine(self.reranker, seeds)}
            values = cross_matrix(self.reranker, deltas, {**own, **guard}, self.instructions).values
            in_trade = [statistics.mean(row[: len(own)]) for row in values]
            general = [statistics.mean(row[len(own) :]) for row in values]
            runs = in_trade[1:-1]
            rows[trade] = [in_trade[0], statistics.mean(runs), min(runs), max(runs), in_trade[-1]]
            rows[trade] += [general[0], statistics.mean(general[1:-1]), general[-1]]
        columns = ["base", "mean of seeds", "worst seed", "best seed", "mean of weights"]
        columns += ["general: base", "general: mean of seeds", "general: mean of weights"]
        table = Matrix(list(rows), columns, [*rows.values()], "trade")
        self.add("seeds", "averaging seeds", f"nDCG@10 on test; {self.args.seeds} seeds.", table)

    def sum_of_trades(self):
        """One model for all trades: the base and a share of every trade's change."""
        own = {t: self.kept[self.layers, t] for t in self.names}
        dev = {name: groups for sets in self.trades.values() for name, groups in sets.dev.items()}
        found = sweep_weights(self.reranker, list(own.values()), dev, self.tests, instructions=self.instructions)
        one_each = cross_matrix(self.reranker, own, self.tests, self.instructions)
        words = f"base + weight x (sum of the trades' changes); weight chosen on dev: {found.best:g}. Last, each trade's own delta."
        self.add("sum", "one model for all trades", words, found.dev, found.test, one_each, best=found.best)

    def matrix(self):
        """Every set on its own, each tested on all."""
        deltas = {}
        for trade, own in self.trades.items():
            for name, groups in own.train.items():
                deltas[name], _ = self.trained(trade, parts=(groups, own.dev[name]), name=name)
        found = cross_matrix(self.reranker, deltas, self.tests, self.instructions)
        words = "nDCG@10 on test. A row is one set of weights, a column one test set under its own instruction."
        self.add("matrix", "trained on x, tested on y", words, found)

    def asked(self, exact, switch):
        """What a delta is asked to do beside what was measured."""
        rows = []
        for way, limit in ((self.layers, "under 40"), (self.lora, "under 5")):
            size = max(100 * self.kept[way, t].nbytes / self.base_bytes for t in self.names)
            gaps = [self.mean(self.after[way, t], t) - self.mean(self.after["everything", t], t) for t in self.names]
            rows += [
                [f"{way}: largest delta, % of base", limit, size],
                [f"{way}: median switch, ms", "under 20", switch[way]],
                [f"{way}: largest score gap to the same weights as a full copy", "0", f"{exact[way]:.1e}"],
                [f"{way}: worst nDCG@10 gap to a copy with everything trained", "at least -0.01", min(gaps)],
            ]
        table = Matrix([r[0] for r in rows], ["asked", "measured"], [r[1:] for r in rows], "")
        self.add("asked", "asked and measured", "nDCG@10 gaps are means over a trade's test sets.", table)


def copy_row(reranker, delta, own):
    """Return ([MB of the delta, MB of a full copy], nDCG@10 of the copy on each set of ``own``, largest score gap)."""
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
        sizes = [sum(f.stat().st_size for f in p.glob("*.safetensors")) / 2**20 for p in (small, whole)]
        return sizes, list(score_sets(copy, own)), float(np.abs(attached - alone).max())


def synchronise(reranker):
    """Wait for the GPU, where there is one, so that times mean something."""
    if reranker.device.type == "cuda":
        torch.cuda.synchronize()
