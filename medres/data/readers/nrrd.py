"""NRRD (``.nrrd``, ``.nhdr`` with its data file): header and voxels, without the temporary files ITK would need.

The header is parsed here and not by SimpleITK because SimpleITK invents a spacing of 1 mm and an orientation where
a file has none, and reads the voxels in the same breath as the header.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medres.data.image import ScanImage
from medres.data.readers.detached import MAX_HEADER_BYTES, Encoding, Layout, VoxelSource, read_layout, read_text
from medres.data.readers.placement import Affine, Placement, place_volume, plausible_spacing
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

Fields = Mapping[str, str]

_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPE_OF = {name: code for code, names in _TYPES.items() for name in names.split(", ")}
_ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gz": "deflate", "gzip": "deflate"}
# how the axes of a space grow, as factors that turn it into RAS
_TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}
_MM_OF_UNIT = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "µm": 0.001, "micron": 0.001, "nm": 1e-6}
_COMPONENT_KINDS = ("color", "vector", "complex", "quaternion", "matrix", "tensor", "gradient", "normal", "point")
_MAX_AXES = 16  # NRRD_DIM_MAX
_FIX_COPY = "Copy or export the file again."
_FIX_SAVE = "Save it again as .nrrd with raw or gzip encoding, or as .nii.gz."


def read_nrrd(stream: BinaryIO, *, num_bytes: int, folder: Path | None, volume: int | None = None) -> ScanImage:
    """Read an NRRD file.

    Args:
        stream: At its beginning.
        num_bytes: Its size.
        folder: Where its data file may lie; None where only its bytes came.
        volume: Which volume of several.

    Raises:
        UnreadableScanError: It is damaged, too large, not one scan, or its affine cannot be used.
    """
    fields = _read_fields(stream)
    sizes, spatial = _sizes(fields), _spatial_axes(fields)
    layout = _layout(fields, sizes, spatial)
    source = VoxelSource(
        stream=stream,
        num_bytes=num_bytes,
        folder=folder,
        name=_data_file(fields),
        encoding=_encoding(fields),
        skip=_whole(fields.get("byte skip", "0"), "byte skip"),
        skip_lines=_whole(fields.get("line skip", "0"), "line skip"),
    )
    place = _placement(fields, spatial, sizes)
    decoded = read_layout(source, layout, volume=volume)
    notes = (*decoded.notes, *place.notes)
    return make_image(decoded.voxels, affine=place.affine, spacing_mm=place.spacing_mm, notes=notes)


def _read_fields(stream: BinaryIO) -> Fields:
    fields: dict[str, str] = {}
    budget = MAX_HEADER_BYTES
    while True:
        line = read_text(stream, budget)
        budget -= len(line)
        text = line.strip()
        if not text:
            return fields  # the blank line before the voxels, or the end of a detached header
        name, colon, value = text.partition(":")
        if colon and not value.startswith("=") and not name.startswith(("#", "NRRD")):
            fields[_ALIASES.get(name.strip().lower(), name.strip().lower())] = value.strip()


_ALIASES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "centerings": "centers"}


def _sizes(fields: Fields) -> tuple[int, ...]:
    sizes = tuple(_whole(size, "sizes") for size in fields.get("sizes", "").split())
    if not 1 <= len(sizes) <= _MAX_AXES or _whole(fields.get("dimension", ""), "dimension") != len(sizes):
        raise _damaged("its dimension and its sizes")
    if min(sizes) < 1:
        raise UnreadableScanError("has an axis without voxels", fix=_FIX_COPY, code="no-voxels")
    return sizes


def _spatial_axes(fields: Fields) -> tuple[int, ...]:
    """Return the axes of space: those with a direction, else those whose kind does not say otherwise."""
    num_axes = len(fields["sizes"].split())
    if "space directions" in fields:
        vectors = _vectors(fields["space directions"], num_axes)
        return tuple(axis for axis, vector in enumerate(vectors) if vector is not None)
    kinds = fields.get("kinds", "").lower().split()
    if len(kinds) != num_axes:
        return tuple(range(min(num_axes, 3)))
    axes = tuple(axis for axis, kind in enumerate(kinds) if kind in ("space", "domain", "???", "none"))
    return axes[:3]


def _layout(fields: Fields, sizes: tuple[int, ...], spatial: tuple[int, ...]) -> Layout:
    """Return the layout; what is not space comes before all of it (components) or after it (volumes)."""
    before = sizes[: spatial[0]] if spatial else sizes
    contiguous = spatial == tuple(range(len(before), len(before) + len(spatial)))
    if not 2 <= len(spatial) <= 3 or len(before) > 1 or not contiguous:
        raise UnreadableScanError(
            f"has {len(sizes)} axes of which {len(spatial)} are space: no image and no volume",
            fix="Save one image or volume a file, with space directions.",
            code="several-volumes" if len(sizes) > 3 else "no-voxels",
        )
    return Layout(
        shape=sizes[len(before) :],
        num_spatial=len(spatial),
        components=before[0] if before else 1,
        dtype=_data_type(fields),
    )


def _data_type(fields: Fields) -> np.dtype[np.generic]:
    code = _TYPE_OF.get(" ".join(fields.get("type", "").lower().split()))
    if code is None:
        raise UnreadableScanError("has an NRRD type that is not a number", fix=_FIX_SAVE, code="not-numbers")
    endian = fields.get("endian", "").lower()
    if code[1] != "1" and endian not in ("little", "big"):
        raise _damaged("its byte order (endian)")
    return np.dtype(("<" if endian != "big" else ">") + code)


def _encoding(fields: Fields) -> Encoding:
    encoding = _ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise UnreadableScanError("has an encoding other than raw and gzip", fix=_FIX_SAVE, code="unknown-format")
    return encoding


def _data_file(fields: Fields) -> str | None:
    name = fields.get("data file")
    if name is None:
        return None
    if name.upper().startswith("LIST") or re.search(r"%\d*d", name):
        raise UnreadableScanError("keeps its voxels in several files", fix=_FIX_SAVE, code="unknown-format")
    return name.removeprefix("./")


def _placement(fields: Fields, spatial: tuple[int, ...], sizes: tuple[int, ...]) -> Placement:
    axes = [axis for axis in spatial if sizes[axis] > 1]
    directions = _directions(fields, axes)
    if directions is None:
        return _without_directions(_numbers(fields.get("spacings", ""), len(sizes)), axes)
    factors = _TO_RAS.get(fields.get("space", "").lower())
    spacing = plausible_spacing(np.linalg.norm(directions, axis=0).tolist())
    if len(axes) < 3:
        return Placement(spacing_mm=spacing)
    if factors is None or directions.shape != (3, 3):
        return Placement(spacing_mm=spacing, notes=(_UNKNOWN,))
    origin = _vectors(fields.get("space origin", "none"), 1)[0]
    affine: Affine = np.eye(4)
    affine[:3, :3] = np.diag(factors) @ directions
    if origin is None or len(origin) != 3:
        return place_volume(affine, notes=("origin-unknown: the file has no space origin",))
    affine[:3, 3] = np.array(factors) * np.array(origin) * _unit(fields)
    return place_volume(affine)


def _directions(fields: Fields, axes: list[int]) -> Affine | None:
    """Return the steps along the axes as columns, in mm, or None where the file has none."""
    if "space directions" not in fields:
        return None
    vectors = _vectors(fields["space directions"], len(fields["sizes"].split()))
    columns = [vectors[axis] for axis in axes]
    if len({len(column) for column in columns if column is not None}) != 1:
        raise _damaged("its space directions")
    return np.array(columns, dtype=np.float64).T * _unit(fields)


def _without_directions(sizes_mm: list[float], axes: list[int]) -> Placement:
    spacing = plausible_spacing([sizes_mm[axis] for axis in axes]) if sizes_mm else None
    return Placement(spacing_mm=spacing, notes=(_UNKNOWN,) if len(axes) == 3 else ())


def _unit(fields: Fields) -> float:
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    return _MM_OF_UNIT.get(next(iter(units)).strip(), 1.0) if len(units) == 1 else 1.0


def _vectors(text: str, count: int) -> list[tuple[float, ...] | None]:
    parts = re.findall(r"\(([^()]*)\)|\b(none)\b", text)
    if len(parts) != count:
        raise _damaged("its vectors")
    return [None if none else tuple(_number(number) for number in vector.split(",")) for vector, none in parts]


def _numbers(text: str, count: int) -> list[float]:
    numbers = [_number(part) for part in text.split()]
    return numbers if len(numbers) == count else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # refused, or not used, as no finite number


def _whole(text: str, field: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise _damaged(f"its {field}")
    return int(text)


def _damaged(what: str) -> UnreadableScanError:
    return UnreadableScanError(f"has a damaged NRRD header: {what}", fix=_FIX_COPY, code="header-damaged")


_UNKNOWN = "orientation-unknown: the file does not say how it lies in the patient"
