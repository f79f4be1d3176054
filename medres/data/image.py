"""`ScanImage`: what every reader hands back, whatever the file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class ScanImage:
    """The voxels of one scan as they lie in the file, and where they lie in space.

    Args:
        voxels: Volumes ``(C, I, J, K)``, images ``(C, H, W)``; the file's own type after its scale factors.
        affine: Maps ``(i, j, k, 1)`` to RAS millimetres, ``(4, 4)``; None for images and where the file does
            not say (orientation and spacing are then unknown, never invented).
        spacing_mm: Size of a voxel along each spatial axis of `voxels`, or None where unknown.
        content_hash: SHA-256 of voxels, type and shape: the same under any name and compression.
        color: True colour, three channels that differ.
        modality: What the header says (``CT``, ``MR``, ...), or None where the format does not say.
        channel_names: Names of the sequences that became channels (``t1``, ``flair``); empty for one image.
        notes: What the reader had to decide, for the user, as ``code: sentence`` (no path, no name).
        region: Where a region of interest lies in the whole scan, (start, stop) along each spatial axis in voxels of
            the scan (below 0 and beyond its size where the region leaves it); None for a whole scan.
        looks_like: What the voxels of the whole scan look like (``CT``, ``MR``, ``other``), and why: a region alone has
            too little air, or too few values, to tell. None for a whole scan.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64] | None
    spacing_mm: tuple[float, ...] | None
    content_hash: str
    color: bool = False
    modality: str | None = None
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    region: tuple[tuple[int, int], ...] | None = None
    looks_like: tuple[Literal["CT", "MR", "other"], str] | None = None

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes."""
        return self.voxels.ndim - 1

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Number of voxels along each spatial axis."""
        return tuple(int(size) for size in self.voxels.shape[1:])
