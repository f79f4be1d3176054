"""The intensity schemes of a plan: what is stored of a scan, and how that becomes the network's input.

A scheme has two halves. `store` runs once a scan, on the CPU, and writes the packed cache's type; `finish`
runs on every batch, on the device, so that windows and weights can change without preparing anything again.
Nothing in a scheme is fitted to a data set: it is fixed by the plan, or measured on the scan itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch

from medres.data.foreground import sampling_steps
from medres.errors import DataError
from medres.planning.plan import Intensity
from medres.preprocessing.resampling import Float32

AIR_HU = -1024.0
#: A normal distribution's inter-quartile range in standard deviations.
_IQR_OF_NORMAL = 1.349
_MAX_ZSCORE = 5.0
#: Quantiles of a regular sample of 4 million voxels are those of all to 0.05 %, and take 0.2 s, not 6.
_MAX_MEASURED = 2**22


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The scale of one scan's intensities, one value for all channels or one a channel.

    Args:
        fill: What stands where the scan has no voxels, in the scan's own units.
        center: What becomes 0.
        spread: What becomes 1.
    """

    fill: tuple[float, ...]
    center: tuple[float, ...] = (0.0,)
    spread: tuple[float, ...] = (1.0,)


class Scheme(Protocol):
    """One of the intensity schemes; `is_standard`: what `unit` gives needs no mean and deviation of the weights."""

    needs_foreground: ClassVar[bool]
    is_standard: ClassVar[bool]

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """Type of the stored voxels."""
        ...

    @property
    def storage_scale(self) -> tuple[float, float] | None:
        """The (low, high) that stored values were scaled by; None where the plan has no part in them."""
        ...

    def levels(self, voxels: npt.NDArray[Any], foreground: npt.NDArray[np.bool_] | None) -> Levels:
        """Measure a scan ``(C, *spatial)``, turned as the plan says, and its foreground ``(*spatial)`` if needed."""
        ...

    def store(self, values: Float32) -> npt.NDArray[Any]:
        """Turn resampled values ``(C, *shape)``, on the scale of the scan's levels, into what is stored."""
        ...

    def unit(self, stored: torch.Tensor) -> torch.Tensor:
        """Turn a stored batch ``(B, C, *shape)`` into one scale, float32: [0, 1], or z-scores."""
        ...

    def finish(self, stored: torch.Tensor) -> torch.Tensor:
        """Turn a stored batch ``(B, C, *shape)`` into the network's input, float32."""
        ...


def make_scheme(intensity: Intensity) -> Scheme:
    """Return the scheme that a plan names."""
    schemes: dict[str, type[HuWindows] | type[RobustZScore] | type[Scaled]] = {
        "hu_windows": HuWindows,
        "robust_zscore": RobustZScore,
        "scaled": Scaled,
    }
    return schemes[intensity.scheme](intensity)


@dataclass(frozen=True)
class HuWindows:
    """CT: Hounsfield units as int16; each window of each sequence becomes a channel, [low, high] to [0, 1], clipped."""

    intensity: Intensity
    needs_foreground: ClassVar[bool] = False
    is_standard: ClassVar[bool] = False
    storage_scale: ClassVar[None] = None

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """int16."""
        return np.dtype(np.int16)

    def levels(self, voxels: npt.NDArray[Any], foreground: npt.NDArray[np.bool_] | None) -> Levels:
        """Return the levels of HU, the same for every scan: outside is air."""
        del foreground
        return Levels(fill=(AIR_HU,) * len(voxels))

    def store(self, values: Float32) -> npt.NDArray[Any]:
        """Round to whole HU, clipped to the range of int16."""
        limits = np.iinfo(np.int16)
        return np.rint(values).clip(limits.min, limits.max).astype(np.int16)

    def unit(self, stored: torch.Tensor) -> torch.Tensor:
        """Return one channel a window and sequence: all windows of the first sequence come first."""
        lows, highs = zip(*self.intensity.window_bounds_hu(), strict=True)
        widths = [high - low for low, high in zip(lows, highs, strict=True)]
        each = stored.to(torch.float32).unsqueeze(2)  # (B, sequence, window, *shape)
        shifted = each - _per_channel(lows, each[:, 0])[:, None]
        windows = shifted.div_(_per_channel(widths, each[:, 0])[:, None]).clamp_(0.0, 1.0)
        return windows.flatten(1, 2)

    def finish(self, stored: torch.Tensor) -> torch.Tensor:
        """Return the windows in the statistics of the weights."""
        return standardise(self.unit(stored), self.intensity)


@dataclass(frozen=True)
class RobustZScore:
    """MR: each scan alone, (value - median) / (IQR / 1.349) over its foreground, clipped at +-5, float16.

    A z-score has mean 0 and spread 1 over the foreground, which is what ``(pixel - mean) / std`` makes of the
    images that the weights were trained with: it already lies in the space that the network reads, so that
    `finish` only widens the type. (Taking it to pixels by ``mean + std * z`` and back is the identity.)
    """

    intensity: Intensity
    needs_foreground: ClassVar[bool] = True
    is_standard: ClassVar[bool] = True
    storage_scale: ClassVar[None] = None

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """float16: steps of 0.002 of a standard deviation near +-2, far below the noise of a scan."""
        return np.dtype(np.float16)

    def levels(self, voxels: npt.NDArray[Any], foreground: npt.NDArray[np.bool_] | None) -> Levels:
        """Measure median and spread over the foreground; outside is the median of the scan's own background.

        A scan without background (a crop inside the body) is filled with its minimum.

        Raises:
            DataError: No voxel is finite.
        """
        steps = sampling_steps(voxels.shape[1:], max_voxels=_MAX_MEASURED)
        visited = tuple(slice(None, None, step) for step in steps)
        mask = np.ones(voxels.shape[1:], dtype=bool) if foreground is None else foreground
        measured = [_channel_levels(channel[visited], mask[visited]) for channel in voxels]
        fill, center, spread = zip(*measured, strict=True)
        return Levels(fill=fill, center=center, spread=spread)

    def store(self, values: Float32) -> npt.NDArray[Any]:
        """Clip; resampling has standardised by the scan's own levels."""
        return values.clip(-_MAX_ZSCORE, _MAX_ZSCORE).astype(np.float16)

    def unit(self, stored: torch.Tensor) -> torch.Tensor:
        """Widen the type."""
        return stored.to(torch.float32, copy=True)

    def finish(self, stored: torch.Tensor) -> torch.Tensor:
        """Widen the type."""
        return self.unit(stored)


@dataclass(frozen=True)
class Scaled:
    """Scans that share one scale: ``scale_range`` becomes [0, 1], what lies outside is clipped.

    Eight-bit data (0 to 255) are stored as they are, rounded after resampling; any other scale as a share of its
    range, in half precision: its steps are 1/2048 of the range whatever the unit of the scans.
    """

    intensity: Intensity
    needs_foreground: ClassVar[bool] = False
    is_standard: ClassVar[bool] = False

    @property
    def _eight_bit(self) -> bool:
        return self.intensity.scale_range == (0.0, 255.0)

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """uint8 for 0 to 255, else float16."""
        return np.dtype(np.uint8 if self._eight_bit else np.float16)

    @property
    def storage_scale(self) -> tuple[float, float] | None:
        """The scale range where stored values were divided by it."""
        return None if self._eight_bit else self.intensity.scale_range

    def levels(self, voxels: npt.NDArray[Any], foreground: npt.NDArray[np.bool_] | None) -> Levels:
        """Return the levels of the scale, the same for every scan: outside is its low end."""
        del foreground
        low, high = self.intensity.scale_range
        if self._eight_bit:
            return Levels(fill=(low,) * len(voxels))
        return Levels(fill=(low,) * len(voxels), center=(low,), spread=(high - low,))

    def store(self, values: Float32) -> npt.NDArray[Any]:
        """Round to eight bit, or clip to [0, 1]; resampling has scaled the rest."""
        if self._eight_bit:
            return np.rint(values).clip(0, 255).astype(np.uint8)
        return values.clip(0.0, 1.0).astype(np.float16)

    def unit(self, stored: torch.Tensor) -> torch.Tensor:
        """Scale to [0, 1]."""
        scaled = stored.to(torch.float32, copy=True)
        return scaled.div_(255.0) if self._eight_bit else scaled

    def finish(self, stored: torch.Tensor) -> torch.Tensor:
        """Scale to [0, 1], then to the statistics of the weights."""
        return standardise(self.unit(stored), self.intensity)


def standardise(scaled: torch.Tensor, intensity: Intensity) -> torch.Tensor:
    """Return ``(B, C, *shape)`` of [0, 1] in the statistics that the weights were trained with."""
    mean, std = _per_channel(intensity.mean, scaled), _per_channel(intensity.std, scaled)
    return (scaled - mean).div_(std)


def _per_channel(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    shaped = torch.tensor(values, dtype=torch.float32).reshape(1, -1, *(1,) * (like.ndim - 2))
    return shaped.to(like.device)


def _channel_levels(channel: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return (fill, center, spread) of one channel."""
    channel = channel.astype(np.float64)  # quantiles are rounded to the type of the values
    finite = np.isfinite(channel)
    if not finite.any():
        raise DataError("The scan holds no finite voxel.", fix="Leave it out.")
    inside, outside = channel[mask & finite], channel[~mask & finite]
    if not inside.size:
        inside, outside = outside, inside
    low, center, high = (float(value) for value in np.percentile(inside, (25, 50, 75)))
    fill = float(np.median(outside)) if outside.size else float(inside.min())
    return fill, center, _spread(inside, high - low)


def _spread(values: npt.NDArray[Any], iqr: float) -> float:
    """Return the robust spread; the plain one where half of the values are equal; 1 where all are."""
    return iqr / _IQR_OF_NORMAL or _deviation(values) or 1.0


def _deviation(values: npt.NDArray[Any]) -> float:
    """Return the standard deviation; of shares of the range, since squares of 1e-200 and 1e200 are no doubles."""
    extent = float(np.ptp(values))
    return extent * float(np.std((values - values.min()) / extent)) if extent > 0 else 0.0
