"""FreeSurfer's ``.mgh`` and ``.mgz``, read to the end so that the checksum of a ``.mgz`` is compared."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from medres.data.image import ScanImage
from medres.data.readers.blocks import long_axes, part_of, read_block
from medres.data.readers.placement import Placement, place_volume, plausible_spacing
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

_HEADER_BYTES = 284
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
# Behind the voxels: scan parameters, the history of commands, a colour table. It is never kept.
_MAX_FOOTER_BYTES = 16 * 2**20


def read_mgh(stream: BinaryIO, *, volume: int | None = None, compressed_bytes: int | None = None) -> ScanImage:
    """Read an MGH file.

    Args:
        stream: At its beginning, unpacked.
        volume: Which frame of several.
        compressed_bytes: Size of the ``.mgz`` that the stream unpacks, or None.

    Raises:
        UnreadableScanError: It is damaged, too large, not one scan, or its affine cannot be used.
    """
    block = stream.read(_HEADER_BYTES)
    if len(block) < _HEADER_BYTES:
        raise UnreadableScanError("ends inside its MGH header", fix=_FIX_COPY, code="truncated")
    header = nib.freesurfer.mghformat.MGHHeader(block, check=False)
    shape = tuple(int(size) for size in header["dims"])
    if min(shape) < 1 or int(header["type"]) not in _TYPES:
        raise UnreadableScanError("has an MGH header that is damaged", fix=_FIX_COPY, code="header-damaged")
    part = part_of(shape, num_axes=3, volume=volume)
    axes = long_axes(part.shape)
    # read here: nibabel replaces what a file without a good flag says by 1 mm and an orientation
    (good_ras,) = struct.unpack(">h", block[28:30])
    place = _placement(header, axes) if good_ras == 1 else _unknown(axes)
    dtype = np.dtype(_TYPES[int(header["type"])])
    stored = read_block(
        stream, dtype=dtype, part=part, compressed_bytes=compressed_bytes, max_trailing=_MAX_FOOTER_BYTES
    )
    voxels = stored.reshape([shape[axis] for axis in axes], order="F")[np.newaxis]
    return make_image(voxels, affine=place.affine, spacing_mm=place.spacing_mm, notes=(*part.notes, *place.notes))


def _placement(header: Any, axes: tuple[int, ...]) -> Placement:
    if len(axes) == 2:
        return Placement(spacing_mm=plausible_spacing([float(header["delta"][axis]) for axis in axes]))
    with np.errstate(over="ignore", invalid="ignore"):  # damaged numbers are refused by their values
        return place_volume(np.array(header.get_affine(), dtype=np.float64))


def _unknown(axes: tuple[int, ...]) -> Placement:
    unknown = "orientation-unknown: the file says that it does not know how it lies in the patient"
    return Placement(notes=(unknown,) if len(axes) == 3 else ())


_FIX_COPY = "Copy or export the file again."
