from __future__ import annotations

import json

import numpy as np
import pytest

from medres.errors import DataError
from medres.planning.fingerprint import Fingerprint, make_fingerprint
from tests.planning import examples
from tests.planning.examples import fingerprint, scan


def test_it_holds_aggregates_and_no_identifier() -> None:
    scans = {f"Doe^John-{index}": item for index, item in enumerate(examples.chest_ct())}
    found = make_fingerprint(scans)
    text = json.dumps(found.to_mapping())
    assert "Doe" not in text
    assert found.num_scans == found.num_volumes == 40
    assert Fingerprint.from_mapping(json.loads(text)) == found


@pytest.mark.parametrize("name", examples.DATA_SETS)
def test_the_spreads_are_numpys_percentiles(name: str) -> None:
    scans = examples.DATA_SETS[name]()
    found = fingerprint(scans)
    tops = np.percentile([item.percentiles["99.5"] for item in scans], [0, 5, 10, 50, 90, 95, 100])
    assert list(found.percentiles["99.5"].to_mapping().values()) == pytest.approx(list(tops), rel=5e-4)
    shares = [np.prod([b - a for a, b in item.foreground_box]) / np.prod(item.spatial_shape) for item in scans]
    grid = found.volumes or found.images
    assert grid is not None
    assert grid.box_fraction.median == pytest.approx(np.median(shares), rel=5e-4)


@pytest.mark.parametrize(("factor", "offset"), [(1, 0), (1e-9, 0), (1e200, 0), (1, 1e6), (1e-7, -1.0)])
def test_intensities_keep_their_digits_on_any_scale_and_offset(factor: float, offset: float) -> None:
    ends = [(10.0 + k, 130.0 + 2 * k) for k in range(9)]
    found = fingerprint([scan((9, 9), low=low * factor + offset, high=high * factor + offset) for low, high in ends])
    for spread, values in zip((found.minimum, found.maximum), zip(*ends, strict=True), strict=True):
        levels = np.percentile(values, [0, 5, 10, 50, 90, 95, 100])
        kept = (np.array(list(spread.to_mapping().values())) - offset) / factor
        np.testing.assert_allclose(kept, levels, atol=0.06)
    assert (np.array(found.full_range) - offset) / factor == pytest.approx((10.4, 145.2), abs=1e-3)
    assert found.width.median / factor == pytest.approx(123 * 1.0, rel=0.02)


def test_a_small_mask_is_as_wide_as_its_values() -> None:
    flat = {f"{level:g}": 0.0 for level in (0.5, 1, 5, 25, 50, 75, 95, 99, 99.5)}
    found = fingerprint([scan((9, 9), high=3, percentiles=flat)])
    assert (found.width.median, found.robust_range) == (3, (0, 3))


@pytest.mark.parametrize("code", ["RAS", "LPS", "PSR", "ASL", "SPL", "IPR", "RIA"])
def test_axes_are_told_by_anatomy_not_by_the_file(code: str) -> None:
    # 10, 20, 30 voxels of 1, 2, 4 mm along left-right, front-back, feet-head, wherever the file puts them
    axes = [{"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[letter] for letter in code]
    sizes, steps = [(10, 20, 30)[axis] for axis in axes], [(1.0, 2.0, 4.0)[axis] for axis in axes]
    grid = fingerprint([scan(sizes, spacing_mm=tuple(steps), orientation=code)]).volumes
    assert grid is not None
    assert grid.spacing_mm is not None
    assert grid.extent_mm is not None
    assert [spread.median for spread in grid.size] == [30, 20, 10]
    assert [spread.median for spread in grid.spacing_mm] == [4, 2, 1]
    assert [spread.median for spread in grid.extent_mm] == [120, 40, 10]
    assert grid.common_spacing_mm == (4, 2, 1)
    assert grid.coarse_axes == {"D": 1}
    assert grid.anisotropy is not None
    assert grid.anisotropy.median == 4


def test_a_volume_of_unknown_orientation_is_read_as_k_j_i() -> None:
    grid = fingerprint([scan((10, 20, 30), box=((1, 3), (0, 5), (10, 30)))]).volumes
    assert grid is not None
    assert [spread.median for spread in grid.size] == [30, 20, 10]
    assert [spread.median for spread in grid.box] == [20, 5, 2]
    assert (grid.num_with_spacing, grid.num_with_orientation, grid.spacing_mm) == (0, 0, None)


def test_millimetres_are_over_those_that_know_them() -> None:
    grid = fingerprint([*examples.identity_cubes(3), *examples.medmnist(3, 2)]).volumes
    assert grid is not None
    assert grid.extent_mm is not None
    assert (grid.num_scans, grid.num_with_spacing, grid.num_with_orientation) == (5, 3, 3)
    assert grid.extent_mm[0].maximum == 51
    assert not grid.same_size
    assert grid.orientations == {"RAS": 3}


@pytest.mark.parametrize(("ct", "modality"), [(20, "CT"), (18, "CT"), (17, "other"), (10, "other")])
def test_a_modality_needs_nine_scans_in_ten(ct: int, modality: str) -> None:
    scans = [scan((9, 9, 9), modality="CT" if index < ct else "MR", low=-1000) for index in range(20)]
    found = fingerprint(scans)
    assert found.modality == modality
    assert str(ct) in found.evidence
    assert ("do not agree" in found.evidence) == (modality == "other")


def test_an_empty_box_counts_as_the_whole_scan() -> None:
    grid = fingerprint([scan((10, 10), box=((0, 0), (0, 0)))]).images
    assert grid is not None
    assert grid.box_fraction.median == 1


def test_no_scans_are_refused() -> None:
    with pytest.raises(DataError, match="no scans"):
        make_fingerprint({})
