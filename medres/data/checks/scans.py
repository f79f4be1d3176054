"""`check_scans`: every check of a data set, once all scans are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medres.data.catalogue import kind_of
from medres.data.checks.content import Known, check_content
from medres.data.checks.faces import check_faces
from medres.data.checks.geometry import check_geometry
from medres.data.checks.intensity import check_intensity
from medres.data.checks.notes import check_notes
from medres.data.findings import Finding
from medres.data.leakage import leakage_findings
from medres.data.near_duplicates import NearGroup
from medres.data.table import Scan, ScanTable
from medres.errors import MedresError, UnreadableScanError


def check_scans(table: ScanTable, known: Known, *, near: Sequence[NearGroup] = ()) -> Iterator[Finding]:
    """Yield the findings about scans that could be read.

    Args:
        table: With content hashes and groups of near duplicates.
        known: Statistics and notes by sample id; scans that could not be read are not in it.
        near: The groups of near duplicates, for how similar they are.
    """
    yield from check_content(table, known)
    yield from check_geometry(table, known)
    yield from check_intensity(table, known)
    yield from check_faces(table, known)
    yield from check_notes(table, known)
    yield from leakage_findings(table, near=near)


def unreadable(scan: Scan, error: Exception) -> Finding:
    """Return the finding about a scan that cannot be read, whatever went wrong."""
    code = error.code if isinstance(error, UnreadableScanError) else "unreadable"
    if isinstance(error, MedresError):
        value, fix = error.problem, error.fix
    else:  # a defect of medres or of a library: its text may quote the header, its type does not
        value, fix = f"{scan.path} cannot be read: {type(error).__name__}.", "Leave it out, and report it to medres."
    return Finding(
        code=code, severity="error", sample_id=scan.sample_id, file=str(scan.path), rule=kind_of(code).rule,
        value=value, fix=fix,
    )  # fmt: skip
