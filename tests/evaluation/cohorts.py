"""Made-up predictions: patients with several scans whose scores are alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from scipy.stats import norm


class Made(NamedTuple):
    probabilities: npt.NDArray[np.float64]
    class_indices: npt.NDArray[np.int64]
    patients: list[str]

    @property
    def classes(self) -> list[str]:
        return [f"class {index}" for index in range(self.probabilities.shape[1])]

    def arguments(self) -> dict[str, Any]:
        return {"classes": self.classes, "patients": self.patients}


def make(*, num_patients: int = 60, scans: int = 2, num_classes: int = 2, ties: bool = False, seed: int = 0) -> Made:
    """Patients of one class each; half of the variance of a logit is the patient's own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.permutation(np.arange(num_patients) % num_classes), scans)
    own = np.repeat(rng.normal(size=(num_patients, num_classes)), scans, axis=0)
    logits = own + rng.normal(size=(len(labels), num_classes)) + 1.2 * np.eye(num_classes)[labels]
    if ties:
        logits = logits.round()
    return Made(softmax(logits, axis=1), labels, [f"p{index // scans:03d}" for index in range(len(labels))])


def correlated_scores(
    rng: np.random.Generator, *, num_studies: int, num_patients: int, scans: int, separation: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], float]:
    """Scores ``(studies, patients x scans)`` of which 80 % of the variance is the patient's; flags; the true AUROC."""
    positive = np.arange(num_patients) % 2 == 1
    own = rng.normal(scale=0.8**0.5, size=(num_studies, num_patients)) + separation * positive
    values = np.repeat(own, scans, axis=1) + rng.normal(scale=0.2**0.5, size=(num_studies, num_patients * scans))
    return values, np.repeat(positive, scans), float(norm.cdf(separation / 2**0.5))
