"""The batches of an epoch, their parts, and the seeds of what is drawn for them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from medres.errors import TrainingError
from medres.finetuning.feed import Rows
from medres.finetuning.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class EpochPart:
    """Some samples of an epoch: their positions, and how often the epoch showed each of them before."""

    positions: Rows
    repeats: Rows

    def divided(self, count: int) -> list[EpochPart]:
        """Return even parts."""
        parts = zip(np.array_split(self.positions, count), np.array_split(self.repeats, count), strict=True)
        return [EpochPart(positions=positions, repeats=repeats) for positions, repeats in parts]

    def at(self, places: Rows) -> EpochPart:
        """Return the samples at some places."""
        return EpochPart(positions=self.positions[places], repeats=self.repeats[places])


def step_seed(seed: int, *, epoch: int, step: int, part: int = 0) -> int:
    """Return the seed of what a training step draws: of the run's seed, epoch, step and part of it alone."""
    return int(np.random.SeedSequence((seed, epoch, step, part)).generate_state(1)[0])


def parts_of(positions: Rows, ranks: Ranks, *, size: int) -> list[Rows]:
    """Return the parts that a process computes its share of a batch in: as many in each process, none of them empty.

    Args:
        positions: The whole batch.
        ranks: Processes that share it.
        size: Of a part; exceeded by one where shares are uneven and a part would be empty otherwise.

    Raises:
        TrainingError: The batch has fewer samples than there are processes.

    Example:
        >>> [part.tolist() for part in parts_of(np.arange(5), Ranks(), size=2)]
        [[0, 1], [2, 3], [4]]
    """
    if len(positions) < ranks.size:
        raise TrainingError(
            f"A batch of {len(positions)} scans cannot be divided among {ranks.size} processes.",
            fix="Use fewer processes or a larger --batch-size (it is that of all processes together).",
        )
    number = min(math.ceil(ranks.share_size(len(positions)) / size), len(positions) // ranks.size)
    return np.array_split(ranks.share(positions), number)
