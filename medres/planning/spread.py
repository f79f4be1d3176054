"""`Spread`: how a number is distributed over the scans of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from medres.runs.documents import Document


class Spread(Document):
    """Order statistics, rounded to four significant digits: no single scan can be told from them.

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
    def over(cls, values: Iterable[float]) -> Self:
        """Return the spread of at least one value (percentiles interpolated linearly)."""
        levels = np.percentile(np.fromiter(values, dtype=np.float64), [0, 5, 10, 50, 90, 95, 100])
        return cls(**{name: rounded(level) for name, level in zip(cls.model_fields, levels, strict=True)})


def spread_by_axis(rows: Sequence[Sequence[float]]) -> tuple[Spread, ...]:
    """Return one spread for each column of ``rows (N, axes)``."""
    return tuple(Spread.over(column) for column in zip(*rows, strict=True))


def rounded(value: float) -> float:
    """Return ``value`` with four significant digits.

    Example:
        >>> rounded(123456.0), rounded(0.70312345)
        (123500.0, 0.7031)
    """
    return float(f"{value:.4g}")
