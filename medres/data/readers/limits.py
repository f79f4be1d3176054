"""How large a scan may be, decided from its header before any memory is asked for.

Three limits, each for another lie. What a header claims must be possible for the bytes that are there; it must not be
one value almost everywhere (a bomb, whatever the level of its compression); and it must fit: into the budget of a
server (`medres.data.readers.budget`), or into the memory that is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from medres.data.readers.budget import MAX_SCAN_VARIABLE, asked_limit, claim
from medres.data.readers.memory import available_bytes
from medres.errors import UnreadableScanError

#: Most voxels of one scan: 8 GiB as float32. The largest CT in routine use, 512x512x2000, has a quarter.
MAX_VOXELS = 2**31

#: DEFLATE cannot compress better than 1032:1 (a 258-byte match costs at least two bits).
MAX_DEFLATE_RATIO = 1032

#: Most pixels of an image or a slice, Pillow's own limit for what is surely a decompression bomb.
MAX_PIXELS = 178_956_970

# Grey scans shrink 2:1 to 30:1, of which a few times more where their numbers have more bytes than they need. One value
# everywhere shrinks 103:1 to 159:1 by the fixed codes of DEFLATE (13 bits for 258 bytes), 229:1 by zlib's level 1 and
# 1030:1 by its best: more than 100:1 is one value almost everywhere, at whatever level it was packed.
_BOMB_RATIO = 100

# A shape drawn on nothing shrinks as much and is a scan to somebody: up to 512x512x512 voxels and 512 MB are believed.
# Masks of regions of interest are believed whatever their ratio: that of one lesion in a whole body shrinks 1000:1.
_BOMB_VOXELS, _BOMB_BYTES = 2**27, 2**29

# Below this the question for free memory (0.1 ms) costs more than it saves.
_SMALL_BYTES = 64 * 2**20


_MASK: ContextVar[bool] = ContextVar("reading_a_mask", default=False)


@contextmanager
def expecting(*, mask: bool) -> Iterator[None]:
    """Say whether what this thread reads until the end is a mask, which may be one value almost everywhere."""
    before = _MASK.set(mask)
    try:
        yield
    finally:
        _MASK.reset(before)


def is_bomb(num_bytes: int, *, compressed_bytes: int, spared_bytes: int = 32 * 2**20) -> bool:
    """Return whether a file unpacks as only a decompression bomb does.

    Args:
        num_bytes: What it unpacks to.
        compressed_bytes: What it is.
        spared_bytes: What is small enough to be unpacked whatever its ratio.

    Example:
        >>> is_bomb(2**30, compressed_bytes=2**20), is_bomb(2**20, compressed_bytes=2**10)
        (True, False)
    """
    return num_bytes > spared_bytes and num_bytes > _BOMB_RATIO * compressed_bytes and not _is_believed(num_bytes)


def _is_believed(num_bytes: int) -> bool:
    """Whether an image may be one value almost everywhere: a mask, or one that the user vouches for."""
    return _MASK.get() or _is_vouched(num_bytes)


def _is_vouched(num_bytes: int) -> bool:
    asked = asked_limit()
    return asked is not None and num_bytes <= asked


def _vouched_by(num_bytes: int) -> str:
    return f"{MAX_SCAN_VARIABLE}={-(-num_bytes // 2**20)}"


def require_reasonable_size(num_voxels: int, num_bytes: int, *, compressed_bytes: int | None = None) -> None:
    """Refuse a size that a header claims and that cannot be true or cannot be borne.

    Args:
        num_voxels: Voxels that the header claims, all channels.
        num_bytes: Their size in bytes.
        compressed_bytes: Size of the DEFLATE stream that they come from; None where it is not compressed.

    Raises:
        UnreadableScanError: Naming the claim and the limit. What is not refused was claimed from the budget, if any.
    """
    if num_voxels > MAX_VOXELS and not _is_vouched(num_bytes):
        raise UnreadableScanError(
            f"claims {num_voxels:,} voxels, more than the limit of {MAX_VOXELS:,} (8 GiB as float32)",
            fix="The header is damaged, or the scan must be cropped or resampled first (or set "
            f"{_vouched_by(num_bytes)}).",
            code="too-large",
        )
    if compressed_bytes is not None:
        require_possible_ratio(num_voxels, num_bytes, compressed_bytes=compressed_bytes)
    require_memory(num_bytes)
    claim(num_bytes)


def require_possible_ratio(num_voxels: int, num_bytes: int, *, compressed_bytes: int) -> None:
    """Refuse voxels that cannot come from so few compressed bytes, or are one value almost everywhere.

    Args:
        num_voxels: Voxels that the header claims.
        num_bytes: Their size in bytes.
        compressed_bytes: Size of the DEFLATE stream that they come from.

    Raises:
        UnreadableScanError: Naming the claim and what is there.
    """
    ratio = num_bytes / max(compressed_bytes, 1)
    if ratio > MAX_DEFLATE_RATIO:
        raise UnreadableScanError(
            f"claims {num_bytes:,} bytes of voxels, more than {compressed_bytes:,} compressed bytes hold",
            fix="The file is truncated or its header is damaged: copy it again from its source.",
            code="truncated",
        )
    require_no_bomb(num_voxels, num_bytes, compressed_bytes=compressed_bytes)


def require_no_bomb(num_voxels: int, num_bytes: int, *, compressed_bytes: int) -> None:
    """Refuse a large image that is one value almost everywhere, by how much it shrank.

    Args:
        num_voxels: Voxels that the header claims.
        num_bytes: Their size in bytes.
        compressed_bytes: What they come from.

    Raises:
        UnreadableScanError: Naming both sizes.
    """
    large = num_voxels > _BOMB_VOXELS or num_bytes > _BOMB_BYTES
    if large and num_bytes > _BOMB_RATIO * compressed_bytes and not _is_believed(num_bytes):
        raise UnreadableScanError(
            f"unpacks {compressed_bytes:,} bytes to {num_bytes:,} (more than {_BOMB_RATIO}:1): "
            "it is constant almost everywhere, as a decompression bomb is",
            fix=f"Crop the scan to what it shows, or set {_vouched_by(num_bytes)} to read it.",
            code="decompression-bomb",
        )


def require_plane_size(rows: int, columns: int) -> None:
    """Refuse an image, or a slice, of more pixels than any detector has.

    Raises:
        UnreadableScanError: Naming the claim and the limit.
    """
    if rows * columns > MAX_PIXELS and not _is_vouched(rows * columns):
        raise UnreadableScanError(
            f"claims {rows:,} x {columns:,} pixels, more than the limit of {MAX_PIXELS:,}",
            fix="The file is damaged, or the image must be made smaller first (or set "
            f"{_vouched_by(4 * rows * columns)}).",
            code="too-large",
        )


def require_memory(num_bytes: int) -> None:
    """Refuse what is larger than the memory that is free.

    Raises:
        UnreadableScanError: Naming both.
    """
    if num_bytes <= _SMALL_BYTES:
        return
    available = available_bytes()
    if num_bytes > available:
        raise UnreadableScanError(
            f"needs {num_bytes / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free",
            fix="Free memory, or crop or resample the scan first.",
            code="too-large",
        )
