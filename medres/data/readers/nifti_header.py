"""NIfTI-1 and NIfTI-2 headers, checked before a voxel is read: shape, type, scale factors, placement.

nibabel parses; what it would mend or invent in silence (negative pixdims, an affine where the file has none)
is decided here and said.
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from medres.data.readers.placement import Affine, Placement, place_volume, plausible_spacing
from medres.errors import UnreadableScanError

Header = Any  # nibabel has no types

# The NIfTI standard keeps vox_offset free for extensions; the largest seen (DICOM ecode) are a few MB.
_MAX_OFFSET = 64 * 2**20
_MM_OF_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}


def read_header(stream: BinaryIO) -> Header:
    """Read the header of a single-file NIfTI and leave the stream behind it.

    Raises:
        UnreadableScanError: It is truncated, no NIfTI, or one half of a two-file pair.
    """
    block = stream.read(348)
    two = block[4:8] in (b"n+2\0", b"ni2\0")
    if two:
        block += stream.read(540 - 348)
    if len(block) < (540 if two else 348):
        raise UnreadableScanError(f"ends inside its NIfTI header, after {len(block)} bytes", fix=_FIX_COPY)
    header = (nib.Nifti2Header if two else nib.Nifti1Header)(block, check=False)
    if int(header["sizeof_hdr"]) != len(block) or bytes(header["magic"])[:2] not in (b"n+", b"ni"):
        raise UnreadableScanError("is no NIfTI file, or its header is damaged", fix=_FIX_COPY)
    if bytes(header["magic"])[:2] == b"ni":
        raise UnreadableScanError(
            "is the header of a two-file NIfTI (.hdr and .img)", fix="Convert it to one .nii.gz file."
        )
    return header


def data_offset(header: Header) -> int:
    """Return the byte at which the voxels begin.

    Raises:
        UnreadableScanError: It lies inside the header or absurdly far behind it.
    """
    least = int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"])
    if offset == 0:
        return least
    if not math.isfinite(offset) or not least <= offset <= _MAX_OFFSET:
        raise UnreadableScanError(f"has its voxels at byte {offset:g}, which cannot be", fix=_FIX_COPY)
    return int(offset)


def data_type(header: Header) -> np.dtype[Any]:
    """Return the type of the stored voxels, in the file's byte order.

    Raises:
        UnreadableScanError: The type is unknown.
    """
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
        return dtype
    except (HeaderDataError, KeyError):
        raise UnreadableScanError(
            f"has the unknown voxel type {int(header['datatype'])}", fix="Export it as integers or floats."
        ) from None


def stored_shape(header: Header) -> tuple[int, ...]:
    """Return the shape without trailing ones, at least one axis.

    Raises:
        UnreadableScanError: An axis has no voxels, or the number of axes is absurd.
    """
    num_axes = int(header["dim"][0])
    if not 1 <= num_axes <= 7:
        raise UnreadableScanError(f"claims {num_axes} axes; NIfTI has 1 to 7", fix=_FIX_COPY)
    shape = tuple(int(size) for size in header["dim"][1 : num_axes + 1])
    if min(shape) < 1:
        raise UnreadableScanError(f"has the shape {_text(shape)}: an axis without voxels", fix=_FIX_COPY)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def spatial_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of a scan: three of a volume, two of an image (the third is 1 or absent).

    Args:
        shape: As `stored_shape` returns it.

    Raises:
        UnreadableScanError: There are more than three axes, or fewer than two that are longer than 1.

    Example:
        >>> spatial_axes((64, 64, 20)), spatial_axes((64, 64)), spatial_axes((1, 64, 64))
        ((0, 1, 2), (0, 1), (1, 2))
    """
    if len(shape) > 3:
        raise UnreadableScanError(
            f"is {len(shape)}D, shape {_text(shape)}: a series of volumes or vectors, not one scan",
            fix="Write the volume that matters to a file of its own (fslsplit, nibabel.four_to_three).",
        )
    long = tuple(axis for axis, size in enumerate(shape) if size > 1)
    if len(long) < 2:
        raise UnreadableScanError(f"has the shape {_text(shape)}: no image and no volume", fix=_FIX_COPY)
    return long


def scale_factors(header: Header) -> tuple[float, float]:
    """Return (slope, intercept); (1, 0) where the header asks for none (slope 0, or NaN as nibabel has it).

    Raises:
        UnreadableScanError: A factor is infinite, or the intercept of a valid slope is not a number.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise UnreadableScanError(f"has scl_slope {slope:g} and scl_inter {intercept:g}", fix=_FIX_HEADER)
    return slope, intercept


def placement(header: Header, axes: tuple[int, ...]) -> Placement:
    """Return where the voxels lie.

    The sform counts, else the qform, as in nibabel and the standard; with neither, orientation is unknown and
    the spacing is that of ``pixdim`` where it is plausible.

    Args:
        header: Of the file.
        axes: As `spatial_axes` returns them.

    Raises:
        UnreadableScanError: The affine of a volume cannot be used.
    """
    unit = _MM_OF_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    notes = () if unit == 1.0 else (f"units: lengths are given in units of {unit:g} mm and were converted",)
    with np.errstate(over="ignore", invalid="ignore"):  # damaged numbers are refused by their values
        affine, more = _coded_affine(header)
        if affine is None:
            return _placement_without_affine(header, axes, unit, notes)
        affine[:3] *= unit
        if len(axes) == 3:
            return place_volume(affine, notes=notes + more)
        norms = np.linalg.norm(affine[:3, :3], axis=0)
        return Placement(spacing_mm=plausible_spacing([norms[axis] for axis in axes]), notes=notes)


def _placement_without_affine(header: Header, axes: tuple[int, ...], unit: float, notes: tuple[str, ...]) -> Placement:
    spacing = plausible_spacing([float(header["pixdim"][axis + 1]) * unit for axis in axes])
    if len(axes) == 2:
        return Placement(spacing_mm=spacing, notes=notes)
    where = "spacing from pixdim" if spacing else "pixdim is no spacing either"
    note = f"orientation-unknown: neither sform nor qform is set, so left and right are not known; {where}"
    return Placement(spacing_mm=spacing, notes=(*notes, note))


def _coded_affine(header: Header) -> tuple[Affine | None, tuple[str, ...]]:
    if int(header["sform_code"]) > 0:
        sform = np.array(header.get_sform(), dtype=np.float64)
        return sform, _disagreement(sform, header)
    return (_qform(header), ()) if int(header["qform_code"]) > 0 else (None, ())


def _qform(header: Header) -> Affine:
    try:
        return np.array(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise UnreadableScanError(f"has a qform that cannot be used ({error})", fix=_FIX_HEADER) from error


def _disagreement(sform: Affine, header: Header) -> tuple[str, ...]:
    if int(header["qform_code"]) <= 0:
        return ()
    try:
        qform: npt.NDArray[np.float64] = np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        return ("qform-damaged: the qform cannot be used; the sform was taken",)
    # 1 % of a voxel: the qform is stored as a float32 quaternion and never agrees to the last digit
    same = np.allclose(sform[:3, :3], qform[:3, :3], rtol=0, atol=0.01 * float(np.abs(sform[:3, :3]).max()))
    return () if same else ("sform-qform-differ: sform and qform differ; the sform was taken",)


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


_FIX_COPY = "Copy or export the file again."
_FIX_HEADER = "Mend its header, or export the scan again."
