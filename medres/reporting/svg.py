"""Drawing without pyplot's global state, and SVG that stands inside a page: no script, no outside resource."""

from __future__ import annotations

import html
import io
import re
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from medres.runs.host_warnings import ignored_warnings

#: Okabe & Ito (2008), told apart by colour-blind readers; without the yellow, which does not show on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
LINE_STYLES = ("-", "--", "-.", ":")
#: Text and axes. The page replaces it by its own text colour, light or dark; no other element may use it.
INK = "#010203"
#: Reference lines, readable on white and on black.
GREY = "#808890"

#: CSS pixels a point: text of 9.5 points is then 12 pixels high, like the page's notes.
_PIXELS_A_POINT = 1.3

_STYLE: Any = {
    "text.parse_math": False,  # a class may be called "$x$"
    "svg.fonttype": "none",  # text stays text: it can be searched, and the browser's font is used
    "svg.hashsalt": "medres",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}

#: matplotlib's settings belong to the process: one thread draws at a time.
_DRAWING = threading.RLock()

P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a drawing function run under the style of the report, and leave matplotlib's settings as they were."""

    @wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with _DRAWING, mpl.rc_context():
            mpl.rcdefaults()  # a host may draw in the dark, or by LaTeX
            mpl.rcParams.update(_STYLE)
            return draw(*args, **kwargs)

    return wrapped


class Canvas:
    """One figure that becomes inline SVG. To be used in a function that is `styled`.

    Args:
        width: In inches of 72 points.
        height: The same.

    Example:
        >>> canvas = Canvas(2, 2)
        >>> axes, = canvas.panels(1)
        >>> _ = axes.plot([0, 1], [0, 1])
        >>> canvas.to_svg("a line")[:17]
        '<svg role="img" a'
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), layout="constrained")

    def panels(self, columns: int, *, rows: int = 1, height_ratios: Sequence[float] | None = None) -> list[Axes]:
        """Return axes, row by row."""
        ratios = {"height_ratios": height_ratios or [1.0] * rows}
        grid = self.figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios)
        axes: list[Axes] = list(grid.ravel())
        for panel in axes:
            panel.grid(True)
            panel.set_axisbelow(True)
        return axes

    def legend_below(self, axes: Axes) -> None:
        """Put the legend of ``axes`` under the figure, one entry a line, where it covers no data."""
        handles, labels = axes.get_legend_handles_labels()
        self.figure.legend(handles, labels, loc="outside lower center", ncols=1)

    def to_svg(self, description: str) -> str:
        """Return an ``<svg>`` element that follows the page's text colour.

        Args:
            description: What the figure shows, for screen readers.
        """
        FigureCanvasSVG(self.figure)
        file = io.StringIO()
        # names in scripts that matplotlib's own font lacks are drawn by the browser, which has them
        with ignored_warnings(UserWarning, message="Glyph .* missing from font"):
            self.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        return _inline(file.getvalue(), description)


def colour_of(index: int) -> str:
    """Return the colour of the class or fold ``index``."""
    return PALETTE[index % len(PALETTE)]


def line_style_of(index: int) -> str:
    """Return the line style of the class or fold ``index``: it changes when the colours begin anew."""
    return LINE_STYLES[index // len(PALETTE) % len(LINE_STYLES)]


def label_text(name: str, *, longest: int = 28) -> str:
    """Return a name as a label: not too long, and shown where it begins with ``_``, which hides a legend's entry."""
    short = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return "\u200b" + short if short.startswith("_") else short


def _inline(document: str, description: str) -> str:
    body = document[document.index("<svg") :]
    # matplotlib's own style element would apply to the whole page; the page's style sheet says the same for figures
    for useless in (r"<metadata>.*?</metadata>", r"<style .*?</style>", r"<!--.*?-->"):
        body = re.sub(useless, "", body, flags=re.DOTALL)
    head, rest = body.split(">", 1)
    view_box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', head)
    if view_box is None:
        raise ValueError("matplotlib wrote SVG without a viewBox")
    width, height = (float(size) * _PIXELS_A_POINT for size in view_box.groups())
    # tags only: a class may have any name
    rest = re.sub(r"<[^>]*>", lambda tag: _plain_tag(tag.group()), rest)
    label = html.escape(description, quote=True)
    size = f'width="{width:.0f}" height="{height:.0f}" {view_box.group()}'
    return f'<svg role="img" aria-label="{label}" {size}>{rest.strip()}'


def _plain_tag(tag: str) -> str:
    # ids such as figure_1 come back in every figure of the page, and nothing refers to them
    tag = re.sub(r' id="[a-zA-Z.]+_\d+"', "", tag)
    # the darkest of the palette is made lighter on a dark page
    tag = tag.replace(PALETTE[0].lower(), f"var(--blue, {PALETTE[0].lower()})")
    return tag.replace("xlink:href", "href").replace(INK, "currentColor")
