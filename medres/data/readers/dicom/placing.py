"""From slices at their true positions to a volume on an orthogonal, even grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.data.readers.dicom.planes import Axes, Floats, Plane, axes_of, offsets_mm
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError

Pixels = npt.NDArray[Any]

# Beyond half a degree a stack leans by more than 2 mm over 250 mm.
_TILT_DEGREES = 0.5
# A distance is uneven from 1 % of the median on, but never for the rounding of positions to 0.01 mm.
_UNEVEN_SHARE, _UNEVEN_MM = 0.01, 0.02
# How far a gap may be off a whole number of distances and still be called missing slices.
_WHOLE_SHARE = 0.05
# More slices than that share of the true ones are not interpolated: that would be invention.
_MAX_INVENTED = 1.0


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Slices on a grid.

    Args:
        pixels: ``(K, rows, columns)``, or with a last axis of three colours.
        affine: ``(column, row, slice, 1)`` to RAS mm.
        notes: What was changed.
    """

    pixels: Pixels
    affine: Floats
    notes: tuple[str, ...]


def placed(pixels: Pixels, planes: Sequence[Plane], *, rules: ReadingRules) -> Placed:
    """Put slices onto a grid.

    Args:
        pixels: The values of `planes`.
        planes: In ascending order along their normal, at least two, each at a place of its own.
        rules: Whether a tilt and uneven distances are corrected.

    Raises:
        UnreadableScanError: The rules refuse what would have to be corrected.
    """
    axes = axes_of(planes)
    offsets = offsets_mm(planes, axes)
    origin = np.asarray(planes[0].frame.position, dtype=np.float64)
    tilt, straight = _leaning(offsets, axes)
    steps = _steps(offsets[:, 2])
    notes = _tilt_notes(planes, axes, tilt, straight, rules) + _distance_notes(offsets[:, 2], steps, rules)
    if not straight:
        pixels, corner = _upright(pixels, offsets, axes)
        origin = origin + corner[0] * axes.row + corner[1] * axes.column
        offsets = offsets * [0, 0, 1]
    if steps is not None:
        pixels = _at_even_distances(pixels, offsets[:, 2], steps)
    step = (offsets[-1] / (len(pixels) - 1)) @ np.stack([axes.row, axes.column, axes.normal])
    return Placed(pixels=pixels, affine=_affine(axes, origin, step), notes=notes)


def _affine(axes: Axes, origin: Floats, step: Floats) -> Floats:
    affine = np.eye(4)
    affine[:3, 0] = axes.row * axes.pixel_mm[1]
    affine[:3, 1] = axes.column * axes.pixel_mm[0]
    affine[:3, 2], affine[:3, 3] = step, origin
    affine[:2] = 0.0 - affine[:2]  # DICOM counts to the left and back, medres to the right and front
    return affine


def _leaning(offsets: Floats, axes: Axes) -> tuple[float, bool]:
    """Return the angle in degrees between stack and normal, and whether the slices need no moving sideways."""
    height = offsets[-1, 2]
    lean = offsets[-1, :2] / height
    tilt = math.degrees(math.atan(float(np.linalg.norm(lean))))
    wobble = np.abs(offsets[:, :2] - offsets[:, 2:] * lean).max()
    return tilt, bool(tilt <= _TILT_DEGREES and wobble <= 0.5 * min(axes.pixel_mm))


def _tilt_notes(
    planes: Sequence[Plane], axes: Axes, tilt: float, straight: bool, rules: ReadingRules
) -> tuple[str, ...]:
    if not straight:
        lean = f"lie {tilt:.1f} degrees off their normal" if tilt > _TILT_DEGREES else "are shifted sideways"
        if rules.gantry_tilt == "refuse":
            raise UnreadableScanError(
                f"has slices that {lean} (gantry tilt)",
                fix="Leave out --gantry-tilt refuse to have it corrected.",
                code="gantry-tilt-refused",
            )
        return (f"gantry-tilt-corrected: the slices {lean}; each was moved to its true place",)
    named = planes[0].header.gantry_tilt
    upright = max(abs(axes.normal)) > math.cos(math.radians(_TILT_DEGREES))
    if named is not None and abs(named) > _TILT_DEGREES and upright:
        return (f"gantry-tilt-doubt: the header names a gantry tilt of {abs(named):.1f} degrees that the positions of "
                "the slices do not show",)  # fmt: skip
    return ()


def _steps(heights: Floats) -> int | None:
    """Return how many distances an even grid has, or None where the slices lie on one already."""
    gaps = np.diff(heights)
    pitch = float(np.median(gaps))
    if np.abs(gaps - pitch).max() <= max(_UNEVEN_SHARE * pitch, _UNEVEN_MM):
        return None
    # the ends stay where they are, so that nothing is cut off and nothing extrapolated
    return max(1, round(float(heights[-1] / pitch)))


def _distance_notes(heights: Floats, steps: int | None, rules: ReadingRules) -> tuple[str, ...]:
    if steps is None:
        return ()
    problem, code = _distance_problem(np.diff(heights))
    if rules.uneven_slices == "refuse":
        raise UnreadableScanError(
            f"has {problem}", fix="Leave out --uneven-slices refuse to resample it.", code="uneven-slices-refused"
        )
    num_invented = steps + 1 - len(heights)
    if num_invented > _MAX_INVENTED * len(heights):
        raise UnreadableScanError(
            f"has {problem}: {num_invented} of {steps + 1} slices would have to be interpolated",
            fix="Export the series again, whole; or choose another with --series.",
            code="uneven-slices-refused",
        )
    return (f"{code}: {problem}; {steps + 1} slices every {heights[-1] / steps:.3g} mm were interpolated from "
            f"{len(heights)} true ones",)  # fmt: skip


def _distance_problem(gaps: Floats) -> tuple[str, str]:
    ratios = gaps / np.median(gaps)
    nearest = np.maximum(np.rint(ratios), 1)
    if np.abs(ratios - nearest).max() <= _WHOLE_SHARE:
        num_missing = int((nearest - 1).sum())
        places = int((nearest > 1).sum())
        return f"{num_missing} missing slice(s) at {places} place(s) between the others", "missing-slices"
    return f"slices at distances from {gaps.min():.3g} to {gaps.max():.3g} mm", "uneven-slices"


def _upright(pixels: Pixels, offsets: Floats, axes: Axes) -> tuple[Pixels, Floats]:
    """Move each slice sideways to its true place, on a grid that holds them all; the rest is the lowest value.

    Returns:
        The slices, and the place of the first pixel along row and column in mm.
    """
    corner = offsets[:, :2].min(axis=0)
    shifts = (offsets[:, :2] - corner) / [axes.pixel_mm[1], axes.pixel_mm[0]]  # columns, rows
    spare = np.ceil(shifts.max(axis=0) - 1e-6).astype(int)
    shape = (len(pixels), pixels.shape[1] + spare[1], pixels.shape[2] + spare[0], *pixels.shape[3:])
    moved = np.full(shape, pixels.min(), dtype=pixels.dtype)
    for target, source, (columns, rows) in zip(moved, pixels, shifts, strict=True):
        _shift(target, source, float(rows), float(columns))
    return moved, corner


def _shift(target: Pixels, source: Pixels, rows: float, columns: float) -> None:
    values, first_row = _between(source, rows, axis=0)
    values, first_column = _between(values, columns, axis=1)
    window = target[first_row : first_row + values.shape[0], first_column : first_column + values.shape[1]]
    window[...] = _as_type(values, target.dtype)


def _between(values: Pixels, shift: float, *, axis: int) -> tuple[Pixels, int]:
    """Return values moved by a fraction of a pixel along an axis, and the index of the first one."""
    whole = math.floor(shift + 1e-6)
    part = shift - whole
    if part <= 1e-6:
        return values, whole
    low = np.take(values, range(values.shape[axis] - 1), axis=axis)
    high = np.take(values, range(1, values.shape[axis]), axis=axis)
    return _mixed(high, low, part), whole + 1


def _at_even_distances(pixels: Pixels, heights: Floats, steps: int) -> Pixels:
    wanted = np.linspace(0, heights[-1], steps + 1)
    below = np.clip(np.searchsorted(heights, wanted, side="right") - 1, 0, len(heights) - 2)
    weights = (wanted - heights[below]) / np.diff(heights)[below]
    even = np.empty((steps + 1, *pixels.shape[1:]), dtype=pixels.dtype)
    for target, index, weight in zip(even, below, weights, strict=True):
        target[...] = _as_type(_mixed(pixels[index], pixels[index + 1], float(weight)), pixels.dtype)
    return even


def _mixed(one: Pixels, other: Pixels, weight: float) -> Pixels:
    """Return ``(1 - weight) * one + weight * other`` with enough digits for either."""
    wide = np.result_type(one, other, np.float32)
    mixed: Pixels = one.astype(wide) * wide.type(1 - weight) + other.astype(wide) * wide.type(weight)
    return mixed


def _as_type(values: Pixels, dtype: np.dtype[Any]) -> Pixels:
    # whole numbers stay whole: half a Hounsfield unit is far below the noise, and the scan keeps its type
    if dtype.kind in "iu" and values.dtype.kind == "f":
        values = np.rint(values)
    return values.astype(dtype, copy=False)
