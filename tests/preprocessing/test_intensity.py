from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medres.data.rescaling import rescaled
from medres.errors import DataError
from medres.planning.plan import CT_WINDOWS_HU, Intensity
from medres.preprocessing.intensity import Levels, Scheme, make_scheme

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def stored_by(scheme: Scheme, voxels: np.ndarray, levels: Levels) -> np.ndarray:
    """What is stored of one channel that needs no resampling."""
    return scheme.store(rescaled(voxels, center=levels.center[0], spread=levels.spread[0]))


def hu(**changes: object) -> Intensity:
    return Intensity.from_mapping({"scheme": "hu_windows", "windows_hu": ("lung",)} | changes)


@pytest.mark.parametrize("window", [*CT_WINDOWS_HU, (30.0, 40.0), (-3000.0, 3000.0)])
def test_windows_agree_with_a_slow_reference(window: object) -> None:
    intensity = hu(windows_hu=(window, "bone"), mean=(0.2, 0.6), std=(0.25, 0.3))
    stored = np.arange(-3100, 3100, 7, dtype=np.int16).reshape(1, 1, 1, -1)
    finished = make_scheme(intensity).finish(torch.from_numpy(stored)).numpy()
    for channel, (low, high) in enumerate(intensity.window_bounds_hu()):
        for n, value in enumerate(stored.ravel().tolist()):
            scaled = min(max((value - low) / (high - low), 0.0), 1.0)
            expected = (scaled - intensity.mean[channel]) / intensity.std[channel]
            assert finished[0, channel, 0, n] == pytest.approx(expected, abs=1e-6)


def test_hu_are_rounded_and_kept_in_the_range_of_int16() -> None:
    scheme = make_scheme(hu())
    levels = scheme.levels(np.zeros((1, 2, 2)), None)
    values = np.array([-1e6, -1024.4, 0.6, 39.5, 1e6], dtype=np.float32)
    assert scheme.store(values).tolist() == [-32768, -1024, 1, 40, 32767]
    assert scheme.storage_dtype == np.int16
    assert levels == Levels(fill=(-1024.0,))  # in HU, as they are


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1e4), st.floats(-1e4, 1e4))
@settings(max_examples=25)
def test_zscore_does_not_see_the_units_of_a_scan(seed: int, gain: float, shift: float) -> None:
    scheme = make_scheme(Intensity(scheme="robust_zscore"))
    rng = np.random.default_rng(seed)
    voxels = rng.gamma(2.0, size=(1, 8, 9, 10))
    foreground = voxels[0] > 0.5
    stored = [stored_by(scheme, scan, scheme.levels(scan, foreground)) for scan in (voxels, voxels * gain + shift)]
    assert np.allclose(stored[0], stored[1], atol=0.003)  # one step of half precision, near 5


def test_zscore_is_median_and_iqr_of_the_foreground() -> None:
    voxels = np.random.default_rng(0).gamma(2.0, size=(1, 8, 9, 10)) * 100
    foreground = voxels[0] > 50
    inside, outside = voxels[0][foreground], voxels[0][~foreground]
    scheme = make_scheme(Intensity(scheme="robust_zscore"))
    levels = scheme.levels(voxels, foreground)
    assert levels.center[0] == pytest.approx(np.median(inside))
    assert levels.spread[0] == pytest.approx(stats.iqr(inside) / 1.349)
    assert levels.fill[0] == pytest.approx(np.median(outside))
    expected = ((voxels - np.median(inside)) / (stats.iqr(inside) / 1.349)).clip(-5, 5)
    stored = stored_by(scheme, voxels, levels)
    assert stored.dtype == np.float16
    assert np.allclose(stored, expected, atol=0.003)


def test_zscore_of_a_normal_scan_has_unit_spread() -> None:
    voxels = np.random.default_rng(0).normal(300, 40, size=(1, 40, 40, 40))
    levels = make_scheme(Intensity(scheme="robust_zscore")).levels(voxels, np.ones((40, 40, 40), dtype=bool))
    assert levels.center[0] == pytest.approx(300, abs=1)
    assert levels.spread[0] == pytest.approx(40, rel=0.02)


@pytest.mark.parametrize(
    ("values", "center", "spread"),
    [([7, 7, 7, 7], 7, 1.0), ([0, 5, 5, 5, 5, 5, 5, 50], 5, np.std([0, 5, 5, 5, 5, 5, 5, 50])), ([3], 3, 1.0)],
)
def test_a_flat_foreground_has_a_spread_all_the_same(values: list[float], center: float, spread: float) -> None:
    voxels = np.array(values, dtype=np.float32)[None, None]
    levels = make_scheme(Intensity(scheme="robust_zscore")).levels(voxels, np.ones(voxels.shape[1:], dtype=bool))
    assert (levels.center[0], levels.spread[0]) == pytest.approx((center, spread))
    assert levels.fill[0] == min(values)  # no background: the scan's minimum


def test_zscore_reads_over_voxels_that_are_not_finite_and_refuses_a_scan_of_them() -> None:
    scheme = make_scheme(Intensity(scheme="robust_zscore"))
    voxels = np.arange(1.0, 10.0).reshape(1, 3, 3)
    damaged = voxels.copy()
    damaged[0, 1, 1] = np.nan
    mask = np.ones((3, 3), dtype=bool)
    assert scheme.levels(damaged, mask).center == scheme.levels(voxels, mask).center
    with pytest.raises(DataError, match="no finite voxel"):
        scheme.levels(np.full((1, 3, 3), np.nan), mask)


def test_zscore_is_already_in_the_space_of_the_weights() -> None:
    stored = torch.linspace(-5, 5, 21, dtype=torch.float16).reshape(1, 1, -1, 1)
    intensity = Intensity(scheme="robust_zscore", mean=(0.4,), std=(0.2,))
    pixels = 0.4 + 0.2 * stored.float()
    assert torch.allclose(make_scheme(intensity).finish(stored), (pixels - 0.4) / 0.2, atol=1e-5)


def test_eight_bit_is_stored_as_it_is() -> None:
    scheme = make_scheme(Intensity.from_mapping({"scheme": "scaled", "scale_range": (0, 255), **IMAGENET}))
    values = np.array([-3.0, 0.4, 0.6, 254.6, 300.0], dtype=np.float32)
    assert scheme.levels(np.zeros((1, 2, 2)), None) == Levels(fill=(0.0,))
    stored = scheme.store(values)
    assert (stored.dtype, stored.tolist()) == (np.dtype(np.uint8), [0, 0, 1, 255, 255])
    assert scheme.storage_scale is None


@pytest.mark.parametrize("scale_range", [(0.0, 1.0), (0.0, 65535.0), (-1.0, 3.0)])
def test_other_scales_are_stored_as_fractions(scale_range: tuple[float, float]) -> None:
    scheme = make_scheme(Intensity(scheme="scaled", scale_range=scale_range))
    low, high = scale_range
    levels = scheme.levels(np.zeros((1, 2, 2)), None)
    values = np.linspace(low, high, 9, dtype=np.float32)
    stored = stored_by(scheme, np.array([low - 1, *values, high + 1], dtype=np.float32), levels)
    assert stored.dtype == np.float16
    assert np.allclose(stored, [0, *np.linspace(0, 1, 9), 1], atol=1e-3)
    assert levels.fill == (low,)
    assert scheme.storage_scale == scale_range


@pytest.mark.parametrize("scale_range", [(0.0, 255.0), (0.0, 1.0)])
def test_scaled_agrees_with_a_slow_reference(scale_range: tuple[float, float]) -> None:
    intensity = Intensity.from_mapping({"scheme": "scaled", "scale_range": scale_range, **IMAGENET})
    scheme = make_scheme(intensity)
    stored = np.random.default_rng(0).uniform(*scale_range, size=(2, 3, 4, 5)).astype(scheme.storage_dtype)
    before = stored.copy()
    finished = scheme.finish(torch.from_numpy(stored)).numpy()
    for index in np.ndindex(stored.shape):
        value = float(stored[index]) / (255.0 if stored.dtype == np.uint8 else 1.0)
        expected = (value - intensity.mean[index[1]]) / intensity.std[index[1]]
        assert finished[index] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(stored, before)
