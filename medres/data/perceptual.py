"""The perceptual hash: what a scan looks like, in a few hundred bytes that survive rescaling and re-encoding.

It is the low frequencies of the picture (a cosine transform, as in pHash), but with their sizes and not their signs
alone: heads and chests all have the same coarse signs. Flipping an axis changes the sign of its odd frequencies, and
exchanging two axes exchanges their frequencies, so that `medres.data.near_duplicates` compares all flipped and rotated
copies of two scans without looking at a voxel again.
"""

from __future__ import annotations

import base64
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.sparse

from medres.data.image import ScanImage
from medres.data.rescaling import center_and_spread, rescaled

Floats = npt.NDArray[np.float32]
Weights: TypeAlias = scipy.sparse.csr_array

#: Frequencies along each axis, by the number of axes; half a period across the scan is frequency 1.
NUM_FREQUENCIES = {2: 14, 3: 9}

# Scans are averaged down to this many cells along each axis first: four times the highest frequency.
_GRID = {2: 64, 3: 36}

# Tones are equalised, so that windows, gain and gamma cancel; but no tone is stretched more than this many times, or
# the noise of a dark background would fill half of the range.
_MOST_STRETCH = 2.0
_NUM_TONES = 256
_TAILS = (0.5, 99.5)

# A few cells on an even background (a mask, a small nodule cut out of its scan) look like any other few: below 128
# cells a tenth and more of such scans had a "copy" in another patient, above it a hundredth. A cell shows something
# where it differs from the most frequent tone by a twentieth of the range.
_LEAST_CELLS = 128
_LEAST_CONTRAST = 0.05

# Amplitudes of pictures fall with the frequency; this weight makes details count as much as the outline, which
# all heads share.
_DETAIL = 1.0


def perceptual_hash(image: ScanImage) -> str:
    """Return what a scan looks like as text; empty where it shows too little to tell it from others.

    It says nothing about size, type, spacing or orientation of the file: those change on the way between formats.

    Args:
        image: A scan; of several channels the mean of their equalised tones counts.

    Example:
        >>> from medres.data.content import content_hash
        >>> rows = np.arange(64.0)[:, None] ** 2 + np.arange(64.0) * 31 % 64
        >>> image = ScanImage(voxels=rows[None], affine=None, spacing_mm=None, content_hash=content_hash(rows))
        >>> perceptual_hash(image)[:2], len(perceptual_hash(image))
        ('2:', 264)
    """
    dims = image.spatial_dims
    grids = [_equalised(_averaged(channel, _GRID[dims])) for channel in image.voxels]
    mean: Floats = np.mean(grids, axis=0)
    if not np.isfinite(mean).all() or _num_showing(mean) < _LEAST_CELLS:
        return ""
    coefficients = _low_frequencies(mean, NUM_FREQUENCIES[dims])
    largest = float(np.abs(coefficients).max())
    levels = np.rint(coefficients * (127 / largest)).astype(np.int8)
    return f"{dims}:{base64.b64encode(levels.tobytes()).decode('ascii').rstrip('=')}"


def coefficients_of(text: str) -> npt.NDArray[np.int8]:
    """Return the frequencies that a perceptual hash holds, ``(K,) * dims``.

    Example:
        >>> coefficients_of("2:" + "A" * 262).shape
        (14, 14)
    """
    dims, _, code = text.partition(":")
    levels = np.frombuffer(base64.b64decode(code + "=" * (-len(code) % 4)), dtype=np.int8)
    return levels.reshape((NUM_FREQUENCIES[int(dims)],) * int(dims))


def _averaged(voxels: npt.NDArray[Any], cells: int) -> Floats:
    """Return a scan averaged to at most ``cells`` cells along each axis; slice by slice, in little memory.

    Tones are equalised afterwards, so that the unit of the result does not matter: single precision holds it.
    """
    weights = [_cell_weights(size, cells) for size in voxels.shape]
    center, spread = center_and_spread(voxels)
    if voxels.ndim == 2:
        return _averaged_plane(rescaled(voxels, center=center, spread=spread), *weights)
    slowest = int(np.argmax([abs(stride) for stride in voxels.strides]))
    across = weights.pop(slowest).toarray()
    total = np.zeros((len(across), *(matrix.shape[0] for matrix in weights)), dtype=np.float32)
    for index, plane in enumerate(np.moveaxis(voxels, slowest, 0)):
        small = _averaged_plane(rescaled(plane, center=center, spread=spread), *weights)
        for cell in np.flatnonzero(across[:, index]):
            total[cell] += across[cell, index] * small
    return np.moveaxis(total, 0, slowest)


def _averaged_plane(plane: Floats, rows: Weights, columns: Weights) -> Floats:
    # sparse products are as fast as dense ones here, and start no threads of their own in each of ours
    averaged: Floats = (columns @ np.ascontiguousarray((rows @ plane).T)).T
    return averaged


def _cell_weights(size: int, cells: int) -> Weights:
    """Return the share of each voxel in each cell, ``(cells, size)``; fewer cells than voxels, never more."""
    cells = min(size, cells)
    edges = np.linspace(0, size, cells + 1)
    voxel = np.arange(size)
    overlap = np.minimum(edges[1:, None], voxel + 1) - np.maximum(edges[:-1, None], voxel)
    return scipy.sparse.csr_array((np.clip(overlap, 0, None) * (cells / size)).astype(np.float32))


def _equalised(grid: Floats) -> Floats:
    """Return tones such that each is about as frequent, as far as the limit of stretching allows; 0 to 1."""
    low, high = np.percentile(grid, _TAILS)
    if not high > low:
        low, high = float(grid.min()), float(grid.max())
    if not high > low:
        return np.zeros_like(grid)
    tones = np.clip((grid - low) / (high - low), 0.0, 1.0)
    counts, edges = np.histogram(tones, bins=_NUM_TONES, range=(0.0, 1.0))
    limited = np.minimum(counts, _MOST_STRETCH * tones.size / _NUM_TONES) + 1e-6
    cumulated = np.concatenate([[0.0], np.cumsum(limited)])
    result: Floats = np.interp(tones, edges, cumulated / cumulated[-1]).astype(np.float32)
    return result


def _num_showing(tones: Floats) -> int:
    """Return how many cells differ from the most frequent tone."""
    counts, edges = np.histogram(tones, bins=_NUM_TONES, range=(0.0, 1.0))
    background = edges[int(np.argmax(counts))]
    return int(np.count_nonzero(np.abs(tones - background) > _LEAST_CONTRAST))


def _low_frequencies(grid: Floats, number: int) -> Floats:
    """Return the weighted low frequencies, ``(number,) * dims``; zero where the scan is too small to have them."""
    spectrum = scipy.fft.dctn(grid.astype(np.float64), norm="forward")
    kept = spectrum[(slice(number),) * grid.ndim]
    padded = np.pad(kept, [(0, number - size) for size in kept.shape])
    radius = np.linalg.norm(np.indices(padded.shape), axis=0)
    weighted: Floats = (padded * np.where(radius < number, radius**_DETAIL, 0.0)).astype(np.float32)
    return weighted
