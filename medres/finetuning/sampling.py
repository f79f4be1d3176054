"""The order in which an epoch shows the training scans: each one once, or each class equally often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Sampling = Literal["shuffled", "balanced"]
Positions = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: A scan, and with it a patient, is shown at most this many times as often as in a shuffled epoch. A class of 3 scans
#: among 600 would be shown 100 times each: the network would know them by heart.
MAX_OVERSAMPLING = 10.0


@dataclass(frozen=True, kw_only=True)
class EpochOrder:
    """Which samples an epoch shows, in which order.

    Args:
        positions: Positions in the training samples, ``(N,)``.
        repeats: How often each one was shown before in this epoch, ``(N,)``: a repeated scan is augmented anew.
    """

    positions: Positions
    repeats: Positions


def epoch_order(class_indices: npt.NDArray[np.int64], *, sampling: Sampling, seed: int, epoch: int) -> EpochOrder:
    """Return the order of an epoch, which depends on the labels, the seed and the epoch alone.

    ``shuffled`` shows every sample once. ``balanced`` shows N samples in all, of each class as many in expectation as
    `sampled_prior` says (to within one in each epoch); within a class no sample comes once more before all others came.

    Args:
        class_indices: Of the training samples, ``(N,)``.
        sampling: Which of the two.
        seed: Of the run.
        epoch: From 1.

    Example:
        >>> order = epoch_order(np.array([0, 0, 0, 0, 0, 1]), sampling="balanced", seed=0, epoch=1)
        >>> len(order.positions), int((order.positions == 5).sum()), int(order.repeats.max())
        (6, 3, 2)
    """
    rng = np.random.default_rng((seed, epoch))
    if sampling == "shuffled":
        return EpochOrder(
            positions=rng.permutation(len(class_indices)), repeats=np.zeros(len(class_indices), dtype=np.int64)
        )
    quotas = _quotas(np.bincount(class_indices), rng)
    drawn = [_draw(np.flatnonzero(class_indices == index), quota, rng) for index, quota in enumerate(quotas)]
    positions = rng.permutation(np.concatenate(drawn))
    return EpochOrder(positions=positions, repeats=_repeats(positions))


def sampled_prior(counts: npt.NDArray[np.int64]) -> Floats:
    """Return the share of each class in a balanced epoch, ``(K,)``.

    The same for all classes that there are, as long as no sample is shown more than `MAX_OVERSAMPLING` times as often
    as it would be; what a rarer class cannot take goes to the others.

    Args:
        counts: Training samples of each class, ``(K,)``.

    Example:
        >>> sampled_prior(np.array([70, 30])).tolist(), sampled_prior(np.array([198, 2])).round(2).tolist()
        ([0.5, 0.5], [0.9, 0.1])
    """
    most = MAX_OVERSAMPLING * counts / counts.sum()
    shares, free = np.zeros(len(counts)), counts > 0
    while True:
        level = (1.0 - shares.sum()) / free.sum()
        capped = free & (most < level)
        if not capped.any():
            return np.where(free, level, shares)
        shares[capped] = most[capped]
        free &= ~capped


def _quotas(counts: npt.NDArray[np.int64], rng: np.random.Generator) -> list[int]:
    """Return whole numbers that sum to N and are N times the shares in expectation (systematic sampling)."""
    total = int(counts.sum())
    edges = np.concatenate([[0.0], np.cumsum(sampled_prior(counts)) * total])
    edges[-1] = total  # whatever rounding left
    return [int(quota) for quota in np.diff(np.floor(edges + rng.random()))]


def _draw(members: Positions, quota: int, rng: np.random.Generator) -> Positions:
    if not quota:
        return members[:0]
    times, rest = divmod(quota, len(members))
    return np.concatenate([np.tile(members, times), rng.choice(members, rest, replace=False)])


def _repeats(positions: Positions) -> Positions:
    by_position = np.argsort(positions, kind="stable")
    _, starts, counts = np.unique(positions[by_position], return_index=True, return_counts=True)
    repeats = np.empty_like(positions)
    repeats[by_position] = np.arange(len(positions)) - np.repeat(starts, counts)
    return repeats
