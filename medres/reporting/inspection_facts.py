"""What a data set looks like, in rows of text, for the terminal and the page of ``medres inspect``."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medres.data.survey import Survey
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted
from medres.errors import DataError
from medres.planning.fingerprint import Fingerprint, make_fingerprint
from medres.reporting.data_summary import Row, fingerprint_rows

# A column that tells hospitals or machines apart: a network learns them instead of the disease where they go with it.
_SITE_COLUMN = re.compile(
    r"(^|[ _-])(site|cent(er|re)|hospital|institution|clinic|department|scanner|manufacturer|vendor|model|station"
    r"|field_?strength|protocol|kernel|coil|device|cohort|source|study)([ _-]?(id|name|code|nr|no|number))?$",
    re.IGNORECASE,
)
_MOST_SITES = 30
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class SiteTable:
    """How the classes are distributed over the values of one column.

    Args:
        column: Its name.
        classes: In the order of the counts.
        rows: (value, scans of each class), most frequent value first.
        association: Cramer's V, 0 to 1: how well the value tells the class; None where there is one value or class.
    """

    column: str
    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    association: float | None


def data_rows(survey: Survey) -> list[Row]:
    """Return how the data was understood: source, scans, patients, what was left out, notes."""
    table = survey.table
    scans = counted(len(table), "scan")
    unread = len(table) - len(survey.statistics)
    rows = [
        ("folder", str(table.root)),
        ("read as", table.source),
        ("scans", f"{scans}, {unread} of them unreadable" if unread else scans),
        ("patients", f"{table.num_patients:,}" if table.patients_given else "not given: each file counts as a patient"),
    ]
    if table.unit_column:
        rows.append(("unit of scoring", table.unit_column))
    for code, samples in survey.excluded.items():
        rows.append(("left out", f"{counted(len(samples), 'scan')} for {code}"))
    return [*rows, *(("note", note) for note in table.notes)]


def scan_rows(survey: Survey) -> list[Row]:
    """Return the aggregates of the scans: modality, size, spacing, orientation, values."""
    try:
        fingerprint = scan_fingerprint(survey)
    except DataError as error:  # scans with different sequences have no common aggregates
        return [("scans differ", error.problem)]
    return [row for row in fingerprint_rows(fingerprint) if row[0] != "training scans"]


def scan_fingerprint(survey: Survey) -> Fingerprint | None:
    """Return the aggregates of all scans that could be read; None where there is none."""
    return make_fingerprint(survey.statistics) if survey.statistics else None


def class_rows(table: ScanTable) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of scans and patients in each class, and of scans in each given split."""
    splits = [split for split in _SPLITS if split in table.splits]
    heads = ["class", "scans", "share", *(["patients"] if table.patients_given else []), *splits]
    labelled = max(1, sum(scan.label is not None for scan in table))
    rows = []
    for label, scans in _by_label(table).items():
        share = f"{len(scans) / labelled:.1%}" if label in table.classes else "-"
        patients = [f"{len({scan.patient_id for scan in scans}):,}"] if table.patients_given else []
        in_splits = [f"{sum(scan.split == split for scan in scans):,}" for split in splits]
        rows.append([label, f"{len(scans):,}", share, *patients, *in_splits])
    return heads, rows


def _by_label(table: ScanTable) -> dict[str, list[Scan]]:
    rows: dict[str, list[Scan]] = {label: [] for label in table.classes}
    for scan in table:
        rows.setdefault(scan.label or "(no label)", []).append(scan)
    return rows


def site_tables(table: ScanTable) -> list[SiteTable]:
    """Return the classes by each column that names a site or a machine, where it has between 2 and 30 values.

    Example:
        >>> from pathlib import Path
        >>> scans = tuple(
        ...     Scan(sample_id=str(n), patient_id=str(n), path=Path("x"), label="ab"[n % 2],
        ...          metadata={"scanner": "XY"[n % 2], "center_x_mm": "1"})
        ...     for n in range(8)
        ... )
        >>> [site] = site_tables(ScanTable(root=Path("."), scans=scans, classes=("a", "b"), source=""))
        >>> site.column, site.rows, site.association
        ('scanner', (('X', (4, 0)), ('Y', (0, 4))), 1.0)
    """
    columns = sorted({column for scan in table for column in scan.metadata if _SITE_COLUMN.search(column)})
    tables = [_site_table(table, column) for column in columns]
    return [site for site in tables if 2 <= len(site.rows) <= _MOST_SITES]


def _site_table(table: ScanTable, column: str) -> SiteTable:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for scan in table:
        if scan.label is not None:
            counts[scan.metadata.get(column, "").strip() or "(blank)"][scan.label] += 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    rows = tuple((value, tuple(labels[name] for name in table.classes)) for value, labels in ranked)
    return SiteTable(column=column, classes=table.classes, rows=rows, association=_cramers_v([row for _, row in rows]))


def _cramers_v(counts: Sequence[Sequence[int]]) -> float | None:
    """Return how strongly rows and columns go together, corrected for chance (Bergsma 2013)."""
    observed = np.array([row for row in counts if sum(row)], dtype=np.float64)
    observed = observed[:, observed.sum(axis=0) > 0] if observed.size else observed
    if observed.ndim != 2 or min(observed.shape) < 2:
        return None
    total = observed.sum()
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0, keepdims=True) / total
    rows, columns = observed.shape
    phi = float(((observed - expected) ** 2 / expected).sum() / total)
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (total - 1))
    size = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return round(min(1.0, (phi / size) ** 0.5), 2) if size > 0 else None
