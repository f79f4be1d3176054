"""What the trained part of the network reads: the frozen part run in every epoch, or its kept activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from medres.finetuning.activations import Activations, view_of
from medres.finetuning.feed import Feed, Rows
from medres.finetuning.inference import laid_out
from medres.finetuning.mixing import mix_batch
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.prefix_cache import Autocast
from medres.preprocessing.stacks import Inputs


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some training scans of an epoch.

    Args:
        rows: Rows of the feed, ``(B,)``.
        class_indices: ``(B,)``, on the device.
        epoch: Counted through the fold from 1.
        repeats: How often the epoch showed each of them before, ``(B,)``.
        seed: Of what is drawn for the batch as a whole (mixing).
    """

    rows: Rows
    class_indices: torch.Tensor
    epoch: int
    repeats: Rows
    seed: int


class FrozenPart(Protocol):
    """Gives the input of the trained part."""

    def __call__(self, batch: Batch) -> tuple[Inputs, torch.Tensor]:
        """Return what the trained part reads, on the device and without a gradient, and its targets.

        Targets are class indices ``(B,)``, or shares of classes ``(B, K)`` where scans are mixed.
        """
        ...

    def unchanged(self, rows: Rows) -> Inputs:
        """Return what the trained part reads of scans as they are, neither augmented nor mixed."""
        ...


@dataclass(frozen=True, kw_only=True)
class LivePart:
    """Runs the frozen part in every epoch, each time on a new augmentation.

    Args:
        feed: Prepared scans.
        prefix: The frozen part; the identity where everything is trained.
        seed: Of the augmentation.
        optimisation: Whether scans are augmented and mixed.
        num_classes: Of soft targets.
        autocast: Arithmetic of training.
    """

    feed: Feed
    prefix: nn.Module
    seed: int
    optimisation: Optimisation
    num_classes: int
    autocast: Autocast

    def __call__(self, batch: Batch) -> tuple[Inputs, torch.Tensor]:
        """Return what the trained part reads."""
        seeds = None
        if self.optimisation.augment:
            seeds = self.feed.seeds(batch.rows, seed=self.seed, epoch=batch.epoch, repeats=batch.repeats)
        inputs, targets = self._mixed(self.feed.inputs(batch.rows, seeds=seeds), batch)
        return self._through(inputs), targets

    def unchanged(self, rows: Rows) -> Inputs:
        """Return what the trained part reads of scans as they are."""
        return self._through(self.feed.inputs(rows))

    def _through(self, inputs: Inputs) -> Inputs:
        with torch.no_grad(), self.autocast():
            return Inputs(self.prefix(laid_out(inputs), *inputs.beside), inputs.slice_mask)

    def _mixed(self, inputs: Inputs, batch: Batch) -> tuple[Inputs, torch.Tensor]:
        optimisation = self.optimisation
        if not optimisation.mixes:
            return inputs, batch.class_indices
        mixed = mix_batch(
            inputs.scans, batch.class_indices, num_classes=self.num_classes, mixup=optimisation.mixup,
            cutmix=optimisation.cutmix, seed=batch.seed,
        )  # fmt: skip
        return Inputs(mixed.scans, inputs.slice_mask), mixed.targets


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

    def __call__(self, batch: Batch) -> tuple[Inputs, torch.Tensor]:
        """Return what the trained part reads."""
        views = view_of(
            self.feed.drawn_by(batch.rows), epoch=batch.epoch, views=self.views, seed=self.seed, repeats=batch.repeats
        )
        return self._read(batch.rows, views), batch.class_indices

    def unchanged(self, rows: Rows) -> Inputs:
        """Return what the trained part reads of scans as they are: of view 0."""
        return self._read(rows, [0] * len(rows))

    def _read(self, rows: Rows, views: Sequence[int]) -> Inputs:
        inputs = self.activations.read(rows, views)
        is_map = inputs.scans.ndim > (3 if inputs.slice_mask is not None else 2)
        return Inputs(laid_out(inputs), inputs.slice_mask) if is_map else inputs
