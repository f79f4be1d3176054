"""MetaImage (``.mha``, ``.mhd`` with its ``.raw`` or ``.zraw``): header and voxels, checksums compared.

Not through SimpleITK: it reads a compressed file with a flipped bit as garbage without an error (100 of 100), and
invents a spacing of 1 mm and an orientation where a header has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medres.data.image import ScanImage
from medres.data.readers.detached import MAX_HEADER_BYTES, Layout, VoxelSource, read_layout, read_text
from medres.data.readers.placement import Affine, Placement, place_volume, plausible_spacing
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

Fields = Mapping[str, str]

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MODALITIES = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR", "MET_MOD_NM": "NM", "MET_MOD_US": "US"}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_LAST_FIELD = "ElementDataFile"
_FIX_COPY = "Copy or export the file again."
_FIX_SAVE = "Save it again as .mha or .nii.gz."


def read_metaimage(stream: BinaryIO, *, num_bytes: int, folder: Path | None, volume: int | None = None) -> ScanImage:
    """Read a MetaImage.

    Args:
        stream: At its beginning.
        num_bytes: Its size.
        folder: Where its file of voxels may lie; None where only its bytes came.
        volume: Which volume of several.

    Raises:
        UnreadableScanError: It is damaged, too large, not one scan, or its affine cannot be used.
    """
    fields = _read_fields(stream)
    layout = _layout(fields)
    source = VoxelSource(
        stream=stream,
        num_bytes=num_bytes,
        folder=folder,
        name=_data_file(fields),
        encoding="deflate" if _true(fields, "CompressedData") else "raw",
        skip=_whole(fields.get("HeaderSize", "0"), "HeaderSize"),
    )
    axes = [axis for axis in range(layout.num_spatial) if layout.shape[axis] > 1]
    place = _placement(fields, axes, num_axes=len(layout.shape))
    decoded = read_layout(source, layout, volume=volume)
    return make_image(
        decoded.voxels,
        affine=place.affine,
        spacing_mm=place.spacing_mm,
        modality=_MODALITIES.get(fields.get("Modality", "")),
        notes=(*decoded.notes, *place.notes),
    )


def _read_fields(stream: BinaryIO) -> Fields:
    fields: dict[str, str] = {}
    budget = MAX_HEADER_BYTES
    while _LAST_FIELD not in fields:
        line = read_text(stream, budget)
        if not line:
            raise UnreadableScanError("ends inside its MetaImage header", fix=_FIX_COPY, code="truncated")
        budget -= len(line)
        name, equals, value = line.partition("=")
        if equals:
            fields[name.strip()] = value.strip()
    return fields


def _layout(fields: Fields) -> Layout:
    shape = tuple(_whole(size, "DimSize") for size in fields.get("DimSize", "").split())
    if not 1 <= len(shape) <= 10 or _whole(fields.get("NDims", ""), "NDims") != len(shape):
        raise _damaged("NDims and DimSize")
    if min(shape) < 1:
        raise UnreadableScanError("has an axis without voxels", fix=_FIX_COPY, code="no-voxels")
    components = _whole(fields.get("ElementNumberOfChannels", "1"), "ElementNumberOfChannels")
    if components < 1:
        raise _damaged("ElementNumberOfChannels")
    return Layout(shape=shape, num_spatial=min(len(shape), 3), components=components, dtype=_data_type(fields))


def _data_type(fields: Fields) -> np.dtype[np.generic]:
    code = _TYPES.get(fields.get("ElementType", "").removesuffix("_ARRAY"))
    if code is None:
        raise UnreadableScanError("has an ElementType that is not a number", fix=_FIX_SAVE, code="not-numbers")
    if not _true(fields, "BinaryData", default=True):
        raise UnreadableScanError("keeps its voxels as text", fix=_FIX_SAVE, code="unknown-format")
    big = _true(fields, "BinaryDataByteOrderMSB") or _true(fields, "ElementByteOrderMSB")
    return np.dtype((">" if big else "<") + code)


def _data_file(fields: Fields) -> str | None:
    name = fields[_LAST_FIELD]
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise UnreadableScanError("keeps its voxels in several files", fix=_FIX_SAVE, code="unknown-format")
    return name.removeprefix("./")


def _placement(fields: Fields, axes: list[int], *, num_axes: int) -> Placement:
    sizes = _numbers(fields, "ElementSpacing", count=num_axes)
    spacing = plausible_spacing([sizes[axis] for axis in axes]) if sizes else None
    if len(axes) < 3:
        return Placement(spacing_mm=spacing)
    directions = _numbers(fields, "TransformMatrix", "Rotation", "Orientation", count=num_axes**2)
    if not directions or spacing is None:
        return Placement(spacing_mm=spacing, notes=(_UNKNOWN,))
    origin = _numbers(fields, "Offset", "Position", "Origin", count=num_axes)
    # the file lists one direction after the other; of four axes, space is the first three
    steps = np.array(directions).reshape(num_axes, num_axes)[:3, :3].T
    affine: Affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ steps @ np.diag(sizes[:3])
    affine[:3, 3] = _LPS_TO_RAS @ np.array(origin[:3] or [0.0, 0.0, 0.0])
    return place_volume(affine, notes=() if origin else ("origin-unknown: the file has no offset",))


def _numbers(fields: Fields, *names: str, count: int) -> list[float]:
    """Return the numbers of the first field that is there, or nothing where none is."""
    text = next((fields[name] for name in names if name in fields), None)
    if text is None:
        return []
    numbers = [_number(part) for part in text.split()]
    if len(numbers) != count:
        raise _damaged(names[0])
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # refused, or not used, as no finite number


def _whole(text: str, field: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise _damaged(field)
    return int(text)


def _true(fields: Fields, name: str, *, default: bool = False) -> bool:
    return fields.get(name, str(default)).lower() in ("true", "t", "1", "yes")


def _damaged(field: str) -> UnreadableScanError:
    return UnreadableScanError(f"has a damaged MetaImage header: {field}", fix=_FIX_COPY, code="header-damaged")


_UNKNOWN = "orientation-unknown: the file does not say how it lies in the patient"
