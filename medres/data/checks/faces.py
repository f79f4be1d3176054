"""Which volumes may show a face: those that hold something of the size of a head, with air on both sides of it.

Headers cannot decide it: NIfTI has no body part, and DICOM's is often missing or wrong. Neither can size alone prove
it; a defaced head keeps its size. It is a hint to look, with the sizes it rests on.
"""

from __future__ import annotations

from collections.abc import Iterator

from medres.data.checks.about import about
from medres.data.checks.content import Known, modality_of, read_scans
from medres.data.checks.geometry import in_mm
from medres.data.findings import Finding
from medres.data.survey_memory import Remembered
from medres.data.table import ScanTable

# Adult heads, 1st to 99th percentile (ISO 7250): breadth 135 to 170 mm (over the ears to 205), length 170 to 215 mm,
# with the nose and the rest of the head holder to 260. Below, the face begins: from the crown 150 mm reach the nose.
# A stripped brain is 120 to 145 mm high and never gets there; a chest is 300 mm broad, a knee 130 mm.
_BREADTH_MM = (130.0, 210.0)
_LENGTH_MM = (165.0, 265.0)
_LEAST_HEIGHT_MM = 150.0

# A face is recognised from voxels of 3 mm; thicker slices blur it (facts 2.3: Schwarz 2019 used 1 mm).
_FINE_ENOUGH_MM = 4.0


def check_faces(table: ScanTable, known: Known) -> Iterator[Finding]:
    """Yield a finding for each CT or MR volume that may show a face."""
    for scan, entry in read_scans(table, known):
        size = _head_size_mm(entry)
        if size is not None:
            value = f"shows something of the size of a head ({in_mm(size)}, left-right, back-front, feet-head)."
            fix = "If it shows a face, it identifies the patient: deface it before it leaves the hospital."
            yield about(scan, "faces", value, fix=fix)


def _head_size_mm(entry: Remembered) -> tuple[float, ...] | None:
    statistics = entry.statistics
    if modality_of(entry) not in ("CT", "MR") or statistics.orientation is None or statistics.spacing_mm is None:
        return None
    axes = [_axis(statistics.orientation, pair) for pair in ("LR", "AP", "SI")]
    sides = [statistics.foreground_box[axis] for axis in axes]
    pitch = [statistics.spacing_mm[axis] for axis in axes]
    breadth, length, height = ((stop - start) * mm for (start, stop), mm in zip(sides, pitch, strict=True))
    right, left = sides[0][0], statistics.spatial_shape[axes[0]] - sides[0][1]
    is_head = (
        _BREADTH_MM[0] <= breadth <= _BREADTH_MM[1]
        and _LENGTH_MM[0] <= length <= _LENGTH_MM[1]
        and height >= _LEAST_HEIGHT_MM
    )
    return (breadth, length, height) if is_head and min(right, left) > 0 and max(pitch) <= _FINE_ENOUGH_MM else None


def _axis(orientation: str, pair: str) -> int:
    return next(axis for axis, letter in enumerate(orientation) if letter in pair)
