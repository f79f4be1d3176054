"""The figures of the page of ``medres inspect``: how spacing, size and values are distributed, by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from medres.data.statistics import ScanStatistics
from medres.data.survey import Survey
from medres.reporting.svg import Canvas, colour_of, label_text, styled

#: With more classes the colours cannot be told apart; all scans are then drawn together.
MAX_CLASSES = 6
_COLUMNS = 3
_BINS = 30
# From this ratio on, most values would fall into one bin of equal width.
_LOGARITHMIC_FROM = 30.0


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One histogram.

    Args:
        title: What is counted.
        unit: Of the values, on the axis.
        values: Of each class, in the order of the colours.
    """

    title: str
    unit: str
    values: Mapping[str, Sequence[float]]


def inspection_figures(survey: Survey) -> list[tuple[str, str, str]]:
    """Return (heading, inline SVG, caption) of each figure that the data has values for."""
    figures = []
    for heading, caption, panels in (
        ("Spacing", "Scans by the size of their voxels.", list(_spacing_panels(survey))),
        ("Size", "Scans by the number of voxels along their edges.", list(_size_panels(survey))),
        ("Intensity", "Scans by the levels that a part of their voxels reach.", list(_intensity_panels(survey))),
    ):
        if panels:
            by_class = " Colours: classes, stacked; where a colour stands apart, the network can tell the class by it."
            colored = len(panels[0].values) > 1
            figures.append((heading, histograms(panels, heading), caption + (by_class if colored else "")))
    return figures


@styled
def histograms(panels: Sequence[Panel], description: str) -> str:
    """Return histograms beside each other, classes stacked, as inline SVG.

    Example:
        >>> panel = Panel(title="slices", unit="mm", values={"a": [1, 1, 5], "b": [1]})
        >>> histograms([panel], "Spacing")[:17]
        '<svg role="img" a'
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    canvas = Canvas(3.1 * columns + 0.3, 2.3 * rows + 0.3)
    axes = canvas.panels(columns, rows=rows)
    for panel, axis in zip(panels, axes, strict=False):
        _draw(axis, panel)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    if len(panels[0].values) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        canvas.figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return canvas.to_svg(f"{description}: histograms")


def _draw(axes: Axes, panel: Panel) -> None:
    everything = np.concatenate([np.asarray(values, dtype=np.float64) for values in panel.values.values()])
    bins, logarithmic = _bins(everything)
    axes.hist(
        list(panel.values.values()), bins=list(bins), stacked=True, label=[label_text(name) for name in panel.values],
        color=[colour_of(index) for index in range(len(panel.values))],
    )  # fmt: skip
    if logarithmic:
        axes.set_xscale("log")
    axes.set(title=panel.title, xlabel=panel.unit)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.grid(False, axis="x")


def _bins(values: np.typing.NDArray[np.float64]) -> tuple[np.typing.NDArray[np.float64], bool]:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        margin = max(abs(low) * 0.1, 0.5)
        return np.linspace(low - margin, high + margin, _BINS // 3), False
    if low > 0 and high / low >= _LOGARITHMIC_FROM:
        return np.geomspace(low, high, _BINS + 1), True
    return np.linspace(low, high, _BINS + 1), False


def _spacing_panels(survey: Survey) -> Iterator[Panel]:
    known = {name: entry for name, entry in survey.statistics.items() if entry.spacing_mm is not None}
    if known:
        yield _panel(survey, "finest axis", "mm", {name: min(entry.spacing_mm or ()) for name, entry in known.items()})
    volumes = {name: entry for name, entry in known.items() if len(entry.spatial_shape) == 3}
    if volumes:
        values = {name: max(entry.spacing_mm or ()) for name, entry in volumes.items()}
        yield _panel(survey, "coarsest axis (slices)", "mm", values)


def _size_panels(survey: Survey) -> Iterator[Panel]:
    statistics = survey.statistics
    if statistics:
        longest = {name: float(max(entry.spatial_shape)) for name, entry in statistics.items()}
        yield _panel(survey, "longest edge", "voxels", longest)
        shortest = {name: float(min(entry.spatial_shape)) for name, entry in statistics.items()}
        yield _panel(survey, "shortest edge", "voxels", shortest)
        shown = {name: entry.foreground_fraction for name, entry in statistics.items()}
        yield _panel(survey, "foreground", "share of the voxels", shown)


def _intensity_panels(survey: Survey) -> Iterator[Panel]:
    for title, level in (("median", "50"), ("95th percentile", "95"), ("99.5th percentile", "99.5")):
        values = {name: _level(entry, level) for name, entry in survey.statistics.items()}
        if values:
            yield _panel(survey, title, "value", values)


def _level(entry: ScanStatistics, level: str) -> float:
    return entry.percentiles[level]


def _panel(survey: Survey, title: str, unit: str, values: Mapping[str, float]) -> Panel:
    classes = survey.table.classes
    if not 2 <= len(classes) <= MAX_CLASSES:
        return Panel(title=title, unit=unit, values={"scans": list(values.values())})
    by_class: dict[str, list[float]] = {label: [] for label in classes}
    for scan in survey.table:
        if scan.sample_id in values:
            by_class.setdefault(scan.label or "(no label)", []).append(values[scan.sample_id])
    return Panel(title=title, unit=unit, values=by_class)
