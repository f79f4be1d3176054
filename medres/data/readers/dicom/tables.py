"""Lookup tables: what a stored value means where no slope and intercept say it (the Modality LUT of PS3.3 C.11.1)."""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.data.readers.dicom.elements import Dataset, Stored, first_item, stored, whole
from medres.errors import UnreadableScanError

Array = npt.NDArray[Any]

_FIX = "Export it again, with its values rescaled (Rescale Slope and Intercept in the place of a table)."


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupTable:
    """Entries for stored values; equal tables of a series are one object (`modality_table`).

    Args:
        first: The stored value of the first entry; lower ones take that entry, those beyond the last one the last.
        entries: ``(N,)``, in native byte order.
        bits: Bits of an entry by the header.
    """

    first: int
    entries: Array
    bits: int

    def apply(self, pixels: Array) -> Array:
        """Return the entry of each stored value.

        Example:
            >>> table = LookupTable(first=10, entries=np.array([7, 8, 9], dtype=np.uint8), bits=8)
            >>> table.apply(np.array([0, 10, 11, 99]))
            array([7, 7, 8, 9], dtype=uint8)
        """
        # int32: a signed 16-bit value minus the first one does not fit into its own type
        places = pixels.astype(np.int32) - self.first
        return self.entries[np.clip(places, 0, len(self.entries) - 1, out=places)]

    def inverted(self) -> LookupTable:
        """Return the table whose high entries are those that were low."""
        top = self.entries.dtype.type(-1 if self.entries.dtype.kind == "i" else 2**self.bits - 1)
        return LookupTable(first=self.first, entries=top - self.entries, bits=self.bits)


def modality_table(holder: Dataset, *, signed: bool) -> LookupTable | None:
    """Return the Modality LUT that a dataset (a file, or the functional group of a frame) holds, or None.

    Args:
        holder: With or without Modality LUT Sequence (0028,3000).
        signed: Whether the stored pixels are signed: the first value of the table is then.

    Raises:
        UnreadableScanError: There is a table, and it cannot be applied; the stored values alone mean nothing.
    """
    item = first_item(holder, "ModalityLUTSequence")
    if item is None:
        return None
    data = stored(item, "LUTData")
    try:
        count, first, bits = descriptor(stored(item, "LUTDescriptor"), signed=signed)
        if data is None:
            raise ValueError
        entries = entries_of(data, count, bits)
    except (ValueError, struct.error):
        raise UnreadableScanError(
            "has a Modality LUT that cannot be applied: its descriptor or its data are damaged",
            fix=_FIX,
            code="header-damaged",
        ) from None
    return _shared(first, entries.dtype.str, entries.tobytes(), bits)


def descriptor(found: Stored | None, *, signed: bool) -> tuple[int, int, int]:
    """Return number of entries, first stored value and bits of an entry.

    The first value has the type of the pixels, whatever type the writer gave the element: it is two bytes in any case.

    Raises:
        ValueError: There is none, or it describes no table.
    """
    if found is None or len(found.content) != 6:
        raise ValueError
    middle = "h" if signed or found.vr == "SS" else "H"
    count, first, bits = struct.unpack(f"{found.order}H{middle}H", found.content)
    if not 1 <= bits <= 16:
        raise ValueError
    return count or 2**16, first, bits


def entries_of(found: Stored, count: int, bits: int) -> Array:
    """Return the entries of a table, of 16 bits, or of 8 where they are packed two to a word or have no more.

    Raises:
        ValueError: There are fewer than the descriptor says.
    """
    if len(found.content) >= 2 * count:
        kind = "i2" if found.vr == "SS" else "u2"
        entries = np.frombuffer(found.content, dtype=found.order + kind, count=count).astype(kind)
        small = bits <= 8 and kind == "u2" and entries.max() <= np.iinfo(np.uint8).max
        return entries.astype(np.uint8) if small else entries
    packed = packed_bytes(found)
    if bits > 8 or len(packed) < count:
        raise ValueError
    return np.frombuffer(packed, dtype=np.uint8, count=count)


def packed_bytes(found: Stored) -> bytes:
    """Return bytes that are packed two to a 16-bit word, first byte first: big-endian files turn each pair round."""
    content = found.content
    if found.order == "<" or found.vr == "OB" or len(content) % 2:
        return content
    return np.frombuffer(content, dtype=np.uint16).byteswap().tobytes()


def pixels_are_signed(dataset: Dataset) -> bool:
    """Return whether the stored pixels are signed."""
    return whole(dataset, "PixelRepresentation") == 1


@functools.lru_cache(maxsize=8)
def _shared(first: int, dtype: str, content: bytes, bits: int) -> LookupTable:
    # a series repeats its table in every file: 128 kB of one are kept, not of 2,000
    return LookupTable(first=first, entries=np.frombuffer(content, dtype=dtype), bits=bits)
