"""Which scans are left out for their findings: ``--exclude-findings CODE``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from medres.data.catalogue import KINDS
from medres.data.findings import Finding
from medres.data.table import ScanTable
from medres.data.wording import counted
from medres.errors import DataError, UsageError

# Of these groups the first scan is the one to keep (what is scored comes first); the others are left out.
_COPIES = frozenset({"identical-scans", "near-duplicates"})
# Whose labels are no classes: a class of such scans alone goes with them.
_NO_CLASSES = ("label-placeholder", "label-lookalike")
# Of these groups the scans on the side of the first one are kept.
_ACROSS_SPLITS = frozenset({"patient-across-splits", "identical-across-splits", "near-duplicates-across-splits"})


def require_known_codes(codes: Iterable[str]) -> None:
    """Refuse codes that no finding has.

    Raises:
        UsageError: Naming codes that are spelt alike.

    Example:
        >>> require_known_codes(["constat"])
        Traceback (most recent call last):
        medres.errors.UsageError: No finding has the code 'constat'. Did you mean 'constant'? ...
    """
    for code in codes:
        if code not in KINDS:
            close = " or ".join(repr(name) for name in difflib.get_close_matches(code, KINDS, n=3))
            hint = f"Did you mean {close}? " if close else ""
            raise UsageError(f"No finding has the code {code!r}.", fix=f"{hint}docs/reference/findings.md lists all.")


def excluded_scans(table: ScanTable, findings: Iterable[Finding], codes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the scans to leave out, by code, in the order of the codes; a scan is named under the first code only.

    Of copies one is kept; of what lies on two sides of a split, the side that is scored.

    Args:
        table: With the splits.
        findings: About it.
        codes: Whose scans are left out.
    """
    excluded: dict[str, tuple[str, ...]] = {}
    gone: set[str] = set()
    ids = {scan.sample_id for scan in table}
    findings = list(findings)
    for code in dict.fromkeys(codes):
        concerned = [name for finding in findings if finding.code == code for name in _left_out(table, finding)]
        excluded[code] = tuple(name for name in dict.fromkeys(concerned) if name in ids and name not in gone)
        gone.update(excluded[code])
    return excluded


def without_excluded(table: ScanTable, excluded: Mapping[str, Sequence[str]]) -> ScanTable:
    """Return the table without these scans, with its classes and the findings about the others.

    A class whose scans are all left out because its label is none (a word for a missing value) goes with them.

    Raises:
        DataError: No scan is left, or none of a class, or fewer than two classes.
    """
    gone = {name for names in excluded.values() for name in names}
    left = tuple(scan for scan in table if scan.sample_id not in gone)
    codes = " and ".join(f"{code} ({counted(len(names), 'scan')})" for code, names in excluded.items() if names)
    if not left:
        raise DataError(f"--exclude-findings {codes} leaves no scan.", fix="Mend the scans instead.")
    labels = {scan.label for scan in left}
    none = {name for code in _NO_CLASSES for name in excluded.get(code, ())}
    meant = {scan.label for scan in table if scan.sample_id not in none}
    lost = [label for label in table.classes if label not in labels and (label in meant or len(meant) < 2)]
    if lost:
        names = " and ".join(repr(label) for label in lost)
        raise DataError(f"--exclude-findings {codes} leaves no scan of class {names}.", fix="Mend the scans instead.")
    findings = tuple(finding for finding in table.findings if finding.sample_id not in gone)
    return replace(table, scans=left, findings=findings, classes=tuple(c for c in table.classes if c in labels))


def without_known(table: ScanTable, codes: Sequence[str]) -> ScanTable:
    """Return the table without the scans to leave out for findings of the source, which are known before any is read.

    Raises:
        DataError: No scan is left, or none of a class.
        UsageError: No finding has one of the codes.
    """
    require_known_codes(codes)
    return without_excluded(table, excluded_scans(table, table.findings, codes))


def _left_out(table: ScanTable, finding: Finding) -> tuple[str, ...]:
    if finding.code in _COPIES:
        return finding.samples[1:]
    if finding.code in _ACROSS_SPLITS and finding.samples:
        splits = {scan.sample_id: scan.split for scan in table}
        kept = splits.get(finding.samples[0])
        return tuple(name for name in finding.samples if splits.get(name) != kept)
    return finding.samples
