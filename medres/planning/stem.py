"""The stride of a 3D network's stem along D: 2, as within the slice, or 1 for few or thick slices.

A stem of stride 2 halves each axis twice, in its first convolution and in its pooling; a stem of stride 1 along D
leaves the slices alone (`medres.models.geometry`). Between the two lies a factor of 4: where planned voxels are twice
as long along D as within the slice, or more, the voxels behind a thick-slice stem are nearer to cubes than those behind
an ordinary one, and cubes are what kernels inflated from pictures learnt on.
"""

from __future__ import annotations

from medres.errors import PlanError
from medres.planning.choice import Choice, by_wish, times
from medres.planning.facts import BackboneFacts, MachineFacts
from medres.planning.fingerprint import ANISOTROPIC_FROM
from medres.planning.overrides import PlanOverrides
from medres.planning.shape import QUANTUM, Extent, choose_shape, choose_spacing, minimum_sides

StemStride = tuple[int, int, int]

ORDINARY: StemStride = (2, 2, 2)
THICK: StemStride = (1, 2, 2)

_WHOSE = {
    "stated": "the weights were trained with it, and keep what they learnt",
    "fixed": "the geometry that the weights were trained in (MedicalNet's) has no other",
}


def choose_stem(
    extent: Extent, *, backbone: BackboneFacts, machine: MachineFacts, wishes: PlanOverrides
) -> Choice[StemStride | None]:
    """Return the stride of the stem along D, H, W; None where there is no choice (2D networks, plug-ins).

    Args:
        extent: Of the scans, along D, H, W of the plan.
        backbone: With the stem that its weights state, or the ordinary one.
        machine: What it can bear.
        wishes: Of the user.

    Raises:
        PlanError: The user asks for a stem that the network cannot have.
    """
    if wishes.stem_stride is not None:
        require_stem(wishes.stem_stride, backbone=backbone, key="planning.stem_stride")
        # what would have been chosen is not worked out: a wished shape may need the wished stem
        return by_wish(wishes.stem_stride, key="stem_stride", instead_of="by the number of slices and their thickness.")
    if backbone.stem_stride is None:
        return Choice(None, _no_choice(backbone))
    if backbone.stem != "free":
        return Choice(backbone.stem_stride, f"Kept at {times(backbone.stem_stride)}: {_WHOSE[backbone.stem]}.")
    return _by_slices(extent, backbone, machine, wishes)


def require_stem(stem_stride: StemStride | None, *, backbone: BackboneFacts, key: str) -> None:
    """Refuse a stem that the network cannot have.

    Raises:
        PlanError: It is a 2D network or a plug-in's, or its weights fix another.
    """
    if stem_stride is None or stem_stride == backbone.stem_stride:
        return
    if backbone.stem_stride is None:
        problem = _no_choice(backbone)
    elif backbone.stem == "fixed":
        problem = f"{backbone.weights_source} keeps {list(backbone.stem_stride)}: {_WHOSE['fixed']}."
    else:
        return
    raise PlanError(f"{key} is {list(stem_stride)}. {problem}", fix=f"Leave {key.split()[-1]} out.")


def _no_choice(backbone: BackboneFacts) -> str:
    if backbone.spatial_dims == 2:
        return "A stem stride is a choice of 3D networks; this one reads images."
    return f"{backbone.arch} is the network of a plug-in, whose stem is its own."


def _by_slices(
    extent: Extent, backbone: BackboneFacts, machine: MachineFacts, wishes: PlanOverrides
) -> Choice[StemStride | None]:
    least = minimum_sides(backbone.with_stem(ORDINARY))[0]
    shape = _shape(THICK, extent, backbone, machine, wishes)
    if wishes.shape is not None and shape[0] < least:
        return Choice(THICK, f"{shape[0]} slices are asked for: a stem of stride 2 along D would need {least}.")
    usual = _shape(ORDINARY, extent, backbone, machine, wishes)
    counts = _counts(extent, wishes)
    needed = minimum_sides(backbone.with_stem(THICK))[0]
    why = _why_thick(counts, least, needed, [_thickness(sides, extent, wishes) for sides in (usual, shape)])
    if not why:
        return Choice(
            ORDINARY,
            f"{_about(counts)}; in {times(usual)} their voxels are less than {ANISOTROPIC_FROM:g} times as long along "
            "D as within the slice: strides are alike along all axes.",
        )
    if shape[0] < min(counts[0], usual[0]) // QUANTUM * QUANTUM:
        return Choice(
            ORDINARY,
            f"{why} But it costs up to four times as much a voxel: this machine could then read {times(shape)} only, "
            "with fewer slices than there are (planning.stem_stride=[1,2,2] asks for it all the same).",
        )
    return Choice(THICK, f"{why} The input is {times(shape)}.")


def _shape(
    stem: StemStride, extent: Extent, backbone: BackboneFacts, machine: MachineFacts, wishes: PlanOverrides
) -> tuple[int, ...]:
    return choose_shape(extent, backbone=backbone.with_stem(stem), machine=machine, wishes=wishes).value


def _counts(extent: Extent, wishes: PlanOverrides) -> list[int]:
    """Return the voxels along D, H, W that 95 % of the scans do not exceed, at their own or the wished spacing."""
    return [
        max(1, round(length / step))
        for length, step in zip(extent.p95, wishes.spacing_mm or extent.spacing, strict=True)
    ]


def _thickness(shape: tuple[int, ...], extent: Extent, wishes: PlanOverrides) -> float:
    """Return how many times as long along D as within the slice the planned voxels are; 1 where nobody knows."""
    spacing = choose_spacing(shape, extent, wishes=wishes).value
    return spacing[0] / max(spacing[1:]) if spacing else 1.0


def _why_thick(counts: list[int], least: int, needed: int, thickness: list[float]) -> str:
    if counts[0] < least and 2 * counts[0] <= min(counts[1:]):
        return (
            f"{_about(counts)}: a stem of stride 2 along D would need {least} for a last feature map of 2, made up by "
            f"interpolation; a stride of 1 needs {needed}."
        )
    if min(thickness) >= ANISOTROPIC_FROM:
        return (
            f"Planned voxels are {min(thickness):.2g} times as long along D as within the slice: from "
            f"{ANISOTROPIC_FROM:g} on, those behind a stem of stride 1 along D are nearer to cubes."
        )
    return ""


def _about(counts: list[int]) -> str:
    return f"95 % of the scans have at most {counts[0]} slices of {times(tuple(counts[1:]))}"
