"""The figures of the report, from the numbers of ``metrics.json``, ``predictions.csv`` and the event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medres.reporting.svg import GREY, INK, Canvas, colour_of, label_text, line_style_of, styled
from medres.reporting.wording import value_with_interval

Floats = npt.NDArray[np.float64]
#: Panels of one row; more would be too small to read.
MAX_COLUMNS = 3
NUM_RISK_BINS = 20


@styled
def roc_figure(block: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Return the ROC curve of each shown class against the rest, as inline SVG."""
    canvas, axes = _square(len(classes))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for index, name in enumerate(classes):
        curve = block["tables"]["roc"].get(name)
        if curve:
            axes.step(curve["fpr"], curve["tpr"], where="post", **_line(block, name, index, score="auroc"))
    axes.set(xlabel="1 − specificity (false-positive rate)", ylabel="sensitivity (true-positive rate)")
    return _finished(canvas, axes, title="ROC", description=f"ROC curves of {', '.join(classes)}")


@styled
def precision_recall_figure(block: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Return the precision-recall curve of each shown class against the rest; dotted: its share of the units."""
    canvas, axes = _square(len(classes))
    for index, name in enumerate(classes):
        curve = block["tables"]["precision_recall"].get(name)
        if curve:
            line = _line(block, name, index, score="average_precision")
            axes.step(curve["recall"], curve["precision"], where="post", **line)
            axes.axhline(_prevalence(block, name), color=line["color"], linewidth=1, linestyle=":")
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)")
    title = "Precision and recall"
    return _finished(canvas, axes, title=title, description=f"Precision-recall curves of {', '.join(classes)}")


@styled
def reliability_figure(block: Mapping[str, Any], risks: Mapping[str, tuple[Floats, Floats]]) -> str:
    """Return, for each class, observed share against mean probability, above the histogram of its probability.

    Args:
        block: Of ``metrics.json``.
        risks: For each class, its probability in the units that are of that class, and in the others.
    """
    columns = min(MAX_COLUMNS, len(risks))
    rows = -(-len(risks) // columns)
    canvas = Canvas(max(4.0, 3.0 * columns + 0.4), 4.3 * rows)
    panels = canvas.panels(columns, rows=2 * rows, height_ratios=[2.2, 1.0] * rows)
    for index, (name, (inside, outside)) in enumerate(risks.items()):
        row, column = divmod(index, columns)
        upper, lower = panels[2 * row * columns + column], panels[(2 * row + 1) * columns + column]
        _draw_reliability(upper, block["tables"]["reliability"].get(name) or [], colour_of(index))
        upper.set_title(label_text(name))
        _draw_risks(lower, inside, outside, colour_of(index))
        lower.set_xlabel("probability")
        if column == 0:
            upper.set_ylabel("observed share")
            lower.set_ylabel("units")
    for panel in panels[len(panels) - columns * 2 :]:
        if not panel.has_data():
            panel.set_visible(False)
    return canvas.to_svg(f"Reliability diagrams and histograms of the probabilities of {', '.join(risks)}")


@styled
def confusion_figure(confusion: Mapping[str, Any]) -> str:
    """Return the confusion matrix: counts, coloured by their share of the label's units."""
    counts = np.asarray(confusion["counts"], dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(6.5, 2.4 + 0.55 * len(counts))
    canvas = Canvas(side + 0.9, side)
    (axes,) = canvas.panels(1)
    axes.grid(False)
    edges = np.arange(len(counts) + 1) - 0.5
    axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1)  # cells, not a picture of them
    axes.set_aspect("equal")
    axes.invert_yaxis()
    if len(counts) <= 12:  # smaller cells hold no readable text
        _write_cells(axes, counts, shares)
    names = [label_text(name, longest=16) for name in confusion["classes"]]
    steep = len(names) > 3 or max(map(len, names)) > 9
    axes.set_xticks(range(len(names)), names, rotation=40 if steep else 0, ha="right" if steep else "center")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="decision", ylabel="label")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return canvas.to_svg("Confusion matrix: labels in rows, decisions in columns")


@styled
def learning_figure(events: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the training loss of each fold over its epochs; None where no epoch was logged (a solved head)."""
    folds = _losses(events)
    if not folds:
        return None
    canvas = Canvas(6.6, 3.3)
    (axes,) = canvas.panels(1)
    for index, (fold, losses) in enumerate(sorted(folds.items())):
        axes.plot(
            list(losses), list(losses.values()), label=f"fold {fold}", color=colour_of(index),
            linestyle=line_style_of(index), marker="o" if len(losses) == 1 else None,  # one point makes no line
        )  # fmt: skip
    for boundary in _stage_boundaries(events):
        axes.axvline(boundary, color=GREY, linewidth=1, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch (dotted: a new stage begins)" if _stage_boundaries(events) else "epoch")
    axes.set_ylabel("training loss (mean over scans)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return canvas.to_svg("Training loss of each fold over the epochs")


def _square(num_classes: int) -> tuple[Canvas, Axes]:
    canvas = Canvas(4.3, 4.2 + 0.22 * num_classes)  # a line of the legend is 0.2 inches high
    (axes,) = canvas.panels(1)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.set_aspect("equal")
    return canvas, axes


def _finished(canvas: Canvas, axes: Axes, *, title: str, description: str) -> str:
    axes.set_title(title)
    if axes.get_legend_handles_labels()[1]:
        canvas.legend_below(axes)
    else:
        axes.text(0.5, 0.5, "no curve: only one class was scored", ha="center", va="center")
    return canvas.to_svg(description)


def _line(block: Mapping[str, Any], name: str, index: int, *, score: str) -> dict[str, Any]:
    text = value_with_interval(block["per_class"][name][score])
    return {"color": colour_of(index), "linestyle": line_style_of(index), "label": f"{label_text(name)}: {text}"}


def _prevalence(block: Mapping[str, Any], name: str) -> float:
    units = {label: scores["n_units"] for label, scores in block["per_class"].items()}
    return float(units[name] / max(1, sum(units.values())))


def _draw_reliability(axes: Axes, bins: Sequence[Mapping[str, float]], colour: str) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.02))
    points = [(item["mean_probability"], item["observed"]) for item in bins]
    # rounding may leave a bound a hair on the wrong side of the share itself
    below = [max(0.0, item["observed"] - item["observed_low"]) for item in bins]
    above = [max(0.0, item["observed_high"] - item["observed"]) for item in bins]
    if points:
        x, y = zip(*points, strict=True)
        axes.errorbar(x, y, yerr=(below, above), color=colour, fmt="o-", markersize=4, elinewidth=1.2, capsize=2)


def _draw_risks(axes: Axes, inside: Floats, outside: Floats, colour: str) -> None:
    """Draw the units of the class upwards and the others downwards: nothing hides behind anything."""
    edges = np.linspace(0, 1, NUM_RISK_BINS + 1)
    for values, sign, shade, label in ((inside, 1, colour, "this class"), (outside, -1, GREY, "other classes")):
        counts, _ = np.histogram(values, bins=edges)
        axes.bar(edges[:-1], sign * counts, width=1 / NUM_RISK_BINS, align="edge", color=shade, label=label)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlim(-0.01, 1.01)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.4), ncols=2, columnspacing=1.0, handlelength=1.2)


def _write_cells(axes: Axes, counts: Floats, shares: Floats) -> None:
    for (row, column), share in np.ndenumerate(shares):
        # the map's blue is darker than mid-grey above .55
        axes.text(
            column, row, f"{counts[row, column]:.0f}\n{share:.0%}", ha="center", va="center",
            color="#ffffff" if share > 0.55 else "#14202b", fontsize=9 if len(counts) <= 6 else 7,
        )  # fmt: skip


def _losses(events: Sequence[Mapping[str, Any]]) -> dict[int, dict[int, float]]:
    folds: dict[int, dict[int, float]] = {}
    for event in events:
        loss = event.get("metrics", {}).get("loss") if event.get("kind") == "epoch" else None
        if loss is not None:  # an epoch that was run again after a resumption replaces the first one
            folds.setdefault(int(event["fold"]), {})[int(event["epoch"])] = float(loss)
    return {fold: dict(sorted(losses.items())) for fold, losses in folds.items()}


def _stage_boundaries(events: Sequence[Mapping[str, Any]]) -> list[float]:
    first: dict[str, int] = {}
    for event in events:
        if event.get("kind") == "epoch":
            stage, epoch = str(event.get("stage", "")), int(event["epoch"])
            first[stage] = min(epoch, first.get(stage, epoch))
    return [epoch - 0.5 for epoch in sorted(first.values())[1:]]
