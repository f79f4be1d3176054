"""How messages list many things: the first ones and how many more."""

from __future__ import annotations

from collections.abc import Sequence


def first_of(items: Sequence[object], *, limit: int = 10) -> str:
    """Return the first ``limit`` items, separated by commas, and how many more there are.

    Example:
        >>> first_of(["a.png", "b.png", "c.png"], limit=2)
        'a.png, b.png and 1 more'
    """
    shown = ", ".join(str(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "scan"), counted(25, "extra copy", "extra copies")
        ('1 scan', '25 extra copies')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
