"""The figures of a comparison: the differences as a forest, and what each contender costs against its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Affine2D

from medres.evaluation.comparison import COMPARED_SCORES, LOWER_IS_BETTER
from medres.reporting.comparison.costs import Cost
from medres.reporting.comparison.tables import number_text
from medres.reporting.svg import GREY, INK, Canvas, colour_of, label_text, styled
from medres.reporting.terminal import duration
from medres.reporting.wording import score_title


@styled
def forest_figure(document: Mapping[str, Any]) -> str:
    """Return the differences from the reference with their intervals, a panel a score, as inline SVG.

    Args:
        document: What `compare_predictions` returns, with ``reference``.
    """
    names = list(document["differences"])
    columns = 3
    rows = -(-len(COMPARED_SCORES) // columns)
    canvas = Canvas(9.6, rows * (1.15 + 0.3 * len(names)))
    panels = canvas.panels(columns, rows=rows)
    for panel, score in zip(panels, COMPARED_SCORES, strict=False):
        _draw_forest(panel, [document["differences"][name][score] for name in names])
        better = "left" if score in LOWER_IS_BETTER else "right"
        panel.set_title(f"{score_title(score)} (better: {better})")
    for place, panel in enumerate(panels):
        shown = [label_text(name) for name in names] if place % columns == 0 else [""] * len(names)
        panel.set_yticks(range(len(names)), shown)
        panel.set_visible(place < len(COMPARED_SCORES))
    return canvas.to_svg(f"Differences from {document['reference']} with 95 % intervals: {', '.join(names)}")


def _draw_forest(axes: Axes, differences: Sequence[Mapping[str, Any]]) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for place, found in enumerate(differences):
        if found["value"] is None:
            continue
        colour = colour_of(place + 1)
        axes.plot([found["value"]], [place], marker="o", markersize=5, color=colour, linestyle="none")
        if found["low"] is not None:
            axes.plot([found["low"], found["high"]], [place, place], color=colour)
    axes.set_ylim(len(differences) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.tick_params(axis="y", length=0)


@styled
def cost_figure(document: Mapping[str, Any], costs: Mapping[str, Cost]) -> str:
    """Return the AUROC of each contender, with its interval, against what it costs, as inline SVG."""
    names = list(document["scores"])
    canvas = Canvas(9.6, 3.5 + 0.2 * len(names))
    panels = canvas.panels(2)
    macs = {name: float(cost.macs or 0) for name, cost in costs.items()}
    seconds = {name: cost.train_seconds for name, cost in costs.items()}
    draw_costs(panels[0], document, macs)
    draw_costs(panels[1], document, seconds)
    panels[0].set_xlabel("multiply-adds of one network and scan (counted)")
    panels[0].xaxis.set_major_formatter(lambda value, _: number_text(value))
    panels[1].set_xlabel("training time of a run (measured)")
    panels[1].xaxis.set_major_formatter(lambda value, _: duration(value))
    panels[0].set_ylabel("AUROC")
    canvas.legend_below(panels[1])
    return canvas.to_svg(f"AUROC against multiply-adds and against training time: {', '.join(names)}")


def draw_costs(axes: Axes, document: Mapping[str, Any], costs: Mapping[str, float]) -> None:
    """Draw the AUROC of each contender over its cost; contenders without a cost (0) are left out.

    Args:
        axes: Empty.
        document: What `compare_predictions` returns.
        costs: Of each contender, in one unit.
    """
    known = [cost for cost in costs.values() if cost > 0]
    if not known:
        axes.text(0.5, 0.5, "not known", ha="center", va="center", transform=axes.transAxes)
        return
    _scale(axes, known)
    for place, (name, scores) in enumerate(document["scores"].items()):
        if scores["auroc"]["value"] is not None and costs[name] > 0:
            # contenders of one cost stand beside each other, not behind
            beside = list(costs.values())[:place].count(costs[name])
            _draw_point(axes, scores["auroc"], costs[name], label_text(name), colour_of(place), points_right=5 * beside)
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=":")


def _scale(axes: Axes, known: Sequence[float]) -> None:
    if max(known) > 5 * min(known):
        axes.set_xscale("log")
        axes.set_xlim(min(known) / 1.4, max(known) * 1.4)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=9))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.25 * max(known))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))


def _draw_point(
    axes: Axes, found: Mapping[str, Any], cost: float, label: str, colour: str, *, points_right: float
) -> None:
    place = axes.transData + Affine2D().translate(points_right, 0)  # SVG is drawn at 72 pixels an inch: points
    bounds = [found["value"] if found[key] is None else found[key] for key in ("low", "high")]
    axes.plot([cost], [found["value"]], "o", color=colour, label=label, transform=place)
    axes.plot([cost, cost], bounds, color=colour, linewidth=1.3, transform=place)
    # lines that are moved do not count for the limits of the axes by themselves
    axes.update_datalim([(cost, bound) for bound in bounds])
    axes.autoscale_view(scalex=False)
