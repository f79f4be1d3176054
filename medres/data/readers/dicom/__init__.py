"""DICOM: which files are one series, which series of a study is the scan, and its voxels where they truly lie.

Files are grouped by patient, study, series, orientation, matrix and pixel spacing; slices are ordered along their
normal by the positions in their headers, never by name or number. What a reader cannot know it refuses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medres.data.readers.dicom.archive import read_dicom_zip
    from medres.data.readers.dicom.choosing import SeriesChoice, choose_series
    from medres.data.readers.dicom.elements import is_dicom
    from medres.data.readers.dicom.grouping import DicomSeries, SeriesIndex, index_series
    from medres.data.readers.dicom.left_out import left_out_of, parts_of
    from medres.data.readers.dicom.reading import read_dicom_bytes, read_series, read_study

__all__ = [
    "DicomSeries",
    "SeriesChoice",
    "SeriesIndex",
    "choose_series",
    "index_series",
    "is_dicom",
    "left_out_of",
    "parts_of",
    "patient_of_zip",
    "read_dicom_bytes",
    "read_dicom_zip",
    "read_series",
    "read_study",
]

_MODULES = {
    "patient_of_zip": "archive",
    "read_dicom_zip": "archive",
    "SeriesChoice": "choosing",
    "choose_series": "choosing",
    "is_dicom": "elements",
    "DicomSeries": "grouping",
    "SeriesIndex": "grouping",
    "index_series": "grouping",
    "left_out_of": "left_out",
    "parts_of": "left_out",
    "read_dicom_bytes": "reading",
    "read_series": "reading",
    "read_study": "reading",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for; pydicom is imported when the first file is read."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
