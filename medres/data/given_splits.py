"""Splits that come with the data: checked for patients on two sides, and for identical scans."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medres.data.table import ScanTable, Split
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
    """Return the rows of each given split, without training scans that are identical to scored ones.

    Args:
        table: With content hashes.
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
    """Leave scans that are identical to those of a scored split out of the splits that learn."""
    scored_rows = given.test if scored == "test" else given.val
    hashes = {table.scans[row].content_hash for row in scored_rows} - {""}
    train, num_train = _dropped(table, given.train, hashes)
    val, num_val = _dropped(table, given.val, hashes) if scored == "test" else (given.val, 0)
    if not num_train + num_val:
        return given
    found = counted(num_train + num_val, "training scan")
    note = f"{found} identical to scans of the {scored} split: left out of training, kept in {scored}."
    return replace(given, train=train, val=val, notes=(*given.notes, note))


def _dropped(table: ScanTable, rows: Rows, hashes: set[str]) -> tuple[Rows, int]:
    kept = np.array([row for row in rows if table.scans[row].content_hash not in hashes], dtype=np.int64)
    return kept, len(rows) - len(kept)
