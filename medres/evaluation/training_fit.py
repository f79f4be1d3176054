"""Whether a network learned anything: its answers to its own training scans, beside the prevalence of the classes.

A network that did not find what it was shown answers every scan alike. Its scores look like those of a hard question,
and in an ensemble it dilutes the others, so that it has to be named.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from scipy.stats import chi2

from medres.evaluation.calibration import TEMPERATURE_BOUNDS, fit_temperature
from medres.runs.documents import Document

#: How sure it must be that the network knows more than the prevalence: one that knows nothing passes once in a hundred.
CONFIDENCE = 0.99
#: A network whose probabilities differ less than this over the scans that it is scored on tells none from another.
LEAST_SPREAD = 0.01


class TrainingFit(Document):
    """How well a network answers the scans that it was trained on.

    Args:
        num_scans: How many of them were asked.
        log_loss: Of its answers, scaled by the best temperature: their level is no matter of learning.
        prior_log_loss: Of the answer that gives every scan the prevalence of the classes.
    """

    num_scans: int
    log_loss: float
    prior_log_loss: float

    @classmethod
    def of(cls, logits: npt.NDArray[Any], class_indices: npt.NDArray[np.int64]) -> TrainingFit:
        """Return the fit of logits ``(N, K)``, class weights already taken out, to the classes ``(N,)``.

        Example:
            >>> fit = TrainingFit.of(np.zeros((4, 2)), np.array([0, 0, 1, 1]))
            >>> round(fit.log_loss, 3), round(fit.prior_log_loss, 3)
            (0.693, 0.693)
        """
        values = np.asarray(logits, dtype=np.float64)
        rows = np.arange(len(values))
        scaled = values / fit_temperature(values, class_indices)
        losses = [-log_softmax(some, axis=1)[rows, class_indices].mean() for some in (values, scaled)]
        shares = np.bincount(class_indices, minlength=values.shape[1]) / len(class_indices)
        known = shares[shares > 0]
        return cls(
            num_scans=len(rows), log_loss=abs(float(min(losses))), prior_log_loss=float(-(known * np.log(known)).sum())
        )

    @property
    def is_better_than_prior(self) -> bool:
        """Whether the answers tell the classes apart (likelihood-ratio test; Wilks, Ann. Math. Stat. 1938).

        One number was fitted to these answers, the temperature: without any knowledge in them, twice the gain in
        log-likelihood is distributed as chi-squared with one degree of freedom.
        """
        return self.log_loss < self.log_loss_that_shows_learning

    @property
    def log_loss_that_shows_learning(self) -> float:
        """The log-loss below which chance is no explanation any more; the fewer the scans, the lower."""
        return self.prior_log_loss - float(chi2.ppf(CONFIDENCE, df=1)) / (2 * self.num_scans)


def signs_of_no_learning(
    fit: TrainingFit, *, temperature: float, probabilities: npt.NDArray[np.float64]
) -> tuple[str, ...]:
    """Return why a network is taken to have learned nothing, each sign as a phrase; empty where there is none.

    Args:
        fit: To its training scans.
        temperature: Fitted on scans that it was not trained on.
        probabilities: Of the scans that it is scored on, ``(N, K)``.

    Example:
        >>> fit = TrainingFit(num_scans=48, log_loss=0.69, prior_log_loss=0.693)
        >>> signs = signs_of_no_learning(fit, temperature=1.0, probabilities=np.array([[0.2, 0.8], [0.9, 0.1]]))
        >>> len(signs), signs[0].rpartition("; ")[2]
        (1, 'below 0.624 it would tell the classes apart')
    """
    signs = []
    if not fit.is_better_than_prior:
        limit = fit.log_loss_that_shows_learning
        signs.append(
            f"its log-loss on {fit.num_scans} of its own training scans is {fit.log_loss:.3f}, that of the prevalence "
            f"alone {fit.prior_log_loss:.3f}; below {limit:.3f} it would tell the classes apart"
        )
    spread = float(np.ptp(probabilities, axis=0).max()) if len(probabilities) > 1 else math.inf
    if spread < LEAST_SPREAD:
        signs.append(f"its probabilities of the scans that it is scored on differ by {spread:.4f} at most")
    if temperature > 0.999 * TEMPERATURE_BOUNDS[1]:
        signs.append(
            f"its temperature is at its bound, {temperature:.1f}: on other scans the logits were worth nothing"
        )
    return tuple(signs)
