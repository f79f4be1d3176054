"""Checks of how large voxels and scans are, in themselves and beside the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from medres.data.checks.about import about
from medres.data.checks.content import Known, read_scans
from medres.data.checks.outliers import outliers
from medres.data.findings import Finding
from medres.data.survey_memory import Remembered
from medres.data.table import ScanTable

# Micro-CT begins below 0.01 mm (extremity CT has 0.06); no slice of a body is thicker than 20 mm, and a distance
# above that is a localizer or centimetres taken for millimetres.
PLAUSIBLE_MM = (0.01, 20.0)

# Protocols of one body part differ by less: in-plane 0.4 to 1 mm, slices 1 to 3 or 3 to 5 mm. Micrometres, metres
# and inches, or a thick reconstruction among thin ones, differ by more.
ODD_SPACING_RATIO = 3.0

# A field of view or the number of slices that is a quarter of the usual: a part of the body is missing, or another
# one is there.
ODD_SIZE_RATIO = 4.0

_AXES = ("finest", "middle", "coarsest")
_EDGES = ("shortest", "middle", "longest")


def check_geometry(table: ScanTable, known: Known) -> Iterator[Finding]:
    """Yield the findings about spacing and size."""
    yield from _spacing_by_itself(table, known)
    yield from _spacing_outliers(table, known)
    yield from _size_outliers(table, known)


def _spacing_by_itself(table: ScanTable, known: Known) -> Iterator[Finding]:
    for scan, entry in read_scans(table, known):
        spacing = entry.statistics.spacing_mm
        if spacing is None:
            if len(entry.statistics.spatial_shape) == 3:
                fix = "If you know it, convert to a format that says it (NIfTI); else lengths count in voxels."
                yield about(scan, "spacing-unknown", "does not say how large its voxels are.", fix=fix)
        elif not is_plausible_mm(spacing):
            value = f"has voxels of {in_mm(spacing)}."
            fix = "Correct the header (micrometres or metres?), or --exclude-findings spacing-implausible."
            yield about(scan, "spacing-implausible", value, fix=fix)


def _spacing_outliers(table: ScanTable, known: Known) -> Iterator[Finding]:
    sorted_mm = {
        scan.sample_id: sorted(entry.statistics.spacing_mm)
        for scan, entry in read_scans(table, known)
        if entry.statistics.spacing_mm is not None
    }
    odd = _odd_ratios(sorted_mm, least=ODD_SPACING_RATIO, names=_AXES)
    for scan, entry in read_scans(table, known):
        if scan.sample_id in odd and entry.statistics.spacing_mm is not None:
            spacing = in_mm(entry.statistics.spacing_mm)
            value = f"has voxels of {spacing}: along the {odd[scan.sample_id]} of the other scans."
            fix = "Look at its header; a thick series among thin ones shows another protocol, not the disease."
            yield about(scan, "spacing-outlier", value, fix=fix)


def _size_outliers(table: ScanTable, known: Known) -> Iterator[Finding]:
    all_in_mm = all(entry.statistics.spacing_mm is not None for entry in known.values())
    extents = {scan.sample_id: sorted(_extent(entry, all_in_mm)) for scan, entry in read_scans(table, known)}
    odd = _odd_ratios(extents, least=ODD_SIZE_RATIO, names=_EDGES)
    for scan, entry in read_scans(table, known):
        if scan.sample_id in odd:
            size = " x ".join(f"{edge:.4g}" for edge in _extent(entry, all_in_mm)) + (" mm" if all_in_mm else " voxels")
            value = f"is {size}: its {odd[scan.sample_id]} of the other scans."
            yield about(scan, "size-outlier", value, fix="Look at it: cut off, a localizer, or another body part?")


def _extent(entry: Remembered, in_millimetres: bool) -> list[float]:
    shape, spacing = entry.statistics.spatial_shape, entry.statistics.spacing_mm
    if in_millimetres and spacing is not None:
        return [size * pitch for size, pitch in zip(shape, spacing, strict=True)]
    return [float(size) for size in shape]


def _odd_ratios(lengths: Mapping[str, Sequence[float]], *, least: float, names: Sequence[str]) -> dict[str, str]:
    """Return ``coarsest axis 5 times that`` for the scans with a length far from that of the others."""
    odd: dict[str, str] = {}
    for dims in sorted({len(values) for values in lengths.values()}):
        alike = {name: values for name, values in lengths.items() if len(values) == dims and min(values) > 0}
        for axis in range(dims):
            logs = {name: math.log(values[axis]) for name, values in alike.items()}
            which = names[axis] if dims == 3 else names[2 * axis]
            for name, distance in outliers(logs, least=math.log(least)).items():
                what = "axis" if names is _AXES else "edge"
                odd[name] = f"{which} {what} {math.exp(distance):.3g} times the median"
    return odd


def is_plausible_mm(spacing_mm: Sequence[float]) -> bool:
    """Return whether these can be the edges of a voxel of a scan of the body.

    Example:
        >>> is_plausible_mm((0.7, 0.7, 5.0)), is_plausible_mm((0.0007, 0.0007, 0.005))
        (True, False)
    """
    low, high = PLAUSIBLE_MM
    return low <= min(spacing_mm) <= max(spacing_mm) <= high


def in_mm(spacing: Sequence[float]) -> str:
    """Return a spacing for people.

    Example:
        >>> in_mm((0.7, 0.7, 5.0))
        '0.7 x 0.7 x 5 mm'
    """
    return " x ".join(f"{pitch:.4g}" for pitch in spacing) + " mm"
