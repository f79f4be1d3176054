"""Voxels that a text header describes (NRRD, MetaImage): where they are, how they are packed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from medres.data.readers.beside import open_beside
from medres.data.readers.blocks import Part, long_axes, part_of, read_block
from medres.data.readers.gzipped import gunzipped, inflated
from medres.errors import UnreadableScanError

#: Longest header that is read; those of scanners have a few kilobytes, one that lists a DICOM header 100.
MAX_HEADER_BYTES = 2**20

Encoding = Literal["raw", "deflate"]


@dataclass(frozen=True, kw_only=True)
class VoxelSource:
    """Where the voxels of a text header lie.

    Args:
        stream: Of the header, behind it.
        num_bytes: Size of the file of the header.
        folder: Of the header; None where only its bytes came.
        name: Of the file with the voxels; None where they follow the header.
        encoding: ``raw``, or ``deflate`` (gzip or zlib, told by the first bytes).
        skip: Bytes before the first voxel; -1: as many as leave just the voxels at the end of the file.
        skip_lines: Lines before the first voxel, before `skip`.
    """

    stream: BinaryIO
    num_bytes: int
    folder: Path | None
    name: str | None
    encoding: Encoding
    skip: int = 0
    skip_lines: int = 0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the axes of a stored array are.

    Args:
        shape: Without the axis of components, first axis fastest: 2 or 3 axes of space, then those that count volumes.
        num_spatial: How many of them are space.
        components: Numbers a voxel, interleaved (before all axes); 1 for plain images.
        dtype: Of the stored numbers, in the file's byte order.
    """

    shape: tuple[int, ...]
    num_spatial: int
    components: int
    dtype: np.dtype[Any]

    @property
    def color(self) -> bool:
        """Whether the components are red, green, blue (and alpha)."""
        return self.components in (3, 4) and self.dtype.kind == "u" and self.dtype.itemsize <= 2


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Voxels and what is known of their axes.

    Args:
        voxels: ``(C, *spatial)``, axes of length 1 left out.
        axes: Which axes of space those are.
        notes: What had to be decided.
    """

    voxels: npt.NDArray[Any]
    axes: tuple[int, ...]
    notes: tuple[str, ...]


def read_layout(source: VoxelSource, layout: Layout, *, volume: int | None) -> Decoded:
    """Read one image or volume: all of it, or the one of several that is asked for.

    Args:
        source: Where the numbers are.
        layout: What they are.
        volume: Which volume of several, counted as they are stored; interleaved ones are volumes too, never channels.

    Raises:
        UnreadableScanError: It is not one scan, or it cannot be read.
    """
    spatial, counted = layout.shape[: layout.num_spatial], layout.shape[layout.num_spatial :]
    axes = long_axes(spatial)
    long = [spatial[axis] for axis in axes]
    if layout.components == 1:
        part = part_of((*spatial, *counted), num_axes=len(spatial), volume=volume)
        return Decoded(voxels=_read(source, layout, part, long)[np.newaxis], axes=axes, notes=part.notes)
    if layout.color:
        part = part_of((layout.components, *spatial, *counted), num_axes=1 + len(spatial), volume=volume)
        stored = _read(source, layout, part, [layout.components, *long])
        return Decoded(voxels=stored[:3], axes=axes, notes=part.notes)
    chosen = part_of((*spatial, *counted, layout.components), num_axes=len(spatial), volume=volume)
    whole = Part(shape=(layout.components, *spatial, *counted))
    stored = _read(source, layout, whole, [layout.components, *long, *counted])
    # as part_of counts: the volumes of the first component, then those of the second
    volumes = np.moveaxis(stored, 0, -1).reshape((*long, -1), order="F")
    return Decoded(voxels=volumes[np.newaxis, ..., chosen.volume].copy(), axes=axes, notes=chosen.notes)


def _read(source: VoxelSource, layout: Layout, part: Part, shape: list[int]) -> npt.NDArray[Any]:
    return read_voxels(source, dtype=layout.dtype, part=part).reshape(shape, order="F")


def read_voxels(source: VoxelSource, *, dtype: np.dtype[Any], part: Part) -> npt.NDArray[Any]:
    """Read the numbers of one part, flat.

    Raises:
        UnreadableScanError: They are not there, damaged or too large.
    """
    with _opened(source) as (stream, num_bytes):
        if source.encoding == "raw":
            skip = _skip_of(source, stream, num_bytes, dtype, part)
            return read_block(stream, dtype=dtype, part=part, skip=skip)
        _skip_lines(stream, source.skip_lines)
        with _unpacked(stream) as unpacked:
            skip = max(source.skip, 0)
            return read_block(unpacked, dtype=dtype, part=part, skip=skip, compressed_bytes=num_bytes)


def read_text(stream: BinaryIO, budget: int) -> str:
    """Return the next line of a text header without its end; empty at the end of the file too.

    Args:
        stream: At the beginning of a line.
        budget: Bytes of the header that may still come.

    Raises:
        UnreadableScanError: The header is longer than `MAX_HEADER_BYTES`.
    """
    line = stream.readline(max(budget, 0) + 1)
    if len(line) > budget:
        found = f"has a text header of more than {MAX_HEADER_BYTES:,} bytes"
        raise UnreadableScanError(found, fix="Copy or export the file again.", code="header-damaged")
    return line.decode("latin-1")


@contextmanager
def _opened(source: VoxelSource) -> Iterator[tuple[BinaryIO, int]]:
    if source.name is None:
        yield source.stream, source.num_bytes
        return
    if source.folder is None:
        raise UnreadableScanError(
            "is a header whose voxels are in another file",
            fix="Save header and voxels as one file (.nrrd, .mha or .nii.gz).",
            code="unknown-format",
        )
    with open_beside(source.folder / "header", [source.name]) as stream:
        num_bytes = stream.seek(0, 2)
        stream.seek(0)
        yield stream, num_bytes


def _unpacked(stream: BinaryIO) -> Any:
    position = stream.tell()
    gzipped = stream.read(2) == b"\x1f\x8b"
    stream.seek(position)
    return gunzipped(stream) if gzipped else inflated(stream)


def _skip_of(source: VoxelSource, stream: BinaryIO, num_bytes: int, dtype: np.dtype[Any], part: Part) -> int:
    if source.skip >= 0:
        _skip_lines(stream, source.skip_lines)
        return source.skip
    voxel_bytes = part.num_volumes * int(np.prod(part.shape, dtype=object)) * dtype.itemsize
    before = num_bytes - stream.tell() - voxel_bytes
    if before < 0:
        raise UnreadableScanError(
            f"is truncated: {num_bytes:,} bytes cannot hold {voxel_bytes:,} bytes of voxels",
            fix="Copy or export the file again.",
            code="truncated",
        )
    return before


def _skip_lines(stream: BinaryIO, count: int) -> None:
    for _ in range(count):
        stream.readline(MAX_HEADER_BYTES)
