"""Regions of interest: a box of whole voxels about a lesion, cut out of its scan before anything is resampled.

Where the region is: at a centre in RAS millimetres, or at the centre of the bounding box of all that a mask marks (not
the centre of mass: a lesion with a tail is then wholly in a box that is large enough). How large it is: the edges along
the patient's left-right, back-front and feet-head; each axis of the scan takes the edge of the anatomical axis that it
is closest to, in a whole number of voxels. What lies outside the scan has the scan's smallest value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medres.data.foreground import foreground_box
from medres.data.image import ScanImage
from medres.errors import UnreadableScanError

Float64 = npt.NDArray[np.float64]

#: How a table says where the region of interest is.
GIVE_REGION = (
    "Give a table with the columns path and center_x_mm, center_y_mm, center_z_mm (RAS, mm), or path and mask."
)

#: Most voxels of a region, a CT of 512x512x512: what needs more is a size that was meant otherwise.
MAX_REGION_VOXELS = 2**27

# Halves of voxels are rounded towards the patient's right, front and head, however the file lies; the affine's
# inverse is no more exact than this.
_ROUNDING_VOXELS = 1e-4

# Headers are rounded: a mask of the scan's shape lies where the scan lies if no corner is farther off than this.
_SAME_PLACE_VOXELS = 0.5

#: The default size: 95 % of the lesions fit with a quarter of their size around them on each side, and 3 cm at least,
#: below which hardly anything of the surroundings is seen.
_LESION_SHARE = 1.5
_LEAST_MM = 30.0


def crop_to_region(
    image: ScanImage,
    *,
    size_mm: Sequence[float],
    center_ras_mm: Sequence[float] | None = None,
    mask: ScanImage | None = None,
) -> ScanImage:
    """Return the region of interest of a volume, a copy; all channels, with its affine moved accordingly.

    Args:
        image: A volume.
        size_mm: Edges (left-right, back-front, feet-head).
        center_ras_mm: Its centre (x, y, z); it counts where there is a mask as well.
        mask: A volume on the scan's or its own grid; marked is what is not 0. Where mask or scan do not say how they
            lie, but have one shape, voxels are compared with voxels.

    Returns:
        The region, of the same size in voxels for all scans of one spacing. Its ``content_hash`` is that of the whole
        scan, ``region`` says where it lies in it.

    Raises:
        UnreadableScanError: Neither centre nor mask are given (``roi-unknown``), the scan does not say where its
            voxels lie (``roi-unknown``), the mask is empty (``mask-empty``), or the centre lies outside the scan
            (``roi-outside``). The sentence begins with a verb.

    Example:
        >>> scan = ScanImage(voxels=np.zeros((1, 40, 40, 40)), affine=np.diag([1.0, 1, 2, 1]),
        ...                  spacing_mm=(1.0, 1.0, 2.0), content_hash="")
        >>> crop = crop_to_region(scan, size_mm=(10, 10, 10), center_ras_mm=(20, 20, 20))
        >>> crop.voxels.shape, crop.region
        ((1, 10, 10, 5), ((16, 26), (16, 26), (8, 13)))
    """
    _require_volume(image)
    notes: tuple[str, ...] = ()
    if center_ras_mm is not None:
        center = _center_index(image, center_ras_mm)
    elif mask is not None:
        center, notes = _marked_index(image, mask)
    else:
        raise UnreadableScanError("comes without a region of interest", fix=GIVE_REGION, code="roi-unknown")
    _require_inside(image, center)
    return _cropped(image, _box(image, center, _own_sizes(image, size_mm)), notes)


def marked_extent_mm(mask: ScanImage) -> tuple[float, float, float]:
    """Return the size of the bounding box of what a mask marks: left-right, back-front, feet-head.

    Raises:
        UnreadableScanError: The mask is empty, or does not say how it lies and how large its voxels are.
    """
    box = _marked_box(mask)
    if mask.affine is None or mask.spacing_mm is None:
        raise UnreadableScanError(
            "is a mask that does not say how it lies, so that lesions have no size in mm",
            fix="Say how large the region of interest is: --roi-size-mm.",
            code="roi-unknown",
        )
    lengths = [(part.stop - part.start) * step for part, step in zip(box, mask.spacing_mm, strict=True)]
    by_axis = dict(zip(_anatomical_axes(mask.affine), lengths, strict=True))
    return (by_axis[0], by_axis[1], by_axis[2])


def default_roi_size_mm(extents_mm: Sequence[Sequence[float]]) -> tuple[tuple[float, float, float], str]:
    """Return a size of the region for lesions of these extents, and why.

    Args:
        extents_mm: (left-right, back-front, feet-head) of each lesion, `marked_extent_mm`; at least one.

    Example:
        >>> default_roi_size_mm([(10, 12, 8), (30, 20, 10)])[0]
        (44.0, 30.0, 30.0)
    """
    p95 = np.percentile(np.asarray(extents_mm, dtype=np.float64), 95, axis=0)
    size = tuple(max(_LEAST_MM, float(math.ceil(_LESION_SHARE * length))) for length in p95)
    lesions = " x ".join(f"{length:.3g}" for length in p95)
    reason = (
        f"95 % of the {len(extents_mm)} marked regions are no larger than {lesions} mm (left-right, back-front, "
        f"feet-head); that times {_LESION_SHARE:g}, and {_LEAST_MM:g} mm at least."
    )
    return (size[0], size[1], size[2]), reason


def _require_volume(image: ScanImage) -> None:
    if image.spatial_dims != 3:
        raise UnreadableScanError(
            "is an image, and a region of interest in mm needs a volume",
            fix="Crop the images themselves, or leave --roi-size-mm, mask and center_x_mm out.",
            code="roi-unknown",
        )
    if image.spacing_mm is None:
        raise UnreadableScanError(
            "does not say how large its voxels are, so that a region of interest in mm has no size in it",
            fix="Convert it from its original with its spacing, or crop the scans themselves.",
            code="roi-unknown",
        )


def _center_index(image: ScanImage, center_ras_mm: Sequence[float]) -> Float64:
    """Return the centre in voxels of the scan."""
    if image.affine is None:
        raise UnreadableScanError(
            "does not say how it lies in the patient, so that a centre in RAS millimetres is nowhere in it",
            fix="Convert it from its original with its affine, or mark the region in a mask of the same shape.",
            code="roi-unknown",
        )
    if not np.isfinite(center_ras_mm).all():
        raise UnreadableScanError(
            "has a centre of its region of interest that is no number", fix="Correct the table.", code="roi-unknown"
        )
    return _to_index(image.affine, np.asarray(center_ras_mm, dtype=np.float64))


def _marked_index(image: ScanImage, mask: ScanImage) -> tuple[Float64, tuple[str, ...]]:
    """Return the centre of what is marked, in voxels of the scan, and what had to be decided."""
    box = _marked_box(mask)
    center = np.array([(part.start + part.stop - 1) / 2 for part in box])
    same_shape = mask.spatial_shape == image.spatial_shape
    if image.affine is not None and mask.affine is not None:
        notes = _elsewhere_note(image, mask) if same_shape else ()
        return _to_index(image.affine, _to_ras(mask.affine, center)), notes
    if not same_shape:
        raise UnreadableScanError(
            "and its mask have different shapes, and one of them does not say how it lies in the patient",
            fix="Draw the mask on the scan's own grid, or write both with their affines.",
            code="roi-unknown",
        )
    if image.affine is None and mask.affine is None:
        return center, ()
    return center, ("mask-unplaced: of scan and mask only one says how it lies; they were compared voxel by voxel",)


def _marked_box(mask: ScanImage) -> tuple[slice, ...]:
    if mask.spatial_dims != 3:
        raise UnreadableScanError(
            "has a mask that is an image, not a volume", fix="Give a mask volume.", code="roi-unknown"
        )
    marked = (mask.voxels != 0).any(axis=0)
    if not marked.any():
        raise UnreadableScanError(
            "has a mask that marks nothing: it is 0 everywhere",
            fix="Mark the region of interest in it, or leave the scan out.",
            code="mask-empty",
        )
    return foreground_box(marked)


def _elsewhere_note(image: ScanImage, mask: ScanImage) -> tuple[str, ...]:
    assert image.affine is not None
    assert mask.affine is not None
    if largest_displacement(image.affine, mask.affine, image.spatial_shape) <= _SAME_PLACE_VOXELS:
        return ()
    return ("mask-elsewhere: the mask has the scan's shape but another place by its header, which was followed",)


def largest_displacement(first: Float64, second: Float64, shape: Sequence[int]) -> float:
    """Return how far the corners of a grid lie apart by two affines, in voxels of the first.

    Example:
        >>> largest_displacement(np.eye(4), np.diag([1.0, 1.0, 1.1, 1.0]), (5, 5, 11))
        1.0
    """
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape], indexing="ij")).reshape(3, -1)
    moved = np.linalg.inv(first) @ second @ np.vstack([corners, np.ones(corners.shape[1])])
    return float(np.round(np.abs(moved[:3] - corners).max(), 9))


def _require_inside(image: ScanImage, center: Float64) -> None:
    slack = 0.5 + _ROUNDING_VOXELS  # voxels reach half a voxel beyond their centres
    sizes = np.array(image.spatial_shape)
    if ((center >= -slack) & (center <= sizes - 1 + slack)).all():
        return
    raise UnreadableScanError(
        f"does not hold the centre of its region of interest, which lies {_how_far(image, center):.0f} mm outside",
        fix="Check the centre (RAS: x to the right, y to the front, z to the head, in mm; DICOM positions are LPS, "
        "with x and y of the other sign), or that the mask belongs to this scan.",
        code="roi-outside",
    )


def _how_far(image: ScanImage, center: Float64) -> float:
    edge = np.clip(center, -0.5, np.array(image.spatial_shape) - 0.5)
    return float(np.linalg.norm((center - edge) * np.array(image.spacing_mm)))


def _own_sizes(image: ScanImage, size_mm: Sequence[float]) -> tuple[float, ...]:
    """Return the edges of the region along the scan's own axes."""
    if image.affine is not None:
        return tuple(float(size_mm[axis]) for axis in _anatomical_axes(image.affine))
    if len(set(size_mm)) > 1:
        raise UnreadableScanError(
            "does not say how it lies in the patient, so that a region with three different edges fits in no one way",
            fix="Give one edge for all axes, such as --roi-size-mm 40.",
            code="roi-unknown",
        )
    return tuple(float(size) for size in size_mm)


def _box(image: ScanImage, center: Float64, sizes_mm: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """Return (start, stop) along each axis; the same voxels however the file lies."""
    growing = _grows_to_positive(image.affine)
    box = []
    for middle, length, step, forward in zip(center, sizes_mm, image.spacing_mm or (), growing, strict=True):
        count = max(1, round(length / step))
        first = float(middle) - (count - 1) / 2
        near = 0.5 + _ROUNDING_VOXELS
        start = math.floor(first + near) if forward else math.ceil(first - near)
        box.append((start, start + count))
    return tuple(box)


def _cropped(image: ScanImage, box: tuple[tuple[int, int], ...], notes: tuple[str, ...]) -> ScanImage:
    affine = image.affine
    if affine is not None:
        shift = np.eye(4)
        shift[:3, 3] = [start for start, _ in box]
        affine = affine @ shift
    if any(start < 0 or stop > size for (start, stop), size in zip(box, image.spatial_shape, strict=True)):
        notes = (*notes, "roi-padded: the region of interest reaches beyond the scan and was filled up")
    return replace(
        image, voxels=_cut(image.voxels, box), affine=affine, region=box, notes=(*image.notes, *notes)
    )  # fmt: skip


def _cut(voxels: npt.NDArray[Any], box: tuple[tuple[int, int], ...]) -> npt.NDArray[Any]:
    """Return a copy of the box, each channel filled with its smallest value outside."""
    shape = tuple(stop - start for start, stop in box)
    if math.prod(shape) > MAX_REGION_VOXELS:
        raise UnreadableScanError(
            f"would have a region of interest of {' x '.join(map(str, shape))} voxels, "
            f"more than the limit of {MAX_REGION_VOXELS:,}",
            fix="Make the region smaller (--roi-size-mm).",
            code="too-large",
        )
    out = np.empty((len(voxels), *shape), dtype=voxels.dtype)
    sides = list(zip(box, voxels.shape[1:], strict=True))
    inside = tuple(slice(max(0, start), min(size, stop)) for (start, stop), size in sides)
    place = tuple(slice(part.start - start, part.stop - start) for part, (start, _) in zip(inside, box, strict=True))
    for target, channel in zip(out, voxels, strict=True):
        target[...] = channel.min()
        target[place] = channel[inside]
    return out


def _anatomical_axes(affine: Float64) -> tuple[int, ...]:
    """Return, for each axis of a grid, 0 for left-right, 1 for back-front, 2 for feet-head."""
    return tuple(int(axis) for axis in nib.orientations.io_orientation(affine)[:, 0])


def _grows_to_positive(affine: Float64 | None) -> tuple[bool, ...]:
    if affine is None:
        return (True, True, True)
    return tuple(bool(direction > 0) for direction in nib.orientations.io_orientation(affine)[:, 1])


def _to_index(affine: Float64, point: Float64) -> Float64:
    return np.asarray(np.linalg.solve(affine, np.append(point, 1.0))[:3], dtype=np.float64)


def _to_ras(affine: Float64, index: Float64) -> Float64:
    return np.asarray((affine @ np.append(index, 1.0))[:3], dtype=np.float64)
