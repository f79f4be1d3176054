"""From the packed cache to the network's input, the same way for training, features and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from medres.preprocessing.augmentation import Augmenter
from medres.preprocessing.cache import PackedCache
from medres.preprocessing.preprocessor import Preprocessor

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Feed:
    """Prepared scans by row of the scan table.

    Args:
        cache: Holds all prepared scans.
        keys: Key in the cache of each row, ``(N,)``.
        preprocessor: Finishes a batch on the device.
        augmenter: Changes training scans.
        device: Where batches go.
    """

    cache: PackedCache
    keys: Sequence[str]
    preprocessor: Preprocessor
    augmenter: Augmenter
    device: torch.device

    def stored(self, rows: Rows) -> npt.NDArray[np.generic]:
        """Return rows as they are stored, ``(B, C, *spatial)``."""
        return self.cache.read([self.keys[row] for row in rows])

    def batch(self, rows: Rows, *, seeds: Sequence[int] | None = None) -> torch.Tensor:
        """Return rows as the network's input on the device, ``(B, C, *spatial)`` float32.

        Args:
            rows: Rows of the table.
            seeds: One an augmented sample; None leaves the scans as they are.
        """
        stored = torch.from_numpy(self.stored(rows)).to(self.device, non_blocking=True)
        batch = self.preprocessor.finish(stored)
        return batch if seeds is None else self.augmenter(batch, seeds=seeds)


def augmentation_seeds(rows: Rows, *, seed: int, epoch: int) -> list[int]:
    """Return one seed a row that depends on the run's seed, the row and the epoch alone (not on workers or ranks)."""
    return [int(np.random.SeedSequence((seed, epoch, int(row))).generate_state(1)[0]) for row in rows]
