"""A table of labels (``labels.csv``): which file each row means, and what its other columns say."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medres.data.sources.columns import (
    MEMBER_COLUMN,
    PATH_COLUMNS,
    PATIENT_COLUMNS,
    SPLIT_COLUMN,
    find_column,
    ids_of,
    labels_of,
    require_column,
    splits_of,
)
from medres.data.sources.delimited import Row, TextTable, read_table
from medres.data.sources.draft import Draft, Options
from medres.data.sources.joining import join_files
from medres.data.sources.scan_files import absolute, relative_name, sample_ids, walk_scans
from medres.data.table import COLUMNS, Scan
from medres.data.wording import counted, first_of
from medres.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table that have a meaning.

    Args:
        label: Label.
        path: Path of the file, or None: rows are joined to files by an id.
        member: Image inside the file, or None.
        patient: Patient, or None.
        split: Given split, or None.
        unit: Unit of scoring, or None.
    """

    label: str
    path: str | None
    member: str | None
    patient: str | None
    split: str | None
    unit: str | None


@dataclass(frozen=True, kw_only=True)
class Match:
    """A row and a file that it labels."""

    row: int
    path: Path
    member: str | None = None
    patient_id: str = ""


def read_label_table(path: Path, *, root: Path, options: Options, search_root: bool) -> Draft:
    """Read a table of labels.

    Args:
        path: The table.
        root: Folder that its paths are relative to.
        options: Columns that the user named.
        search_root: Whether to look for scans below the root that the table does not name.

    Raises:
        DataError: Naming rows and files.
    """
    table = read_table(path)
    columns = _find_columns(table, options)
    matches = _matches(table, columns, root)
    scans = _scans(table, columns, matches, root)
    notes = table.notes + _column_notes(table, columns, options)
    if search_root:
        notes += _unnamed_files_note(root, table, matches)
    return Draft(root=root, source=path.name, scans=scans, notes=notes, unit_column=columns.unit)


def _find_columns(table: TextTable, options: Options) -> Columns:
    unit = options.unit_column
    return Columns(
        label=require_column(table, options.label_column, option="--label-column"),
        path=find_column(table, PATH_COLUMNS),
        member=find_column(table, [MEMBER_COLUMN]),
        patient=_patient_column(table, options),
        split=find_column(table, [SPLIT_COLUMN]),
        unit=require_column(table, unit, option="--unit-column") if unit else None,
    )


def _patient_column(table: TextTable, options: Options) -> str | None:
    if options.patient_column:
        return require_column(table, options.patient_column, option="--patient-column")
    return None if options.patient_pattern else find_column(table, PATIENT_COLUMNS)


def _matches(table: TextTable, columns: Columns, root: Path) -> list[Match]:
    if columns.path is None:
        files = walk_scans(root).scans
        joined = join_files(table, patient_column=columns.patient, files=files, root=root)
        return [Match(row=row, path=path, patient_id=patient) for row, path, patient in joined]
    members = [row.text(columns.member) or None if columns.member else None for row in table.rows]
    paths = existing_files(table, columns.path, root)
    matches = [Match(row=row, path=path, member=members[row]) for row, path in enumerate(paths)]
    _refuse_repeated(table, matches, root)
    return matches


def existing_files(table: TextTable, column: str, root: Path) -> list[Path]:
    """Return the file of every row, relative to the root or to the table's own folder.

    Raises:
        DataError: Cells are empty, or files do not exist.
    """
    blank = [row.number for row in table.rows if not row.text(column)]
    if blank:
        raise DataError(f"{table.path} has no '{column}' in row {first_of(blank)}.", fix="Fill it in.")
    found = [_find_file(row, column, (root, table.path.parent)) for row in table.rows]
    missing = [
        f"{row.text(column)} (row {row.number})" for row, path in zip(table.rows, found, strict=True) if not path
    ]
    if missing:
        raise DataError(
            f"{table.path} names {len(missing)} of {len(found)} files that do not exist: {first_of(missing)}.",
            fix=f"Correct the paths (they are relative to {root}), or leave these rows out.",
        )
    return [path for path in found if path is not None]


def _find_file(row: Row, column: str, folders: Sequence[Path]) -> Path | None:
    text = row.text(column)
    spellings = [text, text.replace("\\", "/"), row.cells[column]]
    # macOS writes accents as two characters, others as one: the same name on the screen, another on the disk
    spellings += [unicodedata.normalize(form, spelling) for form in ("NFC", "NFD") for spelling in spellings[:2]]
    candidates = (absolute(folder / spelling) for folder in folders for spelling in dict.fromkeys(spellings))
    return next((path for path in candidates if _is_file(path)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a cell that is no path: far too long, or with a null character
        return False


def _refuse_repeated(table: TextTable, matches: Sequence[Match], root: Path) -> None:
    rows: dict[tuple[Path, str | None], list[int]] = defaultdict(list)
    for match in matches:
        rows[match.path, match.member].append(table.rows[match.row].number)
    repeated = [
        f"{relative_name(path, root)} (rows {', '.join(map(str, numbers))})"
        for (path, _), numbers in rows.items()
        if len(numbers) > 1
    ]
    if repeated:
        raise DataError(
            f"{table.path} names {counted(len(repeated), 'file')} more than once: {first_of(repeated)}.",
            fix="Keep one row a file.",
        )


def _scans(table: TextTable, columns: Columns, matches: Sequence[Match], root: Path) -> tuple[Scan, ...]:
    labels = labels_of(table, columns.label)
    splits = splits_of(table, columns.split)
    patients = ids_of(table, columns.patient) if columns.patient else None
    units = ids_of(table, columns.unit) if columns.unit else None
    sample = sample_ids([(relative_name(match.path, root), match.member) for match in matches])
    scans = [
        Scan(
            sample_id=sample_id,
            patient_id=patients[match.row] if patients else match.patient_id,
            path=match.path,
            member=match.member,
            label=labels[match.row],
            split=splits[match.row],
            unit=units[match.row] if units else None,
            metadata=_metadata(table.rows[match.row], columns),
        )
        for sample_id, match in zip(sample, matches, strict=True)
    ]
    return tuple(scans)


def _metadata(row: Row, columns: Columns) -> dict[str, str]:
    used = {columns.label, columns.path, columns.member, columns.patient, columns.split, columns.unit}
    others = {name: cell.strip() for name, cell in row.cells.items() if name not in used}
    # scans.csv has columns of its own, which a column of the user's must not repeat
    return {f"given_{name}" if name in COLUMNS else name: cell for name, cell in others.items()}


def _column_notes(table: TextTable, columns: Columns, options: Options) -> tuple[str, ...]:
    notes = []
    if columns.patient and not options.patient_column:
        notes.append(f"Patients are taken from the column '{columns.patient}' of {table.path.name}.")
    if columns.split and not any(row.text(columns.split) for row in table.rows):
        notes.append(f"The column '{columns.split}' is empty: no split was given.")
    return tuple(notes)


def _unnamed_files_note(root: Path, table: TextTable, matches: Sequence[Match]) -> tuple[str, ...]:
    named = {match.path for match in matches}
    unnamed = [path for path in walk_scans(root).scans if path not in named]
    if not unnamed:
        return ()
    examples = first_of([relative_name(path, root) for path in unnamed], limit=3)
    return (f"{counted(len(unnamed), 'scan file')} not in {table.path.name} were left out: {examples}.",)
