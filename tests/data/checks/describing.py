"""Scans as a survey remembers them, without voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medres.data.statistics import PERCENTILES, ScanStatistics
from medres.data.survey_memory import Remembered
from medres.data.table import Scan, ScanTable


def entry(*, notes=(), levels=None, **changed) -> Remembered:
    """A CT volume of 100 x 100 x 100 voxels of 1 mm, unless said otherwise."""
    levels = levels or {"0.5": -1000.0, "50": -100.0, "99.5": 900.0}
    known = sorted((float(level), value) for level, value in levels.items())
    values = np.interp(PERCENTILES, *zip(*known, strict=True))
    fields = {
        "spatial_shape": (100, 100, 100), "spacing_mm": (1.0, 1.0, 1.0), "orientation": "LPS", "dtype": "int16",
        "num_channels": 1, "minimum": float(values.min()), "maximum": float(values.max()) + 1,
        "percentiles": {f"{level:g}": float(value) for level, value in zip(PERCENTILES, values, strict=True)},
        "foreground_fraction": 0.5, "foreground_box": ((10, 90),) * 3, "modality": "CT", "evidence": "because",
    }  # fmt: skip
    statistics = ScanStatistics(**{**fields, **changed})
    return Remembered(content_hash="h", statistics=statistics, notes=notes)


def data_set(known) -> ScanTable:
    """The table of scans that are described by sample id."""
    scans = tuple(Scan(sample_id=name, patient_id=name, path=Path("/data", name)) for name in known)
    return ScanTable(root=Path("/data"), scans=scans, classes=(), source="test")


def found(check, known) -> dict[str, set[str]]:
    """Codes of a check and the scans they are about; each finding must name its scan and its file."""
    by_code: dict[str, set[str]] = {}
    for finding in check(data_set(known), known):
        assert finding.sample_id in finding.value
        assert finding.file == f"/data/{finding.sample_id}"
        assert finding.value.endswith(".")
        by_code.setdefault(finding.code, set()).add(finding.sample_id)
    return by_code
