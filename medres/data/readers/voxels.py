"""What all readers do with decoded voxels: channels, native types, no NaN, the content hash."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medres.data.content import content_hash
from medres.data.image import ScanImage
from medres.errors import UnreadableScanError

Voxels = npt.NDArray[Any]

#: Largest size of a value. Doubles end at 1.8e308, and the difference of two values must be one, too.
MAX_VALUE = 1e300


def make_image(
    voxels: Voxels,
    *,
    affine: npt.NDArray[np.float64] | None = None,
    spacing_mm: tuple[float, ...] | None = None,
    modality: str | None = None,
    notes: tuple[str, ...] = (),
) -> ScanImage:
    """Return the image of decoded voxels.

    Args:
        voxels: ``(C, *spatial)``, one channel, or three that are red, green and blue.
        affine: See `ScanImage`.
        spacing_mm: See `ScanImage`.
        modality: See `ScanImage`.
        notes: What the reader had to decide, as ``code: sentence``.

    Raises:
        UnreadableScanError: The voxels are not real numbers, or some are NaN, infinite or beyond 1e300.
    """
    native = _native_numbers(voxels)
    _require_finite(native)
    native = _one_channel_if_grey(native)
    return ScanImage(
        voxels=native,
        affine=affine,
        spacing_mm=spacing_mm,
        content_hash=content_hash(native),
        color=native.shape[0] == 3,
        modality=modality,
        notes=notes,
    )


def _native_numbers(voxels: Voxels) -> Voxels:
    if voxels.dtype.kind == "b":
        return voxels.astype(np.uint8)
    if voxels.dtype.kind not in "uif":
        kind = "complex" if voxels.dtype.kind == "c" else f"of type {voxels.dtype}"
        found = f"holds voxels that are {kind}, not real numbers"
        raise UnreadableScanError(found, fix="Export the magnitude as numbers.", code="not-numbers")
    if voxels.dtype.itemsize > 8:  # extended precision, which no later step can hold
        return voxels.astype(np.float64)
    return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def _require_finite(voxels: Voxels) -> None:
    if voxels.dtype.kind != "f":
        return
    # minimum and maximum carry any NaN and infinity and need no second array
    low, high = float(voxels.min()), float(voxels.max())
    if np.isfinite(low) and np.isfinite(high):
        _require_computable(max(-low, high))
        return
    num_bad = int(voxels.size - np.count_nonzero(np.isfinite(voxels)))
    raise UnreadableScanError(
        f"holds {num_bad:,} NaN or infinite voxels of {voxels.size:,}: damage or a mask, not a measurement",
        fix="Export the scan again, or replace them by its background value.",
        code="not-finite",
    )


def _require_computable(largest: float) -> None:
    if largest > MAX_VALUE:
        raise UnreadableScanError(
            f"holds voxel values of up to {largest:.3g}, which are too large to be computed with (the limit is "
            f"{MAX_VALUE:g})",
            fix="Export the scan again in another unit.",
            code="not-finite",
        )


def _one_channel_if_grey(voxels: Voxels) -> Voxels:
    if voxels.shape[0] == 3 and (voxels[0] == voxels[1]).all() and (voxels[0] == voxels[2]).all():
        return voxels[:1].copy(order="K")  # a view would keep all three channels in memory
    return voxels
