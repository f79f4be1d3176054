"""Checks of values beside those of the other scans of the same modality; meant to be silent on ordinary data."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from medres.data.checks.about import about
from medres.data.checks.content import Known, read_scans, told_modality
from medres.data.checks.outliers import outliers
from medres.data.findings import Finding
from medres.data.survey_memory import Remembered
from medres.data.table import Scan, ScanTable

# Air and water are 1000 HU apart; contrast medium adds 300 HU to vessels only. Levels that half of a scan, a
# twentieth or a hundredth of it reach move by more only if the scale or the body part is another.
ODD_HU = 400.0
CT_LEVELS = {"50": "median", "95": "95th percentile", "99": "99th percentile"}

# Gains of MR scanners differ tenfold; a hundredfold is another stored scale (or reconstruction).
ODD_SCALE_RATIO = 100.0

# Where the median lies between the darkest and the brightest value: 0.1 in a head in air, 0.9 in its negative. Beside
# regions that are mostly air, one that is all tissue has 0.7: no smaller distance tells that from a negative.
ODD_MEDIAN = 0.7


def check_intensity(table: ScanTable, known: Known) -> Iterator[Finding]:
    """Yield the findings about values."""
    groups: dict[tuple[str, int], list[tuple[Scan, Remembered]]] = defaultdict(list)
    for scan, entry in read_scans(table, known):
        hounsfield = "CT in HU" if entry.statistics.modality == "CT" else told_modality(entry)
        groups[hounsfield, len(entry.statistics.spatial_shape)].append((scan, entry))
        yield from _not_hounsfield(scan, entry)
    for (modality, _), members in groups.items():
        yield from _beside_the_others(members, modality)


def _not_hounsfield(scan: Scan, entry: Remembered) -> Iterator[Finding]:
    statistics = entry.statistics
    if statistics.header_modality == "CT" and statistics.modality != "CT":
        fix = "Export it with its rescale intercept (mostly -1024), and with all bits."
        yield about(scan, "not-hounsfield", f"{statistics.evidence}.", fix=fix, joined=": ")


def _beside_the_others(members: list[tuple[Scan, Remembered]], modality: str) -> Iterator[Finding]:
    odd = _odd_levels(members) if modality == "CT in HU" else {**_odd_scales(members), **_odd_medians(members)}
    for scan, _ in members:
        if scan.sample_id in odd:
            fix = "Look at it: another scale, an inverted picture, or another body part?"
            yield about(scan, "intensity-outlier", odd[scan.sample_id], fix=fix)


def _odd_levels(members: list[tuple[Scan, Remembered]]) -> dict[str, str]:
    odd = {}
    for level, name in CT_LEVELS.items():
        values = {scan.sample_id: entry.statistics.percentiles[level] for scan, entry in members}
        for sample_id, distance in outliers(values, least=ODD_HU).items():
            usual = values[sample_id] - distance
            odd[sample_id] = f"has its {name} at {values[sample_id]:.0f} HU; that of the others is {usual:.0f} HU."
    return odd


def _odd_scales(members: list[tuple[Scan, Remembered]]) -> dict[str, str]:
    widths = {scan.sample_id: entry.statistics.value_range for scan, entry in members}
    logs = {sample_id: math.log(width) for sample_id, width in widths.items() if width > 0}
    far = outliers(logs, least=math.log(ODD_SCALE_RATIO))
    return {
        sample_id: f"has values over a range of {widths[sample_id]:.3g}: {math.exp(distance):.3g} times the usual."
        for sample_id, distance in far.items()
    }


def _odd_medians(members: list[tuple[Scan, Remembered]]) -> dict[str, str]:
    medians = {
        scan.sample_id: entry.statistics.relative_level("50")
        for scan, entry in members
        if entry.statistics.value_range > 0
    }
    far = outliers(medians, least=ODD_MEDIAN)
    return {
        sample_id: f"has its median at {medians[sample_id]:.0%} of its range; that of the others is at "
        f"{medians[sample_id] - distance:.0%}."
        for sample_id, distance in far.items()
    }
