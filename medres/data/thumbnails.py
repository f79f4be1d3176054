"""A small picture of the middle of a scan, as a radiologist holds it: for the page of ``medres inspect``."""

from __future__ import annotations

import io
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from PIL import Image

from medres.data.image import ScanImage

#: Longest edge in pixels.
EDGE = 112

# From this ratio of spacings on, only one plane was scanned; the others are too coarse to look at.
_ANISOTROPIC = 2.0

# Beyond these percentiles lie noise and metal.
_TAILS = (0.5, 99.5)
_QUALITY = 82


def thumbnail(image: ScanImage, *, edge: int = EDGE) -> bytes:
    """Return the middle slice of a scan (its first channel) as a JPEG; axial, or the plane that was scanned.

    Where the scan says how it lies, the patient's right is on the left of the picture and front or head is on top.

    Args:
        image: The scan.
        edge: Longest edge of the picture in pixels.

    Example:
        >>> voxels = np.arange(64.0).reshape(1, 8, 8)
        >>> thumbnail(ScanImage(voxels=voxels, affine=None, spacing_mm=None, content_hash=""))[:2].hex()
        'ffd8'
    """
    pixels, pitch = _middle(image)
    return _jpeg(_eight_bit(pixels), pitch, edge)


def _middle(image: ScanImage) -> tuple[npt.NDArray[Any], tuple[float, float]]:
    """Return rows and columns (and colours) of the slice, and the pitch along rows and columns."""
    if image.spatial_dims == 2:
        spacing = image.spacing_mm or (1.0, 1.0)
        return (np.moveaxis(image.voxels, 0, -1) if image.color else image.voxels[0]), (spacing[0], spacing[1])
    voxels, spacing = _as_held(image)
    axis = _sliced_axis(voxels.shape, spacing, placed=image.affine is not None)
    plane = voxels.take(voxels.shape[axis] // 2, axis=axis)
    rows, columns = [other for other in (2, 1, 0) if other != axis]
    return plane.T, (spacing[rows], spacing[columns])


def _as_held(image: ScanImage) -> tuple[npt.NDArray[Any], tuple[float, ...]]:
    """Return the first channel with axes that grow to the left, the back and the feet."""
    spacing = image.spacing_mm or (1.0, 1.0, 1.0)
    if image.affine is None:
        return image.voxels[0], spacing
    start = nib.orientations.io_orientation(image.affine)
    turn = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(("L", "P", "I")))
    turned = [0.0] * 3
    for axis in range(3):
        turned[int(turn[axis, 0])] = spacing[axis]
    return nib.orientations.apply_orientation(image.voxels[0], turn), tuple(turned)


def _sliced_axis(shape: tuple[int, ...], spacing: tuple[float, ...], *, placed: bool) -> int:
    if max(spacing) >= _ANISOTROPIC * min(spacing):
        return int(np.argmax(spacing))
    # a cube that does not say how it lies: most formats have slices along the last axis
    return 2 if placed or len(set(shape)) == 1 else int(np.argmin(shape))


def _eight_bit(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    values = pixels.astype(np.float64)
    low, high = np.percentile(values, _TAILS)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.clip(scaled * 255, 0, 255).astype(np.uint8)


def _jpeg(pixels: npt.NDArray[np.uint8], pitch: tuple[float, float], edge: int) -> bytes:
    height, width = pixels.shape[0] * pitch[0], pixels.shape[1] * pitch[1]
    scale = edge / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(file, format="JPEG", quality=_QUALITY)
    return file.getvalue()
