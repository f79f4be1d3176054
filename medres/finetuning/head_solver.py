"""The linear head, solved instead of trained: multinomial logistic regression on frozen features.

Convex, exact and done in seconds. Features are standardised for the solver and the standardisation is folded back
into the weights. The L2 strength is chosen by the log-loss of patient-grouped inner folds of the *training* scans
(or of a given validation split): the scans that are scored play no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from medres.finetuning.finite import require_finite
from medres.runs.host_warnings import ignored_warnings

Floats = npt.NDArray[np.float64]
Split = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

#: C * N of scikit-learn's objective: from 'predict the prevalence' to 'barely penalised', whatever the cohort's size.
STRENGTHS = tuple(float(strength) for strength in np.logspace(-2, 4, 13))
#: Used where the training scans have too few patients for an inner validation.
DEFAULT_STRENGTH = 1.0


@dataclass(frozen=True, kw_only=True)
class SolvedHead:
    """A linear layer on raw features.

    Args:
        weight: ``(K, F)``.
        bias: ``(K,)``.
        strength: The chosen inverse L2 strength, C * N of scikit-learn's objective.
        inner_log_loss: Mean log-loss of the inner validation at that strength, weighted as in training; None
            where there was no inner validation.
    """

    weight: Floats
    bias: Floats
    strength: float
    inner_log_loss: float | None

    @torch.no_grad()
    def copy_to(self, head: nn.Linear) -> None:
        """Put the solution in the place of the layer's weights."""
        head.weight.copy_(torch.as_tensor(self.weight, dtype=head.weight.dtype))
        head.bias.copy_(torch.as_tensor(self.bias, dtype=head.bias.dtype))


def solve_head(
    features: Floats, class_indices: npt.NDArray[np.int64], *, weights: Floats, inner: Sequence[Split],
    train: npt.NDArray[np.int64] | None = None,
) -> SolvedHead:  # fmt: skip
    """Solve the head on all views of the training scans.

    Args:
        features: ``(N, V, F)``: V views of N scans; each view counts 1/V.
        class_indices: ``(N,)``.
        weights: Class weights ``(K,)``; every class occurs in `class_indices`.
        inner: Pairs of (train, validation) indices into the N scans for choosing the L2 strength; without any,
            `DEFAULT_STRENGTH` is taken.
        train: The scans that the final head is fitted on; None = all.

    Raises:
        TrainingError: Features are not finite.
    """
    require_finite(features, what="features")
    strength, loss = _choose_strength(features, class_indices, weights, inner)
    rows = np.arange(len(features)) if train is None else train
    weight, bias = _fit(features[rows], class_indices[rows], weights, strength)
    return SolvedHead(weight=weight, bias=bias, strength=strength, inner_log_loss=loss)


def _choose_strength(
    features: Floats, class_indices: npt.NDArray[np.int64], weights: Floats, inner: Sequence[Split]
) -> tuple[float, float | None]:
    if not inner:
        return DEFAULT_STRENGTH, None
    losses = np.array([_inner_losses(features, class_indices, weights, split) for split in inner]).mean(axis=0)
    best = int(np.argmin(losses))
    return STRENGTHS[best], float(losses[best])


def _inner_losses(features: Floats, class_indices: npt.NDArray[np.int64], weights: Floats, split: Split) -> list[float]:
    train, validation = split
    losses = []
    for strength in STRENGTHS:
        weight, bias = _fit(features[train], class_indices[train], weights, strength)
        logits = features[validation, 0] @ weight.T + bias
        losses.append(_log_loss(logits, class_indices[validation], weights))
    return losses


def _fit(
    features: Floats, class_indices: npt.NDArray[np.int64], weights: Floats, strength: float
) -> tuple[Floats, Floats]:
    num_scans, num_views, num_features = features.shape
    rows = features.reshape(-1, num_features)
    mean, scale = standardisation(rows)
    labels = np.repeat(class_indices, num_views)
    # scikit-learn minimises |w|^2 / 2 + C * sum of the weighted losses: C shrinks with N to keep the strength relative
    solver = LogisticRegression(C=strength / num_scans, max_iter=1000, tol=1e-6)
    # the weakest penalties on separable features approach their optimum slowly; they are rarely chosen
    with ignored_warnings(ConvergenceWarning):
        solver.fit((rows - mean) / scale, labels, sample_weight=weights[labels] / num_views)
    return _unfold(solver, mean, scale, num_classes=len(weights))


def standardisation(rows: Floats) -> tuple[Floats, Floats]:
    """Return mean and scale of each feature, ``(F,)``: its standard deviation, but no less than the median one.

    A feature that is almost always 0 in training (a channel that ReLU silences) would be magnified without limit:
    one new scan that wakes it then gets a logit of several hundred.

    Args:
        rows: ``(N, F)``.

    Example:
        >>> standardisation(np.array([[0.0, 0.0, 2.0], [0.0, 2.0, 8.0]]))[1].tolist()
        [2.0, 2.0, 3.0]
    """
    deviations = rows.std(axis=0)
    varying = deviations[deviations > 0]
    floor = float(np.median(varying)) if len(varying) else 1.0
    return np.asarray(rows.mean(axis=0)), np.maximum(deviations, floor)


def _unfold(solver: LogisticRegression, mean: Floats, scale: Floats, *, num_classes: int) -> tuple[Floats, Floats]:
    coefficients, intercepts = solver.coef_, solver.intercept_
    if len(solver.classes_) == 2:  # one logit for the second class: split evenly over both
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = np.zeros((num_classes, coefficients.shape[1]))
    bias = np.full(num_classes, intercepts.min() - 10.0)  # a class without a scan stays improbable
    weight[solver.classes_] = coefficients / scale
    bias[solver.classes_] = intercepts - (coefficients / scale) @ mean
    return weight, bias


def _log_loss(logits: Floats, class_indices: npt.NDArray[np.int64], weights: Floats) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -log_probabilities[np.arange(len(logits)), class_indices]
    return float(np.average(losses, weights=weights[class_indices]))
