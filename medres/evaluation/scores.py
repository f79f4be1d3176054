"""Scores of weighted samples, for many weightings at once.

Every score here is a function of weights ``(R, N)`` and gives ``(R,)`` values: a bootstrap over patients is then one
call with the multiplicities of the patients as weights, and the score itself the same call with ones. Values equal
scikit-learn's with ``sample_weight``. Where a weighting holds no sample that the score needs, the value is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
WeightedScore = Callable[[Floats], Floats]


def auroc(values: Floats, positive: Flags) -> WeightedScore:
    """Return the area under the ROC curve: the probability that a positive lies above a negative, ties half.

    Args:
        values: Larger means more positive, ``(N,)``.
        positive: ``(N,)``.

    Example:
        >>> score = auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        >>> score(np.ones((1, 4))).tolist()
        [0.75]
    """
    order, ends = _ranking(values)
    flags = positive[order]

    def score(weights: Floats) -> Floats:
        ranked = weights[:, order]
        positives = _group_sums(ranked * flags, ends)
        negatives = _group_sums(ranked * ~flags, ends)
        below = np.cumsum(negatives, axis=1) - negatives
        wins = (positives * (below + negatives / 2)).sum(axis=1)
        return _ratio(wins, positives.sum(axis=1) * negatives.sum(axis=1))

    return score


def average_precision(values: Floats, positive: Flags) -> WeightedScore:
    """Return the average precision: precision at each threshold, weighted by the recall it gains."""
    order, ends = _ranking(-values)
    flags = positive[order]

    def score(weights: Floats) -> Floats:
        ranked = weights[:, order]
        hits, everything = _group_sums(ranked * flags, ends), _group_sums(ranked, ends)
        precision = _ratio(np.cumsum(hits, axis=1), np.cumsum(everything, axis=1), empty=0.0)
        return _ratio((precision * hits).sum(axis=1), hits.sum(axis=1))

    return score


def mean_of(values: Floats, among: Flags | None = None) -> WeightedScore:
    """Return the weighted mean of per-sample values, of all samples or ``among`` some.

    Accuracy is the mean of "correct", sensitivity its mean among the positives, the Brier score a mean of squares.
    """
    chosen = np.ones(len(values), dtype=bool) if among is None else among

    def score(weights: Floats) -> Floats:
        return _ratio(weights[:, chosen] @ values[chosen], weights[:, chosen].sum(axis=1))

    return score


def average_of(scores: Sequence[WeightedScore]) -> WeightedScore:
    """Return the plain mean of several scores: macro averages, balanced accuracy."""

    def score(weights: Floats) -> Floats:
        return np.asarray(np.mean([part(weights) for part in scores], axis=0), dtype=np.float64)

    return score


def brier_values(probabilities: Floats, class_indices: npt.NDArray[np.int64]) -> Floats:
    """Return each sample's share of the Brier score: of the positive class for two, summed over more (Brier 1950)."""
    errors = (probabilities - np.eye(probabilities.shape[1])[class_indices]) ** 2
    return np.asarray(errors[:, -1] if errors.shape[1] == 2 else errors.sum(axis=1), dtype=np.float64)


def log_loss_values(probabilities: Floats, class_indices: npt.NDArray[np.int64]) -> Floats:
    """Return each sample's negative log-likelihood; a probability of 0 counts as the smallest positive float."""
    likelihoods = probabilities[np.arange(len(probabilities)), class_indices]
    return np.asarray(-np.log(np.maximum(likelihoods, np.finfo(np.float64).tiny)), dtype=np.float64)


def _ranking(values: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the ascending order, and where each run of equal values begins in it."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    begins = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    return order, np.flatnonzero(begins)


def _group_sums(values: Floats, begins: npt.NDArray[np.intp]) -> Floats:
    return np.asarray(np.add.reduceat(values, begins, axis=1), dtype=np.float64)


def _ratio(numerator: Floats, denominator: Floats, *, empty: float = float("nan")) -> Floats:
    filled = np.full(np.broadcast(numerator, denominator).shape, empty)
    np.divide(numerator, denominator, out=filled, where=denominator > 0)
    return filled
