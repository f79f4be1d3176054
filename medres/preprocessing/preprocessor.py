"""`Preprocessor`: the one object that turns a scan into the network's input, in training and in use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medres.data.image import ScanImage
from medres.data.statistics import foreground_box, foreground_mask
from medres.errors import DataError
from medres.planning.plan import Plan
from medres.preprocessing.channels import repeat_channels, select_channels, stored_channels
from medres.preprocessing.geometry import Geometry, plan_geometry, resample
from medres.preprocessing.intensity import make_scheme, standardise
from medres.preprocessing.stacks import Inputs, pad_stacks, slice_mask, with_neighbours
from medres.runs.documents import digest_of
from medres.runs.host import independent_of_host

#: Raised whenever `Preprocessor.prepare` stores other values for the same plan and scan: old caches are then
#: left.
PREPARATION_VERSION = 2

#: Random changes of stacks of slices ``(B, C, D, H, W)`` of which each has so many.
ChangeStacks = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]


class Preprocessor:
    """Prepare scans by a plan.

    It holds nothing but the plan: calls depend on their arguments alone, and may come from several threads.

    Args:
        plan: What was decided about the data.

    Example:
        >>> plan = Plan(spatial_dims=2, modality="other", shape=(8, 8), in_channels=1, batch_size=1,
        ...             intensity={"scheme": "scaled", "scale_range": (0, 255)}, augmentation={})
        >>> image = ScanImage(voxels=np.full((1, 16, 16), 255, dtype=np.uint8), affine=None, spacing_mm=None,
        ...                   content_hash="")
        >>> preprocessor = Preprocessor(plan)
        >>> stored, _ = preprocessor.prepare(image)
        >>> stored.shape, stored.dtype
        ((1, 8, 8), dtype('uint8'))
        >>> preprocessor.finish(torch.from_numpy(stored)[None]).unique()  # (1 - mean) / std
        tensor([1.])
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._scheme = make_scheme(plan.intensity)

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """Type of a prepared array: int16 (HU), float16, or uint8 (eight-bit images)."""
        return self._scheme.storage_dtype

    @property
    def stored_channels(self) -> int:
        """Channels of a prepared array: for HU one a sequence, whatever the number of windows."""
        return stored_channels(self.plan)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of a prepared array, ``(stored_channels, *plan.shape)``; in 2.5D of one with the most slices."""
        return (self.stored_channels, *self.plan.shape)

    @property
    def cache_key(self) -> str:
        """SHA-256 of all that decides what `prepare` returns, and of nothing else."""
        return digest_of(
            {
                "version": PREPARATION_VERSION,
                "plan": self.plan.preparation(),
                "dtype": self.storage_dtype.str,
                "shape": self.stored_shape,
                "scale": self._scheme.storage_scale,
            }
        )

    @independent_of_host()
    def prepare(self, image: ScanImage) -> tuple[npt.NDArray[Any], Geometry]:
        """Turn, crop and resample a scan once, and store it in the type of the packed cache.

        Returns:
            stored: ``(stored_channels, *geometry.shape)`` of `storage_dtype`; the same bits every time. The shape is
                the plan's, but for the number of slices in 2.5D: those of the scan, at most the plan's.
            geometry: Where its voxels lie in the scan.

        Raises:
            DataError: The scan does not fit the plan (dimensions, channels, unknown spacing or orientation).
        """
        self._check_dims(image)
        voxels = select_channels(image, self.plan)
        geometry = plan_geometry(image.spatial_shape, image.affine, image.spacing_mm, None, self.plan)
        turned = geometry.reorient(voxels)  # how a file lies must not matter to what is measured on it
        foreground = self._foreground(turned, color=image.color)
        if foreground is not None and self.plan.crop == "foreground":
            box = foreground_box(geometry.restore(foreground[None])[0])
            geometry = plan_geometry(image.spatial_shape, image.affine, image.spacing_mm, box, self.plan)
        levels = self._scheme.levels(turned, foreground)
        resampled = resample(voxels, geometry, levels.fill, center=levels.center, spread=levels.spread)
        stored = self._scheme.store(resampled)
        return repeat_channels(stored, self.stored_channels), geometry

    @independent_of_host()
    def finish(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn prepared arrays into the network's input, on the device that they are on.

        Args:
            batch: ``(B, stored_channels, *plan.shape)`` of `storage_dtype`; one channel serves for all colours.

        Returns:
            ``(B, in_channels, *plan.shape)``, float32, in the statistics that the weights were trained with.
        """
        self._check_stored(batch, self.plan.shape)
        finished = self._scheme.finish(batch)
        return finished.expand(-1, self.plan.in_channels, *self.plan.shape).contiguous()

    @independent_of_host()
    def finish_slices(
        self, batch: torch.Tensor, counts: Sequence[int], *, change: ChangeStacks | None = None
    ) -> Inputs:
        """Turn prepared stacks of slices (2.5D) into the network's input, on the device that they are on.

        Args:
            batch: ``(B, stored_channels, D, H, W)`` of `storage_dtype`, see `pad_stacks`.
            counts: How many slices each scan has.
            change: Random changes, made before slices are shown beside their neighbours: a slice looks the same in
                each place.

        Returns:
            scans: ``(B, D, in_channels, H, W)``, float32, as in `finish`.
            slice_mask: ``(B, D)``.
        """
        plan = self.plan
        self._check_stored(batch, (batch.shape[2], *plan.shape[1:]))
        levels = self._scheme.unit(batch).expand(-1, plan.slice_channels, -1, -1, -1)
        if change is not None:
            levels = change(levels, counts)
        numbers = torch.tensor(list(counts), device=batch.device)
        shown = with_neighbours(levels, numbers, neighbours=plan.neighbours)
        if self._scheme.is_standard:
            scans = shown
        else:
            scans = torch.unflatten(standardise(shown.flatten(0, 1), plan.intensity), 0, shown.shape[:2])
        return Inputs(scans, slice_mask(numbers, shown.shape[1]))

    @independent_of_host()
    def inputs(
        self, prepared: Sequence[npt.NDArray[Any]] | npt.NDArray[Any], *, device: torch.device,
        change: ChangeStacks | None = None,
    ) -> Inputs:  # fmt: skip
        """Return prepared scans as the network reads them: stacked, on the device, finished.

        Args:
            prepared: What `prepare` returned, one array a scan.
            device: Where they go.
            change: Random changes of slices (2.5D only).
        """
        if not self.plan.slicewise:
            batch = prepared if isinstance(prepared, np.ndarray) else np.stack(prepared)
            return Inputs(self.finish(torch.from_numpy(np.ascontiguousarray(batch)).to(device, non_blocking=True)))
        padded, counts = pad_stacks(list(prepared))
        return self.finish_slices(torch.from_numpy(padded).to(device, non_blocking=True), counts, change=change)

    def _check_stored(self, batch: torch.Tensor, shape: tuple[int, ...]) -> None:
        repeatable = () if self.plan.reading.sequences else (1,)
        if batch.shape[1] not in (*repeatable, self.stored_channels) or tuple(batch.shape[2:]) != shape:
            raise ValueError(f"the batch has shape {tuple(batch.shape)}, prepared scans {self.stored_shape}")

    def _foreground(self, turned: npt.NDArray[Any], *, color: bool) -> npt.NDArray[np.bool_] | None:
        if self.plan.crop == "foreground" or self._scheme.needs_foreground:
            mask: npt.NDArray[np.bool_] = foreground_mask(turned, modality=self.plan.modality, color=color)
            return mask
        return None

    def _check_dims(self, image: ScanImage) -> None:
        if image.spatial_dims == self.plan.spatial_dims:
            return
        shape = " x ".join(str(size) for size in image.spatial_shape)
        if image.spatial_dims == 3:
            raise DataError(
                f"The scan is a volume of {shape} voxels, the plan reads images.",
                fix="Train on volumes with --dims 3, or give single images.",
            )
        raise DataError(
            f"The scan is an image of {shape} pixels, the plan reads volumes.",
            fix="Train on images with --dims 2, or give whole volumes.",
        )
