"""Pictures of results, and by name those that explain (diagrams.py): ``from course_utils.show import plots``.

Every function returns the matplotlib figure and sets its alternative text as ``figure.alt``; ``show`` displays both.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from course_utils.language import _
from course_utils.show.diagrams import grid_map, layer_runs, score_path, token_blocks
from course_utils.show.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    MARKERS,
    ORANGE,
    _drawable,
    _ink,
    _luminance,
    _new,
    _spread,
    _style,
    _widen,
    image_html,
    show,
)  # fmt: skip

__all__ = [
    "bars", "before_after", "grid_map", "heatmap", "image_html", "layer_runs", "lines", "rank_changes", "reliability",
    "score_bars", "score_path", "show", "token_blocks", "training_curve",
]  # fmt: skip


def score_bars(ranking, title="Scores of the documents", width=60):
    """Draw a ranking (list of Ranked) as bars of probability, best on top."""
    with _style():
        figure, axes = _new(title, _("probability of yes"), size=(9, 1 + 0.6 * len(ranking)))
        names = [_drawable(r.document, _("document {number}").format(number=r.index + 1)) for r in ranking]
        names = [n if len(n) <= width else n[: width - 1] + "…" for n in names]
        places = np.arange(len(ranking))[::-1]
        axes.barh(places, [r.probability for r in ranking], color=BLUE, height=0.6)
        axes.set_yticks(places, names)
        axes.set_xlim(0, 1.12)
        for y, r in zip(places, ranking, strict=True):
            axes.text(r.probability + 0.01, y, f"{r.probability:.2f}", va="center")
    figure.alt = _("Bar chart, {title}: ").format(title=_(title)) + _("; ").join(
        f"{i}. {n} {r.probability:.2f}" for i, (n, r) in enumerate(zip(names, ranking, strict=True), 1)
    )
    return figure


def before_after(rows, title="Before and after adaptation"):
    """Draw a slope chart.

    Args:
        rows: list of (name, before, after), or (name, before, after, low, high) with the interval of the difference.
        title: of the figure.
    """
    with _style():
        figure, axes = _new(title, "", "nDCG@10", (8, 5.5))
        low = min(v for row in rows for v in row[1:3])
        span = max(0.2, max(v for row in rows for v in row[1:3]) - low)
        ends = _spread([row[2] for row in rows], 0.07 * span)
        for i, (row, y) in enumerate(zip(rows, ends, strict=True)):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            axes.plot([0, 1], row[1:3], color=colour, marker=marker)
            if len(row) > 3:
                x, ends_of_interval = 1 - 0.012 * i, [row[1] + row[3], row[1] + row[4]]
                axes.plot([x, x], ends_of_interval, color=colour, marker="_", lw=1.5)
            axes.annotate(
                f"{row[0]}  {row[1]:.2f} → {row[2]:.2f}", (1, row[2]), (1.06, y), textcoords="data", color=_ink(colour),
                va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_xticks([0, 1], [_("before"), _("after")])
        axes.set_xlim(-0.15, 1.05)
        axes.grid(axis="x", visible=False)
        _widen(axes, 0.2)
    figure.alt = _("Slope chart of nDCG@10: ") + _("; ").join(
        _("{name} from {before:.2f} to {after:.2f}").format(name=r[0], before=r[1], after=r[2]) for r in rows
    )
    return figure


def training_curve(history, title="Training: one point an epoch"):
    """Draw loss and dev nDCG@10 by epoch from the history of ``adapt``; "best" marks the best epoch on dev."""
    with _style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
        figure.suptitle(_(title))
        epochs = [r["epoch"] for r in history]
        left.plot([r["epoch"] for r in history if r["loss"] is not None],
                  [r["loss"] for r in history if r["loss"] is not None], color=BLUE, marker="o", label=_('training'))  # fmt: skip
        left.plot(epochs, [r["dev_loss"] for r in history], color=ORANGE, marker="s", ls="--", label=_("held out"))
        left.set(xlabel=_("epoch"), ylabel=_("loss"))
        left.legend()
        right.plot(epochs, [r["ndcg@10"] for r in history], color=GREEN, marker="^")
        best = max(history, key=lambda r: r["ndcg@10"])
        right.annotate(_("best"), (best["epoch"], best["ndcg@10"]), (0, 10), textcoords="offset points", ha="center")
        right.set(xlabel=_("epoch"), ylabel=_("held-out nDCG@10"))
        right.margins(y=0.2)
        _widen(right, 0.05)
        for axes in (left, right):
            axes.set_xticks(epochs)
        figure.tight_layout()
    figure.alt = _("Two line charts by epoch. ") + _("; ").join(
        _("epoch {epoch}: held-out loss {dev_loss:.2f}, nDCG@10 {ndcg_10:.3f}").format(
            epoch=r["epoch"], dev_loss=r["dev_loss"], ndcg_10=r["ndcg@10"]
        )
        for r in history
    )
    return figure


def rank_changes(before, after, relevant=(), title="How the ranking of one query changed", width=46):
    """Draw lines from each document's rank before to its rank after.

    Args:
        before: list of Ranked, best first.
        after: list of Ranked of the same documents.
        relevant: indices of right documents; drawn thick and marked with a star.
        title: of the figure.
        width: characters of a document's name.
    """
    with _style():
        figure, axes = _new(title, "", _("rank"), (11, 1.5 + 0.5 * len(before)))
        old = {r.index: i for i, r in enumerate(before, 1)}
        for i, r in enumerate(after, 1):
            right = r.index in relevant
            colour = BLUE if right else "#999999"
            axes.plot([0, 1], [old[r.index], i], color=colour, lw=4 if right else 1.5, marker="*" if right else "o",
                      ms=16 if right else 6)  # fmt: skip
            name = _drawable(r.document, _("document {number}").format(number=r.index + 1))
            name = name if len(name) <= width else name[: width - 1] + "…"
            axes.text(1.04, i, ("★ " if right else "") + name, va="center", color=BLACK if right else "#444444")
        axes.set_xticks([0, 1], [_("before"), _("after")])
        axes.set_yticks(range(1, len(after) + 1))
        axes.set_ylim(len(after) + 0.5, 0.5)
        axes.set_xlim(-0.1, 1.03)
        axes.grid(visible=False)
    moves = _("; ").join(
        _("document {number}{right} from {before} to {after}").format(
            number=r.index + 1, right=_(" (right)") if r.index in relevant else "", before=old[r.index], after=i
        )
        for i, r in enumerate(after, 1)
    )
    figure.alt = _("Rank changes: {moves}").format(moves=moves)
    return figure


def heatmap(values, rows, columns, title, label="nDCG@10", signed=False):
    """Draw a matrix with its numbers written in the cells.

    Args:
        values: 2-D list of numbers; None leaves a cell empty.
        rows: names of rows.
        columns: names of columns.
        title: of the figure.
        label: name of the value.
        signed: colours around zero (orange below, blue above) instead of from low to high.
    """
    grid = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
    with _style():
        size = (2.5 + 1.25 * len(columns), 1.8 + 0.6 * len(rows))
        figure, axes = _new(title, size=size)
        limit = np.nanmax(np.abs(grid)) or 1
        low, high = (-limit, limit) if signed else (np.nanmin(grid), np.nanmax(grid))
        missing = max(0.0, 0.1 - (high - low)) / 2  # else a hair's breadth would get the two most distant colours
        image = axes.imshow(
            grid, aspect="auto", cmap="PuOr" if signed else "cividis", vmin=low - missing, vmax=high + missing
        )  # fmt: skip
        axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(visible=False)
        for i, row in enumerate(grid):
            for j, v in enumerate(row):
                if np.isfinite(v):
                    light = _luminance(image.cmap(image.norm(v)))  # white on it, or black: what contrasts more
                    axes.text(j, i, f"{round(v, 2) + 0.0:+.2f}" if signed else f"{v:.2f}", ha="center", va="center",
                              color="white" if 1.05 / (light + 0.05) > (light + 0.05) / 0.05 else "black")  # fmt: skip
        figure.colorbar(image, label=label)
    figure.alt = _("Heat map, {title}. ").format(title=_(title)) + " ".join(
        f"{r}: " + _(", ").join(f"{c} {v:.2f}" for c, v in zip(columns, row, strict=True) if np.isfinite(v)) + "."
        for r, row in zip(rows, grid, strict=True)
    )
    return figure


def lines(series, xlabel, ylabel, title, log_x=False, best=None, least=0.0):
    """Draw named lines.

    Args:
        series: dict from name to (x values, y values) or (x values, y values, low, high) with a band.
        xlabel: of the axis.
        ylabel: of the axis.
        title: of the figure.
        log_x: logarithmic x axis.
        best: optional x to mark with a dotted line.
        least: height that the y axis shows at least, in units of y.
    """
    with _style():
        figure, axes = _new(title, xlabel, ylabel)
        for i, (name, data) in enumerate(series.items()):
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(data[0], data[1], color=colour, marker=MARKERS[i % len(MARKERS)], label=name,
                      ls=("-", "--", "-.", ":")[i % 4])  # fmt: skip
            if len(data) > 2:
                axes.fill_between(data[0], data[2], data[3], color=colour, alpha=0.15)
        if log_x:
            axes.set_xscale("log")
        elif all(float(x).is_integer() for data in series.values() for x in data[0]):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no half epoch or half stage
        _widen(axes, least)
        if best is not None:
            axes.axvline(best, color=BLACK, ls=":", lw=1.5)
        if len(series) > 1:
            axes.legend()
    figure.alt = _("Line chart, {title}. ").format(title=_(title)) + " ".join(
        f"{n}: " + _(", ").join(f"{x:g} → {y:.3g}" for x, y in zip(d[0], d[1], strict=True)) + "."
        for n, d in series.items()
    )
    return figure


def bars(names, values, xlabel, title, errors=None):
    """Draw horizontal bars with their values.

    Args:
        names: one a bar, first on top.
        values: lengths.
        xlabel: of the axis.
        title: of the figure.
        errors: optional list of (low, high) ends of intervals.
    """
    with _style():
        figure, axes = _new(title, xlabel, size=(9, 1.2 + 0.55 * len(names)))
        places = np.arange(len(names))[::-1]
        axes.barh(places, values, color=BLUE, height=0.6)
        if errors:
            spread = np.abs(np.array(errors).T - np.array(values))
            axes.errorbar(values, places, xerr=spread, fmt="none", ecolor=BLACK, capsize=4)
        axes.set_yticks(places, names)
        shown = [0, *values, *(end for interval in errors or [] for end in interval)]
        span = (max(shown) - min(shown)) or 1
        axes.set_xlim(min(shown) - (0.05 * span if min(shown) < 0 else 0), max(shown) + 0.2 * span)
        for i, (y, v) in enumerate(zip(places, values, strict=True)):
            end = max(v, errors[i][1]) if errors else max(v, 0)
            axes.text(end + 0.015 * span, y, f"{v:.3g}", va="center")
    figure.alt = _("Bar chart, {title}: ").format(title=_(title)) + _("; ").join(
        f"{n} {v:.3g}" for n, v in zip(names, values, strict=True)
    )
    return figure


def reliability(bins, title="Does 0.8 mean 80 %?"):
    """Draw predicted probability against the share of right documents.

    Args:
        bins: list of (mean probability, share that is relevant, count), one per bin.
        title: of the figure.
    """
    with _style():
        figure, axes = _new(title, _("predicted probability"), _("share that is relevant"), (6.5, 6))
        axes.plot([0, 1], [0, 1], color="#777777", ls="--", lw=1.5, label=_("perfectly calibrated"))
        x, y, n = (np.array(v, dtype=float) for v in zip(*[b for b in bins if b[2]], strict=True))
        axes.plot(x, y, color=BLUE)
        axes.scatter(x, y, s=30 + 400 * n / n.max(), color=BLUE, label=_("bins (size: number of pairs)"), zorder=3)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper left")
    figure.alt = _("Reliability diagram: ") + _("; ").join(
        _("predicted {predicted:.2f}, relevant {share:.2f} ({count} pairs)").format(predicted=a, share=b, count=int(c))
        for a, b, c in zip(x, y, n, strict=True)
    )
    return figure
