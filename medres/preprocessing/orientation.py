"""Which axis of a scan becomes D, H and W, and which way round."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nibabel.orientations import io_orientation

from medres.errors import DataError

#: Letter -> (RAS axis, direction): the letter names the side that an index grows towards.
_LETTERS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def oriented_axes(affine: npt.NDArray[np.float64], *, orientation: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return, for each axis of ``orientation``, the scan's axis along it and whether it runs against it.

    Oblique scans are not interpolated for this: each of their axes is taken for the anatomical axis that it
    is closest to (nibabel's ``io_orientation``, the rule behind ``as_closest_canonical``).

    Args:
        affine: Maps ``(i, j, k, 1)`` to RAS millimetres, ``(4, 4)``.
        orientation: Growth of D, H, W, such as ``SPL``: D towards superior, H posterior, W left.

    Returns:
        axes: ``axes[n]`` is the scan's axis that becomes axis n.
        flips: Whether it has to be mirrored.

    Raises:
        DataError: The affine has no inverse, so that directions cannot be told.

    Example:
        >>> oriented_axes(np.diag([-0.7, -0.7, 2.5, 1.0]), orientation="SPL")
        ((2, 1, 0), (False, False, False))
        >>> oriented_axes(np.eye(4), orientation="SPL")
        ((2, 1, 0), (False, True, True))
    """
    found = _closest_axes(affine)
    axes, flips = [], []
    for letter in orientation:
        anatomical, direction = _LETTERS[letter]
        axis = int(np.flatnonzero(found[:, 0] == anatomical)[0])
        axes.append(axis)
        flips.append(bool(found[axis, 1] != direction))
    return tuple(axes), tuple(flips)


def file_axes(spatial_dims: int) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return the same for a scan of unknown orientation: nothing is mirrored, and nothing is guessed.

    Volumes ``(I, J, K)`` are taken as D = K, H = J, W = I, which is what medical files mean most often (K
    counts the slices, I runs along a row); images ``(H, W)`` as they are.

    Example:
        >>> file_axes(3)
        ((2, 1, 0), (False, False, False))
    """
    axes = (0, 1) if spatial_dims == 2 else (2, 1, 0)
    return axes, (False,) * spatial_dims


def _closest_axes(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    usable = bool(np.isfinite(affine).all()) and abs(np.linalg.det(affine[:3, :3])) > 0
    found: npt.NDArray[np.float64] = io_orientation(affine) if usable else np.full((3, 2), np.nan)
    if np.isnan(found).any():
        raise DataError(
            f"The scan's affine {np.asarray(affine).tolist()} has no inverse.",
            fix="Write the file again with a valid affine, or leave it out.",
        )
    return found
