"""Pictures that explain: padding, the path of a score, the grid behind the data, which layers run."""

import matplotlib.pyplot as plt
import numpy as np

from course_utils.language import _, _later
from course_utils.show.style import BLACK, BLUE, COLOURS, GREEN, ORANGE, RED, _drawable, _new, _style


def token_blocks(lengths, title="Padding: grey cells are computed for nothing"):
    """Draw prompts as rows of tokens, padded to the longest, before and after sorting into batches of four.

    Args:
        lengths: number of tokens of each prompt.
        title: of the figure.
    """
    with _style():
        figure, axes = plt.subplots(1, 2, figsize=(12, 0.8 + 0.3 * len(lengths)), sharex=True)
        wasted = []
        for ax, name, order in ((axes[0], _('one width for all'), list(lengths)),
                                (axes[1], _('sorted, batches of four'), sorted(lengths))):  # fmt: skip
            widths = [max(lengths)] * len(order)
            if ax is axes[1]:
                widths = [max(order[i - i % 4 : i - i % 4 + 4]) for i in range(len(order))]
            ax.barh(range(len(order)), widths, color="#CCCCCC", hatch="//", edgecolor="white")
            ax.barh(range(len(order)), order, color=BLUE)
            wasted.append(1 - sum(order) / sum(widths))
            ax.set(
                title=_("{name}: {share:.0%} padding").format(name=name, share=wasted[-1]),
                xlabel=_("tokens"),
                yticks=[],
            )
            ax.invert_yaxis()
        figure.suptitle(_(title))
        figure.tight_layout()
    figure.alt = _("Prompts as bars of tokens: {before:.0%} padding at one width, {after:.0%} when sorted.").format(
        before=wasted[0], after=wasted[1]
    )
    return figure


def score_path(prompt_parts, logits, title="The path of a score"):
    """Draw the prompt's parts as boxes and the two logits at its last token.

    Args:
        prompt_parts: list of (name, number of tokens).
        logits: (logit of yes, logit of no).
        title: of the figure.
    """
    yes, no = logits
    with _style():
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
        axes.text(x + 0.05, 0.56, _("last token"), ha="center", fontsize=11)
        axes.text(x + 0.12, 0.66, f"yes  {yes:+.2f}", color=BLUE, fontsize=15)
        axes.text(x + 0.12, 0.34, f"no   {no:+.2f}", color=RED, fontsize=15)
        p = 1 / (1 + np.exp(no - yes))
        axes.text(
            x + 0.26,
            0.5,
            _("score {score:+.2f}\nprobability {p:.2f}").format(score=yes - no, p=p),
            va="center",
            fontsize=15,
        )
        axes.set(xlim=(0, x + 0.48), ylim=(0.1, 0.9))
    figure.alt = (
        _('The prompt in boxes: ') + _(", ").join(_("{name} {count} tokens").format(name=n, count=k) for n, k in prompt_parts)
        + _('; at the last token yes {yes:+.2f}, no {no:+.2f}, score {score:+.2f}, probability {p:.2f}.').format(yes=yes, no=no, score=yes - no, p=p)
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
        _later("right"): (BLUE, "★"),
        _later("same topic"): (ORANGE, "T"),
        _later("same aspect"): (GREEN, "A"),
        _later("neither"): ("#BBBBBB", "O"),
    }
    with _style():
        figure, axes = _new(title, size=(2.5 + 1.1 * len(aspects), 1.8 + 0.55 * len(topics)))
        for y in range(len(topics)):
            for x in range(len(aspects)):
                colour, mark = marks.get(cells.get((y, x)), ("white", ""))
                axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, ec="#AAAAAA"))
                axes.text(x, y, mark, ha="center", va="center", color="white" if mark == "★" else BLACK, fontsize=16)
        names = [_drawable(a, _("aspect {number}").format(number=i)) for i, a in enumerate(aspects, 1)]
        rows = [_drawable(t, _("topic {number}").format(number=i)) for i, t in enumerate(topics, 1)]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axes.grid(visible=False)
        axes.set_xlabel(_("★ right   T same topic   A same aspect   O neither"))
    figure.alt = _("Grid of topics and aspects: ") + _("; ").join(
        f"{rows[y]} / {names[x]} {_(kind)}" for (y, x), kind in sorted(cells.items())
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
    with _style():
        figure, axes = plt.subplots(1, 2, figsize=(12, 1.8 + 0.42 * layers), sharey=True)
        figure.suptitle(_(title))
        counts = []
        for ax, kept in zip(axes, (False, True), strict=True):
            columns = [(_("once"), True, False)] * kept + [
                (_("epoch {number}").format(number=e), not kept, True) for e in range(1, epochs + 1)
            ]
            counts.append(sum(below * frozen + top * trained for _name, below, top in columns))
            for x, (_name, below, top) in enumerate(columns):
                for y in range(layers):
                    runs = top if y >= frozen else below
                    colour = "white" if not runs else BLUE if y >= frozen else "#BBBBBB"
                    hatch = "//" if runs and y < frozen else None
                    ax.add_patch(
                        plt.Rectangle((x - 0.42, y - 0.42), 0.84, 0.84, facecolor=colour, hatch=hatch, ec="white")
                    )
                if kept and top:
                    ax.annotate(_("read\nstates"), (x, frozen - 0.55), (x, max(0, frozen / 2 - 0.9)), ha="center", va="center",
                                fontsize=11, arrowprops={"arrowstyle": "->"})  # fmt: skip
            ax.set_xticks(range(len(columns)), [c[0] for c in columns])
            ax.set(xlim=(-0.6, len(columns) - 0.4), ylim=(-0.6, layers - 0.4))
            ax.set_title(
                _("{what}: {count} layer runs").format(
                    what=_("states kept") if kept else _("states not kept"), count=counts[-1]
                )
            )
            ax.grid(visible=False)
        axes[0].set_yticks(
            range(layers),
            [
                _("layer {number} ({what})").format(number=y, what=_("trains") if y >= frozen else _("frozen"))
                for y in range(layers)
            ],
        )
        figure.tight_layout()
    figure.alt = _(
        "{layers} layers, the last {trained} train for {epochs} epochs: {all} layer runs when every epoch "
        "starts at the bottom, {kept} when the states of the {frozen} frozen layers are computed once and "
        "read again."
    ).format(layers=layers, trained=trained, epochs=epochs, all=counts[0], kept=counts[1], frozen=frozen)
    return figure
