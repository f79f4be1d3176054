"""`Augmenter`: random changes of a batch on its device, each sample's from its own seed.

In the order in which they come about: the patient lies another way (one affine interpolation), the scanner is less
sharp (blur), its coils shade the image (bias field), tissues differ more or less (gamma, contrast, brightness), and its
receiver adds noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from medres.planning.plan import Augmentation, Plan
from medres.preprocessing.blurring import gaussian_blur
from medres.preprocessing.draws import Draws, draw
from medres.preprocessing.shading import log_fields, shade
from medres.preprocessing.stacks import Inputs
from medres.preprocessing.warping import Float64, rotation_matrices, sampling_matrices, warp

_NO_SPREAD = 1e-12


class Augmenter:
    """Change every sample of a batch at random: one affine interpolation, then its intensities.

    What happens to a sample depends on its seed alone, not on the batch, the device or the worker. All
    magnitudes are uniform up to those of the plan.

    Args:
        augmentation: The magnitudes.
        spatial_dims: 2 or 3.
        spacing_mm: Of the input's voxels, so that rotations turn anatomy and not voxels, and a blur is as wide in mm
            along each axis; None: cubes.

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
        return self.change_intensity(self.move(batch, draws), draws)

    def draw(self, seeds: Sequence[int]) -> Draws:
        """Return what the seeds stand for (Philox, one stream a seed)."""
        return draw(self.augmentation, seeds, spatial_dims=self.spatial_dims)

    def move(self, batch: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Return a copy of ``batch (B, C, *spatial)`` that is turned, zoomed, shifted, cropped and mirrored."""
        most = self.augmentation
        if not (most.rotation_degrees or most.scale or most.translation or most.crop):
            return _mirror(batch, draws.flips)
        extent = [size * step for size, step in zip(batch.shape[2:], self._spacing, strict=True)]
        matrices, offsets = sampling_matrices(
            rotation_matrices(draws.radians),
            zooms=draws.zooms / draws.windows,
            flips=draws.flips,
            shifts=draws.shifts,
            extent=extent,
        )
        # a window of half the size has its middle at most a quarter of the size from the middle
        return warp(batch, matrices, offsets + draws.places * (1 - draws.windows)[:, None])

    def change_intensity(self, batch: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Change the values of ``batch (B, C, ..., *spatial)``, which is a copy already: in place where it can be."""
        most, spatial = self.augmentation, tuple(batch.shape[-self.spatial_dims :])
        if most.blur:
            batch = gaussian_blur(batch, draws.blur[:, None] * min(self._spacing) / np.array(self._spacing))
        if most.bias_field:
            field = log_fields(spatial, draws.shading_shape, largest=draws.shading, device=batch.device)
            batch = shade(batch, field)
        if most.gamma:
            batch = _bend(batch, draws.gammas)
        if most.contrast or most.brightness or most.noise:
            batch = self._rescale(batch, draws)
        return batch

    def _rescale(self, batch: torch.Tensor, draws: Draws) -> torch.Tensor:
        mean = _per_sample(batch).mean(dim=1)
        spread = (_per_sample(batch) - mean[:, None]).square_().mean(dim=1).sqrt()
        gains, brightness, noise = (
            _on_device(values, batch.device) for values in (draws.gains, draws.brightness, draws.noise)
        )
        changed = _per_sample(batch).mul_(gains[:, None])
        changed.add_((mean * (1 - gains) + brightness * spread)[:, None])
        if self.augmentation.noise:
            changed.addcmul_(_noise(changed, draws.noise_seeds), (noise * spread)[:, None])
        return changed.reshape(batch.shape)


def _mirror(batch: torch.Tensor, flips: npt.NDArray[np.bool_]) -> torch.Tensor:
    out = batch.clone(memory_format=torch.contiguous_format)
    for axis in range(flips.shape[1]):
        chosen = torch.from_numpy(np.flatnonzero(flips[:, axis])).to(batch.device)
        if len(chosen):
            out[chosen] = out[chosen].flip(axis + 2)
    return out


def _bend(batch: torch.Tensor, gammas: Float64) -> torch.Tensor:
    """Apply the curve ``x ** gamma`` in place to each channel, from its darkest to its brightest voxel.

    These two stay where they are, whatever the sign of the values, and the order of voxels is kept. Since the curve
    goes with the channel's own range, it is the same before and after the channel was scaled to other statistics.
    """
    values = batch.flatten(2)
    darkest, brightest = (bound[:, :, None] for bound in torch.aminmax(values, dim=2))
    span = brightest - darkest
    values.sub_(darkest).div_(span.clamp(min=_NO_SPREAD)).clamp_(0, 1)
    # the logarithm of 0 is -inf, and its exponential 0 again; `pow` with a tensor as exponent takes 4 times as long
    values.log_().mul_(_on_device(gammas, batch.device)[:, None, None]).exp_()
    return values.mul_(span).add_(darkest).reshape(batch.shape)


def _on_device(values: Float64, device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


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
            # scan by scan: padding is not computed, and each has many slices
            own, draws = stacks[row : row + 1, :, :count], self.draw([seed])
            moved = self._plane.move(own.flatten(1, 2), draws).reshape(own.shape)
            out[row, :, :count] = self._plane.change_intensity(moved, draws)[0]
        return out

    def draw(self, seeds: Sequence[int]) -> Draws:
        """Return what the seeds stand for; axes are those of the plane, 0 = H."""
        return self._plane.draw(seeds)

    def leave_out(self, inputs: Inputs, *, seeds: Sequence[int]) -> Inputs:
        """Take slices out of the mask: they are not computed and have no weight. At least one of a scan stays.

        They still stand beside their neighbours, whose channels they are.

        Args:
            inputs: Of a batch.
            seeds: One a scan.
        """
        if inputs.slice_mask is None or not self.augmentation.slice_dropout:
            return inputs
        draws, masks = self.draw(seeds), inputs.slice_mask.cpu().numpy().copy()
        for mask, share, seed in zip(masks, draws.left_out, draws.slice_seeds, strict=True):
            there = np.flatnonzero(mask)
            order = np.random.Generator(np.random.Philox(int(seed))).permutation(len(there))
            mask[there[order[: int(share * len(there))]]] = False  # the share is below 1
        return inputs._replace(slice_mask=torch.from_numpy(masks).to(inputs.slice_mask.device))


def make_augmenter(plan: Plan) -> Augmenter | SliceAugmenter:
    """Return what changes the scans of a plan."""
    if plan.slicewise:
        return SliceAugmenter(plan.augmentation, spacing_mm=plan.spacing_mm)
    return Augmenter(plan.augmentation, spatial_dims=plan.spatial_dims, spacing_mm=plan.spacing_mm)
