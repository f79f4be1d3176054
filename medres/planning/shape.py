"""The size of the network's input, and the spacing that scans are resampled to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medres.errors import PlanError
from medres.planning.budget import voxel_budget
from medres.planning.choice import Choice, by_wish, times
from medres.planning.facts import BackboneFacts, MachineFacts
from medres.planning.fingerprint import ANISOTROPIC_FROM, Grid
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Crop
from medres.planning.spread import rounded

#: Sides are multiples of this: whole up to the last halving of a network of stride 32, and a width that
#: convolution kernels are made for.
QUANTUM = 16

#: The last feature map has at least this many positions along each axis (DESIGN 3).
_MIN_POSITIONS = 2

#: Pretrained features know things larger than a small crop shows them: frozen features of 51^3 nodules gave AUROC
#: .71 at 64^3 and .75 at 96^3. More than twice does not help: breast ultrasound of 28 pixels gave .84 at 64, .82 at
#: 96, .81 at 128. Without pretrained weights enlarging only costs.
_MAX_ENLARGEMENT = {True: 2.0, False: 1.0}


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much there is to see along each axis, in the plan's order.

    Args:
        median: Of the scans, after cropping.
        p95: 95 % of the scans are no larger.
        spacing: Median spacing; 1 where lengths are in voxels.
        in_mm: Whether lengths are in mm (all spacings are known) or in voxels.
    """

    median: tuple[float, ...]
    p95: tuple[float, ...]
    spacing: tuple[float, ...]
    in_mm: bool

    @property
    def unit(self) -> str:
        """``mm`` or ``voxels``."""
        return "mm" if self.in_mm else "voxels"


def grid_extent(grid: Grid, *, crop: Crop, order: Sequence[int]) -> Extent:
    """Return the extent of the scans (of their foreground boxes with ``crop``), axes taken in ``order``."""
    in_mm = len(grid.size) == 3 and grid.num_with_spacing == grid.num_scans
    whole, box = (grid.extent_mm, grid.box_mm) if in_mm else (grid.size, grid.box)
    lengths = (box if crop == "foreground" else whole) or grid.size
    spacing = grid.spacing_mm if in_mm else None
    return Extent(
        median=tuple(lengths[axis].median for axis in order),
        p95=tuple(lengths[axis].p95 for axis in order),
        spacing=tuple(spacing[axis].median for axis in order) if spacing else (1.0,) * len(order),
        in_mm=in_mm,
    )


def minimum_sides(backbone: BackboneFacts) -> tuple[int, ...]:
    """Return the smallest sides of an input: two positions of the last feature map along each axis.

    Example:
        >>> minimum_sides(BackboneFacts(arch="resnet18", spatial_dims=3, total_stride=32, stem_stride=(1, 2, 2),
        ...                             num_features=512, num_parameters=33_000_000))
        (16, 64, 64)
    """
    return tuple(_MIN_POSITIONS * stride for stride in backbone.total_strides)


def choose_shape(
    extent: Extent, *, backbone: BackboneFacts, machine: MachineFacts, wishes: PlanOverrides
) -> Choice[tuple[int, ...]]:
    """Return the spatial shape of the network's input.

    Raises:
        PlanError: The user asks for one that the backbone or the data cannot have.
    """
    chosen = _by_budget(extent, backbone, machine)
    instead = f"{times(chosen.value)}. {chosen.reason}"
    if wishes.shape is not None:
        require_shape(wishes.shape, backbone=backbone, key="planning.shape")
        return by_wish(wishes.shape, key="shape", instead_of=instead)
    if wishes.spacing_mm:
        return _by_spacing(wishes.spacing_mm, extent, backbone, instead)
    return chosen


def require_shape(shape: Sequence[int], *, backbone: BackboneFacts, key: str) -> None:
    """Refuse a shape that the backbone cannot read.

    Raises:
        PlanError: Its number of axes is wrong, or an axis is too short for the backbone's stride.
    """
    dims, least = backbone.spatial_dims, minimum_sides(backbone)
    if len(shape) != dims:
        raise PlanError(
            f"{key} is {list(shape)}; {backbone.arch} reads {dims} axes, order {'D, H, W' if dims == 3 else 'H, W'}.",
            fix=f"Give {dims} sizes, such as {list(least)}.",
        )
    if any(size < low for size, low in zip(shape, least, strict=True)):
        raise PlanError(
            f"{key} is {list(shape)}; {backbone.arch} with {needs_of(backbone)}, so that its last feature map has "
            f"{_MIN_POSITIONS} positions.",
            fix=f"Use {[max(size, low) for size, low in zip(shape, least, strict=True)]} or more.",
        )


def needs_of(backbone: BackboneFacts) -> str:
    """Return the strides and what follows from them, for a sentence."""
    strides, least = backbone.total_strides, minimum_sides(backbone)
    if len(set(strides)) == 1:
        return f"a stride of {strides[0]} needs at least {least[0]} along each axis"
    return f"strides of {times(strides)} needs at least {times(least)}"


def choose_spacing(shape: Sequence[int], extent: Extent, *, wishes: PlanOverrides) -> Choice[tuple[float, ...] | None]:
    """Return the spacing that scans are resampled to; None scales each scan by its own size."""
    chosen = _spacing_of(shape, extent)
    if wishes.spacing_mm is None:
        return chosen
    return by_wish(wishes.spacing_mm or None, key="spacing_mm", instead_of=chosen.reason)


def require_spacing(spacing_mm: Sequence[float] | None, extent: Extent) -> None:
    """Refuse a wished spacing that the data does not have.

    Raises:
        PlanError: Not all scans know their spacing, or it has another number of axes.
    """
    if not spacing_mm:
        return
    dims = len(extent.median)
    if not extent.in_mm:
        why = "images have no spacing" if dims == 2 else "not all scans say how large their voxels are"
        raise PlanError(
            f"planning.spacing_mm is {list(spacing_mm)}, but {why}.",
            fix="Leave planning.spacing_mm out: each scan is then scaled by its own size.",
        )
    if len(spacing_mm) != dims:
        raise PlanError(
            f"planning.spacing_mm is {list(spacing_mm)}; the scans have {dims} axes, order D, H, W.",
            fix="Give one number in mm for each axis.",
        )


def fit_shape(
    lengths: Sequence[float], limits: Sequence[int], *, budget: int, minimum: Sequence[int]
) -> tuple[int, ...]:
    """Return sides in the proportion of ``lengths``, multiples of `QUANTUM`, that use up ``budget`` voxels.

    Where an axis reaches its limit, the others get what it leaves. The minimum is kept, even above the budget.

    Args:
        lengths: Extent along each axis, in one unit.
        limits: Largest useful side along each axis.
        budget: Number of voxels.
        minimum: Smallest side along each axis, rounded up to a multiple of `QUANTUM`.

    Example:
        >>> fit_shape((300.0, 360.0, 360.0), (512, 512, 512), budget=96**3, minimum=(64, 64, 64))
        (80, 96, 96)
        >>> fit_shape((300.0, 360.0, 360.0), (32, 512, 512), budget=96**3, minimum=(32, 64, 64))
        (32, 160, 160)
    """
    least = [math.ceil(side / QUANTUM) * QUANTUM for side in minimum]
    highest = [max(low, limit // QUANTUM * QUANTUM) for low, limit in zip(least, limits, strict=True)]
    wanted = _fill(lengths, highest, budget=budget, least=least)
    sides = [max(low, int(side / QUANTUM + 1e-6) * QUANTUM) for low, side in zip(least, wanted, strict=True)]
    while grown := _grow(sides, wanted, highest, budget=budget):
        sides = grown
    return tuple(sides)


def _fill(lengths: Sequence[float], highest: Sequence[int], *, budget: int, least: Sequence[int]) -> list[float]:
    """Return real-valued sides: one scale for all axes, found by bisection, each side kept within its limits."""

    def sides(scale: float) -> list[float]:
        return [
            min(float(high), max(float(low), scale * length))
            for length, low, high in zip(lengths, least, highest, strict=True)
        ]

    low, high = 0.0, max(side / max(length, 1e-9) for length, side in zip(lengths, highest, strict=True))
    if math.prod(sides(high)) <= budget:
        return sides(high)
    for _ in range(60):  # halves the interval to the last bit of a float
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(sides(middle)) <= budget else (low, middle)
    return sides(low)


def _grow(sides: Sequence[int], wanted: Sequence[float], highest: Sequence[int], *, budget: int) -> list[int] | None:
    """Return the sides with those that lost most by rounding a step larger, or None where no step fits.

    Axes that lost equally much grow together or not at all: a cube stays a cube. No axis outgrows a longer one.
    """
    losses = [
        round(goal / side, 6) if goal >= side + QUANTUM / 2 and side + QUANTUM <= high else 0.0
        for side, goal, high in zip(sides, wanted, highest, strict=True)
    ]
    for loss in sorted(set(losses) - {0.0}, reverse=True):
        grown = [side + QUANTUM * (own == loss) for side, own in zip(sides, losses, strict=True)]
        by_length = [side for _, side in sorted(zip(wanted, grown, strict=True))]
        if math.prod(grown) <= budget and by_length == sorted(grown):
            return grown
    return None


def _by_budget(extent: Extent, backbone: BackboneFacts, machine: MachineFacts) -> Choice[tuple[int, ...]]:
    budget, why = voxel_budget(backbone, machine)
    least = minimum_sides(backbone)
    limits = useful_limits(extent, pretrained=backbone.pretrained)
    shape = fit_shape(extent.median, limits, budget=budget, minimum=least)
    sentences = [
        f"Proportions of the median extent, {times(tuple(rounded(length) for length in extent.median))} {extent.unit}.",
        f"The limit: {why}.",
    ]
    if math.prod(shape) > budget:
        sentences.append(f"The least that {backbone.arch} can read is above that limit and was kept.")
    return Choice(shape, " ".join([*sentences, *enlarged_to(shape, extent, backbone)]))


def enlarged_to(shape: Sequence[int], extent: Extent, backbone: BackboneFacts) -> list[str]:
    """Return why scans are enlarged to ``shape``, as one sentence; none where they are not."""
    native = tuple(round(length / step) for length, step in zip(extent.p95, extent.spacing, strict=True))
    if all(side <= count for side, count in zip(shape, native, strict=True)):
        return []
    return [_why_enlarged(native, backbone)]


def _why_enlarged(native: Sequence[int], backbone: BackboneFacts) -> str:
    gain = "; pretrained features gain from up to twice the size" if backbone.pretrained else ""
    return (
        f"Scans of {times(tuple(native))} voxels are enlarged: {backbone.arch} with {needs_of(backbone)} for a last "
        f"feature map of {_MIN_POSITIONS}{gain}."
    )


def useful_limits(extent: Extent, *, pretrained: bool) -> list[int]:
    """Return the largest useful sides; thick slices are never more than there are."""
    thick = ANISOTROPIC_FROM * min(extent.spacing)
    factors = [1.0 if step >= thick else _MAX_ENLARGEMENT[pretrained] for step in extent.spacing]
    counts = [length / step for length, step in zip(extent.p95, extent.spacing, strict=True)]
    # an axis at its own resolution is rounded up: rounding down would throw slices away
    return [
        math.ceil(count / QUANTUM - 1e-6) * QUANTUM if factor == 1.0 else int(factor * count)
        for factor, count in zip(factors, counts, strict=True)
    ]


def _by_spacing(
    spacing_mm: Sequence[float], extent: Extent, backbone: BackboneFacts, instead: str
) -> Choice[tuple[int, ...]]:
    return Choice(
        useful_sides(spacing_mm, extent, backbone),
        f"Follows from planning.spacing_mm: 95 % of the scans fit. Without it: {instead}",
    )


def useful_sides(spacing_mm: Sequence[float], extent: Extent, backbone: BackboneFacts) -> tuple[int, ...]:
    """Return the sides that 95 % of the scans fit into at a spacing."""
    least = minimum_sides(backbone)
    sides = (math.ceil(length / step / QUANTUM) * QUANTUM for length, step in zip(extent.p95, spacing_mm, strict=True))
    return tuple(max(math.ceil(low / QUANTUM) * QUANTUM, side) for low, side in zip(least, sides, strict=True))


def pitch_that_fits(shape: Sequence[int], extent: Extent) -> tuple[tuple[float, ...], str, str]:
    """Return the spacing at which 95 % of the scans fit into a shape; their lengths and their own spacing in words."""
    spacing = tuple(rounded(length / side) for length, side in zip(extent.p95, shape, strict=True))
    lengths = times(tuple(rounded(length) for length in extent.p95))
    return spacing, lengths, times(tuple(rounded(step) for step in extent.spacing))


def _spacing_of(shape: Sequence[int], extent: Extent) -> Choice[tuple[float, ...] | None]:
    if not extent.in_mm:
        why = "images have no common scale" if len(shape) == 2 else "not all volumes say how large their voxels are"
        return Choice(None, f"Each scan is scaled by its own size, aspect ratio kept, since {why}.")
    spacing, lengths, native = pitch_that_fits(shape, extent)
    return Choice(
        spacing,
        f"95 % of the scans are no larger than {lengths} mm, which is divided by the shape; the files' own spacing is "
        f"{native} mm in the median.",
    )
