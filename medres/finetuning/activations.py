"""Kept activations: what comes out of the frozen part of a network, by scan and view."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medres.finetuning.feed import Feed, Rows, augmentation_seeds
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.stacks import Inputs, pad_stacks, slice_mask

#: File whose time says when activations were last read.
USED_MARK = ".used"
#: Activations that nobody read for so long make room for others.
UNUSED_SECONDS = 12 * 3600


@dataclass(frozen=True, kw_only=True)
class Activations:
    """What comes out of the frozen part, by row and view.

    Args:
        feed: Whose rows they are of, and on whose device they are wanted.
        cache: Holds them.
        slicewise: Whether a row is a stack of slices (2.5D).
        held: Those that are in memory already.
    """

    feed: Feed
    cache: PackedCache
    slicewise: bool
    held: dict[str, npt.NDArray[Any]]

    def read(self, rows: Rows, views: Sequence[int]) -> Inputs:
        """Return activations as the rest of the network reads them, fp32 and on the device.

        Args:
            rows: Rows of the feed.
            views: View of each; 0 is the scan itself.
        """
        arrays = self._arrays([view_key(self.feed.keys[row], view) for row, view in zip(rows, views, strict=True)])
        if not self.slicewise:
            return Inputs(_on(self.feed.device, np.stack(arrays)))
        padded, counts = pad_stacks(arrays)
        stacks = _on(self.feed.device, padded).transpose(1, 2).contiguous()
        return Inputs(stacks, slice_mask(torch.tensor(counts, device=self.feed.device), stacks.shape[1]))

    def _arrays(self, keys: Sequence[str]) -> list[npt.NDArray[Any]]:
        if self.held:
            return [self.held[key] for key in keys]
        mark_used(self.cache)
        return self.cache.read_each(keys)


def view_of(keys: Sequence[str], *, epoch: int, views: int, seed: int, repeats: Rows | None = None) -> list[int]:
    """Return which view of each scan an epoch sees: all of them in turn, each scan beginning with another.

    Args:
        keys: What each scan is drawn by (`Feed.drawn_by`).
        epoch: Counted from 1.
        views: How many there are.
        seed: Of the run.
        repeats: How often the epoch showed each scan before; None = never.

    Example:
        >>> seen = [view_of(["a"], epoch=epoch, views=3, seed=0)[0] for epoch in (1, 2, 3, 4)]
        >>> sorted(seen[:3]), seen[3] == seen[0]
        ([0, 1, 2], True)
    """
    again = np.zeros(len(keys), dtype=np.int64) if repeats is None else repeats
    firsts = augmentation_seeds(keys, seed=seed, epoch=0)
    return [(epoch + first + int(repeat)) % views for first, repeat in zip(firsts, again, strict=True)]


def sweep_unused(folder: Path, *, older_than_seconds: float = UNUSED_SECONDS) -> int:
    """Remove activations that nobody has written or read for a while and return how many folders that were."""
    now, removed = time.time(), 0
    for kept in folder.glob("*/"):
        mark = kept / USED_MARK  # none where the process was killed before all were there
        if now - (mark if mark.is_file() else kept).stat().st_mtime > older_than_seconds:
            shutil.rmtree(kept, ignore_errors=True)
            removed += 1
    return removed


def mark_used(cache: PackedCache) -> None:
    """Note that kept activations are in use now; where nothing is kept there is nothing to note."""
    with suppress(FileNotFoundError):
        (cache.folder / USED_MARK).touch()


def view_key(key: str, view: int) -> str:
    """Return the key of a view of a scan."""
    return f"{key}-{view}"


def _on(device: torch.device, array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True).float()
