"""The files of a packed cache: ``segment-<n>.bin`` with row after row, and ``index.json`` over them.

A segment is written once, whole, and never changed; the index is replaced after it. What a killed writer
leaves is therefore at worst a segment that no index names.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from isal import isal_zlib

from medres.errors import OutputError
from medres.runs.atomic import atomic_write, atomic_write_text, explained_os_errors
from medres.runs.documents import Document

INDEX_NAME = "index.json"
_SEGMENT_NAME = re.compile(r"segment-(\d+)\.bin")
_OTHER_DISK = "Free space there or choose a folder on another disk with --cache-dir."


@dataclass(frozen=True)
class Row:
    """Where one prepared scan lies.

    Args:
        segment: Name of the file.
        offset: Its first byte there.
        shape: Its shape; scans read slice by slice have as many slices as they have.
        crc32: Checksum of its bytes.
    """

    segment: str
    offset: int
    shape: tuple[int, ...]
    crc32: int


class _Segment(Document):
    """One file: its size, and (offset, shape, crc32) of each sample key in it."""

    file: str
    num_bytes: int
    samples: dict[str, tuple[int, tuple[int, ...], int]]


class _Index(Document):
    """``index.json``."""

    format: Literal[1] = 1
    key: str
    dtype: str
    segments: tuple[_Segment, ...] = ()


def checksum(array: npt.NDArray[Any]) -> int:
    """Return the CRC-32 of the bytes of a contiguous array."""
    return int(isal_zlib.crc32(array))


def write_segment(folder: Path, rows: Mapping[str, npt.NDArray[Any]]) -> dict[str, Row]:
    """Write ``rows`` into a new segment and return where each one lies. The index is not touched.

    Raises:
        OutputError: The disk is full (naming the bytes that were needed) or cannot be written.
    """
    path = folder / f"segment-{_next_number(folder)}.bin"
    num_bytes = sum(array.nbytes for array in rows.values())
    require_space(folder, num_bytes)
    placed, offset = {}, 0
    try:
        with atomic_write(path, private=True, num_bytes=num_bytes) as file:  # voxels
            for key, array in rows.items():
                packed = np.ascontiguousarray(array)
                file.write(packed.data)
                placed[key] = Row(path.name, offset, packed.shape, checksum(packed))
                offset += packed.nbytes
    except OutputError as error:
        raise OutputError(error.problem, fix=_OTHER_DISK) from error
    return placed


def read_rows(folder: Path, rows: Sequence[Row], *, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return ``(N, *shape)`` of rows of one shape, copied out of the memory-mapped segments; nothing stays mapped.

    Raises:
        DamagedSegmentError: A segment is gone, shorter than its index says, or fails its checksum.
    """
    out = np.empty((len(rows), *shape), dtype=dtype)
    _copy_rows(folder, rows, list(out))
    return out


def read_each(folder: Path, rows: Sequence[Row], *, dtype: np.dtype[Any]) -> list[npt.NDArray[Any]]:
    """Return one array a row, each of its own shape; the rest as in `read_rows`.

    Raises:
        DamagedSegmentError: As in `read_rows`.
    """
    out = [np.empty(row.shape, dtype=dtype) for row in rows]
    _copy_rows(folder, rows, out)
    return out


class DamagedSegmentError(OutputError):
    """A segment does not hold what its index says."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The cache file {path} {problem}.",
            fix="Its scans were taken out of the cache, and are prepared anew the next time.",
        )
        self.segment = path.name


def write_index(folder: Path, rows: Mapping[str, Row], *, key: str, dtype: np.dtype[Any]) -> None:
    """Replace ``index.json``."""
    by_segment: dict[str, dict[str, tuple[int, tuple[int, ...], int]]] = {}
    for sample, row in rows.items():
        by_segment.setdefault(row.segment, {})[sample] = (row.offset, row.shape, row.crc32)
    sizes = {name: sum(_num_bytes(shape, dtype) for _, shape, _ in rows.values()) for name, rows in by_segment.items()}
    segments = tuple(
        _Segment(file=name, num_bytes=sizes[name], samples=samples) for name, samples in by_segment.items()
    )
    index = _Index(key=key, dtype=dtype.str, segments=segments)
    atomic_write_text(folder / INDEX_NAME, index.model_dump_json() + "\n", private=True)


def read_index(
    folder: Path, *, key: str, fits: Callable[[tuple[int, ...]], bool], dtype: np.dtype[Any]
) -> dict[str, Row]:
    """Return the rows that are surely there.

    A missing, damaged or foreign index has none; a segment that is missing or has another size than the index
    says is left out. What is left out is prepared again, never guessed.
    """
    try:
        with explained_os_errors(folder / INDEX_NAME):
            index = _Index.model_validate_json((folder / INDEX_NAME).read_bytes())
    except (FileNotFoundError, pydantic.ValidationError):
        return {}
    if (index.key, index.dtype) != (key, dtype.str):
        return {}
    rows: dict[str, Row] = {}
    for segment in index.segments:
        if _is_whole(segment, folder, fits, dtype):
            rows |= {sample: Row(segment.file, at, shape, crc) for sample, (at, shape, crc) in segment.samples.items()}
    return rows


def sweep_segments(folder: Path, *, keep: set[str]) -> None:
    """Remove the segments that no index names."""
    for path in folder.iterdir():
        if _SEGMENT_NAME.fullmatch(path.name) and path.name not in keep:
            path.unlink(missing_ok=True)


def require_space(folder: Path, num_bytes: int) -> None:
    """Refuse before any work what cannot fit on the disk.

    Raises:
        OutputError: Naming the folder, the bytes needed and those free.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OutputError(f"Cannot write {folder}: {num_bytes:,} bytes are needed, {free:,} are free.", fix=_OTHER_DISK)


def _is_whole(segment: _Segment, folder: Path, fits: Callable[[tuple[int, ...]], bool], dtype: np.dtype[Any]) -> bool:
    path = folder / segment.file
    named_well = _SEGMENT_NAME.fullmatch(segment.file) is not None and path.is_file()
    if not named_well or not all(fits(shape) for _, shape, _ in segment.samples.values()):
        return False
    end = 0
    for offset, shape, _ in sorted(segment.samples.values()):
        if offset != end:
            return False
        end += _num_bytes(shape, dtype)
    return path.stat().st_size == end


def _num_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return dtype.itemsize * math.prod(shape)


def _copy_rows(folder: Path, rows: Sequence[Row], out: Sequence[npt.NDArray[Any]]) -> None:
    in_file_order = sorted(range(len(rows)), key=lambda n: (rows[n].segment, rows[n].offset))
    for name, positions in groupby(in_file_order, key=lambda n: rows[n].segment):
        path = folder / name
        mapped = _map_segment(path, out[0].dtype)
        for n in positions:
            first = rows[n].offset // mapped.dtype.itemsize
            _copy_row(mapped[first : first + out[n].size], out[n], rows[n], path)


def _map_segment(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.memmap(path, mode="r", dtype=dtype))  # slicing a memmap itself takes 5 us a row
    except (OSError, ValueError) as error:  # ValueError: an empty file, or not a whole number of voxels
        raise DamagedSegmentError(path, f"cannot be read ({error})") from error


def _copy_row(source: npt.NDArray[Any], out: npt.NDArray[Any], row: Row, path: Path) -> None:
    if source.size != out.size:
        raise DamagedSegmentError(path, f"ends before byte {row.offset + out.nbytes}")
    out[...] = source.reshape(out.shape)
    if checksum(out) != row.crc32:
        raise DamagedSegmentError(path, f"is damaged: the checksum of byte {row.offset} on does not agree")


def _next_number(folder: Path) -> int:
    matches = (_SEGMENT_NAME.fullmatch(path.name) for path in folder.iterdir())
    return 1 + max((int(match.group(1)) for match in matches if match), default=0)
