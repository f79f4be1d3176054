"""What readers had to decide, as findings, one a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medres.data.checks.about import about
from medres.data.checks.content import Known, read_scans
from medres.data.findings import Finding
from medres.data.table import ScanTable

#: What to do about a note, by its code.
NOTE_FIXES: Mapping[str, str] = {
    "orientation-unknown": "Convert from the original DICOM; left and right are otherwise a guess.",
    "sform-qform-differ": "Check against the original which of the two placements is right.",
    "qform-damaged": "Convert from the original again.",
    "depth-reduced": "Export with all bits.",
    "first-frame": "Keep one image a file.",
    "spacing-odd": "Convert from the original again; lengths may be wrong.",
    "scale-odd": "Convert from the original again; values may be wrong.",
    "series-chosen": "Choose another one with --series.",
    "series-divided": "Look whether they are a localizer, or whether two acquisitions were sent as one series.",
    "modality-lut-doubt": "Look at its values, or export it again with one of the two.",
    "padding-doubt": "Nothing, or correct the header: what is padding by it would be cut out of the tissue.",
    "gantry-tilt-corrected": "Nothing, or refuse such scans with --gantry-tilt refuse.",
    "uneven-slices": "Nothing, or refuse such scans with --uneven-slices refuse.",
    "missing-slices": "Export the series again; what lay between was interpolated.",
    "duplicate-slices": "Nothing; copies of a slice were left out.",
    "burned-in": "Look at the pixels; black out what names the patient before the data are shared.",
    "not-deidentified": "De-identify before the data leave the hospital; medres does not do it.",
}


def check_notes(table: ScanTable, known: Known) -> Iterator[Finding]:
    """Yield the notes of the readers as findings."""
    for scan, entry in read_scans(table, known):
        for note in entry.notes:
            code, _, sentence = note.partition(": ")
            yield about(scan, code, f"{sentence.rstrip('.')}.", fix=NOTE_FIXES.get(code, ""), joined=": ")
