"""What is drawn at random for a sample: one Philox stream a seed, the same numbers whatever the batch or the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medres.planning.plan import Augmentation
from medres.preprocessing.shading import num_coefficients
from medres.preprocessing.warping import Float64

#: Uniform numbers a sample: 3 angles, 1 zoom, 3 shifts, 3 flips, contrast, brightness, noise.
_NUMBERS = 13
#: Those that came later, after the seed of the noise, so that an old seed keeps its geometry and its noise: crop, 3 of
#: its place, blur, gamma, strength of the field, slices left out, shape of the field.
_LATER = 8 + num_coefficients(3)


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
        windows: ``(B,)``; side of the window that is cropped, as a share of the input's.
        places: ``(B, dims)``; where the window lies, from -1 (at the beginning of an axis) to 1.
        blur: ``(B,)``; standard deviation in voxels along the axis of the smallest ones.
        gammas: ``(B,)``; exponents.
        shading: ``(B,)``; largest logarithm of the bias field.
        shading_shape: ``(B, K)`` in [-1, 1]; see `medres.preprocessing.shading.log_fields`.
        left_out: ``(B,)``; share of the slices that are left out.
        slice_seeds: ``(B,)``; say which.
    """

    radians: Float64
    zooms: Float64
    shifts: Float64
    flips: npt.NDArray[np.bool_]
    gains: Float64
    brightness: Float64
    noise: Float64
    noise_seeds: npt.NDArray[np.int64]
    windows: Float64
    places: Float64
    blur: Float64
    gammas: Float64
    shading: Float64
    shading_shape: Float64
    left_out: Float64
    slice_seeds: npt.NDArray[np.int64]


def draw(most: Augmentation, seeds: Sequence[int], *, spatial_dims: int) -> Draws:
    """Return what the seeds stand for; all magnitudes are uniform up to ``most``, exponents in their logarithm.

    Args:
        most: The largest magnitudes; ``flip_axes`` below ``spatial_dims``.
        seeds: One a sample, not negative.
        spatial_dims: 2 or 3.

    Example:
        >>> draw(Augmentation(crop=0.5), [7], spatial_dims=2).windows.shape
        (1,)
    """
    streams = [np.random.Generator(np.random.Philox(int(seed))) for seed in seeds]
    uniform, noise_seeds = _uniform(streams, _NUMBERS), _integers(streams)
    later, slice_seeds = _uniform(streams, _LATER), _integers(streams)
    signed, later_signed, dims = 2 * uniform - 1, 2 * later - 1, spatial_dims
    return Draws(
        radians=np.deg2rad(most.rotation_degrees) * signed[:, : 3 if dims == 3 else 1],
        zooms=1 + most.scale * signed[:, 3],
        shifts=most.translation * signed[:, 4 : 4 + dims],
        flips=(uniform[:, 7 : 7 + dims] < 0.5) & np.isin(np.arange(dims), most.flip_axes),
        gains=1 + most.contrast * signed[:, 10],
        brightness=most.brightness * signed[:, 11],
        noise=most.noise * uniform[:, 12],
        noise_seeds=noise_seeds,
        windows=1 - most.crop * later[:, 0],
        places=later_signed[:, 1 : 1 + dims],
        blur=most.blur * later[:, 4],
        gammas=np.exp(np.log1p(most.gamma) * later_signed[:, 5]),
        shading=most.bias_field * later[:, 6],
        left_out=most.slice_dropout * later[:, 7],
        shading_shape=later_signed[:, 8 : 8 + num_coefficients(dims)],
        slice_seeds=slice_seeds,
    )


def _uniform(streams: Sequence[np.random.Generator], count: int) -> Float64:
    return np.array([stream.random(count) for stream in streams]).reshape(-1, count)


def _integers(streams: Sequence[np.random.Generator]) -> npt.NDArray[np.int64]:
    return np.array([stream.integers(2**32) for stream in streams], dtype=np.int64)
