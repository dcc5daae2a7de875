"""Small experiments before a big one: try settings on a few queries, keep the better half, try those on more.

Successive halving: Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
arXiv 1502.07943. The budget here is the number of training queries. A choice made on few queries leans towards high rates
and many epochs, since few queries mean few steps; the last rung should be as large as patience allows.
"""

import itertools
import random
from dataclasses import dataclass

from course_utils.data.groups import check_no_leak, rankable, subset
from course_utils.errors import InputError
from course_utils.evaluation.measure import evaluate, paired_bootstrap
from course_utils.language import _, _joined
from course_utils.text import _Markdown, markdown_table
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe, _default_batch
from course_utils.training.trainer import TrainingError

# What ``_words`` calls them; the catalogue has their Chinese.
_NAMES = ("layers", "learning rate", "epochs")
_GRID = {"layers": [1, 3], "learning_rate": [5e-4, 1e-3, 2e-3], "epochs": [2, 4], "negatives": [3, 7]}
_DEV_QUERIES = 200  # scored at most


@dataclass
class _Sweep(_Markdown):
    """Results of a sweep.

    Attributes:
        rows: a dict for each run: settings, rung, queries, epochs, ndcg@10 and gain on dev (None when training failed),
            best_epoch, seconds, note (why it failed).
        best: settings of the best run of the last rung.
        why: the choice in words.
        full: the Recipe of the full run.
    """

    rows: list
    best: dict
    why: str
    full: Recipe

    def __str__(self):
        """Return a Markdown table, largest rung first, best first."""
        names, lines = list(self.rows[0]["settings"]), []
        for r in sorted(self.rows, key=lambda r: (-r["rung"], -_value(r))):
            chosen = r["settings"] == self.best and r["rung"] == max(row["rung"] for row in self.rows)
            shown = [_short(r["settings"][name]) for name in names]
            result = r["note"] if r["ndcg@10"] is None else f"{r['ndcg@10']:.3f}"
            gain = "" if r["gain"] is None else f"{r['gain']:+.3f}"
            epoch = "" if r["best_epoch"] is None else str(r["best_epoch"])
            cells = [*shown, str(r["queries"]), result, gain, epoch, f"{r['seconds']:.1f}"]
            lines.append([f"**{c}**" if chosen and c else c for c in cells])
        head = [*names, _("queries"), _("dev nDCG@10"), _("gain"), _("best epoch"), _("seconds")]
        return f"{markdown_table(head, lines)}\n\n{self.why}"


def sweep(make_reranker, train, dev, grid=None, recipe=Recipe(), sizes=None, *, work_dir=None, quiet=False):
    """Try all settings of a grid by successive halving and return the Sweep.

    Every run starts from a fresh reranker. Runs of one rung train on the same queries; a smaller rung's queries are part of
    a larger one's. Afterwards make one full run with ``full`` of the result: ``adapt(make_reranker(), train, dev, full)``.

    Args:
        make_reranker: function without arguments that returns a fresh Reranker.
        train: list of Group.
        dev: list of Group, none of them in ``train``, of which 200 are scored; keep the test set for the end.
        grid: {choice of a Recipe: values}, every combination is tried; or a list of settings, for example some drawn from a
            large grid. Default: two numbers each of layers, epochs and negatives, three learning rates.
        recipe: the Recipe for all that the grid leaves open; its seed is also for the choice of queries.
        sizes: training queries of each rung, smallest first; after each the better half of the settings goes on. Default:
            a quarter, half, and all of ``train``, but 240 queries at most.
        work_dir: folder where states of frozen layers are kept from run to run; see ``adapt``.
        quiet: print nothing.

    Raises:
        InputError: an empty grid or a choice that a Recipe does not have; rungs too small; nothing trained.
    """
    train, dev = rankable(train), subset(rankable(dev), _DEV_QUERIES, recipe.seed)
    most = min(240, len(train))
    sizes = list(dict.fromkeys(min(n, len(train)) for n in (sizes or (round(most / 4), round(most / 2), most))))
    settings = _settings(_GRID if grid is None else grid, recipe)
    if sizes != sorted(sizes):
        raise InputError("sizes is {sizes}; give the queries of each rung, smallest first.", sizes=tuple(sizes))
    if sizes[0] < 4:
        raise InputError("The first rung would have {sizes_0} queries; give it at least 4.", sizes_0=sizes[0])
    check_no_leak(train, dev, ("train", "dev"))
    order = random.Random(recipe.seed).sample(range(len(train)), len(train))
    fresh = make_reranker()
    batch = recipe.batch_queries or _default_batch(fresh.model, len(train))
    recipe = recipe.replace(batch_queries=batch)

    def full(own):
        """Return the Recipe of a setting as the full run has it, which the rungs stand for."""
        chosen = recipe.replace(**own)
        return chosen.replace(**chosen._by_queries(fresh.model, len(train)))

    before = evaluate(fresh, dev)
    start, rows, last = before.summary["ndcg@10"], [], []
    for rung, size in enumerate(sizes):
        chosen, last = [train[i] for i in sorted(order[:size])], []
        for own in settings:
            row, values = _run(make_reranker(), chosen, dev, own, full(own), work_dir)
            gain = None if row["ndcg@10"] is None else row["ndcg@10"] - start
            rows.append({**row, "rung": rung, "queries": size, "gain": gain})
            last.append((rows[-1], values))
            if not quiet:
                result = (
                    row["note"]
                    if gain is None
                    else _("dev nDCG@10 {ndcg_10:.3f} ({gain:+.3f})").format(ndcg_10=row["ndcg@10"], gain=gain)
                )
                print(
                    _("rung {rung}/{n_sizes}, {size} queries, {words}: {result}, {seconds:.1f} s").format(
                        rung=rung + 1,
                        n_sizes=len(sizes),
                        size=size,
                        words=_words(own),
                        result=result,
                        seconds=row["seconds"],
                    )
                )
        last = sorted((r for r in last if r[1] is not None), key=lambda r: -_value(r[0]))
        if not last:
            raise InputError("No setting could be trained. The last one said: {note}", note=rows[-1]["note"])
        settings = [row["settings"] for row, _ in last[: max(1, round(len(last) / 2))]]
    best = last[0][0]["settings"]
    return _Sweep(rows, best, _why(last, before.per_query(), len(train), rows, sizes), full(best))


def _words(settings):
    """Return settings as a short text, for example "layers 3, learning rate 0.0005, epochs 4, 7 negatives"."""
    return _(", ").join(
        _("{n} negatives").format(n=_short(v)) if k == "negatives" else f"{_(k.replace('_', ' '))} {_short(v)}"
        for k, v in settings.items()
    )


def _settings(grid, recipe):
    if isinstance(grid, dict):
        for name, values in grid.items():
            if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
                raise InputError('The grid gives no list of values for "{name}".', name=name)
        grid = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if not grid:
        raise InputError("The grid holds no settings; give at least one.")
    for own in grid:
        recipe.replace(**own)  # refuses a wrong value, and a choice that a recipe does not have
    return list(grid)


def _run(reranker, train, dev, settings, recipe, work_dir):
    row = {
        "settings": settings,
        "epochs": recipe.epochs,
        "ndcg@10": None,
        "best_epoch": None,
        "seconds": 0.0,
        "note": "",
    }
    try:
        done = adapt(reranker, train, dev, recipe, work_dir=work_dir, resume=False, quiet=True)
    except TrainingError as error:  # a rate that is too high is a result, too
        return {**row, "note": str(error).split(".")[0]}, None
    result = evaluate(reranker, dev)
    row |= {"ndcg@10": result.summary["ndcg@10"], "best_epoch": done.best_epoch, "seconds": done.seconds}
    return row, result.per_query()


def _why(last, before, available, rows, sizes):
    (best, values), size = last[0], sizes[-1]
    gain = paired_bootstrap(before, values)
    text = [
        _(
            "Chosen: {words}. On {size} training queries it reaches dev nDCG@10 {ndcg_10:.3f}, {mean:+.3f} "
            "[{low:+.3f}, {high:+.3f}] against the start."
        ).format(
            words=_words(best["settings"]),
            size=size,
            ndcg_10=best["ndcg@10"],
            mean=gain.mean,
            low=gain.low,
            high=gain.high,
        )
    ]
    if gain.low <= 0:
        text.append(_("That gain may be chance: try more queries, or other settings, before a full run."))
    if len(rows) > 1:
        said = _("Dev chose it as the best of {n}, which flatters that figure: report one of a test.")
        text.append(said.format(n=sum(r["rung"] == 0 for r in rows)))
    if len(last) > 1:
        second, others = last[1]
        lead = paired_bootstrap(others, values)
        clear = _("more than chance on these dev queries, with this seed") if lead.low > 0 else _("which may be chance")
        text.append(
            _("It is {mean:.3f} ahead of {words} ({seconds:.0f} s), {clear}.").format(
                mean=lead.mean, words=_words(second["settings"]), seconds=second["seconds"], clear=clear
            )
        )
    spent = sum(r["queries"] * r["epochs"] for r in rows)
    whole = sum(available * r["epochs"] for r in rows if r["rung"] == 0)
    text.append(
        _(
            "{n_rows} runs in {n_sizes} rounds went over {spent:,} queries; the whole grid on all {available:,} "
            "would be {whole:,}. One full run takes about {seconds:.0f} s."
        ).format(
            n_rows=len(rows),
            n_sizes=len(sizes),
            spent=spent,
            available=available,
            whole=whole,
            seconds=best["seconds"] * available / size,
        )
    )
    return _joined(text)


def _value(row):
    return -1.0 if row["ndcg@10"] is None else row["ndcg@10"]


def _short(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
