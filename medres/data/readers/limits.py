"""How large a scan may be, decided from its header before any memory is asked for."""

from __future__ import annotations

import psutil

from medres.errors import UnreadableScanError

#: Most voxels of one scan: 8 GiB as float32. The largest CT in routine use, 512x512x2000, has a quarter.
MAX_VOXELS = 2**31

#: DEFLATE cannot compress better than 1032:1 (a 258-byte match costs at least two bits).
MAX_DEFLATE_RATIO = 1032

# A scan that shrinks more than 500:1 is one value almost everywhere. The mask of one lesion does that honestly, also
# where it was saved as float64, so up to 512x512x1024 voxels are believed; more of nothing is a bomb.
_BOMB_RATIO = 500
_BOMB_VOXELS = 2**28

# Below this the question for free memory (0.1 ms) costs more than it saves.
_SMALL_BYTES = 64 * 2**20


def is_bomb(num_bytes: int, *, compressed_bytes: int, spared_bytes: int = 64 * 2**20) -> bool:
    """Return whether a file unpacks as only a decompression bomb does.

    Args:
        num_bytes: What it unpacks to.
        compressed_bytes: What it is.
        spared_bytes: What is small enough to be unpacked whatever its ratio.

    Example:
        >>> is_bomb(2**30, compressed_bytes=2**20), is_bomb(2**20, compressed_bytes=2**10)
        (True, False)
    """
    return num_bytes > spared_bytes and num_bytes > _BOMB_RATIO * compressed_bytes


def require_reasonable_size(num_voxels: int, num_bytes: int, *, compressed_bytes: int | None = None) -> None:
    """Refuse a size that a header claims and that cannot be true or cannot be borne.

    Args:
        num_voxels: Voxels that the header claims, all channels.
        num_bytes: Their size in bytes.
        compressed_bytes: Size of the DEFLATE stream that they come from; None where it is not compressed.

    Raises:
        UnreadableScanError: Naming the claim and the limit.
    """
    if num_voxels > MAX_VOXELS:
        raise UnreadableScanError(
            f"claims {num_voxels:,} voxels, more than the limit of {MAX_VOXELS:,} (8 GiB as float32)",
            fix="The header is damaged, or the scan must be cropped or resampled first.",
            code="too-large",
        )
    if compressed_bytes is not None:
        require_possible_ratio(num_voxels, num_bytes, compressed_bytes=compressed_bytes)
    require_memory(num_bytes)


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
    if num_voxels > _BOMB_VOXELS and ratio > _BOMB_RATIO:
        raise UnreadableScanError(
            f"unpacks {compressed_bytes:,} bytes to {num_bytes:,} (more than {_BOMB_RATIO}:1): "
            "it is constant almost everywhere, as a decompression bomb is",
            fix="Crop the scan to what it shows.",
            code="decompression-bomb",
        )


def require_memory(num_bytes: int) -> None:
    """Refuse what is larger than the memory that is free.

    Raises:
        UnreadableScanError: Naming both.
    """
    if num_bytes <= _SMALL_BYTES:
        return
    available = psutil.virtual_memory().available
    if num_bytes > available:
        raise UnreadableScanError(
            f"needs {num_bytes / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free",
            fix="Free memory, or crop or resample the scan first.",
            code="too-large",
        )
