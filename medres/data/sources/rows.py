"""From rows and the scans that they label to `Scan`: what is repeated, contradicts itself or lacks something."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from medres.data.findings import Finding
from medres.data.sources.columns import ids_of, labels_of, splits_of, units_of
from medres.data.sources.delimited import Row, TextTable
from medres.data.sources.items import Item, ids_of_items, numbered_ids
from medres.data.sources.problems import found
from medres.data.sources.regions import center_of
from medres.data.sources.scan_files import relative_name
from medres.data.sources.table_columns import Columns
from medres.data.table import RESERVED_COLUMNS, Scan

#: Code, what is wrong (the end of a sentence about the row), what to do.
Problem: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A row and a scan that it labels.

    Args:
        position: Of the row in its table.
        item: The scan.
        patient_id: Patient that the row names by a folder, or empty.
        sequences: Images that become channels.
        mask: Image of the region of interest.
        problems: What is wrong so far.
        metadata: Beside that of the row.
    """

    position: int
    item: Item
    patient_id: str = ""
    sequences: Mapping[str, Path] = field(default_factory=dict)
    mask: Path | None = None
    problems: tuple[Problem, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Scans of a table.

    Args:
        scans: With ids.
        findings: About them.
        headers: By sample id, the patient that the DICOM header names.
    """

    scans: tuple[Scan, ...]
    findings: tuple[Finding, ...]
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RowScan:
    """A scan of one row of a table that is to be predicted.

    Args:
        row: What messages call the row.
        scan: With an id; equal scans have equal ids.
        findings: About it.
    """

    row: str
    scan: Scan
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One row of the result, before it has an id."""

    row: Row
    item: Item
    scan: Scan
    name: str  # path below the root: several scans may be called ct.nii.gz
    problems: tuple[Problem, ...] = ()

    @property
    def source(self) -> object:
        """Equal for rows about the same voxels."""
        return (self.item.key, tuple(self.scan.sequences.items()))

    @property
    def region(self) -> tuple[str, ...]:
        """Equal for rows about the same part of them."""
        center = self.scan.center_ras_mm
        return (self.scan.unit or "", "" if center is None else repr(center), str(self.scan.mask or ""))

    def with_problem(self, *problem: str) -> _Entry:
        """Return the same with one more problem."""
        code, text, fix = problem
        return replace(self, problems=(*self.problems, (code, text, fix)))

    @property
    def order(self) -> tuple[object, ...]:
        """Decides which of two equal rows stays, whatever their order."""
        cells = tuple(sorted((name, cell.strip()) for name, cell in self.row.cells.items()))
        return (*self.region, self.scan.label or "", cells)


def label_scans(table: TextTable, columns: Columns, matches: Sequence[Match], root: Path) -> Labelled:
    """Return the scans of the rows; several rows of one file are several lesions, or one row too many.

    Raises:
        DataError: Units or splits are named in part, or ids differ by blanks only.
    """
    entries = _entries(table, columns, matches, root)
    by_source: dict[object, list[_Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry.order):
        by_source[entry.source].append(entry)
    merged = [_merged(group, table.path.name) for group in by_source.values()]
    ids = ids_of_items([group[0].item for group in merged], root)
    pairs = [pair for name, group in zip(ids, merged, strict=True) for pair in _with_ids(name, group)]
    # the id of a lesion (a#1) may be the name of a file
    named = list(zip(numbered_ids([name for name, _ in pairs]), (entry for _, entry in pairs), strict=True))
    scans = tuple(replace(entry.scan, sample_id=sample_id) for sample_id, entry in named)
    return Labelled(
        scans=scans,
        findings=tuple(finding for sample_id, entry in named for finding in _findings(sample_id, entry)),
        headers={sample_id: entry.item.header_id for sample_id, entry in named if entry.item.header_id},
    )


def scans_of_rows(table: TextTable, columns: Columns, matches: Sequence[Match], root: Path) -> list[RowScan]:
    """Return the scans of the rows in their order, none merged; labels, patients and splits are not looked at."""
    columns = replace(columns, label=None, patient=None, split=None, unit=None)
    entries = _entries(table, columns, matches, root)
    names = _names_of_regions(entries, root)
    return [
        RowScan(
            row=entry.row.name,
            scan=replace(entry.scan, sample_id=names[entry.source, entry.region]),
            findings=tuple(_findings(names[entry.source, entry.region], entry)),
        )
        for entry in entries
    ]


def _names_of_regions(entries: Sequence[_Entry], root: Path) -> dict[tuple[object, tuple[str, ...]], str]:
    """Return the ids that training gives: that of the file, numbered where several regions of it are looked at."""
    by_source: dict[object, dict[tuple[str, ...], _Entry]] = defaultdict(dict)
    for entry in sorted(entries, key=lambda entry: entry.order):
        by_source[entry.source].setdefault(entry.region, entry)
    groups = [list(regions.values()) for regions in by_source.values()]
    ids = ids_of_items([group[0].item for group in groups], root)
    pairs = [pair for name, group in zip(ids, groups, strict=True) for pair in _with_ids(name, group)]
    numbered = numbered_ids([name for name, _ in pairs])
    return {(entry.source, entry.region): name for name, (_, entry) in zip(numbered, pairs, strict=True)}


def _entries(table: TextTable, columns: Columns, matches: Sequence[Match], root: Path) -> list[_Entry]:
    labels = labels_of(table, columns.label) if columns.label else [None] * len(table.rows)
    splits = splits_of(table, columns.split)
    patients = ids_of(table, columns.patient) if columns.patient else [""] * len(table.rows)
    units = units_of(table, columns.unit) if columns.unit else None
    some = any(patients)
    entries = []
    for match in matches:
        row, at = table.rows[match.position], match.position
        center, wrong = center_of(table, row, columns.center)
        scan = replace(
            match.item.scan(""), patient_id=_patient(match, columns, patients[at]), label=labels[at], split=splits[at],
            unit=units[at] if units else None, sequences=match.sequences, mask=match.mask, center_ras_mm=center,
            metadata={**_metadata(row, columns), **match.metadata},
        )  # fmt: skip
        problems = (*match.problems, *_problems_of(table, columns, row, scan, wrong, some_patients=some))
        name = relative_name(scan.path, root)
        told = tuple(
            (code, f"{table.path.name}, row {row.name} ({name}): {text}.", fix) for code, text, fix in problems
        )
        entries.append(_Entry(row=row, item=match.item, scan=scan, name=name, problems=told))
    return entries


def _patient(match: Match, columns: Columns, named: str) -> str:
    if columns.patient:
        return named or match.patient_id
    return match.patient_id or match.item.patient_id


def _problems_of(
    table: TextTable, columns: Columns, row: Row, scan: Scan, wrong_center: str, *, some_patients: bool
) -> list[Problem]:
    problems: list[Problem] = []
    if columns.label and scan.label is None:
        problems.append(("label-missing", f"no label in '{columns.label}'", "Fill it in, or leave this row out."))
    if columns.patient and not scan.patient_id and some_patients:
        fix = "Fill it in: a scan without an id cannot be kept on one side of a split."
        problems.append(("patient-missing", f"no patient in '{columns.patient}'", fix))
    if wrong_center:
        comma = "with a decimal point" if table.delimiter == "," else "as 12.5 or 12,5"
        problems.append(("roi-unknown", wrong_center, f"Write millimetres {comma}."))
    return problems


def _metadata(row: Row, columns: Columns) -> dict[str, str]:
    others = {name: cell.strip() for name, cell in row.cells.items() if name not in columns.used}
    # scans.csv has columns of its own, which a column of the user's must not repeat
    return {
        f"given_{name}" if name in RESERVED_COLUMNS or name.startswith("path_") else name: cell
        for name, cell in others.items()
    }


def _merged(group: Sequence[_Entry], table: str) -> list[_Entry]:
    """Return the rows of one scan, one a region of interest."""
    by_region: dict[tuple[str, ...], list[_Entry]] = defaultdict(list)
    for entry in group:
        by_region[entry.region].append(entry)
    kept = [_one_of(rows, table) for rows in by_region.values()]
    patients = sorted({entry.scan.patient_id for entry in group})
    if len(patients) > 1:
        text = f"{_place(group, table)} is of the patients {' and '.join(map(repr, patients))}."
        kept[0] = kept[0].with_problem("rows-contradict", text, "A scan is of one patient: correct the table.")
    return kept


def _one_of(rows: Sequence[_Entry], table: str) -> _Entry:
    """Return one row for several about the same region, saying in what they contradict each other."""
    first, where = rows[0], _place(rows, table)
    labels = sorted({entry.scan.label for entry in rows if entry.scan.label})
    splits = sorted({entry.scan.split or "no split" for entry in rows})
    if len(labels) > 1:
        unlabelled = replace(first, scan=replace(first.scan, label=None))
        text = f"{where} has the labels {' and '.join(map(repr, labels))}."
        return unlabelled.with_problem("label-conflict", text, "Keep the row that is right.")
    if len(splits) > 1:
        return first.with_problem("rows-contradict", f"{where} is in {' and '.join(splits)}.", "Keep one of them.")
    if len(rows) > 1:
        text = f"{where} is listed {len(rows)} times; one row was kept."
        fix = "Keep one row a scan; rows about different lesions need a mask, a centre or a --unit-column."
        best = next((entry for entry in rows if entry.scan.label), first)
        return best.with_problem("file-repeated", text, fix)
    return first


def _place(rows: Sequence[_Entry], table: str) -> str:
    names = [entry.row.name for entry in sorted(rows, key=lambda entry: entry.row.number)]
    return f"{table}, rows {', '.join(dict.fromkeys(names))}: {rows[0].name}"


def _with_ids(name: str, group: Sequence[_Entry]) -> list[tuple[str, _Entry]]:
    """Return ids: the name, with the unit behind it (or a number) where several regions are looked at."""
    if len(group) == 1:
        return [(name, group[0])]
    units = [re.sub(r"\s+", "_", entry.scan.unit or "") for entry in group]
    unique = len(set(units)) == len(units) and all(units)
    ids = [f"{name}#{unit}" for unit in units] if unique else numbered_ids([name] * len(group))
    return list(zip(ids, group, strict=True))


def _findings(sample_id: str, entry: _Entry) -> list[Finding]:
    own = [found(code, text, fix=fix, sample_id=sample_id, file=entry.scan.path) for code, text, fix in entry.problems]
    return [*own, *entry.item.findings(sample_id)]
