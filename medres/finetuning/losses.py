"""Class weights and the loss."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Weighting = Literal["balanced", "none"]


def class_weights(
    class_indices: npt.NDArray[np.int64], *, num_classes: int, weighting: Weighting
) -> npt.NDArray[np.float64]:
    """Return the weight of each class in the loss, shape ``(K,)``: n / (K n_c), as scikit-learn's ``balanced``.

    Example:
        >>> class_weights(np.array([0, 0, 0, 1]), num_classes=2, weighting="balanced").round(3).tolist()
        [0.667, 2.0]
    """
    if weighting == "none":
        return np.ones(num_classes)
    counts = np.bincount(class_indices, minlength=num_classes)
    return np.asarray(len(class_indices) / (num_classes * np.maximum(counts, 1)), dtype=np.float64)


def logit_offset(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what a loss weighted by ``weights`` adds to the logits of a well-fitted model: log(weight).

    Taken off again, the probabilities are those of the data's own prevalence (a temperature cannot do that: .414
    against a prevalence of .146 was measured).
    """
    return np.log(weights)
