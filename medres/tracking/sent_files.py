"""The bytes of a file as a client sends them: as they are, or as base64 in the spellings that are about."""

from __future__ import annotations

import base64
import re

#: A data URL, as browsers make it.
_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w.=+-]+)*;base64,", re.IGNORECASE)
_LETTERS = re.compile(r"[A-Za-z0-9+/]+")
_BEGINS_AS_TEXT = re.compile(rb"(?:data:[^,]*,)?[A-Za-z0-9+/=_\s-]*")
_URL_SAFE = str.maketrans("-_", "+/")
_BLANKS = " \t"
#: Longer than any line that a tool wraps base64 at, and short enough to be looked at for nothing.
_FIRST_LETTERS = 4096


def file_bytes(content: bytes | bytearray | str) -> bytes | None:
    r"""Return the bytes of a file, or None where a text is no base64.

    Text is base64: with or without line breaks (``base64 FILE`` prints them), padding, the alphabet of URLs or the
    beginning of a data URL. Bytes that consist of such text are read likewise, since no format of scans does; other
    bytes are the file.

    Args:
        content: What was sent.

    Example:
        >>> file_bytes("aGVsbG8gd29y\nbGQ"), file_bytes(b"hello, world"), file_bytes("no base64!")
        (b'hello world', b'hello, world', None)
    """
    if isinstance(content, str):
        return _decoded(content)
    if not _BEGINS_AS_TEXT.fullmatch(content[:_FIRST_LETTERS]):  # most files are told apart by their beginning
        return bytes(content)
    decoded = _decoded(bytes(content).decode("ascii", errors="replace"))
    return bytes(content) if decoded is None else decoded


def _decoded(text: str) -> bytes | None:
    letters = _decoded_letters(text)
    if letters is None or len(letters) % 4 == 1:  # no number of bytes has as many letters
        return None
    return base64.b64decode(letters + "=" * (-len(letters) % 4))


def _decoded_letters(text: str) -> str | None:
    """Return the letters of base64 in the usual alphabet, without white space and padding; None where it is none.

    A form turns the letter + into a space. So spaces are left out only where they indent or join lines, and where the
    padding shows that no letter is missing: all bytes behind it would be others.
    """
    joined = "".join(line.strip(_BLANKS) for line in text.splitlines())
    joined = joined[match.end() :] if (match := _DATA_URL.match(joined)) else joined
    letters = _without_joints(joined)
    if any(blank in text for blank in _BLANKS) and len(letters) % 4:
        return None
    letters = letters.rstrip("=").translate(_URL_SAFE)
    return letters if _LETTERS.fullmatch(letters) else None


def _without_joints(text: str) -> str:
    """Return text without the spaces that join lines, which are of one length but for the last."""
    pieces = text.split(" ")
    widths = {len(piece) for piece in pieces[:-1]}
    return "".join(pieces) if len(widths) == 1 and len(pieces[-1]) <= max(widths) else text
