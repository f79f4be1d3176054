"""Views of test-time augmentation: the scan itself, mirrored, and slightly moved; the same for every scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch

from medres.errors import PlanError
from medres.planning.plan import Augmentation, Plan
from medres.preprocessing.augmentation import Augmenter
from medres.preprocessing.stacks import Inputs

View = Callable[[Inputs], Inputs]

#: Views move scans half as far at most as training does: well inside of what the network was trained on.
_SHARE_OF_TRAINING = 0.5


def views_of(plan: Plan, *, tta: int) -> tuple[View, ...]:
    """Return the views that logits are averaged over: the scan itself, then ``tta`` others.

    The others are all mirrorings along the axes that the plan allows, then affine moves. A move is drawn from the
    number of its view alone, so that it is the same for every scan, today and in a year. Brightness, contrast and noise
    stay as they are: they would add their own error and cancel none.

    Args:
        plan: Says what leaves the diagnosis as it is.
        tta: Number of views beside the scan itself.

    Raises:
        PlanError: The plan allows too few changes for that many views.
    """
    most = plan.augmentation
    flips = [axes for size in range(1, len(most.flip_axes) + 1) for axes in combinations(most.flip_axes, size)]
    moves = bool(most.rotation_degrees or most.scale or most.translation)
    if tta > len(flips) and not moves:
        raise PlanError(
            f"optimisation.tta is {tta}, but the plan's augmentation allows {len(flips)} views beside the scan itself.",
            fix=f"Set optimisation.tta={len(flips)}, or let the plan rotate, scale or move scans.",
        )
    mirrored = [_Mirrored(tuple(axis - len(plan.shape) for axis in axes)) for axes in flips[:tta]]
    moved = [_moved(plan, number) for number in range(len(mirrored) + 1, tta + 1)]
    return (_itself, *mirrored, *moved)


def _itself(inputs: Inputs) -> Inputs:
    return inputs


@dataclass(frozen=True)
class _Mirrored:
    """Mirror along axes, counted from the last one."""

    axes: tuple[int, ...]

    def __call__(self, inputs: Inputs) -> Inputs:
        return inputs._replace(scans=inputs.scans.flip(self.axes))


@dataclass(frozen=True)
class _Moved:
    """Rotate, zoom, shift and mirror all scans alike; slices (2.5D) in their plane."""

    augmenter: Augmenter
    number: int

    def __call__(self, inputs: Inputs) -> Inputs:
        if inputs.slice_mask is None:
            return inputs._replace(scans=self._move(inputs.scans))
        slices = self._move(inputs.scans.flatten(0, 1))
        return inputs._replace(scans=torch.unflatten(slices, 0, inputs.scans.shape[:2]))

    def _move(self, scans: torch.Tensor) -> torch.Tensor:
        return self.augmenter(scans.contiguous(), seeds=[self.number] * len(scans))


def _moved(plan: Plan, number: int) -> _Moved:
    most, share = plan.augmentation, _SHARE_OF_TRAINING
    dims = 2 if plan.slicewise else plan.spatial_dims
    gentle = Augmentation(
        flip_axes=tuple(axis - (len(plan.shape) - dims) for axis in most.flip_axes),
        rotation_degrees=share * most.rotation_degrees, scale=share * most.scale, translation=share * most.translation,
        brightness=0, contrast=0, noise=0,
    )  # fmt: skip
    return _Moved(Augmenter(gentle, spatial_dims=dims, spacing_mm=plan.spacing_mm), number)
