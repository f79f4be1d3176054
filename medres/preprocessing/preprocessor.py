"""`Preprocessor`: the one object that turns a scan into the network's input, in training and in use."""

from __future__ import annotations

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
from medres.preprocessing.intensity import make_scheme
from medres.runs.documents import digest_of

#: Raised whenever `Preprocessor.prepare` stores other values for the same plan and scan: old caches are then
#: left.
PREPARATION_VERSION = 1


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
        """Shape of a prepared array, ``(stored_channels, *plan.shape)``."""
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

    def prepare(self, image: ScanImage) -> tuple[npt.NDArray[Any], Geometry]:
        """Turn, crop and resample a scan once, and store it in the type of the packed cache.

        Returns:
            stored: ``(stored_channels, *plan.shape)`` of `storage_dtype`; the same bits every time.
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
        stored = self._scheme.store(resample(voxels, geometry, levels.fill), levels)
        return repeat_channels(stored, self.stored_channels), geometry

    def finish(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn prepared arrays into the network's input, on the device that they are on.

        Args:
            batch: ``(B, stored_channels, *plan.shape)`` of `storage_dtype`; one channel serves for all colours.

        Returns:
            ``(B, in_channels, *plan.shape)``, float32, in the statistics that the weights were trained with.
        """
        repeatable = () if self.plan.reading.sequences else (1,)
        if batch.shape[1] not in (*repeatable, self.stored_channels) or tuple(batch.shape[2:]) != self.plan.shape:
            raise ValueError(f"the batch has shape {tuple(batch.shape)}, prepared scans {self.stored_shape}")
        finished = self._scheme.finish(batch)
        return finished.expand(-1, self.plan.in_channels, *self.plan.shape).contiguous()

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
