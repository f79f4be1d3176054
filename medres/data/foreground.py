"""Where a scan shows something: a threshold that separates the patient from the air around, and its bounding box."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

#: Air is -1000 HU, fat -100, lung -900 to -500: everything denser than lung is body (or table).
BODY_FROM_HU = -500.0

# The threshold needs the shape of the histogram, not every voxel: 2**18 give its quantiles to 0.1 %.
_MAX_SAMPLED = 2**18
_NUM_BINS = 256

# An exact background (padding, a stripped skull) is one value in a fifth of the scan with hardly any voxel just
# above it; a noise floor has many there.
_EXACT_SHARE = 0.2
_FLOOR_WIDTH = 0.02
_FLOOR_SHARE = 0.1

# What Otsu cuts off is background only if it is dark, is more than a few voxels, and is a class of its own.
_DARK = 0.1
_LEAST_SHARE = 0.02
_LEAST_SEPARATION = 0.6


def sampling_steps(shape: tuple[int, ...], *, max_voxels: int) -> tuple[int, ...]:
    """Return steps along each axis so that at most ``max_voxels`` are visited; long axes are thinned first.

    Example:
        >>> sampling_steps((512, 512, 20), max_voxels=2**20)
        (3, 2, 1)
    """
    steps = [1] * len(shape)
    sizes = list(shape)
    while np.prod(sizes) > max_voxels and max(sizes) > 1:
        axis = int(np.argmax(sizes))
        steps[axis] += 1
        sizes[axis] = -(-shape[axis] // steps[axis])
    return tuple(steps)


def foreground_mask(voxels: npt.NDArray[Any], *, modality: str, color: bool = False) -> Mask:
    """Return where the scan shows something; everywhere, where no background can be told.

    CT: above -500 HU. Others: above the background's value where the background is one exact value (padding, a
    stripped skull); else above Otsu's threshold (1979) on the square root of the intensities, which keeps bright
    fat from hiding dark tissue, if what lies below it is dark and is a class of its own.

    Args:
        voxels: ``(C, *spatial)``. Of colours the brightest counts. Sequences have each a scale of its own: foreground
            is what is foreground in one of them, and one in which no background can be told has no say.
        modality: ``CT``, ``MR`` or ``other``.
        color: Whether the channels are the colours of one picture.

    Returns:
        ``(*spatial)``.

    Example:
        >>> scan = np.zeros((1, 8, 8)); scan[0, 2:6, 2:6] = 100
        >>> int(foreground_mask(scan, modality="MR").sum())
        16
    """
    channels = [voxels.max(axis=0)] if color and len(voxels) > 1 else list(voxels)
    masks = [mask for mask in (_channel_mask(channel, modality) for channel in channels) if mask is not None]
    union: Mask = np.logical_or.reduce(masks) if masks else np.ones(voxels.shape[1:], dtype=bool)
    return union if union.any() else np.ones_like(union)


def foreground_box(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box around a mask; the whole grid where it is empty.

    Example:
        >>> foreground_box(np.array([[False, True, True], [False, True, False]]))
        (slice(0, 2, None), slice(1, 3, None))
    """
    slices = []
    for axis, size in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        slices.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, size))
    return tuple(slices)


def background_threshold(values: npt.NDArray[Any]) -> float | None:
    """Return the value up to which a scan is background, or None where no background can be told.

    Args:
        values: Intensities of one channel, any shape; a regular sample of them is looked at.
    """
    steps = sampling_steps(values.shape, max_voxels=_MAX_SAMPLED)
    sample = values[tuple(slice(None, None, step) for step in steps)].astype(np.float64).ravel()
    low, high = np.percentile(sample, [0.5, 99.5])
    lowest = float(sample.min())
    if sample.max() <= lowest:  # all that differs lies between the sampled voxels
        return lowest if values.max() > lowest else None
    if _has_exact_background(sample, lowest):
        return lowest
    return _otsu_threshold(sample, float(low), float(high)) if high > low else None


def _channel_mask(channel: npt.NDArray[Any], modality: str) -> Mask | None:
    threshold = BODY_FROM_HU if modality == "CT" else background_threshold(channel)
    return None if threshold is None else np.asarray(channel > threshold)


def _has_exact_background(sample: npt.NDArray[np.float64], lowest: float) -> bool:
    exact = np.mean(sample == lowest)
    just_above = np.mean((sample > lowest) & (sample <= lowest + _FLOOR_WIDTH * (sample.max() - lowest)))
    return bool(exact >= _EXACT_SHARE and just_above <= _FLOOR_SHARE * exact)


def _otsu_threshold(sample: npt.NDArray[np.float64], low: float, high: float) -> float | None:
    roots = np.sqrt(np.clip((sample - low) / (high - low), 0.0, 1.0))
    counts, edges = np.histogram(roots, bins=_NUM_BINS, range=(0.0, 1.0))
    cut, separation = _best_cut(counts / counts.sum(), (edges[:-1] + edges[1:]) / 2)
    threshold = low + float(edges[cut + 1]) ** 2 * (high - low)
    below = sample[sample <= threshold]
    is_dark = len(below) and (below.mean() - low) / (high - low) <= _DARK
    is_class = len(below) >= _LEAST_SHARE * len(sample) and separation >= _LEAST_SEPARATION
    return threshold if is_dark and is_class else None


def _best_cut(shares: npt.NDArray[np.float64], centers: npt.NDArray[np.float64]) -> tuple[int, float]:
    """Return the bin after which to cut, and the share of the variance that lies between the two classes."""
    below = np.cumsum(shares)[:-1]
    mass = np.cumsum(shares * centers)
    mean = mass[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean * below - mass[:-1]) ** 2 / (below * (1 - below))
    between = np.nan_to_num(between, nan=0.0, posinf=0.0)
    variance = float(np.sum(shares * (centers - mean) ** 2))
    return int(np.argmax(between)), float(between.max() / variance) if variance > 0 else 0.0
