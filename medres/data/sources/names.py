"""Names of files and folders that are no text: written by a system with another encoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from medres.data.findings import Finding
from medres.data.sources.problems import found
from medres.data.table import Scan

_FIX = (
    "Rename the file or its folder (for example: convmv -r -f latin1 -t utf8 --notest FOLDER), or "
    "--exclude-findings name-not-text."
)


def names_not_text(scans: Iterable[Scan]) -> Iterator[Finding]:
    r"""Yield a finding for each scan with a name that no UTF-8 file can hold: no ``scans.csv`` could name it again.

    Example:
        >>> from pathlib import Path
        >>> scan = Scan(sample_id="M\udcfcller", patient_id="p1", path=Path("M\udcfcller.nii"))
        >>> [finding.code for finding in names_not_text([scan])]
        ['name-not-text']
    """
    for scan in scans:
        paths = [path for path in (scan.path, scan.mask, *scan.sequences.values()) if path is not None]
        wrong = next((path for path in paths if not is_text(str(path))), None)
        if wrong is None and is_text("".join((scan.sample_id, scan.patient_id, scan.label or "", scan.member or ""))):
            continue
        shown = str(wrong or scan.path).encode("utf-8", "backslashreplace").decode("utf-8")
        text = f"{shown} has a name that is not UTF-8."
        yield found("name-not-text", text, fix=_FIX, sample_id=scan.sample_id, file=scan.path)


def is_text(name: str) -> bool:
    r"""Return whether a name can be written as UTF-8; bytes that are none stand in it as surrogates (PEP 383).

    Example:
        >>> is_text("Müller"), is_text("M\udcfcller")
        (True, False)
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
