"""What is measured on one scan to compare it with others: the same numbers for the fingerprint and for a new scan."""

from __future__ import annotations

from collections.abc import Iterable

from medres.data.statistics import ScanStatistics
from medres.planning.axes import reordered, scan_axes

#: Percentiles that are compared by where they lie in the range of a scan's values.
RELATIVE_LEVELS = ("25", "50", "75", "95")


def in_plan_order(scan: ScanStatistics, values: Iterable[float]) -> tuple[float, ...]:
    """Return values of a scan's own axes in the order of the fingerprint: (H, W), or (D, H, W) of ``SPL``."""
    order = scan_axes(scan.orientation, spatial_dims=len(scan.spatial_shape))
    return reordered(tuple(values), order)


def box_sizes(scan: ScanStatistics) -> tuple[int, ...]:
    """Return the edges of the foreground's bounding box in voxels, along the scan's own axes."""
    sizes = tuple(stop - start for start, stop in scan.foreground_box)
    # an empty box says nothing about where to look; preprocessing then takes the whole scan as well
    return sizes if min(sizes) > 0 else scan.spatial_shape


def extents_mm(scan: ScanStatistics) -> tuple[float, ...]:
    """Return the field of view along each axis of the fingerprint; the size of voxels must be known."""
    return _in_mm(scan, scan.spatial_shape)


def boxes_mm(scan: ScanStatistics) -> tuple[float, ...]:
    """Return the edges of the foreground's bounding box along each axis of the fingerprint, in mm."""
    return _in_mm(scan, box_sizes(scan))


def _in_mm(scan: ScanStatistics, sizes: Iterable[float]) -> tuple[float, ...]:
    spacing = in_plan_order(scan, scan.spacing_mm or ())
    return tuple(size * step for size, step in zip(in_plan_order(scan, sizes), spacing, strict=True))


def scan_measures(scan: ScanStatistics) -> dict[str, float]:
    """Return the numbers by name; ``spacing_mm.0`` is along the first axis of the fingerprint.

    Values: ``percentiles.50`` and the others, ``roughness``, ``colorfulness``; ``value_range`` and
    ``relative_levels.50`` where there is a range.
    Geometry: ``size.N``, and where the size of voxels is known ``spacing_mm.N``, ``extent_mm.N``, ``box_mm.N``.
    Content: ``foreground_fraction``, and of a CT in HU ``tissue_shares.air`` and the others.

    Example:
        >>> import numpy as np
        >>> from medres.data.image import ScanImage
        >>> from medres.data.statistics import scan_statistics
        >>> ct = np.full((1, 8, 8, 8), -1000, dtype=np.int16); ct[0, 2:6, 2:6, 2:6] = 40
        >>> image = ScanImage(voxels=ct, affine=None, spacing_mm=(1.0, 1.0, 2.0), content_hash="")
        >>> measures = scan_measures(scan_statistics(image))
        >>> measures["spacing_mm.0"], measures["box_mm.0"], measures["tissue_shares.soft_tissue"]
        (2.0, 8.0, 0.125)
    """
    measures = {name: getattr(scan, name) for name in ("foreground_fraction", "roughness", "colorfulness")}
    if scan.value_range > 0:
        measures["value_range"] = scan.value_range
        measures |= {f"relative_levels.{level}": scan.relative_level(level) for level in RELATIVE_LEVELS}
    measures |= {f"percentiles.{level}": value for level, value in scan.percentiles.items()}
    measures |= {f"tissue_shares.{tissue}": share for tissue, share in scan.tissue_shares.items()}
    return measures | _geometry(scan)


def _geometry(scan: ScanStatistics) -> dict[str, float]:
    by_axis = {"size": in_plan_order(scan, scan.spatial_shape)}
    if scan.spacing_mm is not None:
        spacing = in_plan_order(scan, scan.spacing_mm)
        by_axis |= {"spacing_mm": spacing, "extent_mm": extents_mm(scan), "box_mm": boxes_mm(scan)}
    return {f"{name}.{axis}": value for name, values in by_axis.items() for axis, value in enumerate(values)}
