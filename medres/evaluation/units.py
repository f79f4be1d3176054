"""What is scored: predictions of scans, checked, and averaged where several scans are scored as one unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from medres.errors import DataError
from medres.evaluation.operating_point import OperatingPoint

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: Rows of single-precision softmax miss 1 by 1e-6; a row that misses by more than this is no distribution.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Predictions of U units that can be scored.

    Args:
        probabilities: ``(U, K)``.
        class_indices: ``(U,)``.
        decisions: Class index at the operating point, ``(U,)``.
        patients: Patient of each unit as a number from 0, ``(U,)``.
    """

    probabilities: Floats
    class_indices: Indices
    decisions: Indices
    patients: Indices


def predictions_of(
    probabilities: npt.ArrayLike,
    class_indices: npt.ArrayLike,
    *,
    classes: Sequence[str],
    patients: Sequence[str],
    units: Sequence[str] | None,
    priors: npt.ArrayLike | None,
) -> Predictions:
    """Check predictions of N scans and average them by unit; arguments as for `evaluate_predictions`.

    Raises:
        DataError: Lengths differ, a probability or a label is out of range, a unit has two labels or two patients.
    """
    rows = _checked_probabilities(probabilities, classes)
    labels = _checked_labels(class_indices, rows)
    _require_length(patients, rows, what="patients")
    points = _checked_priors(priors, rows)
    names = range(len(rows)) if units is None else units
    _require_length(names, rows, what="units")
    first, numbers = _first_and_number(names)
    _require_one(labels, numbers, names, what="label")
    _require_one(numbered(patients), numbers, names, what="patient")
    means = _means(rows, numbers)
    return Predictions(
        probabilities=means,
        class_indices=labels[first],
        decisions=_decide(means, _means(points, numbers)),
        patients=numbered([patients[index] for index in first]),
    )


def numbered(names: Sequence[str]) -> Indices:
    """Return the place of each name among the sorted different names, ``(N,)``.

    Example:
        >>> numbered(["b", "a", "b"]).tolist()
        [1, 0, 1]
    """
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def _decide(probabilities: Floats, priors: Floats) -> Indices:
    decisions = np.empty(len(probabilities), dtype=np.int64)
    for point in np.unique(priors, axis=0):
        rows = (priors == point).all(axis=1)
        decisions[rows] = OperatingPoint(priors=tuple(point.tolist())).decide(probabilities[rows])
    return decisions


def _first_and_number(units: Sequence[str] | range) -> tuple[Indices, Indices]:
    """Return the first row of each unit, and the unit's number of each row."""
    _, first, numbers = np.unique(np.asarray(units), return_index=True, return_inverse=True)
    return first.astype(np.int64), numbers.astype(np.int64)


def _means(rows: Floats, numbers: Indices) -> Floats:
    """Return the mean row of each unit; of a unit of one row, that row to the last bit."""
    sums = np.zeros((int(numbers.max()) + 1, rows.shape[1]))
    np.add.at(sums, numbers, rows)
    return np.asarray(sums / np.bincount(numbers)[:, None], dtype=np.float64)


def _checked_probabilities(probabilities: npt.ArrayLike, classes: Sequence[str]) -> Floats:
    rows = np.asarray(probabilities, dtype=np.float64)
    if len(classes) < 2 or len(set(classes)) != len(classes):
        _refuse(f"The classes are {list(classes)}; at least two different ones are needed.")
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != len(classes):
        _refuse(f"Probabilities have the shape {rows.shape}; (N, {len(classes)}) with N >= 1 is needed.")
    wrong = ~np.isfinite(rows).all(axis=1)
    wrong |= (rows < 0).any(axis=1) | (abs(rows.sum(axis=1) - 1) > _SUM_TOLERANCE)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        _refuse(f"Row {row} of the probabilities is {rows[row].tolist()}; it must lie between 0 and 1 and sum to 1.")
    return rows


def _checked_labels(class_indices: npt.ArrayLike, rows: Floats) -> Indices:
    given = np.asarray(class_indices)
    _require_length(given, rows, what="class indices")
    labels = given.astype(np.int64)
    wrong = (labels != given) | (labels < 0) | (labels >= rows.shape[1])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        _refuse(f"Row {row} has the class index {given[row]}; there are classes 0 to {rows.shape[1] - 1}.")
    return labels


def _checked_priors(priors: npt.ArrayLike | None, rows: Floats) -> Floats:
    points = np.asarray(1 / rows.shape[1] if priors is None else priors, dtype=np.float64)
    if points.ndim and points.shape not in (rows.shape, rows.shape[1:]):
        _refuse(f"Priors have the shape {points.shape}; {rows.shape} is needed, a row a scan.")
    points = np.broadcast_to(points, rows.shape)
    if not (points > 0).all() or (abs(points.sum(axis=1) - 1) > _SUM_TOLERANCE).any():
        _refuse("Priors must be positive and sum to 1.")
    return points


def _require_length(values: Sequence[Any] | npt.NDArray[Any], rows: Floats, *, what: str) -> None:
    if len(values) != len(rows):
        _refuse(f"There are {len(rows)} predictions and {len(values)} {what}.")


def _require_one(values: Indices, numbers: Indices, units: Sequence[str] | range, *, what: str) -> None:
    pairs = np.unique(np.stack([numbers, values], axis=1), axis=0)
    if len(pairs) == numbers.max() + 1:
        return
    number = int(np.flatnonzero(np.bincount(pairs[:, 0]) > 1)[0])
    unit = units[int(np.flatnonzero(numbers == number)[0])]
    raise DataError(
        f"The unit {unit!r} has more than one {what}; a unit is scored as one.",
        fix="Correct the table, or name another column with --unit-column.",
    )


def _refuse(problem: str) -> NoReturn:
    raise DataError(problem, fix="Give one row of calibrated probabilities, one class index and one patient a scan.")
