"""Which values are far from all others: median and median absolute deviation, which the outliers do not move."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

#: Below this many values, "the others" say nothing.
LEAST_VALUES = 10

# Of normal values one in 500 million lies beyond six standard deviations, of values with the heavy tails of a
# t-distribution with 5 degrees of freedom one in 1,000; the least distance of each check comes on top.
_FAR = 6.0

# The MAD of a normal distribution is 0.6745 standard deviations.
_MAD_TO_DEVIATION = 1.4826

#: More than this share is a second population (another protocol), not outliers; distributions show it.
MOST_OUTLIERS = 0.1


def outliers(values: Mapping[str, float], *, least: float) -> dict[str, float]:
    """Return the values far from the median, with their signed distance; none where there are few values.

    Far is six robust standard deviations and at least ``least``: where all others are equal, a small difference is
    no outlier.

    Args:
        values: By sample id; logarithms where ratios count.
        least: The smallest distance that matters, in the unit of the values.

    Example:
        >>> outliers({str(n): n / 10 for n in range(20)} | {"odd": 50.0}, least=3)
        {'odd': 49.0}
    """
    if len(values) < LEAST_VALUES:
        return {}
    numbers = np.array(list(values.values()), dtype=np.float64)
    distances = numbers - np.median(numbers)
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(distances)))
    far = (np.abs(distances) > _FAR * deviation) & (np.abs(distances) >= least)
    if far.sum() > max(1, int(MOST_OUTLIERS * len(numbers))):
        return {}
    return {name: float(distances[index]) for index, name in enumerate(values) if far[index]}
