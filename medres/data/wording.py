"""How messages list many things, the first ones and how many more; how they write counts and ranges."""

from __future__ import annotations

import math
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


def range_text(low: float, high: float) -> str:
    """Return ``low to high`` with as many digits as tell them apart, of a large offset as well.

    Example:
        >>> range_text(0, 1), range_text(0.0005, 0.0021), range_text(999940.3, 1000060.1)
        ('0 to 1', '0.0005 to 0.0021', '999940.3 to 1000060.1')
    """
    largest, width = max(abs(low), abs(high)), high - low
    lost = int(math.log10(largest / width)) if width > 0 and largest > width else 0
    digits = min(6 + lost, 17)
    return f"{low:.{digits}g} to {high:.{digits}g}"
