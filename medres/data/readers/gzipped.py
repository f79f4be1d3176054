"""Compressed streams, read to their last byte, so that a checksum is always compared.

nibabel stops at the last voxel, before the checksum: 49 of 60 random one-bit flips in a ``.nii.gz`` loaded
silently wrong. SimpleITK reads a compressed ``.mha`` to its end and then ignores the outcome: 100 of 100 flips
came back as garbage. Here both are inflated by isal (twice as fast as zlib), to the end.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError

from medres.data.readers.budget import claim
from medres.data.readers.limits import is_bomb, require_memory
from medres.errors import UnreadableScanError

_BLOCK_BYTES = 2**20
_ISAL_ERROR: type[Exception] = IsalError  # type: ignore[assignment]  # the stubs call the class an instance
_FIX_COPY = "Copy or export the file again."


@contextmanager
def gunzipped(stream: BinaryIO) -> Iterator[io.BufferedReader]:
    """Unpack a gzip stream from where it stands; checksum and length are compared at its end.

    Args:
        stream: At the beginning of a gzip member.

    Raises:
        UnreadableScanError: It is damaged or truncated; also while the stream is read inside the block.
    """
    with _explained(), igzip.IGzipFile(fileobj=stream) as unpacked:
        yield cast(io.BufferedReader, unpacked)


@contextmanager
def inflated(stream: BinaryIO) -> Iterator[io.BufferedReader]:
    """Unpack a zlib stream from where it stands; see `gunzipped`.

    Args:
        stream: At the beginning of a zlib header.

    Raises:
        UnreadableScanError: It is damaged or truncated; also while the stream is read inside the block.
    """
    with _explained(), io.BufferedReader(_Inflated(stream), _BLOCK_BYTES) as unpacked:
        yield cast(io.BufferedReader, unpacked)


def inflate(unpacked: io.BufferedReader, *, compressed_bytes: int) -> bytes:
    """Return all that a stream unpacks to, as far as it can be a scan and memory bears it.

    Args:
        unpacked: As `gunzipped` gives it.
        compressed_bytes: Size of the compressed file.

    Raises:
        UnreadableScanError: It is damaged, a bomb, or larger than the memory that is free.
    """
    content = bytearray()
    while block := unpacked.read(_BLOCK_BYTES):
        content += block
        if is_bomb(len(content), compressed_bytes=compressed_bytes):
            found = f"unpacks {compressed_bytes:,} bytes to more than {len(content):,}, as a decompression bomb does"
            raise UnreadableScanError(found, fix="Unpack it and look at what it holds.", code="decompression-bomb")
        if len(content) % (32 * _BLOCK_BYTES) == 0:
            require_memory(2 * len(content))
            claim(32 * _BLOCK_BYTES)
    return bytes(content)


class _Inflated(io.RawIOBase):
    """A zlib stream as a file; never more at once than is asked for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inflater = isal_zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._stream.read(2**16)
            if not packed:
                raise EOFError
            block = self._inflater.decompress(packed, len(target))
            if block:
                target[: len(block)] = block
                return len(block)
        return 0


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        found = "is truncated: its compressed stream has no end"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="truncated") from error
    except (gzip.BadGzipFile, _ISAL_ERROR) as error:
        found = f"is damaged: its compressed stream is broken ({error})"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="damaged") from error
