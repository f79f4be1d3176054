"""Which axis of a scan is D, H and W, told from its orientation code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

#: D towards superior, H posterior, W left: axial slices as a radiologist sees them, stacked from the feet up.
DEFAULT_ORIENTATION = "SPL"

_ANATOMICAL_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


def anatomical_axes(code: str) -> tuple[int, ...]:
    """Return, for each letter, 0 for left-right, 1 for front-back, 2 for feet-head.

    Example:
        >>> anatomical_axes("SPL")
        (2, 1, 0)
    """
    return tuple(_ANATOMICAL_AXIS[letter] for letter in code)


def scan_axes(orientation: str | None, *, spatial_dims: int, target: str = DEFAULT_ORIENTATION) -> tuple[int, ...]:
    """Return the axis of the scan that becomes D, H and W.

    A volume of unknown orientation is read as its file means it most often: D = K (the slices), H = J, W = I.

    Args:
        orientation: Code of the scan's own axes, such as ``RAS``; None where unknown.
        spatial_dims: 2 or 3; images stay as they are.
        target: Code of D, H, W.

    Example:
        >>> scan_axes("RAS", spatial_dims=3)
        (2, 1, 0)
        >>> scan_axes("PSR", spatial_dims=3)
        (1, 0, 2)
    """
    if spatial_dims == 2:
        return (0, 1)
    if orientation is None:
        return (2, 1, 0)
    own = anatomical_axes(orientation)
    return tuple(own.index(axis) for axis in anatomical_axes(target))


def reordered(values: Sequence[T], order: Sequence[int]) -> tuple[T, ...]:
    """Return ``values[n]`` for each n of ``order``.

    Example:
        >>> reordered((51, 60, 70), (2, 1, 0))
        (70, 60, 51)
    """
    return tuple(values[axis] for axis in order)
