"""From the packed cache to the network's input, the same way for training, features and evaluation."""

from __future__ import annotations

import hashlib
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
        appearances: What each row looks like whatever the unit of its voxels (`medres.data.perceptual`), ``(N,)``: its
            random changes follow from that, not from its key, which is another one in another unit. Rows of which none
            is known, and all where it is left out, go by their keys.
    """

    cache: PackedCache
    keys: Sequence[str]
    preprocessor: Preprocessor
    augmenter: Augmenter | SliceAugmenter
    device: torch.device
    appearances: Sequence[str] = ()

    def drawn_by(self, rows: Rows) -> list[str]:
        """Return what the random changes of rows follow from: equal for scans that differ by their unit alone."""
        looks = self.appearances or [""] * len(self.keys)
        return [looks[row] or self.keys[row] for row in rows]

    def stored(self, rows: Rows) -> npt.NDArray[Any] | list[npt.NDArray[Any]]:
        """Return rows as they are stored, ``(B, C, *spatial)``; in 2.5D one array ``(C, slices, H, W)`` a row."""
        keys = [self.keys[row] for row in rows]
        return self.cache.read_each(keys) if self.cache.ragged else self.cache.read(keys)

    def seeds(self, rows: Rows, *, seed: int, epoch: int, repeats: Rows | None = None) -> list[int]:
        """Return the augmentation seeds of rows, see `augmentation_seeds`."""
        return augmentation_seeds(self.drawn_by(rows), seed=seed, epoch=epoch, repeats=repeats)

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
            return augmenter.leave_out(self.preprocessor.inputs(stored, device=self.device, change=change), seeds=seeds)
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


def augmentation_seeds(
    keys: Sequence[str], *, seed: int, epoch: int, repeats: npt.NDArray[np.int64] | None = None
) -> list[int]:
    """Return one seed a scan that depends on the run's seed, the scan and the epoch alone.

    Not on its row, its batch, its fold, the worker or the rank: the same scan looks the same in all of them.

    Args:
        keys: What each scan is drawn by (`Feed.drawn_by`).
        seed: Of the run.
        epoch: Counted from 1; negative numbers stand for the views of a frozen part.
        repeats: How often the epoch showed each scan before (`medres.finetuning.sampling`), so that a scan that comes
            again looks different; None = never.

    Example:
        >>> augmentation_seeds(["a", "b"], seed=0, epoch=1) == augmentation_seeds(["b", "a"], seed=0, epoch=1)[::-1]
        True
    """
    again = np.zeros(len(keys), dtype=np.int64) if repeats is None else repeats
    texts = (f"{seed} {epoch} {key} {repeat or ''}" for key, repeat in zip(keys, again, strict=True))
    return [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
