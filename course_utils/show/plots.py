"""Figures in one style: large type for a projector, colours that the colour-blind can tell apart, marks that differ too.

Every function returns the matplotlib figure and sets its alternative text as ``figure.alt``; ``show`` displays both.
Colours: Okabe and Ito, "Color universal design", 2008.
"""

import contextlib
import html
import itertools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "figure.figsize": (9, 5),
    "figure.dpi": 90,
    "savefig.bbox": "tight",
    "font.size": 14,
    "axes.titlesize": 16,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 2.5,
    "lines.markersize": 8,
    "legend.frameon": False,
    "font.sans-serif": ["Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei",
                        "PingFang SC", "SimHei", "DejaVu Sans"],
    "axes.unicode_minus": False,
}  # fmt: skip


@contextlib.contextmanager
def style():
    """Apply the course's style within a ``with`` block."""
    import logging

    # Most machines lack most of these fonts; matplotlib would say so once for each.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with plt.rc_context(STYLE):
        yield


def has_cjk_font():
    """Return whether a font with Chinese characters is installed, so that they can be drawn."""
    from matplotlib import font_manager

    known = {f.name for f in font_manager.fontManager.ttflist}
    return any(name in known for name in STYLE["font.sans-serif"][:-1])


def drawable(text, fallback):
    """Return ``text``, or ``fallback`` when it holds Chinese characters that no installed font can draw."""
    return text if has_cjk_font() or all(ord(c) < 0x2E80 for c in text) else fallback


def image_html(figure):
    """Return a figure with its alternative text as an HTML image and close it."""
    import base64
    import io

    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png")
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    alt = html.escape(figure.alt, quote=True)
    return f'<img alt="{alt}" src="data:image/png;base64,{data}" style="max-width:100%">'


def show(figure):
    """Display a figure with its alternative text and close it."""
    from IPython.display import HTML, display

    display(HTML(image_html(figure)))


def _new(title, xlabel="", ylabel="", size=None):
    with style():
        figure, axes = plt.subplots(figsize=size)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def score_bars(ranking, title="Scores of the documents", width=60):
    """Draw a ranking (list of Ranked) as bars of probability, best on top."""
    with style():
        figure, axes = _new(title, "probability of yes", size=(9, 1 + 0.6 * len(ranking)))
        names = [drawable(r.document, f"document {r.index + 1}") for r in ranking]
        names = [n if len(n) <= width else n[: width - 1] + "…" for n in names]
        places = np.arange(len(ranking))[::-1]
        axes.barh(places, [r.probability for r in ranking], color=BLUE, height=0.6)
        axes.set_yticks(places, names)
        axes.set_xlim(0, 1.12)
        for y, r in zip(places, ranking, strict=True):
            axes.text(r.probability + 0.01, y, f"{r.probability:.2f}", va="center")
    figure.alt = f"Bar chart, {title}: " + "; ".join(
        f"{i}. {n} {r.probability:.2f}" for i, (n, r) in enumerate(zip(names, ranking, strict=True), 1)
    )
    return figure


def before_after(rows, title="Before and after adaptation", metric="nDCG@10"):
    """Draw a slope chart.

    Args:
        rows: list of (name, before, after), or (name, before, after, low, high) with the interval of the difference.
        title: of the figure.
        metric: name of the value.
    """
    with style():
        figure, axes = _new(title, "", metric, (8, 5.5))
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
                f"{row[0]}  {row[1]:.2f} → {row[2]:.2f}", (1, row[2]), (1.06, y), textcoords="data", color=ink(colour),
                va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_xticks([0, 1], ["before", "after"])
        axes.set_xlim(-0.15, 1.05)
        axes.grid(axis="x", visible=False)
        _widen(axes, 0.2)
    figure.alt = f"Slope chart of {metric}: " + "; ".join(f"{r[0]} from {r[1]:.2f} to {r[2]:.2f}" for r in rows)
    return figure


def ink(colour):
    """Return ``colour``, darkened until text in it can be read on white (contrast 4.5, WCAG 2.2)."""
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(colour))
    while 1.05 / (_luminance(rgb) + 0.05) < 4.5:
        rgb = 0.97 * rgb
    return tuple(rgb)


def _luminance(rgb):
    """Return the relative luminance of a colour, as WCAG 2.2 defines it."""
    rgb = np.asarray(rgb[:3])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)


def _widen(axes, least):
    """Make the y axis show at least ``least``, so that a hair's breadth does not look like a mountain."""
    low, high = axes.get_ylim()
    missing = max(0.0, least - (high - low)) / 2
    axes.set_ylim(low - missing, high + missing)


def _spread(values, gap):
    """Return label heights near ``values`` that are at least ``gap`` apart."""
    order, out = np.argsort(values), np.array(values, dtype=float)
    for a, b in itertools.pairwise(order):
        out[b] = max(out[b], out[a] + gap)
    return out


def training_curve(history, title="Training: one point an epoch"):
    """Draw loss and dev nDCG@10 by epoch from the history of ``adapt``."""
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
        figure.suptitle(title)
        epochs = [r["epoch"] for r in history]
        left.plot([r["epoch"] for r in history if r["loss"] is not None],
                  [r["loss"] for r in history if r["loss"] is not None], color=BLUE, marker="o", label="training")  # fmt: skip
        left.plot(epochs, [r["dev_loss"] for r in history], color=ORANGE, marker="s", ls="--", label="held out")
        left.set(xlabel="epoch", ylabel="loss")
        left.legend()
        right.plot(epochs, [r["ndcg@10"] for r in history], color=GREEN, marker="^")
        best = max(history, key=lambda r: r["ndcg@10"])
        right.annotate("kept", (best["epoch"], best["ndcg@10"]), (0, 10), textcoords="offset points", ha="center")
        right.set(xlabel="epoch", ylabel="held-out nDCG@10")
        right.margins(y=0.2)
        _widen(right, 0.05)
        for axes in (left, right):
            axes.set_xticks(epochs)
        figure.tight_layout()
    figure.alt = "Two line charts by epoch. " + "; ".join(
        f"epoch {r['epoch']}: held-out loss {r['dev_loss']:.2f}, nDCG@10 {r['ndcg@10']:.3f}" for r in history
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
    with style():
        figure, axes = _new(title, "", "rank", (11, 1.5 + 0.5 * len(before)))
        old = {r.index: i for i, r in enumerate(before, 1)}
        for i, r in enumerate(after, 1):
            right = r.index in relevant
            colour = BLUE if right else "#999999"
            axes.plot([0, 1], [old[r.index], i], color=colour, lw=4 if right else 1.5, marker="*" if right else "o",
                      ms=16 if right else 6)  # fmt: skip
            name = drawable(r.document, f"document {r.index + 1}")
            name = name if len(name) <= width else name[: width - 1] + "…"
            axes.text(1.04, i, ("★ " if right else "") + name, va="center", color=BLACK if right else "#444444")
        axes.set_xticks([0, 1], ["before", "after"])
        axes.set_yticks(range(1, len(after) + 1))
        axes.set_ylim(len(after) + 0.5, 0.5)
        axes.set_xlim(-0.1, 1.03)
        axes.grid(visible=False)
    moves = "; ".join(
        f"document {r.index + 1}{' (right)' if r.index in relevant else ''} from {old[r.index]} to {i}"
        for i, r in enumerate(after, 1)
    )
    figure.alt = f"Rank changes: {moves}"
    return figure


def heatmap(values, rows, columns, title, label="nDCG@10", signed=False, least=0.1):
    """Draw a matrix with its numbers written in the cells.

    Args:
        values: 2-D list of numbers; None leaves a cell empty.
        rows: names of rows.
        columns: names of columns.
        title: of the figure.
        label: name of the value.
        signed: colours around zero (orange below, blue above) instead of from low to high.
        least: difference that the colours span at least, in units of the value.
    """
    grid = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
    with style():
        size = (2.5 + 1.25 * len(columns), 1.8 + 0.6 * len(rows))
        figure, axes = _new(title, size=size)
        limit = np.nanmax(np.abs(grid)) or 1
        low, high = (-limit, limit) if signed else (np.nanmin(grid), np.nanmax(grid))
        missing = max(0.0, least - (high - low)) / 2  # else a hair's breadth would get the two most distant colours
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
    figure.alt = f"Heat map, {title}. " + " ".join(
        f"{r}: " + ", ".join(f"{c} {v:.2f}" for c, v in zip(columns, row, strict=True) if np.isfinite(v)) + "."
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
    with style():
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
    figure.alt = f"Line chart, {title}. " + " ".join(
        f"{n}: " + ", ".join(f"{x:g} → {y:.3g}" for x, y in zip(d[0], d[1], strict=True)) + "."
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
    with style():
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
    figure.alt = f"Bar chart, {title}: " + "; ".join(f"{n} {v:.3g}" for n, v in zip(names, values, strict=True))
    return figure


def reliability(bins, title="Does 0.8 mean 80 %?"):
    """Draw predicted probability against the share of right documents.

    Args:
        bins: list of (mean probability, share that is relevant, count), one per bin.
        title: of the figure.
    """
    with style():
        figure, axes = _new(title, "predicted probability", "share that is relevant", (6.5, 6))
        axes.plot([0, 1], [0, 1], color="#777777", ls="--", lw=1.5, label="perfectly calibrated")
        x, y, n = (np.array(v, dtype=float) for v in zip(*[b for b in bins if b[2]], strict=True))
        axes.plot(x, y, color=BLUE)
        axes.scatter(x, y, s=30 + 400 * n / n.max(), color=BLUE, label="bins (size: number of pairs)", zorder=3)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper left")
    figure.alt = "Reliability diagram: " + "; ".join(
        f"predicted {a:.2f}, relevant {b:.2f} ({int(c)} pairs)" for a, b, c in zip(x, y, n, strict=True)
    )
    return figure


def token_blocks(lengths, title="Padding: grey cells are computed for nothing"):
    """Draw prompts as rows of tokens, padded to the longest, before and after sorting into batches of four.

    Args:
        lengths: number of tokens of each prompt.
        title: of the figure.
    """
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(12, 0.8 + 0.3 * len(lengths)), sharex=True)
        wasted = []
        for ax, name, order in ((axes[0], "one width for all", list(lengths)),
                                (axes[1], "sorted, batches of four", sorted(lengths))):  # fmt: skip
            widths = [max(lengths)] * len(order)
            if ax is axes[1]:
                widths = [max(order[i - i % 4 : i - i % 4 + 4]) for i in range(len(order))]
            ax.barh(range(len(order)), widths, color="#CCCCCC", hatch="//", edgecolor="white")
            ax.barh(range(len(order)), order, color=BLUE)
            wasted.append(1 - sum(order) / sum(widths))
            ax.set(title=f"{name}: {wasted[-1]:.0%} padding", xlabel="tokens", yticks=[])
            ax.invert_yaxis()
        figure.suptitle(title)
        figure.tight_layout()
    figure.alt = f"Prompts as bars of tokens: {wasted[0]:.0%} padding at one width, {wasted[1]:.0%} when sorted."
    return figure


def score_path(prompt_parts, logits, title="The path of a score"):
    """Draw the prompt's parts as boxes and the two logits at its last token.

    Args:
        prompt_parts: list of (name, number of tokens).
        logits: (logit of yes, logit of no).
        title: of the figure.
    """
    yes, no = logits
    with style():
        figure, axes = _new(title, size=(12, 3.4))
        axes.axis("off")
        total, x = sum(n for _, n in prompt_parts), 0.0
        for i, (name, n) in enumerate(prompt_parts):
            w = max(0.06, 0.62 * n / total)
            axes.add_patch(plt.Rectangle((x, 0.35), w, 0.3, facecolor=COLOURS[i % len(COLOURS)], alpha=0.35, ec=BLACK))
            axes.text(x + w / 2, 0.5, f"{n}", ha="center", va="center")
            axes.text(x + w / 2, 0.7 if i % 2 else 0.25, name, ha="center", va="center", fontsize=12)
            x += w
        axes.annotate("", (x + 0.1, 0.5), (x + 0.005, 0.5), arrowprops={"arrowstyle": "->", "lw": 2})
        axes.text(x + 0.05, 0.56, "last token", ha="center", fontsize=11)
        axes.text(x + 0.12, 0.66, f"yes  {yes:+.2f}", color=BLUE, fontsize=15)
        axes.text(x + 0.12, 0.34, f"no   {no:+.2f}", color=RED, fontsize=15)
        p = 1 / (1 + np.exp(no - yes))
        axes.text(x + 0.26, 0.5, f"score {yes - no:+.2f}\nprobability {p:.2f}", va="center", fontsize=15)
        axes.set(xlim=(0, x + 0.48), ylim=(0.1, 0.9))
    figure.alt = (
        "The prompt in boxes: " + ", ".join(f"{n} {k} tokens" for n, k in prompt_parts)
        + f"; at the last token yes {yes:+.2f}, no {no:+.2f}, score {yes - no:+.2f}, probability {p:.2f}."
    )  # fmt: skip
    return figure


def grid_map(topics, aspects, cells, title="Where the candidates of one query come from"):
    """Draw a grid of topics and aspects with the candidates of one query as marked cells.

    Args:
        topics: names of the rows.
        aspects: names of the columns.
        cells: dict from (row, column) to "right", "same topic", "same aspect" or "neither".
        title: of the figure.
    """
    marks = {
        "right": (BLUE, "★"),
        "same topic": (ORANGE, "T"),
        "same aspect": (GREEN, "A"),
        "neither": ("#BBBBBB", "O"),
    }
    with style():
        figure, axes = _new(title, size=(2.5 + 1.1 * len(aspects), 1.8 + 0.55 * len(topics)))
        for y in range(len(topics)):
            for x in range(len(aspects)):
                colour, mark = marks.get(cells.get((y, x)), ("white", ""))
                axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, ec="#AAAAAA"))
                axes.text(x, y, mark, ha="center", va="center", color="white" if mark == "★" else BLACK, fontsize=16)
        names = [drawable(a, f"aspect {i}") for i, a in enumerate(aspects, 1)]
        rows = [drawable(t, f"topic {i}") for i, t in enumerate(topics, 1)]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axes.grid(visible=False)
        axes.set_xlabel("★ right   T same topic   A same aspect   O neither")
    figure.alt = "Grid of topics and aspects: " + "; ".join(
        f"{rows[y]} / {names[x]} {kind}" for (y, x), kind in sorted(cells.items())
    )
    return figure


def layer_runs(layers, trained, epochs, title="Which layers run, with and without the states kept"):
    """Draw each run of a layer as a cell: every epoch from the bottom, or the frozen layers once and then their states.

    Args:
        layers: number of layers.
        trained: how many of the last ones train.
        epochs: passes over the data.
        title: of the figure.
    """
    frozen = layers - trained
    with style():
        figure, axes = plt.subplots(1, 2, figsize=(12, 1.8 + 0.42 * layers), sharey=True)
        figure.suptitle(title)
        counts = []
        for ax, kept in zip(axes, (False, True), strict=True):
            columns = [("once", True, False)] * kept + [(f"epoch {e}", not kept, True) for e in range(1, epochs + 1)]
            counts.append(sum(below * frozen + top * trained for _, below, top in columns))
            for x, (_, below, top) in enumerate(columns):
                for y in range(layers):
                    runs = top if y >= frozen else below
                    colour = "white" if not runs else BLUE if y >= frozen else "#BBBBBB"
                    hatch = "//" if runs and y < frozen else None
                    ax.add_patch(
                        plt.Rectangle((x - 0.42, y - 0.42), 0.84, 0.84, facecolor=colour, hatch=hatch, ec="white")
                    )
                if kept and top:
                    ax.annotate("read\nstates", (x, frozen - 0.55), (x, max(0, frozen / 2 - 0.9)), ha="center", va="center",
                                fontsize=11, arrowprops={"arrowstyle": "->"})  # fmt: skip
            ax.set_xticks(range(len(columns)), [c[0] for c in columns])
            ax.set(xlim=(-0.6, len(columns) - 0.4), ylim=(-0.6, layers - 0.4))
            ax.set_title(f"{'states kept' if kept else 'states not kept'}: {counts[-1]} layer runs")
            ax.grid(visible=False)
        axes[0].set_yticks(
            range(layers), [f"layer {y} ({'trains' if y >= frozen else 'frozen'})" for y in range(layers)]
        )
        figure.tight_layout()
    figure.alt = (
        f"{layers} layers, the last {trained} train for {epochs} epochs: {counts[0]} layer runs when every epoch starts "
        f"at the bottom, {counts[1]} when the states of the {frozen} frozen layers are computed once and read again."
    )
    return figure
