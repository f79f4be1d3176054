"""Folds: who trains, who chooses, who is scored. Patients, not files; and patients with copies of a scan are one.

What is held out together are the connected components of (patient, content hash, group of near copies): two files of
one patient, and two patients who share a scan or nearly so, never stand on two sides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.csgraph

from medres.data.allocation import Groups, allocate
from medres.data.given_splits import SplitRows, rows_of_given_splits
from medres.data.table import ScanTable
from medres.data.wording import counted, first_of
from medres.errors import DataError, UsageError

Rows = npt.NDArray[np.int64]

DEFAULT_FOLDS = 5

#: Share of the patients that `--folds 1` holds out.
SINGLE_SPLIT_SHARE = 0.2

_NO_ROWS: Rows = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """Rows of the table that one model trains on, chooses with and is scored on; sorted, no two share a row.

    Args:
        index: Number of the fold, from 0.
        train: Rows that it learns from.
        val: Rows of a given validation split, which training may look at; often empty.
        held_out: Rows that it is scored on, once, after training.
    """

    index: int
    train: Rows
    val: Rows
    held_out: Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Folding:
    """How a table is divided.

    Args:
        folds: One a model.
        test: Rows that no fold touches and the ensemble of all models is scored on; often empty.
        kind: Where the division comes from.
        notes: Sentences for the user.
    """

    folds: tuple[Fold, ...]
    test: Rows
    kind: Literal["cross-validation", "single-split", "given-split"]
    notes: tuple[str, ...] = ()

    @property
    def training(self) -> Rows:
        """Rows that any fold learns from or chooses with, each once: what a plan may be made of."""
        return np.unique(np.concatenate([rows for fold in self.folds for rows in (fold.train, fold.val)]))


def make_folds(table: ScanTable, *, num_folds: int | None, seed: int) -> Folding:
    """Divide a table into folds.

    =================  ===========================  ====================================================
    given splits       ``num_folds`` None (or 1)    ``num_folds`` K >= 2
    =================  ===========================  ====================================================
    none               5 folds (1: 80/20 split)     K folds
    train, test        5 folds (1: 80/20) in train  K folds in train; test scored by the ensemble
    train, val, test   one model; val chooses       K folds in train + val; test scored by the ensemble
    train, val         one model; val is held out   K folds in train + val
    =================  ===========================  ====================================================

    Folds are grouped by patient, identical scans and near copies, stratified by class, and depend on the seed and on
    the scans, not on their order. Every class is held out in every fold. Scans that are copies of a test scan are left
    out of training, never out of test; the notes say how many.

    Args:
        table: With labels; with content hashes and groups of near copies, or copies are not seen.
        num_folds: None: 5, or the given splits.
        seed: Of the division.

    Raises:
        DataError: Too few patients of a class, fewer than two classes, or given splits that share patients.
        UsageError: ``num_folds`` is smaller than 1.
    """
    _check(table, num_folds)
    merge = num_folds is not None and num_folds >= 2
    given = rows_of_given_splits(table, merge_val=merge)
    if len(given.val) and not merge:
        return _given_fold(table, given)
    rows = np.sort(np.concatenate([given.train, given.val]))
    notes = given.notes + (("The given train and val splits were merged for cross-validation.",) * bool(len(given.val)))
    if num_folds == 1:
        folds, kind = _single_split(table, rows, seed), "single-split"
    else:
        folds, kind = _cross_validation(table, rows, num_folds or DEFAULT_FOLDS, seed), "cross-validation"
    return Folding(folds=folds, test=given.test, kind=kind, notes=notes)  # type: ignore[arg-type]


def patient_groups(table: ScanTable) -> Rows:
    """Return the group of every scan: connected components of patient, content hash and near copies, ``(N,)``.

    Groups are numbered in the order of their smallest sample id. Empty hashes and empty `Scan.alike` connect nothing.

    Example:
        >>> from pathlib import Path; from medres.data.table import Scan
        >>> scans = [Scan(sample_id=s, patient_id=p, path=Path("x"), content_hash=h)
        ...          for s, p, h in (("1", "ann", "h1"), ("2", "bob", "h1"), ("3", "bob", "h2"), ("4", "eve", "h3"))]
        >>> patient_groups(ScanTable(root=Path("."), scans=tuple(scans), classes=(), source="")).tolist()
        [0, 0, 0, 1]
    """
    node_of: dict[tuple[str, str], int] = {}
    edges = [
        (row, len(table) + node_of.setdefault(node, len(node_of)))
        for row, scan in enumerate(table)
        for node in (("patient", scan.patient_id), ("hash", scan.content_hash), ("alike", scan.alike))
        if node[0] == "patient" or node[1]
    ]
    size = len(table) + len(node_of)
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = scipy.sparse.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    _, components = scipy.sparse.csgraph.connected_components(graph, directed=False)
    order = sorted(range(len(table)), key=lambda row: table.scans[row].sample_id)
    numbers: dict[int, int] = {}
    for row in order:
        numbers.setdefault(int(components[row]), len(numbers))
    return np.array([numbers[int(components[row])] for row in range(len(table))], dtype=np.int64)


def inner_split(table: ScanTable, indices: Rows, *, fraction: float = 0.2, seed: int) -> tuple[Rows, Rows]:
    """Divide training rows into training and validation by the laws of `make_folds`.

    Args:
        table: The whole table.
        indices: Rows to divide.
        fraction: Share of the scans that goes to validation.
        seed: Of the division.

    Returns:
        Rows of the table to train on, and to choose with; every class that occurs is in both.

    Raises:
        DataError: A class has a single patient.
    """
    groups, rows_of_group = _groups(table, np.asarray(indices, dtype=np.int64))
    parts = allocate(groups, shares=(1 - fraction, fraction), seed=seed)
    if parts is None:
        raise _too_few(table, groups, num_parts=2, rule="Holding out a part of the training scans needs", seed=seed)
    train, val = (_rows_in(rows_of_group, parts, part) for part in (0, 1))
    return train, val


def _check(table: ScanTable, num_folds: int | None) -> None:
    if num_folds is not None and num_folds < 1:
        raise UsageError(f"--folds {num_folds} is less than 1.", fix="Use --folds 5, or --folds 1 for a single split.")
    if len(table.classes) < 2:
        raise DataError(
            f"Folds need two classes; the data has {counted(len(table.classes), 'class', 'classes')}.",
            fix="Add scans of another class.",
        )
    unlabelled = [scan.sample_id for scan in table if scan.label not in table.classes]
    if unlabelled:
        raise DataError(
            f"{counted(len(unlabelled), 'scan')} without a label: {first_of(unlabelled)}.", fix="Label them."
        )


def _given_fold(table: ScanTable, given: SplitRows) -> Folding:
    """Return the one model of a given validation split: it chooses where there is a test split, else it is scored."""
    held_out, val = (given.test, given.val) if len(given.test) else (given.val, _NO_ROWS)
    fold = Fold(index=0, train=given.train, val=val, held_out=held_out)
    absent = _absent_classes(table, given.train)
    if absent:
        raise DataError(
            f"The train split has no scan of {first_of(absent)}.", fix="Correct the splits, or add training scans."
        )
    notes = tuple(
        f"The given {name} split has no scan of {first_of(missing)}."
        for name, rows in (("val", given.val), ("test", given.test))
        if len(rows) and (missing := _absent_classes(table, rows))
    )
    return Folding(folds=(fold,), test=_NO_ROWS, kind="given-split", notes=given.notes + notes)


def _absent_classes(table: ScanTable, rows: Rows) -> list[str]:
    present = set(table.class_indices[rows].tolist())
    return [f"'{label}'" for index, label in enumerate(table.classes) if index not in present]


def _single_split(table: ScanTable, rows: Rows, seed: int) -> tuple[Fold, ...]:
    groups, rows_of_group = _groups(table, rows)
    parts = None
    if groups.counts.any(axis=0).all():
        parts = allocate(groups, shares=(1 - SINGLE_SPLIT_SHARE, SINGLE_SPLIT_SHARE), seed=seed)
    if parts is None:
        raise _too_few(table, groups, num_parts=2, rule="A single split needs", seed=seed)
    return (
        Fold(
            index=0,
            train=_rows_in(rows_of_group, parts, 0),
            val=_NO_ROWS,
            held_out=_rows_in(rows_of_group, parts, 1),
        ),
    )


def _cross_validation(table: ScanTable, rows: Rows, num_folds: int, seed: int) -> tuple[Fold, ...]:
    groups, rows_of_group = _groups(table, rows)
    parts = _equal_parts(groups, num_folds, seed)
    if parts is None:
        raise _too_few(table, groups, num_parts=num_folds, rule=f"{num_folds} folds need", seed=seed)
    held_out = [_rows_in(rows_of_group, parts, part) for part in range(num_folds)]
    return tuple(
        Fold(index=index, train=np.setdiff1d(rows, part), val=_NO_ROWS, held_out=part)
        for index, part in enumerate(held_out)
    )


def _equal_parts(groups: Groups, num_parts: int, seed: int) -> Rows | None:
    if not groups.counts.any(axis=0).all():
        return None
    return allocate(groups, shares=(1 / num_parts,) * num_parts, seed=seed)


def _groups(table: ScanTable, rows: Rows) -> tuple[Groups, list[Rows]]:
    """Return the groups among some rows, and the rows of each."""
    subset = table.subset(rows)
    group_of_row = patient_groups(subset)
    num_groups = int(group_of_row.max(initial=-1)) + 1
    counts = np.zeros((num_groups, len(table.classes)), dtype=np.int64)
    np.add.at(counts, (group_of_row, subset.class_indices), 1)
    members: dict[int, list[int]] = defaultdict(list)
    for position, group in enumerate(group_of_row):
        members[int(group)].append(position)
    keys = tuple(min(subset.scans[position].sample_id for position in members[group]) for group in range(num_groups))
    return Groups(keys=keys, counts=counts), [rows[members[group]] for group in range(num_groups)]


def _rows_in(rows_of_group: Sequence[Rows], parts: Rows, part: int) -> Rows:
    chosen = [rows for rows, group_part in zip(rows_of_group, parts, strict=True) if group_part == part]
    return np.sort(np.concatenate(chosen)) if chosen else _NO_ROWS


def _too_few(table: ScanTable, groups: Groups, *, num_parts: int, rule: str, seed: int) -> DataError:
    numbers = dict(zip(table.classes, groups.num_with_class().tolist(), strict=True))
    patients = "patients" if table.patients_given else "scans"
    scarce = [f"'{label}' has {number}" for label, number in numbers.items() if number < num_parts]
    if scarce:
        copies = "near copies or identical scans" if any(scan.alike for scan in table) else "identical scans"
        identical = f"{patients} with {copies} count as one"
        problem = f"{rule} {num_parts} {patients} of every class ({identical}); {first_of(scarce)}."
    else:
        problem = f"{rule} {num_parts} {patients} of every class that do not share scans of several classes."
    largest = min(num_parts - 1, *numbers.values())
    works = next((k for k in range(largest, 1, -1) if _equal_parts(groups, k, seed) is not None), None)
    fix = f"Use --folds {works}, the most that works, or add {patients}." if works else f"Add {patients} of that class."
    if all(number < 2 for number in numbers.values()):  # a folder a patient, taken for a folder a class
        by_folder = table.source.startswith("class folders")
        fix += (
            " If the folders are patients and not classes, give their labels in a table (--labels)."
            if by_folder
            else " A number is no class: group it, or name another column with --label-column."
        )
    return DataError(problem, fix=fix)
