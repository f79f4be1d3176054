import itertools

import numpy as np
import pytest

from medres.data.checks.geometry import check_geometry
from tests.data.checks.describing import data_set, entry, found


def usual(count=20, *, spacing=(0.8, 0.8, 3.0), shape=(400, 400, 100), seed=0):
    rng = np.random.default_rng(seed)
    return {
        f"s{n}": entry(
            spacing_mm=tuple(float(mm * rng.uniform(0.8, 1.25)) for mm in spacing),
            spatial_shape=tuple(int(size * rng.uniform(0.9, 1.1)) for size in shape),
        )
        for n in range(count)
    }


def test_ordinary_spread_gives_none():
    assert [found(check_geometry, usual(seed=seed)) for seed in range(50)] == [{}] * 50


def test_protocols_of_one_hospital_give_none():
    protocols = itertools.product([0.5, 0.6, 0.7, 0.8, 0.97], [1, 1.25, 2, 2.5, 3, 5])
    mixed = {
        f"{n}": entry(spacing_mm=(mm, mm, thick), spatial_shape=(512, 512, int(300 / thick)))
        for n, (mm, thick) in enumerate(protocols)
    }
    assert found(check_geometry, mixed) == {}


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("factor", [1000, 10, 0.1])
def test_spacing_outliers_along_each_axis(axis, factor):
    known = usual(spacing=(1.0, 1.0, 1.0), shape=(200, 200, 200))
    spacing, shape = [1.0] * 3, [200] * 3
    spacing[axis] *= factor
    shape[axis] = max(1, int(shape[axis] / factor))  # the same field of view
    known["odd"] = entry(spacing_mm=tuple(spacing), spatial_shape=tuple(shape))
    assert found(check_geometry, known)["spacing-outlier"] == {"odd"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_axes_does_not_matter(order):
    known = usual()
    known["turned"] = entry(
        spacing_mm=tuple((0.8, 0.8, 3.0)[axis] for axis in order),
        spatial_shape=tuple((400, 400, 100)[axis] for axis in order),
    )
    assert found(check_geometry, known) == {}


@pytest.mark.parametrize(("spacing", "is_implausible"), [
    ((0.009, 1, 1), True), ((0.01, 1, 1), False), ((1, 1, 20), False), ((1, 1, 20.5), True),
])  # fmt: skip
def test_implausible_spacing(spacing, is_implausible):
    codes = found(check_geometry, {"a": entry(spacing_mm=spacing)})
    assert codes == ({"spacing-implausible": {"a"}} if is_implausible else {})


def test_unknown_spacing_of_volumes_only():
    flat = {"spatial_shape": (9, 9), "foreground_box": ((0, 9),) * 2}
    known = {"volume": entry(spacing_mm=None), "image": entry(spacing_mm=None, **flat)}
    assert found(check_geometry, known) == {"spacing-unknown": {"volume"}}


def test_a_scan_that_was_cut_off():
    known = usual()
    known["short"] = entry(spacing_mm=(0.8, 0.8, 3.0), spatial_shape=(400, 400, 20))
    assert found(check_geometry, known) == {"size-outlier": {"short"}}


def test_size_counts_in_mm_where_all_know_it_and_in_voxels_otherwise():
    known = usual(shape=(200, 200, 100), spacing=(1.0, 1.0, 2.0))
    known["fine"] = entry(spacing_mm=(0.25, 0.25, 0.25), spatial_shape=(800, 800, 800))
    assert "size-outlier" not in found(check_geometry, known)
    blind = {name: known[name].model_copy(update={"statistics": known[name].statistics.model_copy(
        update={"spacing_mm": None})}) for name in known}  # fmt: skip
    assert found(check_geometry, blind)["size-outlier"] == {"fine"}


def test_images_and_volumes_are_compared_with_their_own_kind():
    flat = {"spatial_shape": (4000, 4000), "spacing_mm": (0.1, 0.1), "foreground_box": ((0, 9),) * 2}
    known = usual(40) | {f"i{n}": entry(**flat) for n in range(12)}
    assert list(check_geometry(data_set(known), known)) == []
