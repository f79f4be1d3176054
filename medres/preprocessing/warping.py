"""Rotate, zoom, shift and mirror a batch with one interpolation, each sample in its own way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Float64 = npt.NDArray[np.float64]

#: Coordinates computed at a time, 64 MiB of float32.
_CHUNK_COORDINATES = 16 * 2**20


def rotation_matrices(radians: Float64) -> Float64:
    """Return rotations ``(B, dims, dims)`` in the order of the axes, (H, W) or (D, H, W).

    Args:
        radians: ``(B, 1)`` in the plane, from H to W; or ``(B, 3)`` about D, H and W, applied in this order.

    Example:
        >>> rotation_matrices(np.array([[np.pi / 2]])).round(3).tolist()
        [[[0.0, 1.0], [-1.0, 0.0]]]
    """
    if radians.shape[1] == 1:
        return _rotate_plane(radians[:, 0], 0, 1, dims=2)
    about_d, about_h, about_w = radians.T
    inner = _rotate_plane(about_d, 1, 2, dims=3)
    middle = _rotate_plane(about_h, 0, 2, dims=3)
    outer = _rotate_plane(about_w, 0, 1, dims=3)
    return outer @ middle @ inner


def sampling_matrices(
    rotations: Float64, *, zooms: Float64, flips: npt.NDArray[np.bool_], shifts: Float64, extent: Sequence[float]
) -> tuple[Float64, Float64]:
    """Return the maps ``x -> matrix x + offset`` from where a sample is shown to where it is taken from.

    Coordinates run from -1 to 1 between the outer edges of an input, axis by axis. A rotation in them would
    shear an input that is not a cube: ``extent`` restores its proportions.

    Args:
        rotations: ``(B, dims, dims)``, see `rotation_matrices`.
        zooms: ``(B,)``; above 1 the content grows.
        flips: ``(B, dims)``; which axes are mirrored.
        shifts: ``(B, dims)``; movement of the content as a fraction of the input's size.
        extent: Size of the input along each axis in one unit of length.

    Returns:
        matrices: ``(B, dims, dims)``.
        offsets: ``(B, dims)``.
    """
    size = np.asarray(extent, dtype=np.float64)
    signs = np.where(flips, -1.0, 1.0)
    scaled = rotations * size[None, None, :] / size[None, :, None] / zooms[:, None, None]
    matrices = signs[:, :, None] * scaled
    return matrices, -np.einsum("bij,bj->bi", matrices, 2 * shifts)


def warp(batch: torch.Tensor, matrices: Float64, offsets: Float64) -> torch.Tensor:
    """Sample ``batch (B, C, *spatial)`` at the mapped coordinates, linearly; see `sampling_matrices`.

    Beyond the border the nearest voxel is repeated. Padding with a constant would need to know what empty
    means after normalisation, and would draw an edge into scans that fill their field of view.

    Returns:
        A new tensor of the same shape.
    """
    out = torch.empty_like(batch, memory_format=torch.contiguous_format)
    dims = batch.ndim - 2
    step = max(1, _CHUNK_COORDINATES // (math.prod(batch.shape[2:]) * dims))
    for start in range(0, len(batch), step):
        part = slice(start, start + step)
        grid = _grid(batch[part], matrices[part], offsets[part])
        out[part] = torch.nn.functional.grid_sample(
            batch[part], grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    return out


def _grid(batch: torch.Tensor, matrices: Float64, offsets: Float64) -> torch.Tensor:
    """Return the coordinates ``(B, *spatial, dims)`` for ``grid_sample``, which wants W first.

    The same as ``affine_grid``, as a sum of one term an axis: a fifth of its time, since only the last term
    is added at full size.
    """
    dims = batch.ndim - 2
    grid = _last_axis(offsets[:, ::-1], dims).to(batch.device)
    for axis, size in enumerate(batch.shape[2:]):
        centres = (2 * torch.arange(size, dtype=torch.float32, device=batch.device) + 1) / size - 1
        column = _last_axis(matrices[:, ::-1, axis], dims).to(batch.device)
        along = [1] * (dims + 2)
        along[axis + 1] = size
        grid = grid + column * centres.reshape(along)
    return grid


def _last_axis(values: Float64, dims: int) -> torch.Tensor:
    """Return ``(B, dims)`` as float32 ``(B, 1, ..., dims)``."""
    return torch.tensor(values.astype(np.float32)).reshape(-1, *(1,) * dims, dims)


def _rotate_plane(radians: Float64, first: int, second: int, *, dims: int) -> Float64:
    matrices = np.tile(np.eye(dims), (len(radians), 1, 1))
    matrices[:, first, first] = matrices[:, second, second] = np.cos(radians)
    matrices[:, first, second] = np.sin(radians)
    matrices[:, second, first] = -np.sin(radians)
    return matrices
