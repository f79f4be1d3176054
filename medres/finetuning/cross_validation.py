"""All folds, then temperatures and calibrated probabilities: every scan scored by models that never saw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medres.data.folds import Folding
from medres.evaluation.calibration import fit_temperature, probabilities_of
from medres.evaluation.operating_point import OperatingPoint
from medres.finetuning.feed import Rows
from medres.finetuning.outcomes import FoldOutcome

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Predictions of some rows.

    Args:
        rows: Rows of the table, ``(N,)``.
        fold: Name of the member that predicted: its number, or ``ensemble``.
        logits: Calibrated: softmax gives the probabilities, ``(N, K)``.
        probabilities: ``(N, K)``.
        decisions: Class index at the member's operating point, ``(N,)``.
        priors: That operating point: the prevalence of the classes in training.
    """

    rows: Rows
    fold: str
    logits: Floats
    probabilities: Floats
    decisions: npt.NDArray[np.int64]
    priors: tuple[float, ...]


def fit_temperatures(outcomes: Sequence[FoldOutcome], class_indices: npt.NDArray[np.int64]) -> list[float]:
    """Return one temperature a member, fitted on scans that the member is not scored on.

    With a validation split, on that split. In cross-validation member k's temperature is fitted on the held-out
    logits of the *other* folds, so that no scan calibrates its own probability. A single fold without a
    validation split keeps temperature 1: there is nothing it could be fitted on.

    Args:
        outcomes: All folds.
        class_indices: Of all rows of the table, ``(N,)``.
    """
    return [_temperature(outcome, outcomes, class_indices) for outcome in outcomes]


def _temperature(member: FoldOutcome, outcomes: Sequence[FoldOutcome], class_indices: npt.NDArray[np.int64]) -> float:
    if len(member.fold.val):
        return fit_temperature(member.val_logits - member.offset, class_indices[member.fold.val])
    others = [outcome for outcome in outcomes if outcome is not member]
    if not others:
        return 1.0
    logits = np.concatenate([outcome.held_out_logits - outcome.offset for outcome in others])
    rows = np.concatenate([outcome.fold.held_out for outcome in others])
    return fit_temperature(logits, class_indices[rows])


def score_held_out(outcome: FoldOutcome, temperature: float) -> Scored:
    """Return the calibrated predictions of a fold's held-out rows."""
    logits = (outcome.held_out_logits - outcome.offset) / temperature
    probabilities = probabilities_of(outcome.held_out_logits, offset=outcome.offset, temperature=temperature)
    return Scored(
        rows=outcome.fold.held_out,
        fold=str(outcome.fold.index),
        logits=logits,
        probabilities=probabilities,
        decisions=outcome.operating_point.decide(probabilities),
        priors=outcome.operating_point.priors,
    )


def score_test(outcomes: Sequence[FoldOutcome], temperatures: Sequence[float], folding: Folding) -> Scored:
    """Return the ensemble's predictions of the test rows: the mean of the members' calibrated probabilities."""
    members = [
        probabilities_of(outcome.test_logits, offset=outcome.offset, temperature=temperature)
        for outcome, temperature in zip(outcomes, temperatures, strict=True)
    ]
    probabilities = np.mean(members, axis=0)
    operating_point = ensemble_operating_point(outcomes)
    return Scored(
        rows=folding.test,
        fold="ensemble",
        logits=np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)),
        probabilities=probabilities,
        decisions=operating_point.decide(probabilities),
        priors=operating_point.priors,
    )


def ensemble_operating_point(outcomes: Sequence[FoldOutcome]) -> OperatingPoint:
    """Return the mean prevalence of the members' training scans."""
    priors = np.mean([outcome.operating_point.priors for outcome in outcomes], axis=0)
    return OperatingPoint(priors=tuple(float(prior) for prior in priors))
