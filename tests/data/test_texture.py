import numpy as np
import pytest

from medres.data.texture import colorfulness, roughness


def every_difference(voxels):
    return np.mean([np.abs(np.diff(voxels.astype(np.float64), axis=axis)).mean() for axis in range(1, voxels.ndim)])


@pytest.mark.parametrize("shape", [(1, 40, 50), (2, 20, 21, 22), (1, 5, 1, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_small_scans_are_looked_at_whole(shape, dtype):
    voxels = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    voxels = voxels[:, :, :1] if shape[2] == 1 else voxels
    expected = [
        np.abs(np.diff(voxels.astype(float), axis=a)).mean() for a in range(1, voxels.ndim) if voxels.shape[a] > 1
    ]
    assert roughness(voxels, value_range=255.0) == pytest.approx(np.mean(expected) / 255)


def test_of_large_scans_a_sample_tells_the_same():
    smooth = np.random.default_rng(0).normal(size=(1, 200, 200, 40)).cumsum(axis=1).astype(np.float32)
    assert roughness(smooth, value_range=10.0) == pytest.approx(every_difference(smooth) / 10, rel=0.02)


def test_scale_and_turning_do_not_matter():
    voxels = np.random.default_rng(0).integers(0, 255, (1, 30, 40, 20)).astype(np.float64)
    expected = roughness(voxels, value_range=255.0)
    assert roughness(voxels * 1e-6 + 3, value_range=255e-6) == pytest.approx(expected)
    assert roughness(voxels.transpose(0, 3, 1, 2)[:, ::-1], value_range=255.0) == pytest.approx(expected)


def test_colours():
    grey = np.repeat(np.random.default_rng(0).integers(0, 255, (1, 9, 9)), 3, axis=0).astype(np.uint8)
    red = np.zeros((3, 9, 9), np.uint8)
    red[0] = 200
    assert (colorfulness(grey), colorfulness(red), colorfulness(np.zeros((3, 4, 4)))) == (0.0, 1.0, 0.0)
