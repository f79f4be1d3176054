"""`evaluate_predictions`: one block of ``metrics.json`` from arrays (docs/reference/metrics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.errors import DataError
from medres.evaluation.curves import confusion_table, precision_recall_table, reliability_table, roc_table
from medres.evaluation.intervals import Cohort, scored
from medres.evaluation.operating_point import OperatingPoint
from medres.evaluation.scores import (
    Flags,
    Floats,
    WeightedScore,
    auroc,
    average_of,
    average_precision,
    brier_values,
    log_loss_values,
    mean_of,
)

Indices = npt.NDArray[np.int64]


def evaluate_predictions(
    probabilities: npt.ArrayLike,
    class_indices: npt.ArrayLike,
    *,
    classes: Sequence[str],
    patients: Sequence[str],
    units: Sequence[str] | None = None,
    priors: npt.ArrayLike | None = None,
    seed: int = 0,
    num_resamples: int = 2000,
) -> dict[str, Any]:
    """Score predictions, each number with its n and its interval over patients.

    Args:
        probabilities: Calibrated, ``(N, K)``, rows summing to 1.
        class_indices: ``(N,)``.
        classes: Their names; of two, the last is the positive one.
        patients: Patient of each scan, ``(N,)``.
        units: What is scored as one, ``(N,)``: the mean of its scans' probabilities; None = the scan.
        priors: Prevalence among the training scans of the model that scored each scan, ``(N, K)``, the operating
            point of `decision`; None = equal classes.
        seed: Of the bootstrap.
        num_resamples: Of the bootstrap.

    Returns:
        ``scores``, ``per_class`` and ``tables``. Two classes: AUROC and average precision of the positive one. More:
        the mean of one-vs-rest over the classes.

    Raises:
        DataError: A unit has two labels or two patients.

    Example:
        >>> block = evaluate_predictions(
        ...     [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], [0, 1, 1, 0], classes=["no", "yes"], patients=list("abcd")
        ... )
        >>> block["scores"]["auroc"]["value"], block["scores"]["auroc"]["low"]
        (1.0, None)
    """
    table = _Units.of(probabilities, class_indices, patients, units, priors)
    cohort = Cohort(patients=_numbered(table.patients), num_resamples=num_resamples, seed=seed)
    sides = [table.class_indices == index for index in range(len(classes))]
    return {
        "scores": {
            name: scored(name, score, cohort, groups=groups, events=_events(sides))
            for name, score, groups in _scores(table, sides)
        },
        "per_class": {
            name: _per_class(table, cohort, sides[index], table.probabilities[:, index], index)
            for index, name in enumerate(classes)
        },
        "tables": _tables(table, sides, classes),
    }


@dataclass(frozen=True, kw_only=True)
class _Units:
    """What is scored: ``(U, K)`` probabilities, ``(U,)`` labels, decisions and patients."""

    probabilities: Floats
    class_indices: Indices
    decisions: Indices
    patients: list[str]

    @classmethod
    def of(
        cls,
        probabilities: npt.ArrayLike,
        class_indices: npt.ArrayLike,
        patients: Sequence[str],
        units: Sequence[str] | None,
        priors: npt.ArrayLike | None,
    ) -> _Units:
        rows = np.asarray(probabilities, dtype=np.float64)
        labels = np.asarray(class_indices, dtype=np.int64)
        points = np.full(rows.shape, 1 / rows.shape[1]) if priors is None else np.asarray(priors, dtype=np.float64)
        if units is None:
            return cls(
                probabilities=rows, class_indices=labels, decisions=_decide(rows, points), patients=list(patients)
            )
        first, numbers = _grouped(units)
        _require_one(labels.astype(str), numbers, units, what="label")
        _require_one(np.asarray(patients), numbers, units, what="patient")
        means = np.zeros((len(first), rows.shape[1]))
        np.add.at(means, numbers, rows)
        means /= np.bincount(numbers)[:, None]
        return cls(
            probabilities=means,
            class_indices=labels[first],
            decisions=_decide(means, points[first]),
            patients=[patients[index] for index in first],
        )


def _decide(probabilities: Floats, priors: Floats) -> Indices:
    decisions = np.empty(len(probabilities), dtype=np.int64)
    for point in np.unique(priors, axis=0):
        rows = (priors == point).all(axis=1)
        decisions[rows] = OperatingPoint(priors=tuple(point.tolist())).decide(probabilities[rows])
    return decisions


def _scores(table: _Units, sides: Sequence[Flags]) -> list[tuple[str, WeightedScore, Sequence[Flags]]]:
    right = (table.decisions == table.class_indices).astype(np.float64)
    predicted = (table.probabilities.argmax(axis=1) == table.class_indices).astype(np.float64)
    everyone = [np.ones(len(right), dtype=bool)]
    # of two classes the positive one; of more the mean of one-vs-rest
    columns = [1] if len(sides) == 2 else list(range(len(sides)))
    values = table.probabilities
    ranks = average_of([auroc(values[:, column], sides[column]) for column in columns])
    precisions = average_of([average_precision(values[:, column], sides[column]) for column in columns])
    recalls = [mean_of(right, side) for side in sides]
    scores: list[tuple[str, WeightedScore, Sequence[Flags]]] = [
        ("auroc", ranks, sides),
        ("average_precision", precisions, sides),
        ("balanced_accuracy", average_of(recalls), sides),
        ("accuracy", mean_of(predicted), everyone),
        ("brier", mean_of(brier_values(values, table.class_indices)), everyone),
        ("log_loss", mean_of(log_loss_values(values, table.class_indices)), everyone),
    ]
    if len(sides) == 2:
        scores.insert(3, ("sensitivity", recalls[1], [sides[1]]))
        scores.insert(4, ("specificity", recalls[0], [sides[0]]))
    return scores


def _per_class(table: _Units, cohort: Cohort, side: Flags, values: Floats, index: int) -> dict[str, Any]:
    decided = table.decisions == index
    events = int(side.sum())
    scores: list[tuple[str, WeightedScore, Sequence[Flags]]] = [
        ("auroc", auroc(values, side), [side, ~side]),
        ("average_precision", average_precision(values, side), [side, ~side]),
        ("sensitivity", mean_of(decided.astype(np.float64), side), [side]),
        ("specificity", mean_of((~decided).astype(np.float64), ~side), [~side]),
    ]
    return {
        "n_units": events,
        "n_patients": cohort.count(side),
        **{name: scored(name, score, cohort, groups=groups, events=events) for name, score, groups in scores},
    }


def _tables(table: _Units, sides: Sequence[Flags], classes: Sequence[str]) -> dict[str, Any]:
    columns = [(name, table.probabilities[:, index], sides[index]) for index, name in enumerate(classes)]
    return {
        "confusion": confusion_table(table.class_indices, table.decisions, classes),
        "roc": {name: roc_table(values, side) for name, values, side in columns},
        "precision_recall": {name: precision_recall_table(values, side) for name, values, side in columns},
        "reliability": {name: reliability_table(values, side) for name, values, side in columns},
    }


def _events(sides: Sequence[Flags]) -> int:
    """Of two classes the positives; of more the rarest class: what limits how much can be known."""
    return int(sides[1].sum()) if len(sides) == 2 else min(int(side.sum()) for side in sides)


def _numbered(names: Sequence[str]) -> Indices:
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def _grouped(units: Sequence[str]) -> tuple[Indices, Indices]:
    """Return the first row of each unit, and the unit's number of each row."""
    _, first, numbers = np.unique(np.asarray(units), return_index=True, return_inverse=True)
    return first.astype(np.int64), numbers.astype(np.int64)


def _require_one(values: npt.NDArray[Any], numbers: Indices, units: Sequence[str], *, what: str) -> None:
    pairs = np.unique(np.stack([numbers, _numbered(values.tolist())], axis=1), axis=0)
    if len(pairs) == numbers.max() + 1:
        return
    number = int(np.flatnonzero(np.bincount(pairs[:, 0]) > 1)[0])
    unit = units[int(np.flatnonzero(numbers == number)[0])]
    raise DataError(
        f"The unit {unit!r} has more than one {what}; a unit is scored as one.",
        fix="Correct the table, or name another column with --unit-column.",
    )
