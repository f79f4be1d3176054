"""NIfTI-1 and NIfTI-2 headers, checked before a voxel is read: shape, type, scale factors, placement.

nibabel parses; what it would mend or invent in silence (negative pixdims, an affine where the file has none)
is decided here and said.
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from medres.data.readers.blocks import shape_text
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
        found = f"ends inside its NIfTI header, after {len(block)} bytes"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="truncated")
    header = (nib.Nifti2Header if two else nib.Nifti1Header)(block, check=False)
    if int(header["sizeof_hdr"]) != len(block) or bytes(header["magic"])[:2] not in (b"n+", b"ni"):
        found = "is no NIfTI file, or its header is damaged"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged")
    return header


def data_offset(header: Header) -> int:
    """Return the byte at which the voxels begin, in a file that begins with the header or, of a pair, in its own.

    Raises:
        UnreadableScanError: It lies inside the header or absurdly far behind it.
    """
    alone = bytes(header["magic"])[:2] != b"n+"
    least = 0 if alone else int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"])
    if offset == 0:
        return least
    if not math.isfinite(offset) or not least <= offset <= _MAX_OFFSET:
        found = f"has its voxels at byte {offset:g}, which cannot be"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged")
    return int(offset)


def data_type(header: Header) -> np.dtype[Any]:
    """Return the type of the stored voxels, in the file's byte order.

    Raises:
        UnreadableScanError: The type is unknown.
    """
    try:
        dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError):
        dtype = np.dtype(np.void)
    if dtype.itemsize == 0:  # the types "none", "binary" and those that nibabel does not know
        raise UnreadableScanError(
            f"has the unknown voxel type {int(header['datatype'])}",
            fix="Export it as integers or floats.",
            code="header-damaged",
        )
    return dtype


def stored_shape(header: Header) -> tuple[int, ...]:
    """Return the shape without trailing ones, at least one axis.

    Raises:
        UnreadableScanError: An axis has no voxels, or the number of axes is absurd.
    """
    num_axes = int(header["dim"][0])
    if not 1 <= num_axes <= 7:
        found = f"claims {num_axes} axes; NIfTI has 1 to 7"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged")
    shape = tuple(int(size) for size in header["dim"][1 : num_axes + 1])
    if min(shape) < 1:
        found = f"has the shape {shape_text(shape)}: an axis without voxels"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="no-voxels")
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def scale_factors(header: Header) -> tuple[float, float, tuple[str, ...]]:
    """Return slope, intercept and notes; (1, 0) where the header asks for none.

    Slope 0 asks for none by the standard, NaN in the files that nibabel writes.

    Raises:
        UnreadableScanError: A factor is infinite, or the intercept of a valid slope is not a number.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        odd = math.isnan(slope) and not (intercept == 0 or math.isnan(intercept))
        note = "scale-odd: scl_slope is not a number although scl_inter is one; the stored values were taken"
        return 1.0, 0.0, ((note,) if odd else ())
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        found = f"has scl_slope {slope:g} and scl_inter {intercept:g}"
        raise UnreadableScanError(found, fix=_FIX_HEADER, code="header-damaged")
    return slope, intercept, ()


def placement(header: Header, axes: tuple[int, ...]) -> Placement:
    """Return where the voxels lie.

    The sform counts, else the qform, as in nibabel and the standard; with neither, orientation is unknown and
    the spacing is that of ``pixdim`` where it is plausible.

    Args:
        header: Of the file.
        axes: As `medres.data.readers.blocks.long_axes` returns them.

    Raises:
        UnreadableScanError: The affine of a volume cannot be used.
    """
    unit = _MM_OF_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    units = f"units: lengths are given in units of {unit:g} mm and were converted"
    notes = (*(() if unit == 1.0 else (units,)), *_odd_spacing(header, axes))
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


def _odd_spacing(header: Header, axes: tuple[int, ...]) -> tuple[str, ...]:
    sizes = [float(header["pixdim"][axis + 1]) for axis in axes]
    if all(math.isfinite(size) and size > 0 for size in sizes):
        return ()
    return (f"spacing-odd: pixdim is {' x '.join(f'{size:g}' for size in sizes)}; it was not used as a spacing",)


def _coded_affine(header: Header) -> tuple[Affine | None, tuple[str, ...]]:
    if int(header["sform_code"]) > 0:
        sform = np.array(header.get_sform(), dtype=np.float64)
        return sform, _disagreement(sform, header)
    return (_qform(header), _odd_qfac(header)) if int(header["qform_code"]) > 0 else (None, ())


def _qform(header: Header) -> Affine:
    try:
        return _affine_of_qform(header)
    except (HeaderDataError, ValueError) as error:
        found = f"has a qform that cannot be used ({error})"
        raise UnreadableScanError(found, fix=_FIX_HEADER, code="header-damaged") from error


def _affine_of_qform(header: Header) -> Affine:
    """Return the affine of the qform, with pixdim[0] (qfac) by its sign.

    ``nifti1.h`` knows 1 and -1, says that 0 (which ITK wrote for a time) is 1, and its reference code asks only whether
    it is below 0. nibabel's header alone refuses what is neither 1 nor -1; its ``load`` takes 1 for all of it.
    """
    known = header.copy()
    known["pixdim"][0] = _qfac(header)
    return np.array(known.get_qform(), dtype=np.float64)


def _qfac(header: Header) -> float:
    return -1.0 if float(header["pixdim"][0]) < 0 else 1.0


def _odd_qfac(header: Header) -> tuple[str, ...]:
    qfac = float(header["pixdim"][0])
    if qfac in (1.0, -1.0, 0.0):
        return ()
    note = f"qform-damaged: pixdim[0] (qfac) is {qfac:g}, neither 1 nor -1; the last axis was turned by its sign"
    return (note,)


def _disagreement(sform: Affine, header: Header) -> tuple[str, ...]:
    if int(header["qform_code"]) <= 0:
        return ()
    try:
        qform = _affine_of_qform(header)
    except (HeaderDataError, ValueError):
        return ("qform-damaged: the qform cannot be used; the sform was taken",)
    # 1 % of a voxel: the qform is stored as a float32 quaternion and never agrees to the last digit
    size = float(np.abs(sform[:3, :3]).max())
    same = np.allclose(sform[:3, :3], qform[:3, :3], rtol=0, atol=0.01 * size)
    near = np.allclose(sform[:3, 3], qform[:3, 3], rtol=0, atol=0.5 * size)
    if same and near:
        return ()
    how = "differ" if not same else "agree but for the origin"
    return (f"sform-qform-differ: sform and qform {how}; the sform was taken",)


_FIX_COPY = "Copy or export the file again."
_FIX_HEADER = "Mend its header, or export the scan again."
