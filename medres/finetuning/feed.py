"""From the packed cache to the network's input, the same way for training, features and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medres.preprocessing.augmentation import Augmenter, SliceAugmenter
from medres.preprocessing.cache import PackedCache
from medres.preprocessing.preprocessor import Preprocessor
from medres.preprocessing.stacks import Inputs

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Feed:
    """Prepared scans by row of the scan table.

    Args:
        cache: Holds all prepared scans.
        keys: Key in the cache of each row, ``(N,)``.
        preprocessor: Finishes a batch on the device.
        augmenter: Changes training scans; of the plan's kind (`make_augmenter`).
        device: Where batches go.
    """

    cache: PackedCache
    keys: Sequence[str]
    preprocessor: Preprocessor
    augmenter: Augmenter | SliceAugmenter
    device: torch.device

    def stored(self, rows: Rows) -> npt.NDArray[Any] | list[npt.NDArray[Any]]:
        """Return rows as they are stored, ``(B, C, *spatial)``; in 2.5D one array ``(C, slices, H, W)`` a row."""
        keys = [self.keys[row] for row in rows]
        return self.cache.read_each(keys) if self.cache.ragged else self.cache.read(keys)

    def inputs(self, rows: Rows, *, seeds: Sequence[int] | None = None) -> Inputs:
        """Return rows as the network reads them, on the device, with a mask of the slices in 2.5D.

        Args:
            rows: Rows of the table.
            seeds: One an augmented sample; None leaves the scans as they are.
        """
        augmenter, stored = self.augmenter, self.stored(rows)
        if seeds is None:
            return self.preprocessor.inputs(stored, device=self.device)
        if isinstance(augmenter, SliceAugmenter):
            change = _Seeded(augmenter, seeds)
            return self.preprocessor.inputs(stored, device=self.device, change=change)
        return Inputs(augmenter(self.preprocessor.inputs(stored, device=self.device).scans, seeds=seeds))

    def batch(self, rows: Rows, *, seeds: Sequence[int] | None = None) -> torch.Tensor:
        """Return the scans of `inputs`, ``(B, C, *spatial)`` float32, without the mask."""
        return self.inputs(rows, seeds=seeds).scans


@dataclass(frozen=True)
class _Seeded:
    """The changes of one batch."""

    augmenter: SliceAugmenter
    seeds: Sequence[int]

    def __call__(self, stacks: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        return self.augmenter(stacks, seeds=self.seeds, counts=counts)


def augmentation_seeds(rows: Rows, *, seed: int, epoch: int, repeats: Rows | None = None) -> list[int]:
    """Return one seed a row that depends on the run's seed, the row and the epoch alone (not on workers or ranks).

    Args:
        rows: Rows of the table.
        seed: Of the run.
        epoch: From 1.
        repeats: How often the epoch showed each row before (`medres.finetuning.sampling`), so that a scan that comes
            again looks different; None = never.
    """
    if repeats is None:
        repeats = np.zeros(len(rows), dtype=np.int64)
    entropies = [(seed, epoch, int(row), *_if_any(int(repeat))) for row, repeat in zip(rows, repeats, strict=True)]
    return [int(np.random.SeedSequence(entropy).generate_state(1)[0]) for entropy in entropies]


def _if_any(repeat: int) -> tuple[int, ...]:
    return (repeat,) if repeat else ()
