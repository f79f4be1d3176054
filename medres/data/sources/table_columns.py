"""`Columns`: which columns of a table have a meaning, by name, by option, or by what their cells hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from medres.data.missing_words import is_blank, is_missing
from medres.data.readers.formats import scan_suffix
from medres.data.sources.columns import (
    MASK_COLUMN,
    MEMBER_COLUMN,
    PATH_COLUMNS,
    PATIENT_COLUMNS,
    SPLIT_COLUMN,
    find_column,
    require_column,
)
from medres.data.sources.delimited import Row, TextTable
from medres.data.sources.draft import Options
from medres.data.sources.regions import center_columns
from medres.data.spelling import quoted_apart
from medres.data.table import COLUMNS, RESERVED_COLUMNS
from medres.data.wording import first_of
from medres.errors import DataError, UsageError

#: How ``scans.csv`` calls the columns of sequences.
SEQUENCE_PREFIX = "path_"

#: Whether the cell of a row names a file that exists.
NamesFile = Callable[[Row, str], bool]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table that have a meaning.

    Args:
        label: Label, or None: the scans are not labelled.
        path: Path of the file, or None: rows are joined to files by an id, or name `sequences`.
        member: Image inside the file, or None.
        patient: Patient, or None.
        split: Given split, or None.
        unit: Unit of scoring, or None.
        sequences: Columns of images that become channels, by the name of the channel.
        mask: Image of the region of interest, or None.
        center: Its centre, or None.
        made: Columns that medres wrote itself and makes anew.
        notes: What was decided, for the user.
    """

    label: str | None = None
    path: str | None = None
    member: str | None = None
    patient: str | None = None
    split: str | None = None
    unit: str | None = None
    sequences: Mapping[str, str] = field(default_factory=dict)
    mask: str | None = None
    center: tuple[str, str, str] | None = None
    made: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> frozenset[str]:
        """All of them; the others are metadata."""
        single = {self.label, self.path, self.member, self.patient, self.split, self.unit, self.mask}
        named = {name for name in single if name}
        return frozenset({*named, *self.sequences.values(), *(self.center or ()), *self.made})


def find_columns(table: TextTable, options: Options, names_file: NamesFile, *, labelled: bool = True) -> Columns:
    """Return the columns that have a meaning.

    Args:
        table: The table.
        options: Columns that the user named.
        names_file: Tells whether a cell names a file.
        labelled: Whether there must be labels.

    Raises:
        DataError: A column that the user named is not there.
    """
    own = all(find_column(table, [name]) for name in COLUMNS)
    fixed = Columns(
        label=require_column(table, options.label_column, option="--label-column") if labelled else None,
        member=find_column(table, [MEMBER_COLUMN]),
        patient=_patient_column(table, options),
        split=find_column(table, [SPLIT_COLUMN]) if labelled else None,
        unit=_unit_column(table, options, own=own) if labelled else None,
        mask=_mask_column(table, options, names_file),
        center=center_columns(table),
        made=tuple(name for name in table.columns if own and name in RESERVED_COLUMNS),
    )
    return _with_images(table, options, names_file, fixed, own=own)


def _with_images(table: TextTable, options: Options, names_file: NamesFile, fixed: Columns, *, own: bool) -> Columns:
    path = find_column(table, PATH_COLUMNS)
    images = [name for name in _image_columns(table, names_file) if name not in fixed.used and name != path]
    notes: tuple[str, ...] = ()
    sequences: dict[str, str] = {}
    made = fixed.made
    if options.sequences:
        sequences = {name: _sequence_column(table, name) for name in options.sequences}
        _refuse_one_column_twice(sequences)
    elif own and any(name.startswith(SEQUENCE_PREFIX) for name in images):
        sequences = {name.removeprefix(SEQUENCE_PREFIX): name for name in images if name.startswith(SEQUENCE_PREFIX)}
    elif path is None and len(images) > 1:
        sequences = {name: name for name in images}
        notes = (f"The columns {', '.join(images)} name images: they become the channels of one scan.",)
    elif path is None and images:
        path = images[0]
        notes = (f"Paths are taken from the column '{path}'.",)
    elif images:
        names = ",".join([path or "", *images])
        notes = (f"{first_of(images)} name images as well; to read them as channels give --sequences {names}.",)
    if sequences and path and own:
        made = (*made, path)
    return Columns(
        label=fixed.label, path=None if sequences else path, member=fixed.member, patient=fixed.patient,
        split=fixed.split, unit=fixed.unit, sequences=sequences, mask=fixed.mask, center=fixed.center, made=made,
        notes=notes + _notes(table, fixed, options),
    )  # fmt: skip


def _patient_column(table: TextTable, options: Options) -> str | None:
    if options.patient_column:
        return require_column(table, options.patient_column, option="--patient-column")
    column = None if options.patient_pattern else find_column(table, PATIENT_COLUMNS)
    return column if column and not all(is_missing(row.text(column)) for row in table.rows) else None


def _unit_column(table: TextTable, options: Options, *, own: bool) -> str | None:
    if options.unit_column:
        return require_column(table, options.unit_column, option="--unit-column")
    column = find_column(table, ["unit"]) if own else None
    return column if column and not all(is_missing(row.text(column)) for row in table.rows) else None


def _mask_column(table: TextTable, options: Options, names_file: NamesFile) -> str | None:
    if options.mask_column:
        return require_column(table, options.mask_column, option="--mask-column")
    column = find_column(table, [MASK_COLUMN])
    # a column 'mask' may hold yes and no
    return column if column and any(names_file(row, column) for row in table.rows) else None


def _image_columns(table: TextTable, names_file: NamesFile) -> list[str]:
    """Return the columns whose cells all look like files of scans (or are blank), and of which one exists."""
    found = []
    for column in table.columns:
        cells = [row for row in table.rows if not is_blank(row.text(column))]
        alike = bool(cells) and all(_looks_like_image(row.text(column)) for row in cells)
        if alike and any(names_file(row, column) for row in cells):
            found.append(column)
    return found


def _looks_like_image(text: str) -> bool:
    return bool(scan_suffix(PurePosixPath(text.replace("\\", "/"))))


def _sequence_column(table: TextTable, name: str) -> str:
    column = find_column(table, _spellings(name))
    if column is None:
        raise DataError(
            f"{table.path} has no column '{name}' (--sequences); it has {', '.join(table.columns)}.",
            fix="Name the columns of images that become channels.",
        )
    return column


def _refuse_one_column_twice(sequences: Mapping[str, str]) -> None:
    for column in sequences.values():
        names = [name for name, other in sequences.items() if other == column]
        if len(names) > 1:
            raise UsageError(
                f"--sequences {' and '.join(quoted_apart(names))} name one column, '{column}'.", fix="Name each once."
            )


def _spellings(name: str) -> Iterable[str]:
    return (name, f"{SEQUENCE_PREFIX}{name}", f"image_{name}")


def _notes(table: TextTable, columns: Columns, options: Options) -> tuple[str, ...]:
    notes = []
    if columns.patient and not options.patient_column:
        notes.append(f"Patients are taken from the column '{columns.patient}' of {table.path.name}.")
    if columns.split and all(is_missing(row.text(columns.split)) for row in table.rows):
        notes.append(f"The column '{columns.split}' is empty: no split was given.")
    if columns.unit and not options.unit_column:
        notes.append(f"Units of scoring are taken from the column '{columns.unit}' of {table.path.name}.")
    if columns.mask:
        notes.append(f"Regions of interest are taken from the masks in the column '{columns.mask}'.")
    if columns.center:
        notes.append(f"Regions of interest are taken from the columns {', '.join(columns.center)}.")
    return tuple(notes)
