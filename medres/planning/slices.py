"""2.5D: how many slices of which size the network reads, and which neighbours of a slice it sees."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medres.errors import PlanError
from medres.planning.budget import slices_budget, voxel_budget
from medres.planning.choice import Choice, by_wish, times
from medres.planning.facts import BackboneFacts, MachineFacts
from medres.planning.fingerprint import Grid
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Crop
from medres.planning.shape import (
    Extent,
    enlarged_to,
    fit_shape,
    minimum_sides,
    pitch_that_fits,
    require_shape,
    useful_limits,
    useful_sides,
)
from medres.planning.spread import rounded

#: Slices are merged before they get smaller than this: frozen features of slices of brain MRI gave AUROC .84 at 64
#: pixels and .88 at 96 (see `medres.planning.budget`).
_SIDE_BEFORE_SLICES = 96

#: However small the budget: fewer are no volume.
_LEAST_SLICES = 8


def in_plane(extent: Extent) -> Extent:
    """Return the extent along H and W."""
    return Extent(median=extent.median[1:], p95=extent.p95[1:], spacing=extent.spacing[1:], in_mm=extent.in_mm)


def choose_slices(
    grid: Grid, extent: Extent, *, crop: Crop, order: Sequence[int], backbone: BackboneFacts, machine: MachineFacts,
    wishes: PlanOverrides,
) -> Choice[tuple[int, ...]]:  # fmt: skip
    """Return (D, H, W): the most slices that the network reads of a scan, and the size of each.

    Args:
        grid: Of the volumes.
        extent: Along D, H, W of the plan.
        crop: Whether only the foreground's slices count.
        order: Axis of the fingerprint for each axis of the plan.
        backbone: A 2D network.
        machine: What it can bear.
        wishes: Of the user.

    Raises:
        PlanError: The user asks for a shape that the backbone cannot read.
    """
    sizes = (grid.box if crop == "foreground" else grid.size)[order[0]]
    chosen = _by_budget(math.ceil(sizes.p95), in_plane(extent), backbone, machine)
    instead = f"{times(chosen.value)}. {chosen.reason}"
    if wishes.shape is not None:
        require_slices(wishes.shape, backbone=backbone, key="planning.shape")
        return by_wish(wishes.shape, key="shape", instead_of=instead)
    if wishes.spacing_mm:
        plane = useful_sides(wishes.spacing_mm, in_plane(extent), backbone)
        reason = f"Follows from planning.spacing_mm: 95 % of the scans fit into the plane. Without it: {instead}"
        return Choice((chosen.value[0], *plane), reason)
    return chosen


def choose_pitch(shape: Sequence[int], extent: Extent, *, wishes: PlanOverrides) -> Choice[tuple[float, ...] | None]:
    """Return the spacing (h, w) that slices are resampled to; None scales each scan by its own size."""
    chosen = _pitch(shape, in_plane(extent))
    if wishes.spacing_mm is None:
        return chosen
    return by_wish(wishes.spacing_mm or None, key="spacing_mm", instead_of=chosen.reason)


def choose_neighbours(wishes: PlanOverrides, *, slicewise: bool) -> Choice[int]:
    """Return how many neighbouring slices the network sees as channels: 1 (the slice alone) where none are asked for.

    Raises:
        PlanError: The user asks for neighbours, but scans are not read slice by slice.
    """
    if not slicewise:
        if wishes.neighbours not in (None, 1):
            raise PlanError(
                f"planning.neighbours is {wishes.neighbours}, but the scans are not read slice by slice.",
                fix="Leave planning.neighbours out, or read volumes with --dims 2.5.",
            )
        return Choice(1, "Scans are not read slice by slice.")
    reason = "A slice is shown by itself; planning.neighbours=3 adds that on either side of it as channels, 5 two."
    if wishes.neighbours is None:
        return Choice(1, reason)
    return by_wish(wishes.neighbours, key="neighbours", instead_of=f"1. {reason}")


def require_slices(shape: Sequence[int], *, backbone: BackboneFacts, key: str) -> None:
    """Refuse a shape whose slices the backbone cannot read.

    Raises:
        PlanError: It has not three axes, or a slice is too small for the backbone's stride.
    """
    if len(shape) != 3:
        raise PlanError(
            f"{key} is {list(shape)}; 2.5D reads D slices of H x W: 3 sizes, order D, H, W.",
            fix=f"Give 3 sizes, such as {[_LEAST_SLICES, *minimum_sides(backbone)]}.",
        )
    require_shape(shape[1:], backbone=backbone, key=f"{key} within the slice")


def require_pitch(spacing_mm: Sequence[float] | None, extent: Extent) -> None:
    """Refuse a wished spacing that the data does not have.

    Raises:
        PlanError: Not all scans know their spacing, or it has not two axes.
    """
    if not spacing_mm:
        return
    if not extent.in_mm:
        raise PlanError(
            f"planning.spacing_mm is {list(spacing_mm)}, but not all scans say how large their voxels are.",
            fix="Leave planning.spacing_mm out: each scan is then scaled by its own size.",
        )
    if len(spacing_mm) != 2:
        raise PlanError(
            f"planning.spacing_mm is {list(spacing_mm)}; in 2.5D slices are resampled in their plane only, order H, W.",
            fix="Give two numbers in mm.",
        )


def _by_budget(count: int, plane: Extent, backbone: BackboneFacts, machine: MachineFacts) -> Choice[tuple[int, ...]]:
    pixels, why = slices_budget(backbone, machine)
    of_one, why_one = voxel_budget(backbone, machine)
    least, limits = minimum_sides(backbone), useful_limits(plane, pretrained=backbone.pretrained)
    small = min(of_one, max(_SIDE_BEFORE_SLICES, *least) ** 2)
    reference = fit_shape(plane.median, limits, budget=small, minimum=least)
    depth = min(count, max(_LEAST_SLICES, pixels // math.prod(reference)))
    sides = fit_shape(plane.median, limits, budget=min(of_one, pixels // depth), minimum=least)
    said = [
        f"95 % of the scans have at most {count} slices: {_said_of_depth(depth, count)}",
        f"Slices in the proportions of the median extent, "
        f"{times(tuple(rounded(length) for length in plane.median))} {plane.unit}.",
        f"The limits: all slices of a scan, {why}; one slice, {why_one}.",
    ]
    if math.prod(sides) * depth > pixels:
        said.append(f"The least that {backbone.arch} can read is above that limit and was kept.")
    return Choice((depth, *sides), " ".join([*said, *enlarged_to(sides, plane, backbone)]))


def _said_of_depth(depth: int, count: int) -> str:
    own = "each scan keeps its own slices, however many, without interpolation between them."
    if depth == count:
        return f"{own} Of a scan with more, neighbours are merged evenly."
    return f"of a scan with more than {depth}, neighbours are merged evenly; any other keeps its own."


def _pitch(shape: Sequence[int], plane: Extent) -> Choice[tuple[float, ...] | None]:
    if not plane.in_mm:
        return Choice(
            None, "Each scan's slices are scaled by their own size, aspect ratio kept, since not all volumes say how "
            "large their voxels are."
        )  # fmt: skip
    pitch, lengths, native = pitch_that_fits(shape[1:], plane)
    return Choice(
        pitch,
        f"Within the slice (h, w): 95 % of the scans are no larger than {lengths} mm, which is divided by the shape; "
        f"the files' own is {native} mm in the median. Across the slices the pitch is each scan's own.",
    )
