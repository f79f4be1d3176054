"""The default operating point: decide against the prevalence among the training scans."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medres.runs.documents import Document, Number


class OperatingPoint(Document):
    """Decide for the class whose probability is largest relative to its prevalence in training.

    For two classes that is "positive where its probability reaches the prevalence": the threshold that maximises
    the balanced accuracy of a calibrated model, known before a single score is looked at.

    Args:
        priors: Prevalence of each class among the training scans, ``(K,)``, positive and summing to 1.

    Example:
        >>> OperatingPoint(priors=(0.8, 0.2)).decide(np.array([[0.7, 0.3], [0.9, 0.1]])).tolist()
        [1, 0]
    """

    priors: tuple[Number, ...] = pydantic.Field(min_length=2)

    @pydantic.field_validator("priors")
    @classmethod
    def _check(cls, priors: tuple[float, ...]) -> tuple[float, ...]:
        if min(priors) <= 0 or abs(sum(priors) - 1) > 1e-6:
            raise ValueError("priors must be positive and sum to 1")
        return priors

    def decide(self, probabilities: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the index of the decided class of each row of ``(N, K)`` probabilities; ties go to the last class.

        Raises:
            ValueError: There is not one column a class.
        """
        rows = np.asarray(probabilities, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.priors):
            raise ValueError(f"an operating point of {len(self.priors)} classes cannot decide on shape {rows.shape}")
        ratios: npt.NDArray[Any] = rows / np.asarray(self.priors)
        # "reaches the threshold" counts as positive, the last of two classes: look for the maximum from the end
        return np.asarray(ratios.shape[1] - 1 - ratios[:, ::-1].argmax(axis=1), dtype=np.int64)
