"""`evaluate_predictions`: one block of ``metrics.json`` from arrays (docs/reference/metrics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from medres.evaluation.curves import confusion_table, precision_recall_table, reliability_table, roc_table
from medres.evaluation.intervals import Cohort, Question, answer
from medres.evaluation.scores import (
    Flags,
    WeightedScore,
    auroc,
    average_of,
    average_precision,
    brier_values,
    log_loss_values,
    mean_of,
    once,
)
from medres.evaluation.units import Predictions, predictions_of

#: Made from the units of one side alone; under ``scores`` of two classes only.
_RECALLS = ("sensitivity", "specificity")


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
        DataError: Lengths differ, a probability or a label is out of range, a unit has two labels or two patients.

    Example:
        >>> block = evaluate_predictions(
        ...     [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], [0, 1, 1], classes=["no", "yes"], patients=["a", "b", "c"]
        ... )
        >>> block["scores"]["auroc"]["value"], block["scores"]["auroc"]["low"]
        (1.0, None)
    """
    table = predictions_of(probabilities, class_indices, classes=classes, patients=patients, units=units, priors=priors)
    cohort = Cohort(patients=table.patients, num_resamples=num_resamples, seed=seed)
    sides = _sides(table, len(classes))
    per_class = [_class_questions(table, side, index) for index, side in enumerate(sides)]
    questions = _questions(table, sides, per_class)
    answers = iter(answer([*questions, *chain.from_iterable(per_class)], cohort))
    return {
        "scores": {question.name: next(answers) for question in questions},
        "per_class": {
            name: {
                "n_units": int(side.sum()),
                "n_patients": cohort.count(side),
                **{question.name: next(answers) for question in of_class},
            }
            for name, side, of_class in zip(classes, sides, per_class, strict=True)
        },
        "tables": _tables(table, sides, classes),
    }


def score_questions(table: Predictions, num_classes: int) -> list[Question]:
    """Return what ``scores`` of `evaluate_predictions` asks of predictions: each score as a function of weights."""
    sides = _sides(table, num_classes)
    return _questions(table, sides, [_class_questions(table, side, index) for index, side in enumerate(sides)])


def _sides(table: Predictions, num_classes: int) -> list[Flags]:
    return [table.class_indices == index for index in range(num_classes)]


def _questions(table: Predictions, sides: Sequence[Flags], per_class: Sequence[Sequence[Question]]) -> list[Question]:
    right = (table.decisions == table.class_indices).astype(np.float64)
    predicted = (table.probabilities.argmax(axis=1) == table.class_indices).astype(np.float64)
    values, everyone = table.probabilities, [np.ones(len(right), dtype=bool)]
    # of two classes the positive one; of more the mean of one-vs-rest
    ranked = per_class[1:] if len(sides) == 2 else per_class
    recalls = [mean_of(right, side) for side in sides]
    scores: list[tuple[str, WeightedScore, Sequence[Flags]]] = [
        ("auroc", _mean_over(ranked, "auroc"), sides),
        ("average_precision", _mean_over(ranked, "average_precision"), sides),
        ("balanced_accuracy", average_of(recalls), sides),
        ("sensitivity", recalls[1], [sides[1]]),
        ("specificity", recalls[0], [sides[0]]),
        ("accuracy", mean_of(predicted), everyone),
        ("brier", mean_of(brier_values(values, table.class_indices)), everyone),
        ("log_loss", mean_of(log_loss_values(values, table.class_indices)), everyone),
    ]
    return [
        Question(name=name, score=score, groups=groups, num_events=_events_of(name, groups, _events(sides)))
        for name, score, groups in scores
        if len(sides) == 2 or name not in _RECALLS
    ]


def _mean_over(per_class: Sequence[Sequence[Question]], name: str) -> WeightedScore:
    return average_of([question.score for questions in per_class for question in questions if question.name == name])


def _class_questions(table: Predictions, side: Flags, index: int) -> list[Question]:
    values = table.probabilities[:, index]
    decided = (table.decisions == index).astype(np.float64)
    scores: list[tuple[str, WeightedScore, Sequence[Flags]]] = [
        ("auroc", once(auroc(values, side)), [side, ~side]),
        ("average_precision", once(average_precision(values, side)), [side, ~side]),
        ("sensitivity", mean_of(decided, side), [side]),
        ("specificity", mean_of(1 - decided, ~side), [~side]),
    ]
    return [
        Question(name=name, score=score, groups=groups, num_events=_events_of(name, groups, int(side.sum())))
        for name, score, groups in scores
    ]


def _tables(table: Predictions, sides: Sequence[Flags], classes: Sequence[str]) -> dict[str, Any]:
    columns = [(name, table.probabilities[:, index], sides[index]) for index, name in enumerate(classes)]
    return {
        "confusion": confusion_table(table.class_indices, table.decisions, classes),
        "roc": {name: roc_table(values, side) for name, values, side in columns},
        "precision_recall": {name: precision_recall_table(values, side) for name, values, side in columns},
        "reliability": {name: reliability_table(values, side) for name, values, side in columns},
    }


def _events_of(name: str, groups: Sequence[Flags], num_events: int) -> int:
    """Return the events of a score: those of all units, or the units of the one side that a recall is made from."""
    return int(groups[0].sum()) if name in _RECALLS else num_events


def _events(sides: Sequence[Flags]) -> int:
    """Of two classes the positives; of more the rarest class: what limits how much can be known."""
    return int(sides[1].sum()) if len(sides) == 2 else min(int(side.sum()) for side in sides)
