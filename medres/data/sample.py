"""`read_sample`: the one way from a row of the table to its voxels, in checking, training and use."""

from __future__ import annotations

from medres.data.image import ScanImage
from medres.data.readers import read_scan
from medres.data.readers.rules import ReadingRules
from medres.data.table import Scan


def read_sample(scan: Scan, *, rules: ReadingRules) -> ScanImage:
    """Read a scan: one file, a DICOM series, or several sequences as channels; cropped to its region of interest.

    Args:
        scan: A row of a table.
        rules: How files become a scan.

    Raises:
        UnreadableScanError: Naming the file, what is wrong with it and what to do.
    """
    return read_scan(scan.path, member=scan.member, files=scan.files, rules=rules)
