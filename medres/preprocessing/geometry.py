"""`Geometry`: where each voxel of the prepared array lies in its scan, and the way back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.errors import DataError
from medres.planning.plan import Plan
from medres.preprocessing.orientation import file_axes, oriented_axes
from medres.preprocessing.resampling import AxisMap, Float32, resample_axes

#: A pitch within 0.01 % of the scan's own counts as equal (headers are no more exact; over 512 voxels that is
#: 0.05 voxel): the voxels are then copied, not interpolated.
_SAME_PITCH = 1e-4


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where each voxel of a prepared array lies in its scan.

    Axis n of the prepared array runs along the scan's axis ``axes[n]``, mirrored where ``flips[n]``. Along
    that axis, prepared index p lies at ``offset[n] + scale[n] * p`` of the reoriented scan.

    Args:
        source_shape: Spatial shape of the scan, in its own axis order.
        shape: Spatial shape of the prepared array, (D, H, W) or (H, W).
        axes: The scan's axis for each prepared axis.
        flips: Whether it is mirrored.
        scale: Scan voxels per prepared voxel.
        offset: Reoriented scan index of prepared index 0; voxel centres are whole numbers.
        source_affine: Maps the scan's ``(i, j, k, 1)`` to RAS millimetres, row by row; None where unknown.
        orientation: Growth of D, H, W, such as ``SPL``; None where unknown.
    """

    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    source_affine: tuple[tuple[float, ...], ...] | None = None
    orientation: str | None = None

    @property
    def index_matrix(self) -> npt.NDArray[np.float64]:
        """Maps a prepared ``(d, h, w, 1)`` to the scan's own ``(i, j, k, 1)``; images: ``(h, w, 1)``."""
        dims = len(self.shape)
        matrix = np.zeros((dims + 1, dims + 1))
        matrix[-1, -1] = 1.0
        for n, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[axis, n] = -self.scale[n] if flip else self.scale[n]
            matrix[axis, -1] = self.source_shape[axis] - 1 - self.offset[n] if flip else self.offset[n]
        return matrix

    @property
    def affine(self) -> npt.NDArray[np.float64] | None:
        """Maps a prepared index ``(d, h, w, 1)`` to RAS millimetres, ``(4, 4)``; None where unknown."""
        return None if self.source_affine is None else np.asarray(self.source_affine) @ self.index_matrix

    @property
    def axis_maps(self) -> tuple[AxisMap, ...]:
        """From each prepared axis to the axis of the reoriented scan."""
        sizes = (self.source_shape[axis] for axis in self.axes)
        lines = zip(self.shape, sizes, self.scale, self.offset, strict=True)
        return tuple(AxisMap(out_size=m, in_size=n, scale=s, offset=o) for m, n, s, o in lines)

    def reorient(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of ``voxels (C, *source_shape)`` with axes and directions of the prepared array."""
        return self._mirror(voxels.transpose(0, *(axis + 1 for axis in self.axes)))

    def restore(self, turned: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view with the scan's own axes and directions: the inverse of `reorient`."""
        return self._mirror(turned).transpose(0, *(self.axes.index(axis) + 1 for axis in range(len(self.axes))))

    def to_scan(self, prepared: npt.NDArray[Any], *, fill: float = 0.0) -> Float32:
        """Carry a map on the prepared grid back to the scan's own grid and axis order, interpolated linearly.

        Args:
            prepared: ``(*shape)`` or with leading axes, such as one map a class ``(K, *shape)``.
            fill: Value of scan voxels outside the field of view.

        Returns:
            ``(*source_shape)`` with the same leading axes, float32.
        """
        leading = prepared.shape[: prepared.ndim - len(self.shape)]
        if prepared.shape[len(leading) :] != self.shape:
            raise ValueError(f"the map has shape {prepared.shape}, the prepared grid {self.shape}")
        maps = prepared.reshape(math.prod(leading), *self.shape)
        turned = resample_axes(maps, [axis.inverse() for axis in self.axis_maps], fill=fill)
        return np.ascontiguousarray(self.restore(turned)).reshape(*leading, *self.source_shape)

    def _mirror(self, turned: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return turned[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))]


def plan_geometry(
    image_shape: Sequence[int],
    affine: npt.NDArray[np.float64] | None,
    spacing_mm: Sequence[float] | None,
    box: Sequence[slice] | None,
    plan: Plan,
) -> Geometry:
    """Lay the plan's grid over a scan, centred on ``box``.

    Slices (2.5D) are laid out in their plane in the same way. Across them each scan keeps its own: prepared slice p is
    slice p of the box, a copy. A box of more than the plan's D slices is resampled to D at even distances.

    With ``plan.spacing_mm`` the pitch is that spacing, whatever the size of the box: what the grid does not
    reach is cropped. Without it the box is scaled as a whole until it just fits ``plan.shape``, aspect ratio
    kept; voxels are taken to be cubes where their spacing is unknown. Where the pitch equals the scan's own,
    the grid is moved by up to half a voxel onto the scan's voxels, which are then copied.

    Args:
        image_shape: Spatial shape of the scan in its own axis order.
        affine: Maps ``(i, j, k, 1)`` to RAS millimetres, or None.
        spacing_mm: Of each of the scan's axes; None: taken from the affine, where there is one.
        box: Start and stop along each of the scan's axes; None: the whole scan.
        plan: Its orientation, spacing_mm and shape are used.

    Raises:
        DataError: The plan needs a spacing or an orientation that the scan does not have.

    Example:
        >>> plan = Plan(spatial_dims=2, modality="other", shape=(32, 32), in_channels=1, batch_size=1,
        ...             intensity={"scheme": "scaled"}, augmentation={})
        >>> geometry = plan_geometry((64, 48), None, None, None, plan)
        >>> geometry.scale, geometry.offset
        ((2.0, 2.0), (0.5, -7.5))
    """
    source_shape = tuple(int(size) for size in image_shape)
    axes, flips = _plan_axes(len(source_shape), affine, plan)
    spacing = _known_spacing(affine, spacing_mm, plan)
    bounds = box or [slice(0, size) for size in source_shape]
    edges = [_edges(bounds[axis], source_shape[axis], flip) for axis, flip in zip(axes, flips, strict=True)]
    own = [1.0] * len(axes) if spacing is None else [float(spacing[axis]) for axis in axes]
    scale = _scale([stop - start for start, stop in edges], own, plan)
    shape = (min(edges[0][1] - edges[0][0], plan.shape[0]), *plan.shape[1:]) if plan.slicewise else plan.shape
    lines = [_line(edge, size, step) for edge, size, step in zip(edges, shape, scale, strict=True)]
    return Geometry(
        source_shape=source_shape,
        shape=shape,
        axes=axes,
        flips=flips,
        scale=tuple(step for step, _ in lines),
        offset=tuple(offset for _, offset in lines),
        source_affine=None if affine is None else tuple(tuple(float(v) for v in row) for row in affine),
        orientation=plan.orientation,
    )


def resample(
    voxels: npt.NDArray[Any], geometry: Geometry, fill: npt.ArrayLike, *,
    center: npt.ArrayLike = 0.0, spread: npt.ArrayLike = 1.0,
) -> Float32:  # fmt: skip
    """Return the scan's values on the prepared grid, interpolated once, as ``(value - center) / spread``.

    Args:
        voxels: ``(C, *source_shape)``.
        geometry: See `plan_geometry`.
        fill: Value outside the scan, in its units; one for all channels or one a channel.
        center: What becomes 0; the same.
        spread: What becomes 1; the same.

    Returns:
        ``(C, *geometry.shape)``, float32.
    """
    return resample_axes(geometry.reorient(voxels), geometry.axis_maps, fill=fill, center=center, spread=spread)


def _plan_axes(
    dims: int, affine: npt.NDArray[np.float64] | None, plan: Plan
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    if plan.orientation is None:
        return file_axes(dims)
    if affine is None:
        raise DataError(
            f"The scan does not say how it lies in space, and the plan turns scans to {plan.orientation}.",
            fix="Convert it from its DICOM or NIfTI original with its affine, or set `orientation: null` in "
            "plan.yaml and train again, if all scans have the same axes.",
        )
    return oriented_axes(affine, orientation=plan.orientation)


def _known_spacing(
    affine: npt.NDArray[np.float64] | None, spacing_mm: Sequence[float] | None, plan: Plan
) -> Sequence[float] | None:
    if spacing_mm is None and affine is not None:
        spacing_mm = [float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)]
    if spacing_mm is None and plan.spacing_mm is not None:
        raise DataError(
            f"The scan does not say how large its voxels are; the plan asks for {list(plan.spacing_mm)} mm.",
            fix="Convert it from its DICOM or NIfTI original with its spacing, or set `spacing_mm: null` in "
            "plan.yaml and train again: scans are then scaled by their own size.",
        )
    if spacing_mm is not None and not all(math.isfinite(value) and value > 0 for value in spacing_mm):
        raise DataError(
            f"The scan's spacing {list(spacing_mm)} mm is not positive along every axis.",
            fix="Write the file again with the right spacing.",
        )
    return spacing_mm


def _edges(bounds: slice, size: int, flip: bool) -> tuple[int, int]:
    start, stop, _ = bounds.indices(size)
    if stop <= start:  # an empty box says nothing about where to look
        start, stop = 0, size
    return (size - stop, size - start) if flip else (start, stop)


def _scale(extent: Sequence[int], own: Sequence[float], plan: Plan) -> list[float]:
    """Return scan voxels per prepared voxel, for each prepared axis; ``own`` is the scan's spacing."""
    if plan.slicewise:
        in_plane = _plane_scale(extent[1:], own[1:], plan.shape[1:], plan.spacing_mm)
        return [max(1.0, extent[0] / plan.shape[0]), *in_plane]
    return _plane_scale(extent, own, plan.shape, plan.spacing_mm)


def _plane_scale(
    extent: Sequence[int], own: Sequence[float], shape: Sequence[int], spacing_mm: Sequence[float] | None
) -> list[float]:
    if spacing_mm is not None:
        return [pitch / step for pitch, step in zip(spacing_mm, own, strict=True)]
    pitch = max(count * step / size for count, step, size in zip(extent, own, shape, strict=True))
    return [pitch / step for step in own]


def _line(edges: tuple[int, int], size: int, scale: float) -> tuple[float, float]:
    """Return (scale, offset) that centre ``size`` samples between the edges."""
    centre = (edges[0] + edges[1] - 1) / 2
    if abs(scale - 1) > _SAME_PITCH:
        return scale, centre - scale * (size - 1) / 2
    return 1.0, float(math.floor(centre - (size - 1) / 2))
