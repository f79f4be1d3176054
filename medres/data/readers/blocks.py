"""Voxels as they are stored: one block of numbers in a stream that is read to its end, and one volume of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from medres.data.readers.limits import require_possible_ratio, require_reasonable_size
from medres.errors import UnreadableScanError

#: Some writers pad to a disk block; more than that is content that the header does not account for.
MAX_TRAILING_BYTES = 64 * 2**10

_FIX_COPY = "Copy or export the file again."


@dataclass(frozen=True, kw_only=True)
class Part:
    """The part of a stored array that is the scan: one of several volumes, or all of it.

    Args:
        shape: Of the part.
        num_volumes: How many such parts the array holds, one after the other.
        volume: Which of them is meant, from 0.
    """

    shape: tuple[int, ...]
    num_volumes: int = 1
    volume: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided, where there was a choice."""
        if self.num_volumes == 1:
            return ()
        return (f"volume-chosen: volume {self.volume} of {self.num_volumes} was read, counted from 0",)


def part_of(shape: Sequence[int], *, num_axes: int, volume: int | None) -> Part:
    """Return which part of an array is the scan: its first axes; all others count volumes (time, directions, ...).

    Args:
        shape: Of the whole array, in the order of its axes in the file, first axis fastest.
        num_axes: How many axes one volume has.
        volume: Which volume is asked for, or None.

    Raises:
        UnreadableScanError: There are several volumes and none was asked for, or there is no such volume.

    Example:
        >>> part_of((64, 64, 20, 7), num_axes=3, volume=2)
        Part(shape=(64, 64, 20), num_volumes=7, volume=2)
        >>> part_of((64, 64, 20), num_axes=3, volume=2).num_volumes
        1
    """
    num_volumes = math.prod(shape[num_axes:])
    if num_volumes == 1:
        return Part(shape=tuple(shape[:num_axes]))
    if volume is None:
        raise UnreadableScanError(
            f"is {len(shape)}D, shape {shape_text(shape)}: {num_volumes} volumes (of time, directions or vectors), "
            "not one scan",
            fix=f"Give --volume N (0 to {num_volumes - 1}) to read one of them, "
            "or write the one that matters to a file of its own (fslsplit, nibabel.four_to_three).",
            code="several-volumes",
        )
    if volume >= num_volumes:
        raise UnreadableScanError(
            f"holds {num_volumes} volumes, counted from 0, and none has the number {volume}",
            fix=f"Give --volume 0 to {num_volumes - 1}.",
            code="several-volumes",
        )
    return Part(shape=tuple(shape[:num_axes]), num_volumes=num_volumes, volume=volume)


def read_block(
    stream: BinaryIO,
    *,
    dtype: np.dtype[Any],
    part: Part,
    skip: int = 0,
    compressed_bytes: int | None = None,
    max_trailing: int = MAX_TRAILING_BYTES,
) -> npt.NDArray[Any]:
    """Read the numbers of one part, flat, and the stream to its end, so that any checksum is compared.

    Args:
        stream: Before the block.
        dtype: Of the stored numbers, in the file's byte order.
        part: Which of them.
        skip: Bytes between the stream's position and the first number of the whole array.
        compressed_bytes: Size of the compressed file that the stream unpacks; None where it is plain.
        max_trailing: Bytes that may follow the array.

    Raises:
        UnreadableScanError: What is claimed is not there, cannot be there or does not fit into memory.
    """
    count = math.prod(part.shape)
    size = count * dtype.itemsize
    require_reasonable_size(count, size)
    before, after = skip + part.volume * size, (part.num_volumes - part.volume - 1) * size
    if compressed_bytes is None:
        _require_length(stream, before + size + after, max_trailing=max_trailing)
    else:
        total = part.num_volumes
        require_possible_ratio(total * count, total * size, compressed_bytes=compressed_bytes)
    return _read(stream, np.dtype(dtype), count, before=before, after=after, max_trailing=max_trailing)


def _read(
    stream: BinaryIO, dtype: np.dtype[Any], count: int, *, before: int, after: int, max_trailing: int
) -> npt.NDArray[Any]:
    if _skip(stream, before) < before:
        raise UnreadableScanError("ends before its voxels begin", fix=_FIX_COPY, code="truncated")
    voxels = np.empty(count, dtype=dtype)  # pages are touched only as the file fills them
    _read_into(stream, voxels.view(np.uint8).data)
    if (skipped := _skip(stream, after)) < after:
        found = f"is truncated: {after - skipped:,} bytes of its last volumes are missing"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="truncated")
    if _skip(stream, max_trailing + 1) > max_trailing:
        found = f"goes on after the {before + voxels.nbytes + after:,} bytes of voxels that it claims"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged")
    return voxels


def _require_length(stream: BinaryIO, num_bytes: int, *, max_trailing: int) -> None:
    """Refuse a plain file whose size contradicts its header before memory is asked for."""
    position = stream.tell()
    there = stream.seek(0, 2) - position
    stream.seek(position)
    if there < num_bytes:
        found = f"is truncated: it ends after {there:,} of {num_bytes:,} bytes of voxels"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="truncated")
    if there > num_bytes + max_trailing:
        found = f"goes on after the {num_bytes:,} bytes of voxels that it claims"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged")


def _skip(stream: BinaryIO, num_bytes: int) -> int:
    skipped = 0
    while skipped < num_bytes:
        block = stream.read(min(num_bytes - skipped, 2**20))
        if not block:
            break
        skipped += len(block)
    return skipped


def _read_into(stream: BinaryIO, target: memoryview) -> None:
    filled = 0
    while filled < len(target):
        # 16 MiB a call: a truncated file must not touch the memory that its header claims
        num_bytes = stream.readinto(target[filled : filled + 2**24])  # type: ignore[attr-defined]
        if not num_bytes:
            found = f"is truncated: it ends after {filled:,} of {len(target):,} bytes of voxels"
            raise UnreadableScanError(found, fix=_FIX_COPY, code="truncated")
        filled += num_bytes


def long_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of a scan: three of a volume, two of an image (the third has the length 1 or is absent).

    Args:
        shape: At most three axes.

    Raises:
        UnreadableScanError: An axis has no voxels, or fewer than two are longer than 1.

    Example:
        >>> long_axes((64, 64, 20)), long_axes((64, 64)), long_axes((1, 64, 64))
        ((0, 1, 2), (0, 1), (1, 2))
    """
    if min(shape, default=0) < 1:
        found = f"has the shape {shape_text(shape)}: an axis without voxels"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="no-voxels")
    long = tuple(axis for axis, size in enumerate(shape) if size > 1)
    if len(long) < 2:
        found = f"has the shape {shape_text(shape)}: no image and no volume"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="no-voxels")
    return long


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape for people.

    Example:
        >>> shape_text((512, 512, 30))
        '512x512x30'
    """
    return "x".join(str(size) for size in shape)
