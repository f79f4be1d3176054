"""Mixup and CutMix: batches of mixed scans with mixed labels, on the device.

Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018); Yun et al., "CutMix" (ICCV 2019), in 3D with a
box in the place of the rectangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812 -- the field's own name

from medres.errors import ConfigError
from medres.finetuning.optimisation import Optimisation

Seed = int | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class MixedBatch:
    """Scans and what they show.

    Args:
        scans: ``(B, C, *spatial)``.
        targets: Share of each class, ``(B, K)`` float32; rows sum to 1.
    """

    scans: torch.Tensor
    targets: torch.Tensor


def mix_batch(
    scans: torch.Tensor, class_indices: torch.Tensor, *, num_classes: int, mixup: float, cutmix: float, seed: Seed
) -> MixedBatch:
    """Mix each scan of a batch with another one of it.

    Partners go round in a random ring, so that nobody is mixed with itself; each pair has its own share. A batch of
    one passes through.

    Args:
        scans: ``(B, C, *spatial)``, images or volumes.
        class_indices: ``(B,)``, on the same device.
        num_classes: K.
        mixup: Alpha of mixup; 0 = off.
        cutmix: Alpha of CutMix; 0 = off. With both, the batch is mixed by one of them, drawn evenly.
        seed: All that the mix depends on beside the batch.

    Example:
        >>> scans, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
        >>> mixed = mix_batch(scans, labels, num_classes=2, mixup=0.2, cutmix=0.0, seed=(0, 1, 2))
        >>> mixed.scans.shape, mixed.targets.sum(dim=1).round(decimals=4).tolist()
        (torch.Size([4, 1, 8, 8]), [1.0, 1.0, 1.0, 1.0])
    """
    targets = F.one_hot(class_indices, num_classes).float()
    if len(scans) < 2 or not (mixup or cutmix):
        return MixedBatch(scans=scans, targets=targets)
    rng = np.random.default_rng(seed)
    partners = torch.from_numpy(_ring(len(scans), rng)).to(scans.device)
    if cutmix and (not mixup or rng.random() < 0.5):
        mixed, kept = _paste_boxes(scans, scans[partners], rng.beta(cutmix, cutmix, len(scans)), rng)
    else:
        kept = rng.beta(mixup, mixup, len(scans))
        mixed = torch.lerp(scans[partners], scans, _column(kept, scans))
    return MixedBatch(scans=mixed, targets=torch.lerp(targets[partners], targets, _column(kept, targets)))


def check_mixing(optimisation: Optimisation, *, views: int, slicewise: bool) -> None:
    """Refuse mixup and CutMix where they cannot be done.

    Args:
        optimisation: May ask for them.
        views: Cached views of the frozen prefix that a stage trains on; 0 = none.
        slicewise: Whether scans are read slice by slice (2.5D).

    Raises:
        ConfigError: Frozen features cannot be mixed as scans are; slices of two scans do not lie at one place.
    """
    if not optimisation.mixes:
        return
    asked = " and ".join(name for name in ("mixup", "cutmix") if getattr(optimisation, name))
    if views:
        raise ConfigError(
            f"optimisation.{asked} mixes scans before the network, but this stage trains on {views} cached views of "
            "its frozen part, which were computed from single scans.",
            fix=f"Set optimisation.{asked}=0, or run the frozen part in every epoch: optimisation.views=0.",
        )
    if slicewise:
        raise ConfigError(
            f"optimisation.{asked} cannot mix scans that are read slice by slice (--dims 2.5): slice 7 of one scan is "
            "not where slice 7 of another is, and one scan has more slices than the other.",
            fix=f"Set optimisation.{asked}=0, or use --dims 3.",
        )


def _ring(size: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    order = rng.permutation(size)
    partners = np.empty(size, dtype=np.int64)
    partners[order] = np.roll(order, 1)
    return partners


def _paste_boxes(
    scans: torch.Tensor, others: torch.Tensor, shares: npt.NDArray[np.float64], rng: np.random.Generator
) -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
    """Return copies with a box of the other scan in each, and the share that was kept: boxes are cut at the border."""
    mixed, sizes, kept = scans.clone(), np.array(scans.shape[2:]), np.empty(len(scans))
    for row, share in enumerate(shares):
        sides = np.rint(sizes * (1.0 - share) ** (1 / len(sizes))).astype(int)
        starts = rng.integers(sizes) - sides // 2
        low, high = np.clip(starts, 0, sizes), np.clip(starts + sides, 0, sizes)
        box = tuple(slice(*ends) for ends in zip([0, *low], [scans.shape[1], *high], strict=True))
        mixed[row][box] = others[row][box]
        kept[row] = 1.0 - np.prod(high - low) / np.prod(sizes)
    return mixed, kept


def _column(values: npt.NDArray[np.float64], like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).view(-1, *[1] * (like.ndim - 1))
