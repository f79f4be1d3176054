"""What the trained part of the network reads: the frozen part run in every epoch, or its kept activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from medres.finetuning.activations import Activations, view_of
from medres.finetuning.feed import Feed, Rows
from medres.finetuning.inference import laid_out
from medres.finetuning.prefix_cache import Autocast
from medres.preprocessing.stacks import Inputs


class FrozenPart(Protocol):
    """Gives the input of the trained part."""

    def __call__(self, rows: Rows, *, epoch: int) -> Inputs:
        """Return what the trained part reads of some rows in an epoch, on the device, without a gradient."""
        ...


@dataclass(frozen=True, kw_only=True)
class LivePart:
    """Runs the frozen part in every epoch, each time on a new augmentation.

    Args:
        feed: Prepared scans.
        prefix: The frozen part; the identity where everything is trained.
        seed: Of the augmentation.
        augment: Whether scans are augmented.
        autocast: Arithmetic of training.
    """

    feed: Feed
    prefix: nn.Module
    seed: int
    augment: bool
    autocast: Autocast

    def __call__(self, rows: Rows, *, epoch: int) -> Inputs:
        """Return what the trained part reads."""
        seeds = self.feed.seeds(rows, seed=self.seed, epoch=epoch) if self.augment else None
        inputs = self.feed.inputs(rows, seeds=seeds)
        with torch.no_grad(), self.autocast():
            return Inputs(self.prefix(laid_out(inputs), *inputs.beside), inputs.slice_mask)


@dataclass(frozen=True, kw_only=True)
class KeptPart:
    """Reads activations that were computed before.

    Args:
        feed: Prepared scans.
        activations: Of all rows and views.
        views: How many there are.
        seed: Says which view an epoch sees.
    """

    feed: Feed
    activations: Activations
    views: int
    seed: int

    def __call__(self, rows: Rows, *, epoch: int) -> Inputs:
        """Return what the trained part reads."""
        keys = [self.feed.keys[row] for row in rows]
        inputs = self.activations.read(rows, view_of(keys, epoch=epoch, views=self.views, seed=self.seed))
        is_map = inputs.scans.ndim > (3 if inputs.slice_mask is not None else 2)
        return Inputs(laid_out(inputs), inputs.slice_mask) if is_map else inputs
