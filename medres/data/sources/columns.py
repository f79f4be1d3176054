"""Which column of a table means what, and what its cells may hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

from medres.data.missing_words import is_missing
from medres.data.sources.delimited import Row, TextTable
from medres.data.spelling import lookalike_key, quoted_apart, spelling_key
from medres.data.table import Split
from medres.data.wording import first_of
from medres.errors import DataError

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path")
PATIENT_COLUMNS = ("patient_id", "patient", "subject", "subject_id", "participant_id", "participant", "mrn")
SPLIT_COLUMN = "split"
MEMBER_COLUMN = "member"
MASK_COLUMN = "mask"
CENTER_COLUMNS = ("center_x_mm", "center_y_mm", "center_z_mm")

_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_of(text: str) -> Split | None:
    """Return the split that a word means, or None.

    Example:
        >>> split_of("Validation"), split_of("fold1")
        ('val', None)
    """
    return _SPLITS.get(lookalike_key(text))


def find_column(table: TextTable, names: Iterable[str]) -> str | None:
    """Return the first of ``names`` that the table has, in its own spelling; case and ``_`` do not matter.

    ``Patient ID`` and ``PatientID`` are ``patient_id``.
    """
    for name in names:
        if name in table.columns:
            return name
        for column in table.columns:
            if _column_key(column) == _column_key(name):
                return column
    return None


def _column_key(name: str) -> str:
    return re.sub(r"[\s_.-]+", "", spelling_key(name)).casefold()


def require_column(table: TextTable, name: str, *, option: str) -> str:
    """Return a column that the user named.

    Raises:
        DataError: The table has no such column; naming those that it has.
    """
    column = find_column(table, [name])
    alike = [other for other in table.columns if _column_key(other) == _column_key(name)]
    if len(alike) > 1 and name not in alike:
        names = " and ".join(quoted_apart(alike))
        raise DataError(f"{table.path} has two columns that may be '{name}': {names}.", fix=f"Name one with {option}.")
    if column is None:
        raise DataError(
            f"{table.path} has no column '{name}'; it has {', '.join(table.columns) or 'none'}.",
            fix=f"Name one of them with {option}.",
        )
    return column


def labels_of(table: TextTable, column: str) -> list[str | None]:
    """Return the label of every row; None where it is blank or a program's word for a missing value."""
    labels = [row.text(column) for row in table.rows]
    return [None if is_missing(label) else label for label in labels]


def ids_of(table: TextTable, column: str) -> list[str]:
    """Return ids as text, empty where there is none: ``001`` is not ``1``, and blanks never join two in silence.

    Raises:
        DataError: Two ids differ by the blanks around them only.
    """
    _refuse_blank_twins(table, column)
    ids = [row.text(column) for row in table.rows]
    return ["" if is_missing(text) else text for text in ids]


def units_of(table: TextTable, column: str) -> list[str]:
    """Return the unit of every row.

    Raises:
        DataError: Units are missing, or two differ by the blanks around them only.
    """
    units = ids_of(table, column)
    missing = [row.name for row, unit in zip(table.rows, units, strict=True) if not unit]
    if missing:
        raise DataError(
            f"{table.path} has no '{column}' in {len(missing)} of {len(table.rows)} rows: row {first_of(missing)}.",
            fix="Fill them in: a scan without a unit cannot be scored with its like.",
        )
    return units


def splits_of(table: TextTable, column: str | None) -> list[Split | None]:
    """Return the given split of every row; all None where there is no column or it is empty.

    Raises:
        DataError: Some rows have a split and some have none, or a word means none.
    """
    if column is None or all(is_missing(row.text(column)) for row in table.rows):
        return [None] * len(table.rows)
    unknown = [row for row in table.rows if split_of(row.text(column)) is None]
    blank = [row.name for row in unknown if is_missing(row.text(column))]
    if blank:
        raise DataError(
            f"{table.path} names a split in some rows and none in {len(blank)}: row {first_of(blank)}.",
            fix=f"Fill the column '{column}' in, or remove it to have medres divide the patients.",
        )
    if unknown:
        words = sorted({row.text(column) for row in unknown})
        raise DataError(
            f"{table.path} has unknown splits in row {first_of([row.name for row in unknown])}: {first_of(words)}.",
            fix=f"Use train, val and test in the column '{column}', or rename the column.",
        )
    return [split_of(row.text(column)) for row in table.rows]


def sorted_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the different labels in sorted order: as numbers where all are whole numbers, else as text.

    Example:
        >>> sorted_classes(["10", "9", "10"]), sorted_classes(["b", "10", "a"])
        (('9', '10'), ('10', 'a', 'b'))
    """
    different = set(labels)
    if all(re.fullmatch(r"[+-]?\d+", label) for label in different):
        return tuple(sorted(different, key=lambda label: (Decimal(label), label)))
    return tuple(sorted(different))


def _refuse_blank_twins(table: TextTable, column: str) -> None:
    written: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in table.rows:
        written[row.text(column)].setdefault(row.cells[column], row)
    twins = [list(variants.items()) for variants in written.values() if len(variants) > 1]
    if twins:
        raise DataError(
            f"{table.path} has ids in '{column}' that differ by blanks only: {first_of(_variants(twins), limit=5)}.",
            fix="Write each id one way: they may be one patient or two.",
        )


def _variants(twins: Sequence[Sequence[tuple[str, Row]]]) -> list[str]:
    return [" and ".join(f"{text!r} (row {row.name})" for text, row in group) for group in twins]
