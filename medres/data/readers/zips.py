"""What Python's `zipfile` raises for archives that are damaged, encrypted or packed in a way that it does not know."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib

#: Found by damaging archives at random: besides its own errors, those of the decompressors and of impossible offsets.
ZIP_ERRORS: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,  # encryption; an unknown compression is a NotImplementedError, which is one of these
    ValueError,  # offsets that cannot be
    OverflowError,
)


def is_encrypted(error: Exception) -> bool:
    """Return whether an error of `ZIP_ERRORS` speaks of encryption.

    Example:
        >>> is_encrypted(RuntimeError("File is encrypted")), is_encrypted(NotImplementedError("compression type 97"))
        (True, False)
    """
    # zipfile has no error of its own for either: it raises a bare RuntimeError where a password is missing
    return isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError)
