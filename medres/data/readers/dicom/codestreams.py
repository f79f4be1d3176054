"""The size that a compressed frame itself claims: a decoder allocates by it, not by the DICOM header."""

from __future__ import annotations

import struct

from medres.data.readers.dicom.headers import Header
from medres.errors import UnreadableScanError

# JPEG (SOF0-15 without DHT, JPG and DAC) and JPEG-LS (SOF55)
_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def require_claimed_size(content: bytes, header: Header) -> None:
    """Refuse compressed pixels whose frames claim another size than the header, or are not all there.

    Args:
        content: The encapsulated value of the pixel data element.
        header: What the file says about it.

    Raises:
        UnreadableScanError: A frame claims another size, or frames are missing.
    """
    from pydicom.encaps import generate_frames

    found = 0
    try:
        for frame in generate_frames(content, number_of_frames=len(header.frames)):
            found += 1
            size = claimed_size(frame[:65536])
            if size is not None and size != (header.rows, header.columns):
                raise _mismatch(header, size)
    except UnreadableScanError:
        raise
    except Exception:  # whatever pydicom makes of damaged fragments
        raise _truncated(found, header) from None
    if found < len(header.frames):
        raise _truncated(found, header)


def claimed_size(frame: bytes) -> tuple[int, int] | None:
    r"""Return the rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream claims, or None where it says none.

    Example:
        >>> claimed_size(b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x03\x00\x04")
        (3, 4)
    """
    if frame.startswith(b"\xff\x4f\xff\x51") and len(frame) >= 24:
        width, height, left, top = struct.unpack_from(">4I", frame, 8)
        return height - top, width - left
    if not frame.startswith(b"\xff\xd8"):
        return None
    return _jpeg_size(frame)


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    offset = 2
    while offset + 9 <= len(frame) and frame[offset] == 0xFF:
        marker = frame[offset + 1]
        if marker in _START_OF_FRAME:
            rows, columns = struct.unpack_from(">2H", frame, offset + 5)
            return rows, columns
        if marker == 0xFF or marker in _STANDALONE:
            offset += 1 if marker == 0xFF else 2
        else:
            offset += 2 + int(struct.unpack_from(">H", frame, offset + 2)[0])
    return None


def _mismatch(header: Header, size: tuple[int, int]) -> UnreadableScanError:
    return UnreadableScanError(
        f"claims {header.rows} x {header.columns} pixels, and its compressed image {size[0]} x {size[1]}",
        fix="It is damaged: export it again.",
        code="header-damaged",
    )


def _truncated(found: int, header: Header) -> UnreadableScanError:
    return UnreadableScanError(
        f"is truncated: {found} of {len(header.frames)} compressed images are whole",
        fix="Copy or export the file again.",
        code="truncated",
    )
