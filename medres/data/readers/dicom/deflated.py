"""Deflated DICOM files, unpacked as far as they are read: a header first, and its pixels once their size is known.

pydicom unpacks such a file whole before it looks at it, whatever its size: 3.5 MB become 400.
"""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

from medres.errors import UnreadableScanError

#: Deflated Explicit VR Little Endian.
DEFLATED = "1.2.840.10008.1.2.1.99"

_DEFLATED = DEFLATED.encode()
# The same in as many bytes: what is unpacked here is Explicit VR Little Endian.
_PLAIN = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0")
_META_BYTES = 2**16
_BLOCK_BYTES = 2**18

# What may stand beside the pixels: identification, functional groups, private elements of a vendor.
_MAX_BESIDE_PIXELS = 16 * 2**20


def is_deflated(head: bytes) -> bool:
    """Return whether a file says at its beginning that what follows is deflated."""
    return _DEFLATED in head[:2048]


def unpacked(stream: BinaryIO, *, pixel_bytes: int = 0) -> BinaryIO:
    """Return a file as if it had been written without compression; a deflated one is unpacked while it is read.

    Args:
        stream: The file; it is read from its beginning.
        pixel_bytes: What its pixels have by its header; 0 to read no further than them.

    Raises:
        UnreadableScanError: It unpacks to more; while it is read.
    """
    stream.seek(0)
    head = stream.read(_META_BYTES)
    if not is_deflated(head):
        stream.seek(0)
        return stream
    start = _end_of_meta(head)
    stream.seek(start)
    plain = head[:start].replace(_DEFLATED, _PLAIN, 1)
    return _Unpacking(stream, plain, max_bytes=pixel_bytes + _MAX_BESIDE_PIXELS)  # type: ignore[return-value]  # a raw stream reads alike


def _end_of_meta(head: bytes) -> int:
    """Return where the file meta information ends, which is never deflated."""
    if head[128:132] == b"DICM":
        return min(144 + int.from_bytes(head[140:144], "little"), len(head))
    return head.find(_DEFLATED) + len(_DEFLATED)


class _Unpacking(io.RawIOBase):
    """A stream that holds what was unpacked so far, and unpacks more when it is asked for."""

    def __init__(self, packed: BinaryIO, plain: bytes, *, max_bytes: int) -> None:
        self._packed, self._content, self._at = packed, bytearray(plain), 0
        self._inflater, self._waiting, self._max_bytes = zlib.decompressobj(-zlib.MAX_WBITS), b"", max_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._unpack_to(self._max_bytes)
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        self._unpack_to(self._at + len(target))
        with memoryview(self._content) as content:
            found = content[self._at : self._at + len(target)]
            target[: len(found)] = found
            self._at += len(found)
            return len(found)

    def _unpack_to(self, size: int) -> None:
        while len(self._content) < size and not self._inflater.eof:
            self._waiting = self._waiting or self._packed.read(_BLOCK_BYTES)
            if not self._waiting:
                return
            self._content += self._inflater.decompress(self._waiting, _BLOCK_BYTES)
            self._waiting = self._inflater.unconsumed_tail
            if len(self._content) > self._max_bytes + _BLOCK_BYTES:
                raise UnreadableScanError(
                    f"unpacks to more than the {self._max_bytes:,} bytes that its header accounts for, as a "
                    "decompression bomb does",
                    fix="Export it without compression.",
                    code="decompression-bomb",
                )
