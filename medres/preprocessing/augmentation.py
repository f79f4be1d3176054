"""`Augmenter`: random changes of a batch on its device, each sample's from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from medres.planning.plan import Augmentation, Plan
from medres.preprocessing.warping import Float64, rotation_matrices, sampling_matrices, warp

#: Uniform numbers a sample: 3 angles, 1 zoom, 3 shifts, 3 flips, contrast, brightness, noise.
_NUMBERS = 13


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What was drawn for each sample of a batch.

    Args:
        radians: Angles, ``(B, 3)`` about D, H, W or ``(B, 1)`` in the plane.
        zooms: ``(B,)``; above 1 the content grows.
        shifts: ``(B, dims)`` as a fraction of the input's size.
        flips: ``(B, dims)``.
        gains: ``(B,)``; contrast about the sample's mean.
        brightness: ``(B,)`` in standard deviations of the sample.
        noise: ``(B,)``; standard deviation of the noise in those of the sample.
        noise_seeds: ``(B,)``; below 2**32.
    """

    radians: Float64
    zooms: Float64
    shifts: Float64
    flips: npt.NDArray[np.bool_]
    gains: Float64
    brightness: Float64
    noise: Float64
    noise_seeds: npt.NDArray[np.int64]


class Augmenter:
    """Change every sample of a batch at random: one affine interpolation, then contrast, brightness and noise.

    What happens to a sample depends on its seed alone, not on the batch, the device or the worker. All
    magnitudes are uniform up to those of the plan.

    Args:
        augmentation: The magnitudes.
        spatial_dims: 2 or 3.
        spacing_mm: Of the input's voxels, so that rotations turn anatomy and not voxels; None: cubes.

    Example:
        >>> still = Augmentation(rotation_degrees=0, scale=0, translation=0, brightness=0, contrast=0, noise=0)
        >>> batch = torch.rand(2, 1, 8, 8)
        >>> torch.equal(Augmenter(still, spatial_dims=2)(batch, seeds=[0, 1]), batch)
        True
    """

    def __init__(
        self, augmentation: Augmentation, *, spatial_dims: int, spacing_mm: Sequence[float] | None = None
    ) -> None:
        self.augmentation = augmentation
        self.spatial_dims = spatial_dims
        self._spacing = tuple(spacing_mm or (1.0,) * spatial_dims)

    @torch.no_grad()
    def __call__(self, batch: torch.Tensor, *, seeds: Sequence[int]) -> torch.Tensor:
        """Return a changed copy, contiguous.

        Args:
            batch: ``(B, C, *spatial)``, float32, in the network's input space.
            seeds: One a sample, not negative.
        """
        if batch.ndim != self.spatial_dims + 2 or len(seeds) != len(batch):
            raise ValueError(f"{len(seeds)} seeds for a {self.spatial_dims}D batch {tuple(batch.shape)}")
        draws = self.draw(seeds)
        return self._change_intensity(self._move(batch, draws), draws)

    def draw(self, seeds: Sequence[int]) -> Draws:
        """Return what the seeds stand for (Philox, one stream a seed)."""
        streams = [np.random.Generator(np.random.Philox(int(seed))) for seed in seeds]
        uniform = np.array([stream.random(_NUMBERS) for stream in streams]).reshape(-1, _NUMBERS)
        noise_seeds = np.array([stream.integers(2**32) for stream in streams], dtype=np.int64)
        dims, most = self.spatial_dims, self.augmentation
        signed = 2 * uniform - 1
        return Draws(
            radians=np.deg2rad(most.rotation_degrees) * signed[:, : 3 if dims == 3 else 1],
            zooms=1 + most.scale * signed[:, 3],
            shifts=most.translation * signed[:, 4 : 4 + dims],
            flips=(uniform[:, 7 : 7 + dims] < 0.5) & np.isin(np.arange(dims), most.flip_axes),
            gains=1 + most.contrast * signed[:, 10],
            brightness=most.brightness * signed[:, 11],
            noise=most.noise * uniform[:, 12],
            noise_seeds=noise_seeds,
        )

    def _move(self, batch: torch.Tensor, draws: Draws) -> torch.Tensor:
        most = self.augmentation
        if not (most.rotation_degrees or most.scale or most.translation):
            return _mirror(batch, draws.flips)
        extent = [size * step for size, step in zip(batch.shape[2:], self._spacing, strict=True)]
        matrices, offsets = sampling_matrices(
            rotation_matrices(draws.radians),
            zooms=draws.zooms,
            flips=draws.flips,
            shifts=draws.shifts,
            extent=extent,
        )
        return warp(batch, matrices, offsets)

    def _change_intensity(self, batch: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Change ``batch`` in place: it is a copy already."""
        most = self.augmentation
        if not (most.contrast or most.brightness or most.noise):
            return batch
        mean = _per_sample(batch).mean(dim=1)
        spread = (_per_sample(batch) - mean[:, None]).square_().mean(dim=1).sqrt()
        gains, brightness, noise = (
            torch.tensor(values, dtype=torch.float32, device=batch.device)
            for values in (draws.gains, draws.brightness, draws.noise)
        )
        changed = _per_sample(batch).mul_(gains[:, None])
        changed.add_((mean * (1 - gains) + brightness * spread)[:, None])
        if most.noise:
            changed.addcmul_(_noise(changed, draws.noise_seeds), (noise * spread)[:, None])
        return changed.reshape(batch.shape)


def _mirror(batch: torch.Tensor, flips: npt.NDArray[np.bool_]) -> torch.Tensor:
    out = batch.clone(memory_format=torch.contiguous_format)
    for axis in range(flips.shape[1]):
        chosen = torch.from_numpy(np.flatnonzero(flips[:, axis])).to(batch.device)
        if len(chosen):
            out[chosen] = out[chosen].flip(axis + 2)
    return out


def _per_sample(batch: torch.Tensor) -> torch.Tensor:
    return batch.view(len(batch), -1)


def _noise(like: torch.Tensor, seeds: npt.NDArray[np.int64]) -> torch.Tensor:
    """Return standard normal noise ``(B, N)``, made on the CPU so that it is the same for every device."""
    out = torch.empty(like.shape, dtype=torch.float32)
    generator = torch.Generator()
    for row, seed in zip(out, seeds, strict=True):
        row.normal_(generator=generator.manual_seed(int(seed)))
    return out.to(like.device)


class SliceAugmenter:
    """Change stacks of slices (2.5D) at random: in their plane, all slices of a scan alike.

    Args:
        augmentation: The magnitudes; axes to mirror are those of volumes, 1 = H and 2 = W.
        spacing_mm: (h, w) of the input's pixels; None: squares.

    Example:
        >>> still = Augmentation(rotation_degrees=0, scale=0, translation=0, brightness=0, contrast=0, noise=0)
        >>> stacks = torch.rand(1, 1, 3, 8, 8)
        >>> torch.equal(SliceAugmenter(still)(stacks, seeds=[0], counts=[3]), stacks)
        True
    """

    def __init__(self, augmentation: Augmentation, *, spacing_mm: Sequence[float] | None = None) -> None:
        in_plane = tuple(axis - 1 for axis in augmentation.flip_axes)
        self.augmentation = augmentation
        self._plane = Augmenter(
            augmentation.model_copy(update={"flip_axes": in_plane}), spatial_dims=2, spacing_mm=spacing_mm
        )

    @torch.no_grad()
    def __call__(self, stacks: torch.Tensor, *, seeds: Sequence[int], counts: Sequence[int]) -> torch.Tensor:
        """Return a changed copy; what is not one of a scan's slices is 0.

        Args:
            stacks: ``(B, C, D, H, W)``, float32.
            seeds: One a scan, not negative.
            counts: How many slices each scan has; its own mean and deviation are those of them alone.
        """
        out = torch.zeros(stacks.shape, dtype=stacks.dtype, device=stacks.device)
        for row, (seed, count) in enumerate(zip(seeds, counts, strict=True)):
            own = stacks[row, :, :count]
            changed = self._plane(own.reshape(1, -1, *own.shape[2:]), seeds=[seed])
            out[row, :, :count] = changed.reshape(own.shape)
        return out


def make_augmenter(plan: Plan) -> Augmenter | SliceAugmenter:
    """Return what changes the scans of a plan."""
    if plan.slicewise:
        return SliceAugmenter(plan.augmentation, spacing_mm=plan.spacing_mm)
    return Augmenter(plan.augmentation, spatial_dims=plan.spatial_dims, spacing_mm=plan.spacing_mm)
