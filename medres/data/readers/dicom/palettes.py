"""Palette colour: stored values that are places in three tables (PS3.3 C.7.6.3.1.6), plain or in segments (C.7.9.2)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.data.readers.dicom.elements import Dataset, Stored, stored
from medres.data.readers.dicom.tables import (
    LookupTable,
    descriptor,
    entries_of,
    packed_bytes,
    pixels_are_signed,
)
from medres.errors import UnreadableScanError

Array = npt.NDArray[Any]

_COLORS = ("Red", "Green", "Blue")
#: The elements that hold palettes.
PALETTE_KEYWORDS = tuple(
    name.format(color)
    for color in _COLORS
    for name in (
        "{}PaletteColorLookupTableDescriptor",
        "{}PaletteColorLookupTableData",
        "Segmented{}PaletteColorLookupTableData",
    )
)
_EIGHT_BITS = np.iinfo(np.uint8).max
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def palette_colors(pixels: Array, dataset: Dataset) -> Array:
    """Return the colours of stored values, 8 bits each.

    Args:
        pixels: ``(rows, columns)``, places in the palettes.
        dataset: With the palettes as they lie in the file.

    Returns:
        ``(rows, columns, 3)``, uint8.

    Raises:
        UnreadableScanError: There is no palette, or it is damaged.
    """
    try:
        tables = [_table(dataset, color) for color in _COLORS]
    except (ValueError, IndexError, struct.error):
        raise UnreadableScanError(
            "has palettes of colours that are missing or damaged", fix="Export it as RGB.", code="header-damaged"
        ) from None
    # the 8 bits of a screen, often in the upper half of 16; some writers say 16 and fill the lower half
    deep = max(int(table.entries.max()) for table in tables) > _EIGHT_BITS
    found = [table.apply(pixels) for table in tables]
    return np.stack([color >> 8 if deep else color for color in found], axis=-1).astype(np.uint8)


def _table(dataset: Dataset, color: str) -> LookupTable:
    described = stored(dataset, f"{color}PaletteColorLookupTableDescriptor")
    count, first, bits = descriptor(described, signed=pixels_are_signed(dataset))
    plain = stored(dataset, f"{color}PaletteColorLookupTableData")
    segments = stored(dataset, f"Segmented{color}PaletteColorLookupTableData")
    if plain is not None:
        entries = entries_of(plain, count, bits)
    elif segments is not None:
        entries = _expanded(segments, count, bits)
    else:
        raise ValueError
    return LookupTable(first=first, entries=entries, bits=bits)


def _expanded(found: Stored, count: int, bits: int) -> Array:
    """Return the entries that segments stand for; never more than the descriptor says, whatever they claim."""
    if bits > 8:
        words = np.frombuffer(found.content, dtype=found.order + "u2")
    else:
        words = np.frombuffer(packed_bytes(found), dtype=np.uint8)
    entries: list[int] = []
    at = 0
    while at + 1 < len(words) and len(entries) < count:
        at = _add_segment(words, at, entries, count, bits)
    if len(entries) < count:
        raise ValueError
    return np.array(entries[:count], dtype=np.uint16 if bits > 8 else np.uint8)


def _add_segment(words: Array, at: int, entries: list[int], count: int, bits: int) -> int:
    """Add the entries of the segment at a place, and return the place behind it."""
    opcode, length = int(words[at]), int(words[at + 1])
    if opcode == _INDIRECT:
        return _repeat_segments(words, at, entries, count, bits)
    return _add_entries(words, at, opcode, length, entries, count)


def _add_entries(words: Array, at: int, opcode: int, length: int, entries: list[int], count: int) -> int:
    if opcode == _DISCRETE:
        entries += words[at + 2 : at + 2 + length].tolist()
        return at + 2 + length
    if opcode != _LINEAR or not entries:
        raise ValueError
    last = int(words[at + 2])
    steps = np.linspace(entries[-1], last, length + 1)[1 : count + 1]
    entries += np.rint(steps).astype(int).tolist()
    return at + 3


def _repeat_segments(words: Array, at: int, entries: list[int], count: int, bits: int) -> int:
    """Add segments that were given before; they hold no such reference themselves."""
    parts = words[at + 2 : at + (4 if bits > 8 else 6)].tolist()
    place = sum(part << (16 if bits > 8 else 8) * index for index, part in enumerate(parts))
    for _ in range(int(words[at + 1])):
        if len(entries) >= count:
            break
        place = _add_entries(words, place, int(words[place]), int(words[place + 1]), entries, count)
    return at + 2 + len(parts)
