import io
import itertools

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medres.data.image import ScanImage
from medres.data.thumbnails import EDGE, thumbnail

AXES = itertools.permutations(["LR", "PA", "SI"])
ORIENTATIONS = ["".join(code) for axes in AXES for code in itertools.product(*axes)]


def decoded(image):
    return np.asarray(Image.open(io.BytesIO(thumbnail(image))))


def scan(voxels, affine=None, spacing=None, **more):
    return ScanImage(voxels=voxels[None], affine=affine, spacing_mm=spacing, content_hash="", **more)


def patient(*, spacing=(1.0, 1.0, 1.0), size=48):
    """A cube in LPI axes with a bright corner: towards the right, the front and the head."""
    voxels = np.zeros((size,) * 3, dtype=np.int16)
    half = size // 2
    voxels[: half + 4, : half + 4, : half + 4] = 1000
    return voxels, np.diag([-spacing[0], -spacing[1], -spacing[2], 1.0])


def turned(voxels, affine, code):
    image = nib.Nifti1Image(voxels, affine)
    start, end = nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(code))
    return image.as_reoriented(nib.orientations.ornt_transform(start, end))


@pytest.mark.parametrize("code", ORIENTATIONS)
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0), (5.0, 1.0, 1.0), (1.0, 5.0, 1.0)])
def test_the_picture_is_the_same_however_the_file_lies(code, spacing):
    voxels, affine = patient(spacing=spacing)
    expected = decoded(scan(voxels, affine, spacing))
    other = turned(voxels, affine, code)
    image = scan(np.asanyarray(other.dataobj), other.affine, tuple(other.header.get_zooms()))
    assert np.array_equal(decoded(image), expected)
    top_left = expected[: EDGE // 4, : EDGE // 4].mean()
    assert top_left > 200 > 50 > expected[-EDGE // 4 :, -EDGE // 4 :].mean()


def test_pixels_have_their_true_shape():
    voxels = np.random.default_rng(0).normal(size=(40, 40, 10))
    assert decoded(scan(voxels, np.diag([-1.0, -2.0, 5, 1]), (1.0, 2.0, 5.0))).shape == (EDGE, EDGE // 2)
    assert decoded(scan(np.eye(30)[:, :10])).shape == (EDGE, round(EDGE / 3))


@pytest.mark.parametrize("voxels", [
    np.full((6, 6), 7, np.uint8), np.eye(6, dtype=bool), np.array([[-3e38, 3e38]], np.float32),
    np.arange(36.0).reshape(6, 6) * 1e-30, np.zeros((1, 1, 1), np.int16), np.zeros((500, 2), np.uint16),
])  # fmt: skip
def test_odd_values_and_shapes_are_pictures_too(voxels):
    assert decoded(scan(voxels)).dtype == np.uint8


def test_colours_stay():
    red = np.zeros((3, 20, 20), np.uint8)
    red[0, 5:15, 5:15] = 255
    picture = np.asarray(Image.open(io.BytesIO(thumbnail(
        ScanImage(voxels=red, affine=None, spacing_mm=None, content_hash="", color=True)))))  # fmt: skip
    assert picture.shape == (EDGE, EDGE, 3)
    assert picture[EDGE // 2, EDGE // 2, 0] > 200 > 60 > picture[EDGE // 2, EDGE // 2, 1]
