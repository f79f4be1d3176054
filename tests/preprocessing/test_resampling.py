from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from medres.preprocessing import resampling
from medres.preprocessing.resampling import AxisMap, axis_weights, resample_axes

sizes = st.integers(1, 24)


def fitted(out_size: int, in_size: int) -> AxisMap:
    """Map the whole input onto the whole output, as every image library does."""
    scale = in_size / out_size
    return AxisMap(out_size=out_size, in_size=in_size, scale=scale, offset=scale / 2 - 0.5)


@st.composite
def axis_maps(draw: st.DrawFn) -> AxisMap:
    scale = draw(st.floats(0.2, 5.0))
    offset = draw(st.floats(-10.0, 20.0))
    return AxisMap(out_size=draw(sizes), in_size=draw(sizes), scale=scale, offset=offset)


@pytest.mark.parametrize(("given_shape", "shape"), [((40, 31), (17, 13)), ((9, 31), (40, 13)), ((8, 8), (20, 24))])
def test_agrees_with_torch_antialias_on_images(given_shape: tuple[int, int], shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).normal(size=(2, *given_shape)).astype(np.float32)
    axes = [fitted(m, n) for m, n in zip(shape, given_shape, strict=True)]
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(pixels)[None], size=shape, mode="bilinear", antialias=True, align_corners=False
    )
    assert np.allclose(resample_axes(pixels, axes, fill=0), reference[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("shape", [(17, 13), (40, 13), (60, 60)])
def test_agrees_with_pil(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).normal(size=(40, 31)).astype(np.float32)
    axes = [fitted(m, n) for m, n in zip(shape, pixels.shape, strict=True)]
    reference = np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BILINEAR))
    assert np.allclose(resample_axes(pixels[None], axes, fill=0)[0], reference, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_agrees_with_scipy_where_nothing_is_averaged(dtype: type) -> None:
    voxels = np.random.default_rng(1).uniform(0, 200, size=(1, 7, 9, 11)).astype(dtype)
    lines = zip((12, 9, 20), (7, 9, 11), (0.6, 1.0, 0.4), (-0.45, -1.3, 2.1), strict=True)
    axes = [AxisMap(out_size=m, in_size=n, scale=s, offset=o) for m, n, s, o in lines]
    positions = np.meshgrid(*(axis.positions() for axis in axes), indexing="ij")
    reference = ndimage.map_coordinates(voxels[0].astype(np.float64), positions, order=1, mode="nearest")
    for axis, position in zip(axes, positions, strict=True):
        reference[(position < -0.5) | (position > axis.in_size - 0.5)] = -7
    assert np.allclose(resample_axes(voxels, axes, fill=-7)[0], reference, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_the_identity_copies_the_voxels(dtype: type) -> None:
    voxels = (np.random.default_rng(0).normal(size=(2, 5, 6, 7)) * 100).astype(dtype)
    axes = [AxisMap(out_size=n, in_size=n, scale=1.0, offset=0.0) for n in (5, 6, 7)]
    resampled = resample_axes(voxels, axes, fill=0)
    assert np.array_equal(resampled, voxels.astype(np.float32))
    assert not np.shares_memory(resampled, voxels)


def test_whole_steps_move_voxels_without_changing_them() -> None:
    voxels = np.random.default_rng(0).normal(size=(1, 6, 6)).astype(np.float32)
    axes = [AxisMap(out_size=m, in_size=6, scale=1.0, offset=o) for m, o in ((5, -2.0), (4, 2.0))]
    expected = np.full((1, 5, 4), 9, dtype=np.float32)
    expected[:, 2:] = voxels[:, :3, 2:]
    assert np.array_equal(resample_axes(voxels, axes, fill=9), expected)


@given(axis_maps())
def test_rows_of_the_weights_sum_to_one_and_none_is_negative(axis: AxisMap) -> None:
    weights = axis_weights(axis)
    assert np.all(weights.matrix >= 0)
    assert np.allclose(weights.matrix.sum(axis=1), 1, atol=1e-5)


@given(axis_maps(), axis_maps(), st.floats(-1000, 1000))
def test_a_constant_stays_constant_and_values_stay_in_range(first: AxisMap, second: AxisMap, value: float) -> None:
    voxels = np.full((1, first.in_size, second.in_size), value)
    assert np.allclose(resample_axes(voxels, [first, second], fill=value), value, rtol=1e-5)
    noise = np.random.default_rng(0).uniform(-1, 1, size=voxels.shape)
    resampled = resample_axes(noise, [first, second], fill=0.5)
    assert resampled.min() >= min(noise.min(), 0.5) - 1e-6
    assert resampled.max() <= max(noise.max(), 0.5) + 1e-6


@given(axis_maps())
def test_a_ramp_stays_a_ramp_away_from_the_border(axis: AxisMap) -> None:
    ramp = np.arange(axis.in_size, dtype=np.float32)[None]
    positions = axis.positions()
    reach = max(axis.scale, 1.0)
    inner = (positions >= reach - 1) & (positions <= axis.in_size - reach)
    # the sampled triangle is symmetric only where it meets the grid evenly: else its mean is off by a fraction
    tolerance = 1e-4 if axis.scale <= 1 else 0.5
    assert np.allclose(resample_axes(ramp, [axis], fill=0)[0][inner], positions[inner], atol=tolerance)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_mirroring_commutes_with_resampling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    voxels = rng.normal(size=(1, 13, 9)).astype(np.float32)
    axes = [fitted(int(rng.integers(3, 30)), 13), fitted(int(rng.integers(3, 30)), 9)]
    forth = resample_axes(voxels[:, ::-1, ::-1], axes, fill=0)
    assert np.allclose(forth, resample_axes(voxels, axes, fill=0)[:, ::-1, ::-1], atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 100, 10**9])
@pytest.mark.parametrize("one_thread", [1, 300, 10**9])
def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, chunk: int, one_thread: int) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, size=(2, 18, 20, 22)).astype(np.int16)
    axes = [fitted(m, n) for m, n in zip((33, 7, 9), (18, 20, 22), strict=True)]
    whole = resample_axes(voxels, axes, fill=0)
    monkeypatch.setattr(resampling, "_CHUNK_VOXELS", chunk)
    monkeypatch.setattr(resampling, "_ONE_THREAD", one_thread)
    assert np.allclose(resample_axes(voxels, axes, fill=0), whole, atol=1e-3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_does_not_matter_to_the_last_bit(order: str) -> None:
    voxels = np.random.default_rng(0).normal(size=(1, 18, 20, 22)).astype(np.float32)
    axes = [fitted(m, n) for m, n in zip((33, 7, 9), (18, 20, 22), strict=True)]
    laid_out = np.array(voxels, order=order)
    assert np.array_equal(resample_axes(laid_out, axes, fill=0), resample_axes(voxels, axes, fill=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_not_finite_are_read_as_fill(bad: float) -> None:
    voxels = np.ones((1, 8, 8))
    voxels[0, 3, 4] = bad
    replaced = np.where(np.isfinite(voxels) & (voxels < 1e100), voxels, -5)
    axes = [fitted(5, 8), fitted(11, 8)]
    assert np.array_equal(resample_axes(voxels, axes, fill=-5), resample_axes(replaced, axes, fill=-5))


def test_channels_are_filled_and_resampled_each_for_itself() -> None:
    voxels = np.random.default_rng(0).normal(size=(3, 6, 6)).astype(np.float32)
    axes = [AxisMap(out_size=9, in_size=6, scale=0.9, offset=-1.5)] * 2
    together = resample_axes(voxels, axes, fill=(1, 2, 3))
    for channel in range(3):
        alone = resample_axes(voxels[channel : channel + 1], axes, fill=channel + 1)
        assert np.array_equal(together[channel : channel + 1], alone)


def test_a_field_of_view_beside_the_scan_holds_fill_alone() -> None:
    axes = [AxisMap(out_size=4, in_size=6, scale=1.0, offset=40.0), fitted(6, 6)]
    assert np.all(resample_axes(np.ones((1, 6, 6)), axes, fill=3) == 3)


@given(axis_maps())
def test_the_inverse_leads_back(axis: AxisMap) -> None:
    there_and_back = axis.inverse().offset + axis.inverse().scale * axis.positions()
    assert np.allclose(there_and_back, np.arange(axis.out_size), atol=1e-6)
