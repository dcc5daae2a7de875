"""The one style of all figures: large type for a projector, colours that the colour-blind can tell apart, marks too.

Colours: Okabe and Ito, "Color universal design", 2008.
"""

import contextlib
import functools
import html
import itertools
import re
import warnings

import matplotlib.pyplot as plt
import numpy as np

from course_utils.language import _, _language

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
    # Linux, Windows, macOS; of a collection matplotlib knows the first face alone, which for Noto is the Japanese one.
    "font.sans-serif": ["Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
                        "Noto Sans CJK JP", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
                        "Heiti SC", "Heiti TC", "STHeiti", "Arial Unicode MS", "DejaVu Sans"],
    "axes.unicode_minus": False,
}  # fmt: skip


@contextlib.contextmanager
def _style():
    """Apply the course's style within a ``with`` block."""
    import logging

    # Most machines lack most of these fonts; matplotlib would say so once for each.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    if _language() == "zh" and not _has_cjk_font():
        _say_once(_("Pictures need a Chinese font: install fonts-noto-cjk (Linux, Colab), then restart the kernel."))
    with plt.rc_context(STYLE), warnings.catch_warnings():
        if not _has_cjk_font():  # said once above; matplotlib says it for each character
            warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


@functools.cache
def _has_cjk_font():
    """Return whether a font with Chinese characters is installed, so that they can be drawn."""
    from matplotlib import font_manager

    def known():
        return {f.name for f in font_manager.fontManager.ttflist} & set(STYLE["font.sans-serif"][:-1])

    if not known():  # matplotlib keeps its list on disk: a font that was installed since is not on it
        for path in font_manager.findSystemFonts():
            if re.search(r"cjk|wqy|msyh|simhei|pingfang|hiragino|heiti|sourcehan|droidsansfallback", path, flags=re.I):
                font_manager.fontManager.addfont(path)
    return bool(known())


@functools.cache
def _say_once(text):
    print(text)


def _drawable(text, fallback):
    """Return ``text``, or ``fallback`` when it holds Chinese characters that no installed font can draw."""
    return text if _has_cjk_font() or all(ord(c) < 0x2E80 for c in text) else fallback


def image_html(figure):
    """Return a figure with its alternative text as an HTML image and close it."""
    import base64
    import io

    buffer = io.BytesIO()
    with _style():
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
    with _style():
        figure, axes = plt.subplots(figsize=size)
    axes.set(title=_(title), xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _ink(colour):
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
