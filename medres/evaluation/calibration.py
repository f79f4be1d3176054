"""Calibration: one temperature a model, and what it does to logits (Guo et al., ICML 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from medres.errors import TrainingError

Floats = npt.NDArray[np.float64]

#: Beyond these bounds a temperature says that there was nothing to fit: separable logits want 0, useless ones infinity.
TEMPERATURE_BOUNDS = (0.05, 20.0)


def probabilities_of(logits: npt.NDArray[Any], *, offset: npt.ArrayLike, temperature: float) -> Floats:
    """Return calibrated probabilities, ``softmax((logits - offset) / temperature)``, shape ``(N, K)``.

    Args:
        logits: As the network gives them, ``(N, K)``.
        offset: What a weighted loss added to them, ``(K,)``.
        temperature: Positive.

    Example:
        >>> probabilities_of(np.array([[0.0, 2.0]]), offset=[0.0, 2.0], temperature=1.0).tolist()
        [[0.5, 0.5]]
    """
    shifted = (np.asarray(logits, dtype=np.float64) - np.asarray(offset, dtype=np.float64)) / temperature
    return np.asarray(softmax(shifted, axis=1), dtype=np.float64)


def fit_temperature(logits: npt.NDArray[Any], class_indices: npt.NDArray[np.int64]) -> float:
    """Return the temperature that minimises the log-loss of ``softmax(logits / temperature)``.

    The loss is convex in 1 / temperature, so the bounded search finds the minimum within `TEMPERATURE_BOUNDS`.

    Args:
        logits: ``(N, K)``, class weights already taken out.
        class_indices: ``(N,)``.

    Raises:
        TrainingError: There is no logit, or one is not finite.

    Example:
        >>> generous = np.array([[4.0, 0.0]] * 4)  # sure of itself by 98 %, right in 75 %
        >>> round(fit_temperature(generous, np.array([0, 0, 0, 1])), 2)
        3.64
    """
    values = np.asarray(logits, dtype=np.float64)
    if not len(values):
        raise TrainingError("There is no scan to fit a temperature on.", fix="Give more scans, or fewer folds.")
    if not np.isfinite(values).all():
        raise TrainingError("A logit is not finite, so no temperature can be fitted.", fix="Lower the learning rate.")
    rows = np.arange(len(values))

    def loss(inverse: float) -> float:
        return float(-log_softmax(values * inverse, axis=1)[rows, class_indices].mean())

    low, high = TEMPERATURE_BOUNDS
    best = minimize_scalar(loss, bounds=(1 / high, 1 / low), method="bounded", options={"xatol": 1e-6})
    return float(1 / best.x)
