"""Where voxels lie in space: affines that can be trusted, and spacings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medres.errors import UnreadableScanError

Affine = npt.NDArray[np.float64]

# Oblique acquisitions are orthogonal; registration to an atlas is what shears. Up to one degree is rounding
# and the table's sag, beyond it the spacing along an axis is no longer the distance between its planes.
MAX_SHEAR_DEGREES = 1.0

# From electron microscopy to a slice a decimetre thick; beyond it the number is no spacing in mm.
_PLAUSIBLE_MM = (1e-5, 100.0)

# A thousand kilometres: what lies farther off is a damaged number (and NaN is not smaller than anything).
_FARTHEST_MM = 1e9


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where voxels lie.

    Args:
        affine: ``(i, j, k, 1)`` to RAS millimetres, or None where the file does not say.
        spacing_mm: Size of a voxel along each spatial axis, or None.
        notes: What had to be decided, as ``code: sentence``.
    """

    affine: Affine | None = None
    spacing_mm: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


def place_volume(affine: Affine, *, notes: tuple[str, ...] = ()) -> Placement:
    """Return the placement of a volume.

    Args:
        affine: ``(4, 4)``, in millimetres.
        notes: Carried over.

    Raises:
        UnreadableScanError: The affine is not finite, singular or sheared.

    Example:
        >>> place_volume(np.diag([-0.7, -0.7, 5.0, 1.0])).spacing_mm
        (0.7, 0.7, 5.0)
    """
    if affine.shape != (4, 4) or not (np.abs(affine) < _FARTHEST_MM).all():
        found = "has an affine that is not 4x4 finite numbers of millimetres"
        raise UnreadableScanError(found, fix=_FIX_AFFINE, code="header-damaged")
    spacing = tuple(float(norm) for norm in np.linalg.norm(affine[:3, :3], axis=0))
    if min(spacing) < _PLAUSIBLE_MM[0]:
        found = f"has a singular affine: spacing {_text(spacing)} mm"
        raise UnreadableScanError(found, fix=_FIX_AFFINE, code="singular-affine")
    shear = _shear_degrees(affine[:3, :3] / spacing)
    if shear > MAX_SHEAR_DEGREES:
        raise UnreadableScanError(
            f"has a sheared affine: its axes are {shear:.1f} degrees off the right angle, "
            f"the limit is {MAX_SHEAR_DEGREES:g}",
            fix="Resample it onto an orthogonal grid (for example with SimpleITK or FSL flirt) first.",
            code="sheared-affine",
        )
    return Placement(affine=np.array(affine, dtype=np.float64), spacing_mm=spacing, notes=notes)


def plausible_spacing(sizes_mm: Sequence[float]) -> tuple[float, ...] | None:
    """Return the spacing as numbers, or None where one of them cannot be a size in millimetres.

    Example:
        >>> plausible_spacing([0.5, 0.5, 0.0]) is None
        True
    """
    low, high = _PLAUSIBLE_MM
    spacing = tuple(float(size) for size in sizes_mm)
    return spacing if all(math.isfinite(size) and low <= size <= high for size in spacing) else None


def _shear_degrees(axes: npt.NDArray[np.float64]) -> float:
    cosines = axes.T @ axes
    largest = max(abs(cosines[0, 1]), abs(cosines[0, 2]), abs(cosines[1, 2]))
    return math.degrees(math.asin(min(1.0, float(largest))))


def _text(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:.3g}" for number in numbers)


_FIX_AFFINE = "Mend its header, or export the scan again."
