"""Scores of weighted samples, for many weightings at once.

Every score here is a function of weights ``(R, N)`` and gives ``(R,)`` values: a bootstrap over patients is then one
call with the multiplicities of the patients as weights, and the score itself the same call with ones. Values equal
scikit-learn's with ``sample_weight``. Where a weighting holds no sample that the score needs, the value is NaN.
Weights in Fortran order (those of one sample side by side) are the fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
WeightedScore = Callable[[Floats], Floats]


def auroc(values: Floats, positive: Flags) -> WeightedScore:
    """Return the area under the ROC curve: the probability that a positive lies above a negative, ties half.

    Hanley and McNeil (1982), by ranks: the weights of the negatives below each positive are summed, not compared.

    Args:
        values: Larger means more positive, ``(N,)``.
        positive: ``(N,)``.

    Example:
        >>> score = auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        >>> score(np.ones((1, 4))).tolist()
        [0.75]
    """
    thresholds = np.unique(values[positive])
    place = np.searchsorted(thresholds, values)  # the first threshold that a sample does not exceed
    tied = np.isin(values, thresholds)
    # summed for each threshold: positives at it, negatives at it, negatives between the one below and it
    sums = _grouped_sums([(place, positive), (place, tied & ~positive), (place, ~tied & ~positive)], len(thresholds))
    negatives = (~positive).astype(np.float64)

    def score(weights: Floats) -> Floats:
        wins, ties, between = sums(weights)
        below = np.cumsum(between + ties, axis=0) - ties
        return _ratio((wins * (below + ties / 2)).sum(axis=0), wins.sum(axis=0) * (weights @ negatives))

    return score


def average_precision(values: Floats, positive: Flags) -> WeightedScore:
    """Return the average precision: precision at each threshold, weighted by the recall it gains.

    Example:
        >>> score = average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        >>> round(float(score(np.ones((1, 4)))[0]), 3)
        0.833
    """
    thresholds = np.unique(values[positive])
    place = np.searchsorted(thresholds, values, side="right") - 1  # the last threshold that a sample reaches
    sums = _grouped_sums([(place, positive), (place, place >= 0)], len(thresholds))

    def score(weights: Floats) -> Floats:
        gained, reached = sums(weights)
        precision = _ratio(_sums_from_above(gained), _sums_from_above(reached), empty=0.0)
        return _ratio((precision * gained).sum(axis=0), gained.sum(axis=0))

    return score


def mean_of(values: Floats, among: Flags | None = None) -> WeightedScore:
    """Return the weighted mean of per-sample values, of all samples or ``among`` some.

    Accuracy is the mean of "correct", sensitivity its mean among the positives, the Brier score a mean of squares.

    Example:
        >>> mean_of(np.array([1.0, 0.0, 0.0]), np.array([True, True, False]))(np.ones((1, 3))).tolist()
        [0.5]
    """
    chosen = np.ones(len(values)) if among is None else among.astype(np.float64)

    def score(weights: Floats) -> Floats:
        return _ratio(weights @ (values * chosen), weights @ chosen)

    return score


def average_of(scores: Sequence[WeightedScore]) -> WeightedScore:
    """Return the plain mean of several scores: macro averages, balanced accuracy."""

    def score(weights: Floats) -> Floats:
        return np.asarray(np.mean([part(weights) for part in scores], axis=0), dtype=np.float64)

    return score


def difference_of(first: WeightedScore, second: WeightedScore) -> WeightedScore:
    """Return the first score minus the second, of the same weights: a paired difference.

    Example:
        >>> score = difference_of(mean_of(np.array([1.0, 1.0])), mean_of(np.array([1.0, 0.0])))
        >>> score(np.array([[1.0, 1.0], [0.0, 2.0]])).tolist()
        [0.5, 1.0]
    """

    def score(weights: Floats) -> Floats:
        return first(weights) - second(weights)

    return score


def once(score: WeightedScore) -> WeightedScore:
    """Return the same score, computed once for the same array of weights: a class counts alone and in the average."""
    known: list[tuple[Floats, Floats]] = []

    def remembered(weights: Floats) -> Floats:
        if not known or known[0][0] is not weights:
            known[:] = [(weights, score(weights))]
        return known[0][1]

    return remembered


def brier_values(probabilities: Floats, class_indices: npt.NDArray[np.int64]) -> Floats:
    """Return each sample's share of the Brier score: of the positive class for two, summed over more (Brier 1950)."""
    errors = (probabilities - np.eye(probabilities.shape[1])[class_indices]) ** 2
    return np.asarray(errors[:, -1] if errors.shape[1] == 2 else errors.sum(axis=1), dtype=np.float64)


def log_loss_values(probabilities: Floats, class_indices: npt.NDArray[np.int64]) -> Floats:
    """Return each sample's negative log-likelihood; a probability of 0 counts as the smallest positive float."""
    likelihoods = probabilities[np.arange(len(probabilities)), class_indices]
    return np.asarray(-np.log(np.maximum(likelihoods, np.finfo(np.float64).tiny)), dtype=np.float64)


def _grouped_sums(
    parts: Sequence[tuple[npt.NDArray[np.intp], Flags]], num_groups: int
) -> Callable[[Floats], npt.NDArray[np.float64]]:
    """Return a function of weights ``(R, N)`` that sums them by group for each part: ``(parts, num_groups, R)``.

    A sample counts in a part where its flag is set. One sparse product reads the weights once for all parts.
    """
    rows, columns = [], []
    for number, (groups, flags) in enumerate(parts):
        chosen = np.flatnonzero(flags & (groups < num_groups))
        rows.append(number * num_groups + groups[chosen])
        columns.append(chosen)
    places = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(parts) * num_groups, len(parts[0][0]))
    matrix = csr_array((np.ones(len(places[0])), places), shape=shape)

    def sums(weights: Floats) -> npt.NDArray[np.float64]:
        return np.asarray(matrix @ weights.T, dtype=np.float64).reshape(len(parts), num_groups, len(weights))

    return sums


def _sums_from_above(values: Floats) -> Floats:
    return np.cumsum(values[::-1], axis=0)[::-1]


def _ratio(numerator: Floats, denominator: Floats, *, empty: float = float("nan")) -> Floats:
    filled = np.full(np.broadcast(numerator, denominator).shape, empty)
    np.divide(numerator, denominator, out=filled, where=denominator > 0)
    return filled
