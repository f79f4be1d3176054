"""A header and its voxels in two files: NIfTI pairs and Analyze 7.5 (``.hdr`` + ``.img``, either gzipped)."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np

from medres.data.image import ScanImage
from medres.data.readers.beside import open_beside
from medres.data.readers.blocks import long_axes, part_of, read_block
from medres.data.readers.gzipped import gunzipped
from medres.data.readers.nifti import read_described, scaled
from medres.data.readers.nifti_header import Header, data_offset, data_type, read_header, stored_shape
from medres.data.readers.placement import plausible_spacing
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

_GZIP = b"\x1f\x8b"
_MAX_HEADER_BYTES = 2**26  # extensions may follow


def read_pair(stream: BinaryIO, path: Path | None, *, volume: int | None = None) -> ScanImage:
    """Read a scan whose header is one file and whose voxels are the ``.img`` beside it.

    Analyze 7.5 does not say how a scan lies in the patient: writers disagree about left and right, so its
    orientation is unknown and only the size of its voxels is taken.

    Args:
        stream: The header, unpacked.
        path: Of the header; None where only its bytes came.
        volume: Which volume of a 4D scan.

    Raises:
        UnreadableScanError: A part is missing or damaged, or it is not one scan.
    """
    if path is None:
        raise UnreadableScanError(
            "is the header of a scan in two files (.hdr and .img)",
            fix="Convert it to one .nii.gz file.",
            code="unknown-format",
        )
    content = stream.read(_MAX_HEADER_BYTES)  # to its end, so that the checksum of a gzipped one is compared
    nifti = content[344:348] == b"ni1\0" or content[4:8] == b"ni2\0"
    header = read_header(io.BytesIO(content)) if nifti else nib.Spm99AnalyzeHeader(content[:348], check=False)
    with open_beside(path, _names_of_voxels(path)) as voxels:
        size = voxels.seek(0, 2)
        voxels.seek(0)
        if voxels.read(2) != _GZIP:
            voxels.seek(0)
            return _described(voxels, header, nifti=nifti, volume=volume, compressed_bytes=None)
        voxels.seek(0)
        with gunzipped(voxels) as unpacked:
            return _described(unpacked, header, nifti=nifti, volume=volume, compressed_bytes=size)


def _described(
    stream: BinaryIO, header: Header, *, nifti: bool, volume: int | None, compressed_bytes: int | None
) -> ScanImage:
    if nifti:
        skip = data_offset(header)
        return read_described(stream, header, skip=skip, volume=volume, compressed_bytes=compressed_bytes)
    return _read_analyze(stream, header, volume=volume, compressed_bytes=compressed_bytes)


def _read_analyze(stream: BinaryIO, header: Header, *, volume: int | None, compressed_bytes: int | None) -> ScanImage:
    shape = stored_shape(header)
    part = part_of(shape, num_axes=min(len(shape), 3), volume=volume)
    axes = long_axes(part.shape)
    stored = read_block(
        stream, dtype=data_type(header), part=part, skip=_analyze_offset(header), compressed_bytes=compressed_bytes
    )
    voxels = stored.reshape([part.shape[axis] for axis in axes], order="F")[np.newaxis]
    if stored.dtype.names is not None:
        raise UnreadableScanError("holds colours", fix="Export it as grey values.", code="not-numbers")
    spacing = plausible_spacing([float(header["pixdim"][axis + 1]) for axis in axes])
    unknown = "orientation-unknown: Analyze 7.5 does not tell left from right"
    notes = (*part.notes, *((unknown,) if len(axes) == 3 else ()))
    return make_image(scaled(voxels, slope=_analyze_slope(header), intercept=0.0), spacing_mm=spacing, notes=notes)


def _analyze_slope(header: Header) -> float:
    # SPM keeps the scale where plain Analyze has an unused number, which is 0
    slope = float(header["scl_slope"])
    return slope if math.isfinite(slope) and slope != 0 else 1.0


def _analyze_offset(header: Header) -> int:
    offset = float(header["vox_offset"])
    if not 0 <= offset <= 2**26 or not offset.is_integer():
        found = f"has its voxels at byte {offset:g}, which cannot be"
        raise UnreadableScanError(found, fix="Copy or export the file again.", code="header-damaged")
    return int(offset)


def _names_of_voxels(path: Path) -> tuple[str, ...]:
    name = path.name
    for suffix in (".hdr.gz", ".hdr"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return tuple(f"{name}{suffix}" for suffix in (".img", ".img.gz", ".IMG", ".IMG.GZ"))
