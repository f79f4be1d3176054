"""Class weights, the loss of each sample, and what both add to the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812 -- the field's own name

from medres.finetuning.optimisation import Optimisation
from medres.finetuning.sampling import sampled_prior

Weighting = Literal["balanced", "none"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainingLoss:
    """The loss of each sample of a batch.

    Cross-entropy takes hard targets (class indices) or soft ones (a probability a class, as mixup makes them)::

        loss = sum over k of w_k t'_k (-log p_k),    t' = (1 - s) t + s / K

    The weight stands inside the sum, as in `torch.nn.functional.cross_entropy`: the best answer is then
    ``p_k ~ w_k E[t'_k]``, so that taking log(w) off the logits is exact with label smoothing and mixup, too.

    The focal loss ``w_y (1 - p_y)^gamma (-log p_y)`` (Lin et al., ICCV 2017, with the softmax in the place of the
    sigmoid) takes hard targets only.

    Args:
        class_weights: ``(K,)``, on the device of the logits.
        kind: Which of the two.
        focal_gamma: Exponent of the focal loss; 0 gives the cross-entropy.
        label_smoothing: s, of the cross-entropy.

    Example:
        >>> loss = TrainingLoss(class_weights=torch.ones(2))
        >>> round(loss(torch.zeros(1, 2), torch.tensor([1])).item(), 4)
        0.6931
    """

    class_weights: torch.Tensor
    kind: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0

    @classmethod
    def of(cls, optimisation: Optimisation, *, class_weights: Floats, device: torch.device) -> TrainingLoss:
        """Return the loss that was asked for."""
        return cls(
            class_weights=torch.as_tensor(class_weights, dtype=torch.float32, device=device),
            kind=optimisation.loss, focal_gamma=optimisation.focal_gamma, label_smoothing=optimisation.label_smoothing,
        )  # fmt: skip

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the losses ``(B,)`` in fp32.

        Args:
            logits: ``(B, K)``.
            targets: Class indices ``(B,)``, or soft targets ``(B, K)`` whose rows sum to 1.
        """
        logits = logits.float()  # under autocast they may come in half precision
        if self.kind == "focal":
            return self._focal(logits, targets)
        return F.cross_entropy(
            logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing, reduction="none"
        )

    def _focal(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if targets.ndim != 1:
            raise ValueError("the focal loss takes class indices, not soft targets")
        log_p = F.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
        # 1 - p without cancellation; never quite 0, where the slope of a power below 1 is infinite
        missing = (-torch.expm1(log_p)).clamp_min(1e-12)
        return self.class_weights[targets] * missing**self.focal_gamma * -log_p


def mean_over_samples(losses: torch.Tensor, *, num_samples: int) -> torch.Tensor:
    """Return the sum of losses ``(B,)`` over a number of samples: what a step's gradient is taken of.

    Over the number of samples and not over their weights: in a small batch of one class the weight would cancel out.

    Args:
        losses: Of one part of a step (a micro-batch, a rank).
        num_samples: Samples of the whole step, so that the parts add up to the mean.
    """
    return losses.sum() / num_samples


def class_weights(class_indices: npt.NDArray[np.int64], *, num_classes: int, weighting: Weighting) -> Floats:
    """Return the weight of each class in the loss, shape ``(K,)``: n / (K n_c), as scikit-learn's ``balanced``.

    Example:
        >>> class_weights(np.array([0, 0, 0, 1]), num_classes=2, weighting="balanced").round(3).tolist()
        [0.667, 2.0]
    """
    if weighting == "none":
        return np.ones(num_classes)
    counts = np.bincount(class_indices, minlength=num_classes)
    return np.asarray(len(class_indices) / (num_classes * np.maximum(counts, 1)), dtype=np.float64)


def logit_offset(weights: Floats) -> Floats:
    """Return what a loss weighted by ``weights`` adds to the logits of a well-fitted model: log(weight).

    Taken off again, the probabilities are those of the data's own prevalence (a temperature cannot do that: .414
    against a prevalence of .146 was measured).
    """
    return np.log(weights)


def prior_offset(prior: Floats, *, sampled: Floats) -> Floats:
    """Return what training at another prevalence adds to the logits of a well-fitted model: log(sampled / prior).

    By Bayes' rule (Saerens et al., Neural Computation 2002): sampling changes how often a class comes, not how its
    scans look. A class without any scan keeps 0.

    Args:
        prior: Share of each class among the training scans, ``(K,)``.
        sampled: Share of each class among those shown, ``(K,)``.

    Example:
        >>> prior_offset(np.array([0.8, 0.2]), sampled=np.array([0.5, 0.5])).round(3).tolist()
        [-0.47, 0.916]
    """
    there = prior > 0
    return np.log(np.where(there, sampled, 1.0) / np.where(there, prior, 1.0))


def training_offset(class_indices: npt.NDArray[np.int64], *, num_classes: int, optimisation: Optimisation) -> Floats:
    """Return all that weights and sampling add to the logits, ``(K,)``.

    ``exp(training_offset(...))`` are the class weights of a shuffled training with the same aim: those that a solved
    head takes.

    Args:
        class_indices: Of the training scans, ``(N,)``.
        num_classes: K.
        optimisation: How they are weighted and sampled.

    Example:
        >>> labels = np.array([0, 0, 0, 1])
        >>> training_offset(labels, num_classes=2, optimisation=Optimisation(sampling="balanced")).round(3).tolist()
        [-0.405, 0.693]
    """
    weights = class_weights(class_indices, num_classes=num_classes, weighting=optimisation.class_weights)
    if optimisation.sampling == "shuffled":
        return logit_offset(weights)
    counts = np.bincount(class_indices, minlength=num_classes)
    return logit_offset(weights) + prior_offset(counts / counts.sum(), sampled=sampled_prior(counts))
