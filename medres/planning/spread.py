"""`Spread`: how a number is distributed over the scans of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from medres.runs.documents import Document


class Spread(Document):
    """Order statistics, rounded to four significant digits: no single scan can be told from them.

    Of intensities to four digits of the range that scans have, where that is finer: 999,940 and 1,000,060 differ.

    Args:
        minimum: Smallest value.
        p5: 5th percentile.
        p10: 10th percentile.
        median: 50th percentile.
        p90: 90th percentile.
        p95: 95th percentile.
        maximum: Largest value.

    Example:
        >>> Spread.over([1, 2, 3, 4, 100]).median
        3.0
    """

    minimum: float
    p5: float
    p10: float
    median: float
    p90: float
    p95: float
    maximum: float

    @classmethod
    def over(cls, values: Iterable[float], *, width: float = 0.0) -> Self:
        """Return the spread of at least one value (percentiles interpolated linearly).

        Args:
            values: One a scan.
            width: Of the range that counts beside the values' own size; see `rounded`.
        """
        levels = np.percentile(np.fromiter(values, dtype=np.float64), [0, 5, 10, 50, 90, 95, 100])
        return cls(**{name: rounded(level, width=width) for name, level in zip(cls.model_fields, levels, strict=True)})


def spread_by_axis(rows: Sequence[Sequence[float]]) -> tuple[Spread, ...]:
    """Return one spread for each column of ``rows (N, axes)``."""
    return tuple(Spread.over(column) for column in zip(*rows, strict=True))


def rounded(value: float, *, width: float = 0.0, digits: int = 4) -> float:
    """Return ``value`` with four significant digits: its own, or those of ``width`` where they are finer.

    Example:
        >>> rounded(123456.0), rounded(0.70312345), rounded(1000060.123, width=120.0)
        (123500.0, 0.7031, 1000060.1)
    """
    sizes = [abs(size) for size in (value, width) if size]
    if not sizes:
        return 0.0
    decimals = digits - 1 - math.floor(math.log10(min(sizes)))
    return float(round(float(value), decimals)) + 0.0  # no -0
