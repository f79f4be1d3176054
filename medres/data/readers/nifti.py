"""NIfTI, plain and gzipped, read to the last byte.

nibabel stops at the last voxel, before the checksum: 49 of 60 random one-bit flips in a ``.nii.gz`` loaded
silently wrong. Here the stream is inflated by isal to its end, so that CRC and length are compared, and never
further than the header claims.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError

from medres.data.image import ScanImage
from medres.data.readers.formats import HEAD_BYTES, SUPPORTED, name_of, recognise
from medres.data.readers.limits import require_reasonable_size
from medres.data.readers.nifti_header import (
    Header,
    data_offset,
    data_type,
    placement,
    read_header,
    scale_factors,
    spatial_axes,
    stored_shape,
)
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

# Some writers pad to a disk block; more than that is content that the header does not account for.
_MAX_TRAILING_BYTES = 64 * 2**10
_ISAL_ERROR: type[Exception] = IsalError  # type: ignore[assignment]  # the stubs call the class an instance
_FIX_COPY = "Copy or export the file again."
_RGB_FIELDS = ("R", "G", "B")


def read_gzipped_nifti(stream: BinaryIO, *, num_bytes: int) -> ScanImage:
    """Read a ``.nii.gz``.

    Args:
        stream: At its beginning.
        num_bytes: Its compressed size.

    Raises:
        UnreadableScanError: It is damaged, no NIfTI, or too large.
    """
    with _explained_gzip_errors(), igzip.IGzipFile(fileobj=stream) as unpacked:
        head = unpacked.peek(HEAD_BYTES)[:HEAD_BYTES]
        if recognise(head) != "nifti":
            raise UnreadableScanError(
                f"is a gzip file, and what it holds {name_of(head)}", fix=f"Supported are {SUPPORTED}."
            )
        return read_nifti(cast(BinaryIO, unpacked), compressed_bytes=num_bytes)


def read_nifti(stream: BinaryIO, *, compressed_bytes: int | None = None) -> ScanImage:
    """Read a single-file NIfTI-1 or NIfTI-2 of either byte order.

    Args:
        stream: At its beginning.
        compressed_bytes: Size of the gzip file that the stream unpacks, or None.

    Raises:
        UnreadableScanError: It is damaged, too large, not one scan, or its affine cannot be used.
    """
    header = read_header(stream)
    shape = stored_shape(header)
    axes = spatial_axes(shape)
    place = placement(header, axes)
    slope, intercept = scale_factors(header)
    stored = _read_voxels(stream, header, shape, compressed_bytes)
    voxels = _as_channels(stored, tuple(shape[axis] for axis in axes))
    if stored.dtype.names is None:  # scale factors have no meaning for colours
        voxels = scaled(voxels, slope=slope, intercept=intercept)
    return make_image(voxels, affine=place.affine, spacing_mm=place.spacing_mm, notes=place.notes)


def scaled(voxels: npt.NDArray[Any], *, slope: float, intercept: float) -> npt.NDArray[Any]:
    """Return ``voxels * slope + intercept`` in the smallest type that holds it.

    Whole numbers stay whole (a CT stored as uint16 with intercept -1024 becomes int16), all others become
    float32, or float64 where the stored type has more digits than float32.

    Example:
        >>> scaled(np.array([0, 3000], dtype=np.uint16), slope=1.0, intercept=-1024.0)
        array([-1024,  1976], dtype=int16)
    """
    if slope == 1 and intercept == 0:
        return voxels
    target = _whole_type(voxels, slope, intercept)
    if target is None:
        wide = voxels.dtype.itemsize > 4 or (voxels.dtype.kind in "iu" and voxels.dtype.itemsize > 2)
        target = np.dtype(np.float64 if wide else np.float32)
    values = voxels.astype(target)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused as that
        values *= target.type(slope)
        values += target.type(intercept)
    return values


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
        raise UnreadableScanError(f"has voxels of the type {stored.dtype}", fix="Export it as integers or floats.")
    return stored.view(np.uint8).reshape((num_fields, *spatial), order="F")[:3]


def _read_voxels(
    stream: BinaryIO, header: Header, shape: tuple[int, ...], compressed_bytes: int | None
) -> npt.NDArray[Any]:
    dtype, offset = data_type(header), data_offset(header)
    count = math.prod(shape)
    require_reasonable_size(count, count * dtype.itemsize, compressed_bytes=compressed_bytes)
    _skip(stream, offset - int(header["sizeof_hdr"]))
    voxels = np.empty(count, dtype=dtype)  # pages are touched only as the file fills them
    _read_into(stream, voxels.view(np.uint8).data)
    if len(stream.read(_MAX_TRAILING_BYTES + 1)) > _MAX_TRAILING_BYTES:
        raise UnreadableScanError(
            f"goes on after the {count * dtype.itemsize:,} bytes of voxels that it claims", fix=_FIX_COPY
        )
    return voxels


def _skip(stream: BinaryIO, num_bytes: int) -> None:
    while num_bytes > 0:
        block = stream.read(min(num_bytes, 2**20))
        if not block:
            raise UnreadableScanError("ends before its voxels begin", fix=_FIX_COPY)
        num_bytes -= len(block)


def _read_into(stream: BinaryIO, target: memoryview) -> None:
    filled = 0
    while filled < len(target):
        # 16 MiB a call: a truncated file must not touch the memory that its header claims
        num_bytes = stream.readinto(target[filled : filled + 2**24])  # type: ignore[attr-defined]
        if not num_bytes:
            raise UnreadableScanError(
                f"is truncated: it ends after {filled:,} of {len(target):,} bytes of voxels", fix=_FIX_COPY
            )
        filled += num_bytes


@contextmanager
def _explained_gzip_errors() -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise UnreadableScanError("is truncated: its gzip stream has no end", fix=_FIX_COPY) from error
    except (gzip.BadGzipFile, _ISAL_ERROR) as error:
        raise UnreadableScanError(f"is damaged: its gzip stream is broken ({error})", fix=_FIX_COPY) from error
