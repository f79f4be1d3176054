"""What every preprocessor keeps, whatever its scheme, its dimensions and the way its scans lie."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch

from medres.data.image import ScanImage
from medres.planning.plan import Plan
from medres.preprocessing.orientation import oriented_axes
from medres.preprocessing.preprocessor import Preprocessor
from tests.preprocessing.examples import INTENSITIES, ORIENTATIONS, affine_of, make_image, make_plan, smooth_scan

_RANGES = {"hu_windows": (-1000.0, 400.0), "robust_zscore": (0.0, 1500.0), "scaled": (0.0, 255.0)}
_DTYPES = {"hu_windows": np.int16, "robust_zscore": np.uint16, "scaled": np.uint8}
_SPACING = (1.5, 1.0, 1.25)
_SIZE = (18, 24, 21)

CASES = [
    (scheme, dims, crop, fixed_pitch)
    for scheme, dims, crop, fixed_pitch in product(INTENSITIES, (2, 3), ("none", "foreground"), (True, False))
]
by_case = pytest.mark.parametrize(("scheme", "dims", "crop", "fixed_pitch"), CASES)


def plan_of(scheme: str, dims: int, crop: str, fixed_pitch: bool) -> Plan:
    return make_plan(
        scheme,
        spatial_dims=dims,
        crop=crop,
        orientation="SPL" if dims == 3 else None,
        spacing_mm=(1.6, 1.4, 1.3)[-dims:] if fixed_pitch else None,
        shape=(20, 24, 22)[-dims:],
    )


def scan_of(scheme: str, dims: int, *, lying: str = "SPL", seed: int = 0) -> ScanImage:
    """Return a scan in space; volumes lie in their file as the code says, and are the same scan for every code."""
    low, high = _RANGES[scheme]
    voxels = np.rint(smooth_scan(_SIZE[-dims:], low=low, high=high, seed=seed)).astype(_DTYPES[scheme])
    if dims == 2:
        return make_image(voxels[None], spacing_mm=_SPACING[-2:])
    axes, flips = oriented_axes(affine_of("SPL", _SPACING), orientation=lying)
    turned = voxels.transpose(axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return make_image(turned[None], affine=affine_of(lying, [_SPACING[axis] for axis in axes]))


def test_every_case_is_there() -> None:
    assert len(CASES) == 24
    assert {scheme for scheme, *_ in CASES} == {"hu_windows", "robust_zscore", "scaled"}


@by_case
def test_a_prepared_scan_has_shape_and_type_of_its_plan(scheme: str, dims: int, crop: str, fixed_pitch: bool) -> None:
    plan = plan_of(scheme, dims, crop, fixed_pitch)
    preprocessor = Preprocessor(plan)
    stored, geometry = preprocessor.prepare(scan_of(scheme, dims))
    assert stored.shape == preprocessor.stored_shape == (preprocessor.stored_channels, *plan.shape)
    assert stored.dtype == preprocessor.storage_dtype
    assert stored.flags.c_contiguous
    assert geometry.shape == plan.shape
    finished = preprocessor.finish(torch.from_numpy(stored)[None])
    assert finished.shape == (1, plan.in_channels, *plan.shape)
    assert finished.dtype == torch.float32
    assert torch.isfinite(finished).all()
    assert finished.std() > 0.05


@by_case
def test_preparing_is_the_same_every_time_and_in_every_thread(
    scheme: str, dims: int, crop: str, fixed_pitch: bool
) -> None:
    preprocessor = Preprocessor(plan_of(scheme, dims, crop, fixed_pitch))
    scans = [scan_of(scheme, dims, seed=seed) for seed in range(3)] * 4
    before = [scan.voxels.copy() for scan in scans]
    alone = [Preprocessor(preprocessor.plan).prepare(scan) for scan in scans]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(preprocessor.prepare, scans))
    for (stored, geometry), (reference, same) in zip(together, alone, strict=True):
        assert np.array_equal(stored, reference)
        assert geometry == same
    assert all(np.array_equal(scan.voxels, voxels) for scan, voxels in zip(scans, before, strict=True))


@pytest.mark.parametrize("lying", ORIENTATIONS)
@pytest.mark.parametrize("scheme", INTENSITIES)
@pytest.mark.parametrize("crop", ["none", "foreground"])
def test_how_a_volume_lies_in_its_file_does_not_matter_to_the_last_bit(scheme: str, lying: str, crop: str) -> None:
    preprocessor = Preprocessor(plan_of(scheme, 3, crop, True))
    reference, _ = preprocessor.prepare(scan_of(scheme, 3))
    stored, _ = preprocessor.prepare(scan_of(scheme, 3, lying=lying))
    assert np.array_equal(stored, reference)


@pytest.mark.parametrize("scheme", INTENSITIES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_does_not_matter_to_the_last_bit(scheme: str, order: str) -> None:
    preprocessor = Preprocessor(plan_of(scheme, 3, "foreground", False))
    scan = scan_of(scheme, 3)
    laid_out = make_image(np.array(scan.voxels, order=order), affine=scan.affine)
    assert np.array_equal(preprocessor.prepare(laid_out)[0], preprocessor.prepare(scan)[0])


@by_case
def test_a_prepared_scan_leads_back_to_its_scan(scheme: str, dims: int, crop: str, fixed_pitch: bool) -> None:
    scan = scan_of(scheme, dims, lying="RSA")
    stored, geometry = Preprocessor(plan_of(scheme, dims, crop, fixed_pitch)).prepare(scan)
    back = geometry.to_scan(stored[0].astype(np.float32), fill=np.nan)
    assert back.shape == scan.spatial_shape
    seen = np.isfinite(back)
    assert seen.mean() > 0.2
    assert np.corrcoef(back[seen], scan.voxels[0][seen])[0, 1] > 0.9


@pytest.mark.parametrize("scheme", INTENSITIES)
@pytest.mark.parametrize("lying", ["LPS", "RAS", "SAR", "IPL"])
def test_a_landmark_is_found_where_it_lies(scheme: str, lying: str) -> None:
    scan = scan_of(scheme, 3, lying=lying)
    voxels = scan.voxels.copy()
    index = tuple(size // 2 - 2 for size in scan.spatial_shape)
    voxels[0][tuple(slice(i - 1, i + 2) for i in index)] = 2 * voxels.max() if scheme != "scaled" else 255
    assert scan.affine is not None
    stored, geometry = Preprocessor(plan_of(scheme, 3, "none", True)).prepare(make_image(voxels, affine=scan.affine))
    assert geometry.affine is not None
    brightest = np.argwhere(stored[0] == stored[0].max()).mean(axis=0)
    found, expected = geometry.affine @ [*brightest, 1], scan.affine @ [*index, 1]
    assert np.abs(found - expected)[:3].max() < 1.5


@by_case
def test_finishing_treats_every_sample_and_voxel_alike(scheme: str, dims: int, crop: str, fixed_pitch: bool) -> None:
    preprocessor = Preprocessor(plan_of(scheme, dims, crop, fixed_pitch))
    stored = np.stack([preprocessor.prepare(scan_of(scheme, dims, seed=seed))[0] for seed in range(3)])
    batch = torch.from_numpy(stored)
    finished = preprocessor.finish(batch)
    assert np.array_equal(batch.numpy(), stored)
    for n in range(3):
        assert torch.equal(preprocessor.finish(batch[n : n + 1])[0], finished[n])
    axes = tuple(range(2, 2 + dims))
    assert torch.equal(preprocessor.finish(batch.flip(axes)), finished.flip(axes))
