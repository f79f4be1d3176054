"""Differences between models that were scored on the same patients, and how sure they are.

A *contender* is a method: one run, or several that differ in their seed only. Its score is the mean over its seeds of
the score of each run. The difference of two contenders has an interval over patients who are drawn once for all runs
(paired), so that what is hard for every model cancels. That interval holds the noise of the sample of patients; the
noise of training is told beside it, by the spread over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata, t

from medres.errors import DataError
from medres.evaluation.evaluate import score_questions
from medres.evaluation.intervals import MIN_PATIENTS_PER_CLASS, Cohort, Question, answer
from medres.evaluation.proportions import LEVEL
from medres.evaluation.scores import Flags, Floats, average_of, difference_of, once
from medres.evaluation.units import Predictions

#: What contenders are compared by: ranking (AUROC, average precision), decisions, probabilities.
COMPARED_SCORES = ("auroc", "average_precision", "balanced_accuracy", "brier", "log_loss")
LOWER_IS_BETTER = frozenset({"brier", "log_loss"})

COMPARISON_RESAMPLES = 2000


def compare_predictions(
    contenders: Mapping[str, Sequence[Predictions]],
    *,
    num_classes: int,
    reference: str,
    seed: int = 0,
    num_resamples: int = COMPARISON_RESAMPLES,
) -> dict[str, Any]:
    """Score contenders, and their differences from one of them, on the same units.

    Args:
        contenders: Name to the predictions of its runs, one a seed; all of the same units in the same order.
        num_classes: Number of classes.
        reference: Name of the contender that the others are compared with.
        seed: Of the bootstrap.
        num_resamples: Of the bootstrap.

    Returns:
        ``scores``: contender to score to value, interval, counts, ``seed_values`` and ``seed_sd``. ``differences``:
        contender to score to the difference from the reference (positive = larger score), interval, counts,
        ``seed_standard_error`` and ``seed_low``, ``seed_high`` (null with one seed). ``delong``: contender to DeLong's
        test of the AUROC, or the reason why there is none.

    Raises:
        DataError: Fewer than two contenders, or they are not about the same units.

    Example:
        >>> from medres.evaluation.units import predictions_of
        >>> def of(*positive):
        ...     rows = [[1 - value, value] for value in positive]
        ...     return [predictions_of(rows, [0, 1, 0, 1], classes=["no", "yes"], patients=["a", "b", "c", "d"],
        ...                            units=None, priors=None)]
        >>> runs = {"a": of(.2, .7, .6, .4), "b": of(.1, .9, .3, .8)}
        >>> found = compare_predictions(runs, num_classes=2, reference="a")
        >>> found["differences"]["b"]["auroc"]["value"]
        0.25
    """
    first = _checked(contenders, reference)
    made = {name: _contender(runs, num_classes) for name, runs in contenders.items()}
    cohort = Cohort(patients=first.patients, num_resamples=num_resamples, seed=seed)
    scores, differences = _answers(made, reference, cohort)
    tests = delong_tests(contenders, num_classes=num_classes, reference=reference)
    return {"scores": scores, "differences": differences, "delong": tests}


_Answers = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class _Score:
    """One score of a contender.

    Args:
        question: Its mean over the runs.
        values: Of each run; None where a class is missing.
    """

    question: Question
    values: tuple[float | None, ...]


def _answers(made: Mapping[str, Mapping[str, _Score]], reference: str, cohort: Cohort) -> tuple[_Answers, _Answers]:
    """Return the scores of all contenders and their differences from the reference, from the same resamples."""
    others = [name for name in made if name != reference]
    own = [part.question for parts in made.values() for part in parts.values()]
    paired = [_difference(made[name][score].question, made[reference][score].question)
              for name in others for score in COMPARED_SCORES]  # fmt: skip
    answers = iter(answer([*own, *paired], cohort))
    scores: _Answers = {
        name: {score: next(answers) | _spread(part.values) for score, part in parts.items()}
        for name, parts in made.items()
    }
    differences: _Answers = {name: {score: next(answers) for score in COMPARED_SCORES} for name in others}
    for name, score in product(others, COMPARED_SCORES):
        found, values = differences[name][score], (scores[part][score]["seed_values"] for part in (name, reference))
        differences[name][score] = _without_certainty(found) | _seed_interval(found["value"], *values)
    return scores, differences


def _contender(runs: Sequence[Predictions], num_classes: int) -> dict[str, _Score]:
    of_run = [{question.name: question for question in score_questions(run, num_classes)} for run in runs]
    made = {}
    for name in COMPARED_SCORES:
        of_seed = [questions[name] for questions in of_run]
        mean = once(average_of([question.score for question in of_seed]))
        first = of_seed[0]
        question = Question(name=name, score=mean, groups=first.groups, num_events=first.num_events)
        made[name] = _Score(question, tuple(question.value() for question in of_seed))
    return made


def _difference(contender: Question, reference: Question) -> Question:
    return Question(
        name=f"difference of {contender.name}",
        score=difference_of(contender.score, reference.score),
        groups=contender.groups,
        num_events=contender.num_events,
    )


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    spread = float(np.std(known, ddof=1)) if len(known) >= 2 else None
    return {"seed_values": list(values), "seed_sd": spread}


def _without_certainty(document: dict[str, Any]) -> dict[str, Any]:
    """Take the interval from a difference that no resample moves: the bootstrap knows nothing about it."""
    if document["low"] is None or document["low"] < document["high"]:
        return document
    reason = "no resample of the patients changes the difference"
    return document | {"low": None, "high": None, "reason": reason}


def _seed_interval(
    value: float | None, first: Sequence[float | None], second: Sequence[float | None]
) -> dict[str, float | None]:
    """Return what the seeds alone say about a difference of means (Welch, Biometrika 1947).

    Seeds are taken as independent. Runs of one seed share their folds, which makes their difference less noisy than
    this says.
    """
    known = [[value for value in values if value is not None] for values in (first, second)]
    if value is None or min(map(len, known)) < 2:
        return {"seed_standard_error": None, "seed_low": None, "seed_high": None}
    parts = [float(np.var(values, ddof=1)) / len(values) for values in known]
    error = math.sqrt(sum(parts))
    if not error:
        return {"seed_standard_error": 0.0, "seed_low": value, "seed_high": value}
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, known, strict=True))
    reach = float(t.ppf((1 + LEVEL) / 2, freedom)) * error
    return {"seed_standard_error": error, "seed_low": value - reach, "seed_high": value + reach}


def delong_tests(
    contenders: Mapping[str, Sequence[Predictions]], *, num_classes: int, reference: str
) -> dict[str, dict[str, Any]]:
    """Return DeLong's paired test of the AUROC of each contender against the reference.

    Args:
        contenders: As for `compare_predictions`.
        num_classes: Of two classes only there is a test.
        reference: Name of the contender that the others are compared with.

    Returns:
        Contender to ``value``, ``low``, ``high``, ``z``, ``p`` and ``p_holm`` (adjusted for all contenders, Holm 1979);
        or nulls and the ``reason``.
    """
    table = contenders[reference][0]
    why_not = _no_delong(table, num_classes)
    others = [name for name in contenders if name != reference]
    if why_not:
        return {name: _NO_TEST | {"reason": why_not} for name in others}
    positive = table.class_indices == 1
    values = {name: [run.probabilities[:, 1] for run in runs] for name, runs in contenders.items()}
    tests = {name: delong_test(values[name], values[reference], positive) for name in others}
    adjusted = holm([test["p"] for test in tests.values()])
    return {name: test | {"p_holm": p} for (name, test), p in zip(tests.items(), adjusted, strict=True)}


_NO_TEST: dict[str, Any] = {"value": None, "low": None, "high": None, "z": None, "p": None, "p_holm": None}
_DELONG = "paired DeLong test, two-sided"


def delong_test(first: Sequence[Floats], second: Sequence[Floats], positive: Flags) -> dict[str, Any]:
    """Compare two AUROCs of the same independent units (DeLong, DeLong and Clarke-Pearson, Biometrics 1988).

    Of several runs the AUROCs are averaged: the mean is a linear contrast of them, and so is its structural component.

    Args:
        first: Values of each run, larger = more positive, each ``(N,)``.
        second: The same of the other contender.
        positive: ``(N,)``.

    Returns:
        ``value`` (first minus second), ``low``, ``high``, ``z``, ``p``; ``z`` and ``p`` are null, with a ``reason``,
        where the variance is 0.

    Example:
        >>> labels = np.array([False, False, False, True, True, True])
        >>> first, second = np.array([.1, .2, .6, .5, .8, .9]), np.array([.3, .1, .7, .2, .9, .4])
        >>> test = delong_test([first], [second], labels)
        >>> round(test["value"], 3), round(test["p"], 3)
        (0.222, 0.157)
    """
    of_positives, of_negatives = (
        np.mean([placements(values, positive)[side] for values in first], axis=0)
        - np.mean([placements(values, positive)[side] for values in second], axis=0)
        for side in (0, 1)
    )
    value = float(of_positives.mean())
    variance = float(of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives))
    if variance < _NO_VARIANCE:
        reason = "the variance of the difference is 0: both rank the units alike"
        return _NO_TEST | {"value": value, "reason": reason, "method": _DELONG}
    error = math.sqrt(variance)
    reach = float(norm.ppf((1 + LEVEL) / 2)) * error
    z = value / error
    p = float(2 * norm.sf(abs(z)))
    return {"value": value, "low": value - reach, "high": value + reach, "z": z, "p": p, "p_holm": None,
            "method": _DELONG}  # fmt: skip


#: Sums of ranks are exact to 1e-12 or so; a variance below their square is that of equal ranks.
_NO_VARIANCE = 1e-24


def placements(values: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """Return the structural components of the AUROC by midranks (Sun and Xu, IEEE Signal Process. Lett. 2014).

    Args:
        values: Larger = more positive, ``(N,)``.
        positive: ``(N,)``, both sides present.

    Returns:
        For each positive the share of the negatives below it, for each negative the share of the positives above it,
        ties half; both have the AUROC as mean.

    Example:
        >>> of_positives, of_negatives = placements(np.array([.1, .4, .35, .8]), np.array([False, False, True, True]))
        >>> of_positives.tolist(), of_negatives.tolist()
        ([0.5, 1.0], [1.0, 0.5])
    """
    ranks = rankdata(values)
    above, below = values[positive], values[~positive]
    of_positives = (ranks[positive] - rankdata(above)) / len(below)
    of_negatives = 1 - (ranks[~positive] - rankdata(below)) / len(above)
    return np.asarray(of_positives, dtype=np.float64), np.asarray(of_negatives, dtype=np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for their number (Holm, Scand. J. Statist. 1979); None stays and is not counted.

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for done, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - done)))
        adjusted[place] = largest
    return adjusted


def _no_delong(table: Predictions, num_classes: int) -> str | None:
    if num_classes != 2:
        return f"DeLong's test compares two classes; there are {num_classes}"
    num_units, num_patients = len(table.patients), len(np.unique(table.patients))
    if num_patients < num_units:
        return (
            f"DeLong's test takes units as independent; here {num_units} units are of {num_patients} independent "
            "patients: read the bootstrap interval"
        )
    fewest = int(np.bincount(table.class_indices, minlength=2).min())
    if fewest < MIN_PATIENTS_PER_CLASS:
        return f"{fewest} patients in the smaller class, {MIN_PATIENTS_PER_CLASS} are needed"
    return None


def _checked(contenders: Mapping[str, Sequence[Predictions]], reference: str) -> Predictions:
    """Return the first run's predictions, whose labels and patients are those of all."""
    tables = [table for runs in contenders.values() for table in runs]
    if len(contenders) < 2 or reference not in contenders or not all(contenders.values()):
        raise DataError(
            f"A comparison needs two contenders with predictions, one of them the reference; given are "
            f"{', '.join(contenders) or 'none'} and the reference {reference}.",
            fix="Give at least two.",
        )
    first = tables[0]
    for table in tables[1:]:
        if not _equal(table.class_indices, first.class_indices) or not _equal(table.patients, first.patients):
            raise DataError("The contenders are not about the same units.", fix="Pair them before they are compared.")
    return first


def _equal(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    return bool(np.array_equal(first, second))
