"""Splits that come with the data: checked for patients on two sides, for identical scans and for near copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medres.data.table import Scan, ScanTable, Split
from medres.data.wording import counted, first_of
from medres.errors import DataError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitRows:
    """Rows of the given splits, sorted; copies of test scans are in none of them.

    Args:
        train: Everything, where no split was given.
        val: May be empty.
        test: May be empty.
        notes: Sentences for the user.
    """

    train: Rows
    val: Rows
    test: Rows
    notes: tuple[str, ...] = ()


def rows_of_given_splits(table: ScanTable, *, merge_val: bool) -> SplitRows:
    """Return the rows of each given split, without training scans that are copies of scored ones.

    Near copies are left out like identical ones: one training scan less after a false alarm (about one in a hundred,
    docs/concepts/leakage.md) costs little, a copy of a test scan in training costs the score its meaning.

    Args:
        table: With content hashes and groups of near duplicates.
        merge_val: Whether training and validation scans will be divided anew: copies between these two then stay.

    Raises:
        DataError: Splits are given in part, there is no training split, or splits share patients.
    """
    if not table.splits:
        return SplitRows(
            train=np.arange(len(table), dtype=np.int64), val=_rows(table, "val"), test=_rows(table, "test")
        )
    without = [scan.sample_id for scan in table if scan.split is None]
    if without:
        raise DataError(
            f"{len(without)} of {len(table)} scans are in no split: {first_of(without)}.",
            fix="Name a split for each of them, or for none.",
        )
    if "train" not in table.splits:
        raise DataError(
            f"The data has no train split, only {' and '.join(sorted(table.splits))}.",
            fix="Name the scans to train on with 'train' in the column 'split', or remove that column.",
        )
    _refuse_shared_patients(table)
    given = SplitRows(train=_rows(table, "train"), val=_rows(table, "val"), test=_rows(table, "test"))
    given = _without_copies(table, given, "test")
    return given if merge_val else _without_copies(table, given, "val")


def _rows(table: ScanTable, split: Split) -> Rows:
    return np.array([row for row, scan in enumerate(table) if scan.split == split], dtype=np.int64)


def _refuse_shared_patients(table: ScanTable) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for scan in table:
        splits[scan.patient_id].add(scan.split or "")
    shared = sorted(f"{patient} ({', '.join(sorted(where))})" for patient, where in splits.items() if len(where) > 1)
    if shared:
        raise DataError(
            f"{counted(len(shared), 'patient')} on two sides of the given splits: {first_of(shared)}.",
            fix="Keep each patient in one split, or remove the split column to have medres divide the patients.",
        )


def _without_copies(table: ScanTable, given: SplitRows, scored: Split) -> SplitRows:
    """Leave scans that are copies of those of a scored split out of the splits that learn."""
    scored_scans = [table.scans[row] for row in (given.test if scored == "test" else given.val)]
    for key, likeness in _LIKENESSES:
        copied = {key(scan) for scan in scored_scans} - {""}
        train = _unlike(table, given.train, key, copied)
        val = _unlike(table, given.val, key, copied) if scored == "test" else given.val
        left_out = len(given.train) - len(train) + len(given.val) - len(val)
        if left_out:
            found = counted(left_out, "training scan")
            note = f"{found} {likeness} scans of the {scored} split: left out of training, kept in {scored}."
            given = replace(given, train=train, val=val, notes=(*given.notes, note))
    return given


# in this order: what is identical is not counted as nearly so
_LIKENESSES: tuple[tuple[Callable[[Scan], str], str], ...] = (
    (lambda scan: scan.content_hash, "identical to"),
    (lambda scan: scan.alike, "nearly the same as"),
)


def _unlike(table: ScanTable, rows: Rows, key: Callable[[Scan], str], copied: set[str]) -> Rows:
    return np.array([row for row in rows if key(table.scans[row]) not in copied], dtype=np.int64)
