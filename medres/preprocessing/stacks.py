"""Stacks of slices (2.5D): scans of different numbers of slices in one batch, and the slices beside a slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch


class Inputs(NamedTuple):
    """What a network reads.

    Args:
        scans: ``(B, C, *spatial)``; in 2.5D ``(B, D, C, H, W)``.
        slice_mask: In 2.5D ``(B, D)``, True where there is a slice; else None.
    """

    scans: torch.Tensor
    slice_mask: torch.Tensor | None = None

    @property
    def beside(self) -> tuple[torch.Tensor, ...]:
        """What goes to the network, and to each half of it, beside the scans: the mask, if there is one."""
        return () if self.slice_mask is None else (self.slice_mask,)


def pad_stacks(stacks: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], list[int]]:
    """Return stacks ``(C, n, H, W)`` as one array ``(B, C, D, H, W)``, D the most of them, and the n of each.

    Behind its n slices a stack is 0. How many it has is told by its shape, never by its values.

    Example:
        >>> padded, counts = pad_stacks([np.ones((1, 2, 4, 4)), np.ones((1, 3, 4, 4))])
        >>> padded.shape, counts
        ((2, 1, 3, 4, 4), [2, 3])
    """
    counts = [stack.shape[1] for stack in stacks]
    channels, _, *plane = stacks[0].shape
    padded = np.zeros((len(stacks), channels, max(counts), *plane), dtype=stacks[0].dtype)
    for row, stack in zip(padded, stacks, strict=True):
        row[:, : stack.shape[1]] = stack
    return padded, counts


def slice_mask(counts: torch.Tensor, depth: int) -> torch.Tensor:
    """Return ``(B, D)``, True for the first ``counts[b]`` of ``depth`` slices.

    Example:
        >>> slice_mask(torch.tensor([1, 3]), 3).tolist()
        [[True, False, False], [True, True, True]]
    """
    return torch.arange(depth, device=counts.device) < counts[:, None]


def with_neighbours(volumes: torch.Tensor, counts: torch.Tensor, *, neighbours: int) -> torch.Tensor:
    """Return each slice with those beside it as channels: channel c of neighbour n becomes channel ``c * k + n``.

    At either end of a scan its first or last slice stands in for the one that is not there.

    Args:
        volumes: ``(B, C, D, H, W)``.
        counts: How many slices each scan has, ``(B,)``.
        neighbours: k, odd.

    Returns:
        ``(B, D, C * k, H, W)``.

    Example:
        >>> slices = torch.arange(3.0).reshape(1, 1, 3, 1, 1)
        >>> with_neighbours(slices, torch.tensor([2]), neighbours=3)[0, :2, :, 0, 0].tolist()
        [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    """
    if neighbours == 1:
        return volumes.transpose(1, 2).contiguous()
    own = torch.arange(volumes.shape[2], device=volumes.device)
    steps = range(-(neighbours // 2), neighbours // 2 + 1)
    last = (counts - 1)[:, None]
    places = [(own + step)[None].clamp(min=0).minimum(last) for step in steps]  # (B, D) each
    rows = torch.arange(len(volumes), device=volumes.device)[:, None]
    shown = torch.stack([volumes[rows, :, place] for place in places], dim=3)  # (B, D, C, k, H, W)
    return shown.flatten(2, 3)
