"""Copies of a picture or a volume as data sets have them: rescaled, re-encoded, turned, windowed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from medres.data.image import ScanImage
from medres.data.perceptual import perceptual_hash

Voxels = npt.NDArray[Any]


def looks(voxels: Voxels) -> str:
    """Return the perceptual hash of voxels without a channel axis."""
    return perceptual_hash(ScanImage(voxels=voxels[None], affine=None, spacing_mm=None, content_hash=""))


def eight_bits(voxels: Voxels, low: float = 0, high: float = 100) -> Voxels:
    """Return what an export with a window between two percentiles writes."""
    bottom, top = np.percentile(voxels, [low, high])
    if top <= bottom:  # a small bright thing on black
        bottom, top = float(voxels.min()), float(voxels.max())
    return np.rint(np.clip((voxels - bottom) / (top - bottom), 0, 1) * 255).astype(np.uint8)


def as_jpeg(voxels: Voxels, quality: int) -> Voxels:
    """Return voxels after a round through JPEG; volumes slice by slice, in one window."""
    levels = eight_bits(voxels)
    if voxels.ndim == 2:
        return _plane_as_jpeg(levels, quality)
    return np.stack([_plane_as_jpeg(plane, quality) for plane in levels])


def _plane_as_jpeg(plane: Voxels, quality: int) -> Voxels:
    file = io.BytesIO()
    Image.fromarray(plane).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def rescaled(voxels: Voxels, factor: float) -> Voxels:
    """Return voxels on a finer or coarser grid: Pillow's bilinear filter, SciPy's linear one for volumes."""
    if voxels.ndim == 2:
        height, width = (max(2, round(size * factor)) for size in voxels.shape)
        return np.asarray(Image.fromarray(eight_bits(voxels)).resize((width, height), Image.Resampling.BILINEAR))
    smooth = ndimage.gaussian_filter(voxels.astype(np.float32), 0.35 / factor) if factor < 1 else voxels
    return ndimage.zoom(smooth.astype(np.float32), factor, order=1, grid_mode=True, mode="nearest")


def noisy(voxels: Voxels, share: float) -> Voxels:
    """Return 8-bit voxels with Gaussian noise, a share of the range."""
    return eight_bits(voxels) + np.random.default_rng(0).normal(0, 255 * share, voxels.shape)


def cropped(voxels: Voxels, share: float) -> Voxels:
    """Return voxels without half of a share at each end of each axis."""
    return voxels[tuple(slice(round(n * share / 2), n - round(n * share / 2)) for n in voxels.shape)]


#: What the hash has to find.
COPIES: dict[str, Callable[[Voxels], Voxels]] = {
    "half the size": lambda v: rescaled(v, 0.5),
    "0.75 of the size": lambda v: rescaled(v, 0.75),
    "twice the size": lambda v: rescaled(v, 2),
    "JPEG 75": lambda v: as_jpeg(v, 75),
    "JPEG 50": lambda v: as_jpeg(v, 50),
    "flipped": lambda v: np.flip(v, 0),
    "turned by 90 degrees": lambda v: np.rot90(v, 1, (0, 1)),
    "axes exchanged": lambda v: np.moveaxis(v, 0, -1),
    "gamma 0.7": lambda v: (eight_bits(v) / 255.0) ** 0.7,
    "gamma 1.5": lambda v: (eight_bits(v) / 255.0) ** 1.5,
    "gain 0.37, offset -500": lambda v: v.astype(np.float32) * 0.37 - 500,
    "8 bits, 2 % to 98 %": lambda v: eight_bits(v, 2, 98),
    "8 bits, 10 % to 90 %": lambda v: eight_bits(v, 10, 90),
    "noise of 2 %": lambda v: noisy(v, 0.02),
    "half the size, JPEG 75, flipped": lambda v: np.flip(as_jpeg(rescaled(v, 0.5), 75), 0),
}

#: Beyond what it is made for; measured all the same.
HARDER: dict[str, Callable[[Voxels], Voxels]] = {
    "noise of 5 %": lambda v: noisy(v, 0.05),
    "5 % cropped": lambda v: cropped(v, 0.05),
}
