"""The curves behind the scores, as plain numbers: ROC, precision-recall, reliability, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from medres.evaluation.proportions import wilson_interval
from medres.evaluation.scores import Flags, Floats

Indices = npt.NDArray[np.int64]

NUM_BINS = 10
#: Points of a stored curve; more cannot be seen.
MAX_POINTS = 400


def confusion_table(class_indices: Indices, decisions: Indices, classes: Sequence[str]) -> dict[str, Any]:
    """Return how labels (rows) were decided (columns)."""
    counts = confusion_matrix(class_indices, decisions, labels=np.arange(len(classes)))
    return {"rows": "label", "columns": "decision", "classes": list(classes), "counts": counts.tolist()}


def roc_table(values: Floats, positive: Flags) -> dict[str, list[float]] | None:
    """Return the ROC curve of one class against the rest; None where one side is empty."""
    if positive.all() or not positive.any():
        return None
    fpr, tpr, thresholds = roc_curve(positive, values)
    # the curve begins above every value: JSON has no infinity, and no probability lies above 1
    return _thinned(fpr=fpr, tpr=tpr, thresholds=np.minimum(thresholds, 1.0))


def precision_recall_table(values: Floats, positive: Flags) -> dict[str, list[float]] | None:
    """Return the precision-recall curve of one class against the rest; None where one side is empty."""
    if positive.all() or not positive.any():
        return None
    precision, recall, thresholds = precision_recall_curve(positive, values)
    return _thinned(precision=precision, recall=recall, thresholds=np.append(thresholds, 1.0))


def reliability_table(values: Floats, positive: Flags) -> list[dict[str, float]]:
    """Return mean probability and observed share, with Wilson bounds, of the units in each tenth of the probability."""
    bins = np.minimum((values * NUM_BINS).astype(int), NUM_BINS - 1)
    return [_bin(index, values[bins == index], positive[bins == index]) for index in np.unique(bins)]


def _bin(index: int, values: Floats, positive: Flags) -> dict[str, float]:
    low, high = wilson_interval(int(positive.sum()), len(positive))
    return {
        "low": float(index / NUM_BINS),
        "high": float((index + 1) / NUM_BINS),
        "mean_probability": float(values.mean()),
        "observed": float(positive.mean()),
        "observed_low": low,
        "observed_high": high,
        "n_units": len(values),
    }


def _thinned(**columns: npt.NDArray[Any]) -> dict[str, list[float]]:
    length = len(next(iter(columns.values())))
    rows = np.unique(np.linspace(0, length - 1, min(length, MAX_POINTS)).round().astype(int))
    return {name: [float(value) for value in column[rows]] for name, column in columns.items()}
