"""Voxels of any unit on one scale: in doubles where single precision would lose them, before anything is rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Far beyond any range that counts, far below the largest single (3.4e38): sums of such values stay finite.
_FARTHEST = 1e30


def rescaled(voxels: npt.NDArray[Any], *, center: float, spread: float) -> npt.NDArray[np.float32]:
    """Return ``(voxels - center) / spread`` as float32, in C order.

    Values of 1e-200 or 1e200 are divided and 1,000,000 +- 60 is centered before it is rounded to single precision,
    which keeps 7 digits and ends at 1e38. Types of at most 16 bits fit into single precision as they are.

    Args:
        voxels: Any shape, any real type. What is not finite stays so; with 0 and 1, what is beyond 3.4e38 becomes so.
        center: What becomes 0.
        spread: What becomes 1; positive.

    Example:
        >>> rescaled(np.array([1e6 - 60, 1e6 + 60]), center=1e6, spread=1e-3 * 6e4).tolist()
        [-1.0, 1.0]
    """
    fits = voxels.dtype.itemsize <= 2
    with np.errstate(over="ignore", invalid="ignore"):
        if (center, spread) == (0.0, 1.0):
            return np.asarray(voxels.astype(np.float32, order="C"), dtype=np.float32)
        values = np.subtract(voxels, center, dtype=np.float32 if fits else np.float64, order="C")
        values /= spread
    if not fits:
        np.clip(values, -_FARTHEST, _FARTHEST, out=values, where=np.isfinite(values))
    return np.asarray(values, dtype=np.float32)


def center_and_spread(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Return a center and a spread that `rescaled` brings voxels near 1 by; (0, 1) where single precision holds them.

    Example:
        >>> center_and_spread(np.array([1e200, 3e200])), center_and_spread(np.array([1, 3], dtype=np.int16))
        ((1e+200, 2e+200), (0.0, 1.0))
    """
    if voxels.dtype.itemsize <= 2:
        return 0.0, 1.0
    low, high = float(voxels.min()), float(voxels.max())
    return low, (high - low) or 1.0
