from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medres.errors import DataError
from medres.preprocessing.geometry import Geometry, plan_geometry, resample
from tests.preprocessing.examples import ORIENTATIONS, affine_of, make_plan, smooth_scan

spacings = st.tuples(*[st.floats(0.4, 6.0)] * 3)
shapes = st.tuples(*[st.integers(1, 60)] * 3)


@st.composite
def scan_geometries(draw: st.DrawFn) -> Geometry:
    turn = Rotation.from_euler("xyz", draw(st.tuples(*[st.floats(-20, 20)] * 3)), degrees=True).as_matrix()
    affine = affine_of(draw(st.sampled_from(ORIENTATIONS)), draw(spacings), turn=turn)
    shape = draw(shapes)
    box = tuple(slice(size // 3, size) for size in shape) if draw(st.booleans()) else None
    plan = make_plan(
        orientation=draw(st.sampled_from(ORIENTATIONS)), shape=draw(shapes), spacing_mm=draw(st.none() | spacings)
    )
    return plan_geometry(shape, affine, None, box, plan)


@given(scan_geometries(), st.tuples(*[st.floats(-80, 80)] * 3))
def test_a_point_lies_at_one_place_through_both_grids(geometry: Geometry, point: tuple[float, float, float]) -> None:
    prepared = np.array([*point, 1.0])
    turned = [axis.offset + axis.scale * p for axis, p in zip(geometry.axis_maps, point, strict=True)]
    index = np.empty(3)
    for n, (axis, flip) in enumerate(zip(geometry.axes, geometry.flips, strict=True)):
        index[axis] = geometry.source_shape[axis] - 1 - turned[n] if flip else turned[n]
    through_scan = np.asarray(geometry.source_affine) @ [*index, 1.0]
    assert geometry.affine is not None
    assert np.allclose(geometry.affine @ prepared, through_scan, atol=1e-4)
    assert np.allclose((geometry.index_matrix @ prepared)[:3], index, atol=1e-6)


@given(scan_geometries())
def test_the_prepared_axes_grow_as_the_plan_says(geometry: Geometry) -> None:
    assert geometry.affine is not None
    assert geometry.orientation is not None
    directions = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    for axis, letter in enumerate(geometry.orientation):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[letter]
        assert sign * directions[row, axis] > 0.5


@given(scan_geometries())
def test_turning_and_restoring_is_the_identity(geometry: Geometry) -> None:
    voxels = np.arange(np.prod(geometry.source_shape)).reshape(1, *geometry.source_shape)
    turned = geometry.reorient(voxels)
    assert turned.shape[1:] == tuple(geometry.source_shape[axis] for axis in geometry.axes)
    assert np.array_equal(geometry.restore(turned), voxels)


def as_sitk(voxels: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    """Return a SimpleITK image of ``(i, j, k)`` voxels."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    to_lps = np.diag([-1.0, -1.0, 1.0])
    image.SetSpacing(spacing.tolist())
    image.SetDirection((to_lps @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((to_lps @ affine[:3, 3]).tolist())
    return image


@pytest.mark.parametrize("given_orientation", ["LPS", "RAS", "PSR", "IRA"])
# no spacing puts a sample exactly on the edge of the scan: there the two may round to different sides
@pytest.mark.parametrize("spacing_mm", [(1.3, 0.83, 0.9), (2.0, 1.5, 1.0), (0.5, 0.5, 0.5)])
def test_agrees_with_simpleitk(given_orientation: str, spacing_mm: tuple[float, float, float]) -> None:
    turn = Rotation.from_euler("xyz", [8, -12, 5], degrees=True).as_matrix()
    affine = affine_of(given_orientation, (2.0, 2.0, 2.0), turn=turn)
    voxels = smooth_scan((15, 12, 18), low=-1000, high=400)
    plan = make_plan(orientation="SPL", spacing_mm=spacing_mm, shape=(60, 60, 80))
    geometry = plan_geometry(voxels.shape, affine, None, (slice(2, 11), slice(0, 12), slice(3, 18)), plan)
    assert geometry.affine is not None
    grid = as_sitk(np.zeros(plan.shape, dtype=np.float32), geometry.affine)
    reference = SimpleITK.Resample(as_sitk(voxels, affine), grid, SimpleITK.Transform(), SimpleITK.sitkLinear, -1024.0)
    prepared = resample(voxels[None], geometry, -1024.0)[0]
    assert np.any(prepared == -1024)
    assert np.allclose(prepared, SimpleITK.GetArrayFromImage(reference).transpose(2, 1, 0), atol=0.02)


def test_spacing_sets_the_pitch_and_the_box_the_centre() -> None:
    plan = make_plan(orientation="RAS", spacing_mm=(2.0, 2.0, 3.0), shape=(5, 5, 5))
    box = (slice(10, 20), slice(0, 40), slice(7, 8))
    geometry = plan_geometry((40, 40, 40), affine_of("RAS"), None, box, plan)
    assert geometry.scale == pytest.approx((2.0, 2.0, 3.0))
    centre = geometry.index_matrix @ [2, 2, 2, 1]
    assert centre[:3] == pytest.approx([14.5, 19.5, 7.0])


def test_without_spacing_the_box_just_fits_and_keeps_its_proportions() -> None:
    plan = make_plan(spatial_dims=2, shape=(32, 32))
    geometry = plan_geometry((100, 80), None, None, (slice(20, 84), slice(0, 16)), plan)
    assert geometry.scale == (2.0, 2.0)
    first, last = (geometry.index_matrix @ [corner, corner, 1] for corner in (-0.5, 31.5))
    assert (first[0], last[0]) == (19.5, 83.5)
    assert (first[1] + last[1]) / 2 == 7.5


def test_without_a_plan_spacing_known_voxels_keep_their_physical_proportions() -> None:
    plan = make_plan(shape=(20, 64, 64))
    geometry = plan_geometry((256, 256, 20), None, (1.0, 1.0, 5.0), None, plan)
    assert geometry.scale == pytest.approx((1.0, 5.0, 5.0))


@pytest.mark.parametrize("shape", [(7, 9, 8), (5, 12, 8), (8, 8, 8)])
def test_the_scans_own_pitch_copies_voxels_whatever_the_sizes(shape: tuple[int, ...]) -> None:
    voxels = np.random.default_rng(0).normal(size=(1, 7, 9, 8)).astype(np.float32)
    affine = affine_of("LPS", (0.7, 0.70000002, 2.5))  # headers are float32
    plan = make_plan(orientation="LPS", spacing_mm=(0.70000002, 0.7, 2.5), shape=shape)
    prepared = resample(voxels, plan_geometry((7, 9, 8), affine, None, None, plan), np.nan)
    assert set(prepared[np.isfinite(prepared)]) <= set(voxels.ravel())
    kept = np.prod([min(*pair) for pair in zip(shape, (7, 9, 8), strict=True)])
    assert np.isfinite(prepared).sum() == kept


def test_the_same_grid_is_the_identity() -> None:
    voxels = np.random.default_rng(0).integers(-1000, 3000, size=(1, 7, 9, 8)).astype(np.int16)
    plan = make_plan(orientation="LPS", spacing_mm=(0.8, 0.9, 2.5), shape=(7, 9, 8))
    geometry = plan_geometry((7, 9, 8), affine_of("LPS", (0.8, 0.9, 2.5)), None, None, plan)
    assert np.array_equal(resample(voxels, geometry, 0), voxels)
    assert np.array_equal(geometry.to_scan(voxels), voxels)


@pytest.mark.parametrize("given_orientation", ["LPS", "RAS", "SAR"])
@pytest.mark.parametrize("spacing_mm", [(1.5, 1.2, 1.6), (0.7, 0.8, 0.9)])
def test_there_and_back_gives_the_scan_again(given_orientation: str, spacing_mm: tuple[float, ...]) -> None:
    voxels = smooth_scan((24, 26, 28))
    plan = make_plan(orientation="SPL", spacing_mm=spacing_mm, shape=(44, 40, 40))
    geometry = plan_geometry(voxels.shape, affine_of(given_orientation), None, None, plan)
    back = geometry.to_scan(resample(voxels[None], geometry, 0))[0]
    assert back.shape == voxels.shape
    assert np.corrcoef(back.ravel(), voxels.ravel())[0, 1] > 0.99


def test_a_map_is_carried_back_to_where_it_was_seen() -> None:
    plan = make_plan(orientation="SPL", spacing_mm=(2.0, 1.0, 1.0), shape=(10, 12, 14))
    geometry = plan_geometry((20, 24, 22), affine_of("RSA"), None, None, plan)
    maps = np.zeros((2, 10, 12, 14), dtype=np.float32)
    maps[0, 6, 3, 9] = 1.0
    maps[1] = 1.0
    hot, everywhere = geometry.to_scan(maps, fill=-1.0)
    expected = (geometry.index_matrix @ [6, 3, 9, 1])[:3]
    found = np.argwhere(hot == hot.max()).mean(axis=0)
    assert np.abs(found - expected).max() <= 0.5
    assert set(np.unique(everywhere)) == {-1.0, 1.0}
    assert 0.5 < (everywhere == 1.0).mean() * everywhere.size / (20 * 12 * 14) < 1.5


def test_a_map_of_another_grid_is_refused() -> None:
    geometry = plan_geometry((8, 8), None, None, None, make_plan(spatial_dims=2, shape=(8, 8)))
    with pytest.raises(ValueError, match="prepared grid"):
        geometry.to_scan(np.zeros((4, 4)))


@pytest.mark.parametrize(
    ("plan", "affine", "spacing", "message"),
    [
        (make_plan(spacing_mm=(1, 1, 1)), None, None, "how large its voxels are.*spacing_mm: null"),
        (make_plan(orientation="SPL"), None, (1, 1, 1), "how it lies in space.*orientation: null"),
        (make_plan(spacing_mm=(1, 1, 1)), None, (1, 0, 1), r"spacing \[1, 0, 1\] mm is not positive"),
        (make_plan(), None, (1, float("nan"), 1), "is not positive"),
    ],
)
def test_what_the_plan_needs_and_the_scan_lacks_is_refused(
    plan: object, affine: None, spacing: tuple[float, ...] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        plan_geometry((8, 8, 8), affine, spacing, None, plan)  # type: ignore[arg-type]


@pytest.mark.parametrize("box", [(slice(3, 3), slice(0, 9), slice(0, 8)), None])
def test_an_empty_side_of_the_box_is_the_whole_side(box: tuple[slice, ...] | None) -> None:
    assert plan_geometry((7, 9, 8), None, None, box, make_plan()) == plan_geometry(
        (7, 9, 8), None, None, None, make_plan()
    )
