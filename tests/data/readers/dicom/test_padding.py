"""Padding is left out where it is padding, and tissue stays where the header names its values."""

import numpy as np
import pytest

from medres.data.readers.dicom import read_study
from medres.data.readers.rules import ReadingRules
from medres.data.statistics import scan_statistics
from tests.data.readers.dicom.making import stack, write_series

RULES = ReadingRules()


def tissue(num=6, shape=(40, 40)):
    """Values of 200 to 1100 in noise."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    noise = np.random.default_rng(0).integers(0, 60, (num, *shape))
    return (200 + 10 * rows + 10 * columns + noise).astype(np.int16)


def outside(voxels, radius):
    """Where a round field of view leaves the corners."""
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in voxels.shape[1:])
    return np.broadcast_to(np.hypot(rows[:, None], columns) > radius, voxels.shape)


def read(folder, voxels, *, modality="MR", intercept=0, **tags):
    write_series(folder, voxels, modality=modality, RescaleIntercept=intercept, **tags)
    image = read_study(folder, rules=RULES)
    return image.voxels[0].transpose(2, 1, 0), {note.partition(":")[0] for note in image.notes}


@pytest.mark.parametrize("value", [-32768, -2000, 32767, 500])
@pytest.mark.parametrize("radius", [24, 12, 5])
def test_padding_of_any_size_gets_the_lowest_measured_value(tmp_path, value, radius):
    """Also where it covers 95 % of the picture, and where its value is one that tissue could have."""
    voxels = tissue()
    padded = outside(voxels, radius)
    lowest = voxels[~padded].min()
    voxels[padded] = value
    got, codes = read(tmp_path, voxels, PixelPaddingValue=value)
    # one pixel in a thousand has the value and lies at the border of the padding: it cannot be told from it
    assert np.mean(got[~padded] != voxels[~padded]) <= (0.001 if value == 500 else 0)
    shared = value == 500 and radius > 5  # tissue has it too, and keeps it
    assert (set(got[padded]), codes) == ({lowest}, {"padding-doubt"} if shared else set())


@pytest.mark.parametrize("modality", ["MR", "CT", "DX"])
@pytest.mark.parametrize(("value", "limit"), [(500, None), (300, 900), (900, 300), (-2000, 900), (-32768, 32767)])
def test_a_padding_that_tissue_has_replaces_nothing(tmp_path, modality, value, limit):
    voxels = tissue()
    tags = {} if limit is None else {"PixelPaddingRangeLimit": limit}
    got, codes = read(tmp_path, voxels, modality=modality, PixelPaddingValue=value, **tags)
    np.testing.assert_array_equal(got, voxels)
    assert codes == {"padding-doubt"}


def test_of_a_range_that_tissue_has_the_value_itself_is_still_padding(tmp_path):
    voxels = tissue()
    padded = outside(voxels, 15)
    voxels[padded] = -2000
    got, codes = read(tmp_path, voxels, PixelPaddingValue=-2000, PixelPaddingRangeLimit=900)
    np.testing.assert_array_equal(got[~padded], voxels[~padded])
    assert (set(got[padded]), codes) == ({voxels[~padded].min()}, {"padding-doubt"})


@pytest.mark.parametrize("value", [-2000, 60])
def test_below_air_a_ct_has_nothing_whatever_the_range_says(tmp_path, value):
    """A lossy CT rings around its padding; with a range up to soft tissue, soft tissue stays."""
    voxels = stack(6, (40, 40))
    padded = outside(voxels, 15)
    ringing = np.random.default_rng(1).integers(-30, 30, voxels.shape)
    voxels[padded] = (-1500 + ringing[padded]).astype(np.int16)
    got, _ = read(tmp_path, voxels, modality="CT", intercept=-1024, PixelPaddingValue=-1470,
                  PixelPaddingRangeLimit=value + 1024)  # fmt: skip
    np.testing.assert_array_equal(got[~padded], voxels[~padded] - 1024)
    assert set(got[padded]) == {voxels[~padded].min() - 1024}


@pytest.mark.parametrize("radius", [24, 12])
def test_padding_never_decides_the_scale(tmp_path, radius):
    """Statistics of a padded scan lie within those of its tissue, whatever the padding is."""
    voxels = tissue()
    padded = outside(voxels, radius)
    low, high = int(voxels[~padded].min()), int(voxels[~padded].max())
    voxels[padded] = 32000
    write_series(tmp_path, voxels, modality="MR", RescaleIntercept=0, PixelPaddingValue=32000)
    statistics = scan_statistics(read_study(tmp_path, rules=RULES))
    assert (statistics.minimum, statistics.maximum) == (low, high)
    assert statistics.foreground_fraction == pytest.approx(1 - padded.mean(), abs=0.01) or radius == 24


def test_water_is_no_padding_of_a_signed_ct(tmp_path):
    voxels = (tissue() - 600).astype(np.int16)
    got, codes = read(tmp_path, voxels, modality="CT", PixelPaddingValue=0)
    np.testing.assert_array_equal(got, voxels)
    assert codes == {"padding-doubt"}
