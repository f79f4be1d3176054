"""Single-file NIfTI, plain and gzipped; two-file NIfTI is in `pairs`."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from medres.data.image import ScanImage
from medres.data.readers.blocks import long_axes, part_of, read_block
from medres.data.readers.nifti_header import (
    Header,
    data_offset,
    data_type,
    placement,
    read_header,
    scale_factors,
    stored_shape,
)
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

# Where scaled values may lie to be float32, which is exact from 1.2e-38 to 3.4e38, with room on both sides; and how
# many steps of the stored type from zero: its rounding is then at most an eighth of a step.
_LARGEST_SINGLE = 1e37
_SMALLEST_SINGLE = 1e-30
_MOST_STEPS = 2.0**21

_RGB_FIELDS = ("R", "G", "B")


def read_nifti(stream: BinaryIO, *, volume: int | None = None, compressed_bytes: int | None = None) -> ScanImage:
    """Read a single-file NIfTI-1 or NIfTI-2 of either byte order.

    Args:
        stream: At its beginning.
        volume: Which volume of a 4D file; only its voxels are kept in memory. None refuses 4D.
        compressed_bytes: Size of the gzip file that the stream unpacks, or None.

    Raises:
        UnreadableScanError: It is damaged, too large, not one scan, or its affine cannot be used.
    """
    header = read_header(stream)
    skip = data_offset(header) - int(header["sizeof_hdr"])
    return read_described(stream, header, skip=skip, volume=volume, compressed_bytes=compressed_bytes)


def read_described(
    stream: BinaryIO, header: Header, *, skip: int, volume: int | None = None, compressed_bytes: int | None = None
) -> ScanImage:
    """Read the voxels that a NIfTI header describes.

    Args:
        stream: Of the voxels.
        header: As `read_header` gives it.
        skip: Bytes before the first voxel.
        volume: See `read_nifti`.
        compressed_bytes: See `read_nifti`.

    Raises:
        UnreadableScanError: See `read_nifti`.
    """
    shape = stored_shape(header)
    part = part_of(shape, num_axes=min(len(shape), 3), volume=volume)
    axes = long_axes(part.shape)
    place = placement(header, axes)
    slope, intercept, scale_notes = scale_factors(header)
    stored = read_block(stream, dtype=data_type(header), part=part, skip=skip, compressed_bytes=compressed_bytes)
    voxels = _as_channels(stored, tuple(part.shape[axis] for axis in axes))
    if stored.dtype.names is None:  # scale factors have no meaning for colours
        voxels = scaled(voxels, slope=slope, intercept=intercept)
    notes = (*part.notes, *place.notes, *scale_notes)
    return make_image(voxels, affine=place.affine, spacing_mm=place.spacing_mm, notes=notes)


def scaled(voxels: npt.NDArray[Any], *, slope: float, intercept: float) -> npt.NDArray[Any]:
    """Return ``voxels * slope + intercept`` in the smallest type that holds it.

    Whole numbers stay whole (a CT stored as uint16 with intercept -1024 becomes int16), all others become
    float32, or float64 where float32 would lose digits (of the stored type, or of small steps on a large intercept) or
    does not reach (1e38) or is not exact any more (1e-38).

    Example:
        >>> scaled(np.array([0, 3000], dtype=np.uint16), slope=1.0, intercept=-1024.0)
        array([-1024,  1976], dtype=int16)
    """
    if slope == 1 and intercept == 0:
        return voxels
    target = _whole_type(voxels, slope, intercept)
    if target is None:
        target = np.dtype(np.float32 if _fits_single(voxels, slope, intercept) else np.float64)
    values = voxels.astype(target)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused as that
        values *= target.type(slope)
        values += target.type(intercept)
    return values


def _fits_single(voxels: npt.NDArray[Any], slope: float, intercept: float) -> bool:
    """Return whether float32 holds the scaled values as well as the stored type and the factors tell them."""
    size = max(abs(float(voxels.min())), abs(float(voxels.max()))) * abs(slope)
    largest = size + abs(intercept)
    if largest > _LARGEST_SINGLE or voxels.dtype.itemsize > 4:
        return False
    if voxels.dtype.kind in "iu":
        return voxels.dtype.itemsize <= 2 and largest <= _MOST_STEPS * abs(slope) and abs(slope) >= _SMALLEST_SINGLE
    # the offset may double the rounding that the stored values have already
    return abs(intercept) <= size and (size == 0 or size >= _SMALLEST_SINGLE)


def _whole_type(voxels: npt.NDArray[Any], slope: float, intercept: float) -> np.dtype[Any] | None:
    if voxels.dtype.kind not in "iu" or not (slope.is_integer() and intercept.is_integer()):
        return None
    ends = [int(end) * int(slope) + int(intercept) for end in (voxels.min(), voxels.max())]
    # the stored range and the factors must fit too: nothing wraps on the way
    needed = [*ends, int(voxels.min()), int(voxels.max()), int(slope), int(intercept)]
    needed += [int(end) * int(slope) for end in (voxels.min(), voxels.max())]
    for candidate in (np.int16, np.int32):
        limits = np.iinfo(candidate)
        if limits.min <= min(needed) and max(needed) <= limits.max:
            return np.dtype(candidate)
    return None


def _as_channels(stored: npt.NDArray[Any], spatial: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return stored voxels, first axis fastest, as ``(C, *spatial)`` without a copy; alpha is left out."""
    if stored.dtype.names is None:
        return stored.reshape(spatial, order="F")[np.newaxis]
    num_fields = len(stored.dtype.names)
    if stored.dtype.names[:3] != _RGB_FIELDS:
        raise UnreadableScanError(
            "has voxels that are neither numbers nor colours",
            fix="Export it as integers or floats.",
            code="not-numbers",
        )
    return stored.view(np.uint8).reshape((num_fields, *spatial), order="F")[:3]
