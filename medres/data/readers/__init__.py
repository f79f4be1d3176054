"""Readers: one contract, a file (or its bytes) in, a `ScanImage` out, or one `UnreadableScanError`.

DICOM, NIfTI, NRRD, MetaImage, Analyze, MGH, PNG, JPEG, TIFF, BMP and NumPy; ``docs/reference/formats.md`` says what of
each is read. What a file holds is decided by its content; the suffix decides only which files
of a folder are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medres.data.readers.formats import SCAN_SUFFIXES

if TYPE_CHECKING:
    from medres.data.readers.reading import read_scan, read_scan_bytes

__all__ = ["SCAN_SUFFIXES", "read_scan", "read_scan_bytes"]


def __getattr__(name: str) -> Any:
    """Import the decoders (nibabel, Pillow) when a scan is read, not before."""
    if name in __all__:
        from medres.data.readers import reading

        return getattr(reading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
