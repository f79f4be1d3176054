"""Which column of a table means what, and what its cells may hold."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from medres.data.sources.delimited import Row, TextTable
from medres.data.table import Split
from medres.data.wording import first_of
from medres.errors import DataError

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path")
PATIENT_COLUMNS = ("patient_id", "patient", "subject", "subject_id", "participant_id")
SPLIT_COLUMN = "split"
MEMBER_COLUMN = "member"

_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# what programs write for a missing value; "none" and "na" may be classes
_MISSING = frozenset({"", "nan", "n/a", "#n/a", "null"})


def split_of(text: str) -> Split | None:
    """Return the split that a word means, or None.

    Example:
        >>> split_of("Validation"), split_of("fold1")
        ('val', None)
    """
    return _SPLITS.get(text.strip().lower())


def find_column(table: TextTable, names: Iterable[str]) -> str | None:
    """Return the first of ``names`` that the table has, in its own spelling; case does not matter."""
    for name in names:
        if name in table.columns:
            return name
        for column in table.columns:
            if column.lower() == name.lower():
                return column
    return None


def require_column(table: TextTable, name: str, *, option: str) -> str:
    """Return a column that the user named.

    Raises:
        DataError: The table has no such column; naming those that it has.
    """
    column = find_column(table, [name])
    if column is None:
        raise DataError(
            f"{table.path} has no column '{name}'; it has {', '.join(table.columns) or 'none'}.",
            fix=f"Name one of them with {option}.",
        )
    return column


def labels_of(table: TextTable, column: str) -> list[str]:
    """Return the label of every row.

    Raises:
        DataError: Labels are missing, or two differ by upper and lower case only.
    """
    labels = [row.text(column) for row in table.rows]
    missing = [row.number for row, label in zip(table.rows, labels, strict=True) if label.lower() in _MISSING]
    if missing:
        raise DataError(
            f"{table.path} has no label (column '{column}') in {len(missing)} of {len(labels)} rows: "
            f"row {first_of(missing)}.",
            fix="Fill them in, or leave these rows out.",
        )
    return labels


def ids_of(table: TextTable, column: str) -> list[str]:
    """Return ids as text: ``001`` is not ``1``, and blanks around an id never make two of them one in silence.

    Raises:
        DataError: Ids are missing, or two differ by the blanks around them only.
    """
    missing = [row.number for row in table.rows if not row.text(column)]
    if missing:
        raise DataError(
            f"{table.path} has no '{column}' in {len(missing)} of {len(table.rows)} rows: row {first_of(missing)}.",
            fix="Fill them in: a scan without an id cannot be kept on one side of a split.",
        )
    _refuse_blank_twins(table, column)
    return [row.text(column) for row in table.rows]


def lookalike_ids(ids: Iterable[str]) -> tuple[str, ...]:
    """Return a note where ids differ by leading zeros only (a spreadsheet may have dropped them), or nothing."""
    by_number: dict[str, set[str]] = defaultdict(set)
    for text in set(ids):
        if text.isdecimal():
            by_number[text.lstrip("0")].add(text)
    twins = sorted(sorted(group) for group in by_number.values() if len(group) > 1)
    pairs = [" and ".join(group) for group in twins]
    return (f"Patient ids that differ by leading zeros are different patients: {first_of(pairs, limit=3)}.",) * bool(
        pairs
    )


def splits_of(table: TextTable, column: str | None) -> list[Split | None]:
    """Return the given split of every row; all None where there is no column or it is empty.

    Raises:
        DataError: Some rows have a split and some have none, or a word means none.
    """
    if column is None or not any(row.text(column) for row in table.rows):
        return [None] * len(table.rows)
    unknown = [row for row in table.rows if split_of(row.text(column)) is None]
    blank = [row.number for row in unknown if not row.text(column)]
    if blank:
        raise DataError(
            f"{table.path} names a split in some rows and none in {len(blank)}: row {first_of(blank)}.",
            fix=f"Fill the column '{column}' in, or remove it to have medres divide the patients.",
        )
    if unknown:
        words = sorted({row.text(column) for row in unknown})
        raise DataError(
            f"{table.path} has unknown splits in row {first_of([row.number for row in unknown])}: {first_of(words)}.",
            fix=f"Use train, val and test in the column '{column}', or rename the column.",
        )
    return [split_of(row.text(column)) for row in table.rows]


def refuse_case_twins(labels: Iterable[str], *, source: str) -> None:
    """Refuse labels that differ by upper and lower case only: as good as surely one class, written in two ways.

    Raises:
        DataError: Naming them.
    """
    by_lower: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        by_lower[label.lower()].add(label)
    twins = sorted(" and ".join(sorted(group)) for group in by_lower.values() if len(group) > 1)
    if twins:
        raise DataError(f"{source} has labels that differ by case only: {first_of(twins)}.", fix="Write them one way.")


def sorted_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the different labels in sorted order: as numbers where all are whole numbers, else as text.

    Example:
        >>> sorted_classes(["10", "9", "10"]), sorted_classes(["b", "10", "a"])
        (('9', '10'), ('10', 'a', 'b'))
    """
    different = set(labels)
    if all(re.fullmatch(r"[+-]?\d+", label) for label in different):
        return tuple(sorted(different, key=lambda label: (int(label), label)))
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
    return [" and ".join(f"{text!r} (row {row.number})" for text, row in group) for group in twins]
