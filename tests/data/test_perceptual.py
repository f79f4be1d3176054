import numpy as np
import pytest
import scipy.fft
from scipy import ndimage

from medres.data.image import ScanImage
from medres.data.perceptual import _averaged, coefficients_of, perceptual_hash
from tests.data.copies import looks


def picture(shape, *, seed=0, blur=0.04):
    """Return smooth shapes in all sizes, as tissue has them, in 12 bits."""
    rng = np.random.default_rng(seed)
    layers = [ndimage.gaussian_filter(rng.normal(size=shape), [n * blur / 2**k for n in shape]) for k in range(3)]
    total = sum(layer / layer.std() / 2**k for k, layer in enumerate(layers))
    return np.rint((total - total.min()) / np.ptp(total) * 4095).astype(np.int16)


SHAPES = [(96, 80), (64, 64), (40, 48, 24), (36, 36, 36)]


def correlation(one, other):
    left, right = (coefficients_of(text).astype(float).ravel() for text in (one, other))
    return left @ right / np.linalg.norm(left) / np.linalg.norm(right)


@pytest.mark.parametrize("shape", SHAPES)
def test_type_layout_gain_and_offset_change_nothing(shape):
    voxels = picture(shape)
    expected = looks(voxels)
    assert expected.startswith(f"{len(shape)}:")
    assert expected.isascii()
    others = [
        voxels.astype(np.float32),
        voxels.astype(">i4"),
        np.asfortranarray(voxels),
        np.ascontiguousarray(voxels[::-1])[::-1],
        voxels * 2.0 - 1024,
    ]
    for other in others:
        assert correlation(looks(other), expected) > 0.9999  # the last bit of one level in 127


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flip_changes_signs_and_an_exchange_of_axes_changes_places(shape):
    voxels = picture(shape)
    levels = coefficients_of(looks(voxels)).astype(int)
    for axis in range(voxels.ndim):
        signs = np.where(np.indices(levels.shape)[axis] % 2, -1, 1)
        assert np.abs(coefficients_of(looks(np.flip(voxels, axis))) - levels * signs).max() <= 1
    exchanged = coefficients_of(looks(np.swapaxes(voxels, 0, -1)))
    assert np.abs(exchanged - np.swapaxes(levels, 0, -1)).max() <= 1


@pytest.mark.parametrize("size", [(64, 64), (100, 130), (65, 200), (30, 70)])
def test_cells_are_averages_over_their_area(size):
    voxels = picture(size).astype(np.float64)
    cells = [min(n, 64) for n in size]
    # each voxel is repeated as many times as there are cells: then every cell is a block of whole ones
    fine = voxels.repeat(cells[0], axis=0).repeat(cells[1], axis=1)
    expected = fine.reshape(cells[0], size[0], cells[1], size[1]).mean(axis=(1, 3))
    # doubles are brought near 1 first, so that none is too large, too small or too far off for single precision
    expected = (expected - voxels.min()) / np.ptp(voxels)
    np.testing.assert_allclose(_averaged(voxels, 64), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(40, 39, 37), (36, 50, 8)])
def test_cells_of_volumes_do_not_depend_on_the_memory_layout(shape):
    voxels = picture(shape)
    expected = _averaged(voxels, 36)
    assert expected.shape == tuple(min(n, 36) for n in shape)
    assert expected.mean() == pytest.approx(voxels.mean(), rel=1e-4)
    for order in ((1, 0, 2), (2, 1, 0)):
        other = np.transpose(_averaged(np.transpose(voxels, order), 36), np.argsort(order))
        np.testing.assert_allclose(other, expected, rtol=1e-4)


def test_levels_are_the_low_frequencies_of_the_cosine_transform():
    # tones that are all equally frequent are equalised already
    voxels = np.random.default_rng(0).permutation(64 * 64).reshape(64, 64).astype(np.float32)
    spectrum = scipy.fft.dctn(voxels)[:14, :14] * np.hypot(*np.indices((14, 14)))
    spectrum[np.hypot(*np.indices((14, 14))) >= 14] = 0
    levels = coefficients_of(looks(voxels)).astype(float)
    assert np.corrcoef(levels.ravel(), spectrum.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("shape", [(64, 64), (30, 30, 30)])
def test_what_shows_too_little_has_no_hash(shape):
    voxels = np.zeros(shape, dtype=np.uint8)
    assert looks(voxels) == ""
    voxels.reshape(-1)[:100] = 1
    assert looks(voxels) == ""
    voxels.reshape(-1)[:300] = 1
    assert looks(voxels) != ""


def test_what_is_not_finite_has_no_hash():
    voxels = picture((64, 64)).astype(np.float32)
    voxels[3, 4] = np.nan
    assert looks(voxels) == ""


def test_grey_saved_as_colour_looks_the_same():
    voxels = picture((64, 64))
    image = ScanImage(voxels=np.stack([voxels] * 3), affine=None, spacing_mm=None, content_hash="")
    assert perceptual_hash(image) == looks(voxels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 3, 1), (5, 400, 3)])
def test_thin_scans_are_no_trouble(shape):
    voxels = np.random.default_rng(0).normal(size=shape)
    text = looks(voxels)
    assert text == "" or coefficients_of(text).ndim == len(shape)
