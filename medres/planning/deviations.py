"""How a new scan differs from those of a fingerprint: in kind, in what it shows, in its numbers.

Two strengths. *Certain*: the scan is no input of a model of this data, whatever else holds: it is of another modality,
shows nothing, or has values that its plan cannot read. *Not certain*: one number is far outside of what training
covered, which a person should look at; numbers about several subjects (`SUBJECTS`) together are certain again.

A number is outside where it lies beyond the 5th to 95th percentile of the training scans by more than their whole
distance and a margin. For a normal distribution that is 4.9 standard deviations without the margin (one scan in a
million), and it widens with the tails of the data. It does not look at the extremes, which one scan sets that does not
belong there. The margin is half of what `medres.data.checks` call odd: those count from the median, this from the edge.
Three times as far (11.5 standard deviations) it is certain by itself, if it is a length, a ratio or a share. Levels are
not: where the background of a picture ends just below a percentile, a little more of the object moves it by everything.

No sentence holds a path, a name or the value of a voxel: sizes, shares and ratios alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from medres.data.checks.content import NEARLY_NOTHING, emptiness
from medres.data.checks.geometry import ODD_SIZE_RATIO, ODD_SPACING_RATIO, in_mm, is_plausible_mm
from medres.data.checks.intensity import CT_LEVELS, ODD_HU, ODD_SCALE_RATIO
from medres.data.checks.outliers import LEAST_VALUES
from medres.data.statistics import TISSUES_FROM_HU, ScanStatistics
from medres.planning.fingerprint import Fingerprint, Grid
from medres.planning.modality_match import LEAST_USUAL, match_modality
from medres.planning.modality_match import Deviation as Deviation
from medres.planning.plan import Plan
from medres.planning.scan_measures import RELATIVE_LEVELS, scan_measures
from medres.planning.spread import Spread

#: Findings about a number; of two of these subjects together a scan is certainly unlike the training scans.
SUBJECTS = frozenset(
    {"mixed-modality", "mixed-color", "intensity-outlier", "texture-outlier", "coverage-outlier", "size-outlier",
     "spacing-outlier"}
)  # fmt: skip

# More than a fiftieth is a part of the picture; below, twice as much of nearly nothing is nothing.
_LEAST_SHARE = 0.02
# Twice or half the share that is shown is another cut of the body; half of inspect's size ratio likewise.
_ODD_SHARE_RATIO = 2.0
# The width of a viewer's window and its level move the levels of a picture by about a tenth of its range.
_ODD_LEVEL = 0.1
# Voxels of half the size differ half as much from their neighbours.
_ODD_ROUGHNESS_RATIO = 2.0
# Neighbouring voxels of a picture on black differ by a hundredth of its range on average.
_LEAST_ROUGHNESS = 0.01
# Compression leaves a tint of a few hundredths of the brightest; twice as much colour is another kind of picture.
_LEAST_COLOR, _ODD_COLOR_RATIO = 0.05, 2.0
# Rule of three (Hanley & Lippman-Hand 1983): of 0 in 60, with 95 % confidence fewer than 5 % are (`LEAST_USUAL`).
_ENOUGH_TO_EXCLUDE = 60
# Of what is outside by one slack nothing is certain by itself, of this nothing is left to chance.
_FAR_BEYOND = 3.0
# Four grey values of 255: what is left of a picture that was scaled to [0, 1] and is read as 0 to 255 is one.
_LEAST_OF_SCALE = 1 / 64


class _Measure(NamedTuple):
    """How a number is compared.

    Args:
        code: Of the finding.
        text: The sentence, with ``{value}``, ``{low}``, ``{high}`` (training), ``{ratio}`` and ``{distance}`` (to the
            median of training).
        margin: How far beyond, in the number's own unit, or as a ratio.
        floor: What is added before ratios are compared; None: differences are compared.
    """

    code: str
    text: str
    margin: float
    floor: float | None = None

    def on_scale(self, value: float) -> float:
        """Return the number as it is compared."""
        return value if self.floor is None else math.log(max(value + self.floor, sys.float_info.min))

    def beyond(self, value: float, trained: Spread) -> float:
        """Return how far a number lies outside of what training covered, in units of the slack; below it negative."""
        low, high, here = (self.on_scale(number) for number in (trained.p5, trained.p95, value))
        slack = high - low + (self.margin if self.floor is None else math.log(self.margin))
        return min(0.0, here - low) / slack + max(0.0, here - high) / slack


def find_deviations(scan: ScanStatistics, fingerprint: Fingerprint, plan: Plan) -> tuple[Deviation, ...]:
    """Return how a scan differs from the training scans; none where it could be one of them.

    Args:
        scan: Its statistics.
        fingerprint: Of the training scans.
        plan: What was decided about them.
    """
    return tuple(_deviations(scan, fingerprint, plan))


def foreign_codes(deviations: Iterable[Deviation], fingerprint: Fingerprint) -> tuple[str, ...]:
    """Return the codes for which a model has nothing to say about a scan; none where it has.

    Those that are certain, and of several subjects (`SUBJECTS`) all, if there were scans enough to know what is usual.
    """
    found = list(deviations)
    certain = {one.code for one in found if one.certain}
    subjects = {one.code for one in found} & SUBJECTS
    if len(subjects) > 1 and fingerprint.num_scans >= LEAST_VALUES:
        certain |= subjects
    return tuple(dict.fromkeys(one.code for one in found if one.code in certain))


def _deviations(scan: ScanStatistics, fingerprint: Fingerprint, plan: Plan) -> Iterator[Deviation]:
    grid = fingerprint.volumes if len(scan.spatial_shape) == 3 else fingerprint.images
    if grid is None:
        yield _other_dimensions(scan)
        return
    # once it is certain that a scan is of another kind, its numbers say nothing more
    for found in (_empty(scan, grid), match_modality(scan, fingerprint, plan), _scale(scan, plan)):
        if found is not None:
            yield found
            if found.certain:
                return
    yield from _color(scan, fingerprint)
    yield from _spacing(scan, grid)
    yield from _numbers(scan, fingerprint, grid)


def _other_dimensions(scan: ScanStatistics) -> Deviation:
    kinds = ("an image", "volumes") if len(scan.spatial_shape) == 2 else ("a volume", "images")
    return Deviation("mixed-dimensions", "It is {}; the training scans are {}.".format(*kinds), certain=True)


def _empty(scan: ScanStatistics, grid: Grid) -> Deviation | None:
    empty = emptiness(scan)
    if empty is None:
        return None
    if empty.code == "constant":
        return Deviation("constant", "It has one value everywhere.", certain=True)
    # a model of small masks was trained on scans that are nearly empty
    if grid.foreground_fraction.p5 < NEARLY_NOTHING:
        return None
    shown = "air" if scan.modality == "CT" else "one value"
    return Deviation("nearly-empty", f"It is {shown} in more than 99.9 % of its voxels.", certain=True)


def _color(scan: ScanStatistics, fingerprint: Fingerprint) -> Iterator[Deviation]:
    count, colored = fingerprint.num_scans, fingerprint.num_color
    if scan.color and colored < LEAST_USUAL * count:
        told = f"It is in true colour; {colored} of the {count} training scans are."
        yield Deviation("mixed-color", told, certain=count >= _ENOUGH_TO_EXCLUDE)
    elif colored == count and not scan.color:
        yield Deviation("mixed-color", f"It is grey; all {count} training scans are in true colour.")


def _scale(scan: ScanStatistics, plan: Plan) -> Deviation | None:
    """Return that values lie beyond a scale that the plan takes for that of all scans, or fill nearly nothing of it."""
    if plan.intensity.scheme != "scaled":
        return None
    low, high = plan.intensity.scale_range
    dark, bright, width = scan.percentiles["0.5"], scan.percentiles["99.5"], high - low
    filled = (scan.maximum - scan.minimum) / width
    # such scales are those whose upper ends lie within a factor of 2 of each other
    if bright > high + width or dark < low - width:
        ratio = max(bright - low, high - dark) / width
        return Deviation("intensity-outlier", f"Its values reach {ratio:.2g} times as far as the scale.", certain=True)
    if filled < _LEAST_OF_SCALE:
        return Deviation("intensity-outlier", f"Its values fill {filled:.1%} of the scale of training.", certain=True)
    return None


def _spacing(scan: ScanStatistics, grid: Grid) -> Iterator[Deviation]:
    if scan.spacing_mm is not None:
        if not is_plausible_mm(scan.spacing_mm):
            yield Deviation("spacing-implausible", f"Its voxels are {in_mm(scan.spacing_mm)}.", certain=True)
    elif grid.num_with_spacing >= 0.95 * grid.num_scans:
        yield Deviation("spacing-unknown", "The size of its voxels is unknown; that of the training scans was known.")


def _numbers(scan: ScanStatistics, fingerprint: Fingerprint, grid: Grid) -> Iterator[Deviation]:
    """Yield the farthest number of each subject that is outside of what training covered."""
    found, trained = scan_measures(scan), _trained_spreads(fingerprint, grid)
    measures = {name: one for name, one in _measures(scan, fingerprint, grid) if name in found and name in trained}
    beyond = {name: measure.beyond(found[name], trained[name]) for name, measure in measures.items()}
    sure = _certain_by_themselves(measures, beyond) if fingerprint.num_scans >= LEAST_VALUES else frozenset()
    for code in dict.fromkeys(measure.code for measure in measures.values()):
        outside = [name for name, measure in measures.items() if measure.code == code and abs(beyond[name]) > 1]
        if outside:
            farthest = max(outside, key=lambda name: abs(beyond[name]))
            sentence = _sentence(measures[farthest], found[farthest], trained[farthest])
            yield Deviation(code, sentence, certain=not sure.isdisjoint(outside))


def _certain_by_themselves(measures: Mapping[str, _Measure], beyond: Mapping[str, float]) -> frozenset[str]:
    """Return the lengths, ratios and shares that are very far outside; and the levels in HU if all moved one way."""
    far = {name for name, one in measures.items() if one.floor is not None and abs(beyond[name]) > _FAR_BEYOND}
    levels = [f"percentiles.{level}" for level in CT_LEVELS]
    moved = [beyond.get(level, 0.0) for level in levels]  # another intercept, or another part of the body
    return frozenset(far | set(levels if min(moved) > 1 or max(moved) < -1 else ()))


def _sentence(measure: _Measure, value: float, trained: Spread) -> str:
    distance = value - trained.median
    return measure.text.format(
        value=value, low=trained.minimum, high=trained.maximum, ratio=value / (trained.median or 1.0),
        distance=f"about {float(f'{abs(distance):.1g}'):g} HU {'above' if distance > 0 else 'below'}",
    )  # fmt: skip


def _measures(scan: ScanStatistics, fingerprint: Fingerprint, grid: Grid) -> Iterator[tuple[str, _Measure]]:
    """Yield what is compared: levels in HU for CT, the range of the values and its middle for others; then geometry."""
    if scan.modality == fingerprint.modality == "CT":
        yield from _levels()
        yield from _tissues()
    else:
        yield "value_range", _Measure(
            "intensity-outlier", "The range of its values is {ratio:.2g} times the usual one of training.",
            math.sqrt(ODD_SCALE_RATIO), floor=0.0,
        )  # fmt: skip
        yield from _relative()
    yield from _texture()
    yield "foreground_fraction", _share("foreground")
    yield from _lengths(scan, grid)


def _levels() -> Iterator[tuple[str, _Measure]]:
    for level, name in CT_LEVELS.items():
        text = f"Its {name} lies {{distance}} that of the median training scan."
        yield f"percentiles.{level}", _Measure("intensity-outlier", text, ODD_HU / 2)


def _relative() -> Iterator[tuple[str, _Measure]]:
    for level in RELATIVE_LEVELS:
        where = "lies at {value:.0%} of their range; in training at {low:.0%} to {high:.0%}."
        yield (
            f"relative_levels.{level}",
            _Measure("intensity-outlier", f"The {level}th percentile of its values {where}", _ODD_LEVEL),
        )


def _texture() -> Iterator[tuple[str, _Measure]]:
    differ = "Neighbouring voxels differ by {value:.1%} of the range; in training by {low:.1%} to {high:.1%}."
    yield "roughness", _Measure("texture-outlier", differ, _ODD_ROUGHNESS_RATIO, floor=_LEAST_ROUGHNESS)
    apart = "Its colours lie {value:.0%} apart; in training {low:.0%} to {high:.0%}."
    yield "colorfulness", _Measure("mixed-color", apart, _ODD_COLOR_RATIO, floor=_LEAST_COLOR)


def _tissues() -> Iterator[tuple[str, _Measure]]:
    for tissue in TISSUES_FROM_HU:
        yield f"tissue_shares.{tissue}", _share(tissue.replace("_", " "))


def _share(name: str) -> _Measure:
    text = f"{{value:.1%}} of it is {name}; in training it was {{low:.1%}} to {{high:.1%}}."
    return _Measure("coverage-outlier", text, _ODD_SHARE_RATIO, floor=_LEAST_SHARE)


def _lengths(scan: ScanStatistics, grid: Grid) -> Iterator[tuple[str, _Measure]]:
    ratio = math.sqrt(ODD_SIZE_RATIO)
    in_voxels = scan.spacing_mm is None or grid.spacing_mm is None
    for axis, letter in enumerate("DHW"[-len(scan.spatial_shape) :]):
        told = f" along {letter} is {{value:.3g}} mm; in training it was {{low:g}} to {{high:g}} mm."
        yield (
            f"spacing_mm.{axis}",
            _Measure("spacing-outlier", f"Its spacing{told}", math.sqrt(ODD_SPACING_RATIO), floor=0.0),
        )
        if in_voxels:
            text = f"Its size{told.replace(' mm', ' voxels')}"
            yield f"size.{axis}", _Measure("size-outlier", text, ratio, floor=0.0)
        else:
            yield f"extent_mm.{axis}", _Measure("size-outlier", f"Its field of view{told}", ratio, floor=0.0)
            yield f"box_mm.{axis}", _Measure("size-outlier", f"The extent of what it shows{told}", ratio, floor=0.0)


def _trained_spreads(fingerprint: Fingerprint, grid: Grid) -> dict[str, Spread]:
    """Return the spreads of the training scans under the names of `scan_measures`."""
    spreads = {name: getattr(fingerprint, name) for name in ("value_range", "roughness", "colorfulness")}
    spreads |= {f"relative_levels.{level}": spread for level, spread in fingerprint.relative_levels.items()}
    spreads |= {f"percentiles.{level}": spread for level, spread in fingerprint.percentiles.items()}
    spreads |= {f"tissue_shares.{tissue}": spread for tissue, spread in fingerprint.tissue_shares.items()}
    return spreads | _grid_spreads(grid)


def _grid_spreads(grid: Grid) -> dict[str, Spread]:
    by_axis = {
        "size": grid.size, "spacing_mm": grid.spacing_mm, "extent_mm": grid.extent_mm, "box_mm": grid.box_mm
    }  # fmt: skip
    lengths = {f"{name}.{axis}": one for name, spreads in by_axis.items() for axis, one in enumerate(spreads or ())}
    return lengths | {"foreground_fraction": grid.foreground_fraction}
