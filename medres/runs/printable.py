r"""Text that a terminal shows and does not obey.

Names of files, folders, columns and classes come from elsewhere. One that holds ``ESC ]0;...BEL`` would set the title
of the window, ``ESC [2J`` clear the screen, a carriage return write over the line, and a mark of direction (U+202E)
turn it round (Unicode TR 36, section 2.5; CWE-150). They are shown as Python's escapes: ``\x1b``, ``\u202e``.
"""

from __future__ import annotations

import logging
import re
import unicodedata
import warnings
from typing import Any

#: Control characters, marks without a shape (directions, joiners, soft hyphens), separators of lines and paragraphs.
#: Halves of a surrogate pair are left to the stream: names that are no text in UTF-8 come as them.
_WITHOUT_SHAPE = frozenset({"Cc", "Cf", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Return text whose characters all have a shape, but for the line feeds between its lines.

    Example:
        >>> printable("scan \x1b[2J\r1.png")
        'scan \\x1b[2J\\r1.png'
    """
    if text.isprintable():  # nearly all: also true of spaces, not of line feeds
        return text
    return "".join(character if character == "\n" else _escaped(character) for character in text)


def one_line(text: str) -> str:
    r"""Return text as `printable` does, in one line: for names, which could pass for a line of their own.

    Example:
        >>> one_line("scan 1.png\nno findings")
        'scan 1.png\\nno findings'
    """
    return printable(text).replace("\n", "\\n")


def printable_message(text: str) -> str:
    r"""Return text as `printable` does, with the line feeds that begin an indented line: those of lists in messages.

    What a name could begin a line with would look like a message of its own.

    Example:
        >>> print(printable_message("2 scans are damaged:\n  1.png\n  2.png\nmedres: no findings"))
        2 scans are damaged:
          1.png
          2.png\nmedres: no findings
    """
    return re.sub(r"\n(?!  )", r"\\n", printable(text))


def printable_json(text: str) -> str:
    r"""Return a JSON document with the escapes of JSON for what a terminal would obey; its values stay the same.

    Example:
        >>> printable_json('{"name": "\x9b2J"}')
        '{"name": "\\u009b2J"}'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character == "\n" or unicodedata.category(character) not in _WITHOUT_SHAPE else _json(character)
        for character in text
    )


def make_warnings_printable() -> None:
    """Show warnings of libraries, which quote names and values of files, as `printable` text: for a program's start."""
    as_usual: Any = warnings.formatwarning

    def formatted(*args: Any, **kwargs: Any) -> str:
        return printable(as_usual(*args, **kwargs))

    warnings.formatwarning = formatted
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_PrintableFormatter())


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _WITHOUT_SHAPE:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _json(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
