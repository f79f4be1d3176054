"""Single elements of a DICOM file, read with tolerance: what is odd in one value must not lose the others.

Numbers are decoded from the bytes of the file, not by pydicom: a decimal string of more than 16 characters is
common, and a library that falls back to a spacing of 1 mm for it is wrong by a factor without a word. So is plain
text, which halves the time of a header.
"""

from __future__ import annotations

import functools
import math
import struct
from typing import Any, NamedTuple, TypeAlias

Dataset: TypeAlias = Any  # pydicom.Dataset; pydicom is not typed for mypy here

_FORMATS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
_KNOWN_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# The first group of a file: 0002 (file meta), 0008 (identification); others do not come first in an image.
_FIRST_GROUPS = (0x0002, 0x0008)


class Stored(NamedTuple):
    """A value as it lies in the file.

    Args:
        content: Its bytes.
        vr: The type that the file gives it; None where the file names none (implicit VR).
        order: ``<`` or ``>``: the byte order of its numbers.
    """

    content: bytes
    vr: str | None
    order: str


def is_dicom(head: bytes) -> bool:
    """Return whether a file is DICOM, with or without its preamble.

    Args:
        head: Its first 352 bytes (fewer where it is shorter).

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"nothing of the kind")
        (True, False)
    """
    if head[128:132] == b"DICM":
        return True
    return any(_begins_with_elements(head, order, explicit) for order in "<>" for explicit in (True, False))


def _begins_with_elements(head: bytes, order: str, explicit: bool) -> bool:
    """Two elements in ascending order whose lengths lead from one to the next: no other format begins so."""
    offset, last, found = 0, (0, 0), 0
    while found < 3 and offset + 8 <= len(head):
        group, element = struct.unpack_from(order + "HH", head, offset)
        if (found == 0 and group not in _FIRST_GROUPS) or (found and not last < (group, element)):
            return False
        size = _element_size(head, offset, order, explicit and not (found == 0 and group == 0x0000))
        if size is None:
            return False
        found, last, offset = found + 1, (group, element), offset + size
    return found >= 2


def _element_size(head: bytes, offset: int, order: str, explicit: bool) -> int | None:
    if not explicit:
        (length,) = struct.unpack_from(order + "I", head, offset + 4)
        return 8 + length if length < 2**16 else None
    vr = head[offset + 4 : offset + 6]
    if vr not in _KNOWN_VRS:
        return None
    if vr not in _LONG_VRS:
        return 8 + int(struct.unpack_from(order + "H", head, offset + 6)[0])
    return 12 + int(struct.unpack_from(order + "I", head, offset + 8)[0]) if offset + 12 <= len(head) else None


def text(dataset: Dataset, keyword: str) -> str:
    """Return a value as text without the padding, several joined by backslashes; empty where absent."""
    return "\\".join(texts(dataset, keyword))


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an element as texts; empty where it is absent or cannot be decoded."""
    found = _raw(dataset, keyword)
    if found is None or found.value is None:
        return ()
    value = found.value
    # no other bytes, and no escape to another character set: it is the same in all of them
    if isinstance(value, bytes) and value.isascii() and b"\x1b" not in value and found.VR not in _FORMATS:
        return _parts(value.decode("ascii"))
    try:
        value = dataset.get(keyword)
    except Exception:  # whatever pydicom makes of a damaged value
        return _parts((raw_bytes(dataset, keyword) or b"").decode("latin-1"))
    if value is None:
        return ()
    parts = value if isinstance(value, list | tuple) or type(value).__name__ == "MultiValue" else [value]
    return tuple(str(part).strip(" \0") for part in parts)


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """Return the values of a numeric element; empty where it is absent or one of them is no finite number."""
    try:
        values = _numbers(dataset, keyword)
    except (ValueError, struct.error, TypeError, OverflowError):
        return ()
    return values if all(math.isfinite(value) for value in values) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric element, or None."""
    return next(iter(numbers(dataset, keyword)), None)


def whole(dataset: Dataset, keyword: str) -> int | None:
    """Return the first value of a numeric element as a whole number, or None where it is none."""
    value = number(dataset, keyword)
    return int(value) if value is not None and value.is_integer() else None


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence; empty where it is absent or damaged."""
    try:
        value = dataset.get(keyword)
    except Exception:
        return ()
    return tuple(value) if type(value).__name__ == "Sequence" else ()


def first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    """Return the first item of a sequence, or None."""
    return next(iter(items(dataset, keyword)), None)


def raw_bytes(dataset: Dataset, keyword: str) -> bytes | None:
    """Return the bytes of a value as they lie in the file, or None where it is absent or was converted."""
    found = _raw(dataset, keyword)
    return found.value if found is not None and isinstance(found.value, bytes) else None


def stored(dataset: Dataset, keyword: str) -> Stored | None:
    """Return a value as it lies in the file, or None where it is absent or was converted."""
    found = _raw(dataset, keyword)
    if found is None or not isinstance(found.value, bytes) or not hasattr(found, "is_little_endian"):
        return None
    return Stored(found.value, found.VR, "<" if found.is_little_endian else ">")


def tag_of(keyword: str) -> Any:
    """Return the tag of an element that the standard names."""
    return _known(keyword)[0]


@functools.cache
def _known(keyword: str) -> tuple[Any, str]:
    """Return the tag of an element, and what type of value the standard gives it."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.tag import Tag

    tag = Tag(tag_for_keyword(keyword))
    return tag, dictionary_VR(tag)


def _raw(dataset: Dataset, keyword: str) -> Any:
    """Return an element as it lies in the file or, where it was converted, as pydicom has it; None where absent."""
    tag = tag_of(keyword)
    return dataset.get_item(tag) if tag in dataset else None


def _numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    element = _raw(dataset, keyword)
    if element is None:
        return ()
    if not isinstance(element.value, bytes):
        value = element.value
        return tuple(float(part) for part in (value if hasattr(value, "__len__") else [value]))
    vr = element.VR if element.VR not in (None, "UN") else _known(keyword)[1]
    if vr in _FORMATS:
        size = struct.calcsize(_FORMATS[vr])
        order = "<" if element.is_little_endian else ">"
        return tuple(map(float, struct.unpack(f"{order}{len(element.value) // size}{_FORMATS[vr]}", element.value)))
    return tuple(_decimal(part) for part in element.value.decode("ascii", "replace").strip(" \0").split("\\") if part)


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part.strip(" \0") for part in value.split("\\")) if value.strip(" \0") else ()


def _decimal(part: str) -> float:
    # some writers use the comma of their locale
    return float(part.strip(" \0").replace(",", "."))
