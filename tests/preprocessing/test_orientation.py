from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from medres.errors import DataError
from medres.preprocessing.orientation import file_axes, oriented_axes
from tests.preprocessing.examples import ORIENTATIONS, affine_of


def turned(voxels: np.ndarray, affine: np.ndarray, orientation: str) -> np.ndarray:
    axes, flips = oriented_axes(affine, orientation=orientation)
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    return voxels.transpose(axes)[steps]


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("given", ORIENTATIONS)
@pytest.mark.parametrize("oblique", [False, True])
def test_agrees_with_nibabel_for_every_orientation(given: str, oblique: bool) -> None:
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    turn = Rotation.from_euler("xyz", [14, -11, 17], degrees=True).as_matrix() if oblique else None
    affine = affine_of(given, (1.0, 2.0, 3.0), turn=turn)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(voxels.astype(np.int16), affine))
    assert np.array_equal(turned(voxels, affine, "RAS"), np.asarray(canonical.dataobj))


@pytest.mark.parametrize("given", ORIENTATIONS)
@pytest.mark.parametrize("wanted", ["SPL", "PIL", "LIP"])
def test_agrees_with_simpleitk_for_every_orientation(given: str, wanted: str) -> None:
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    affine = affine_of(given, (1.0, 2.0, 3.0))
    image = SimpleITK.GetImageFromArray(voxels.transpose(2, 1, 0).astype(np.int16))  # SimpleITK indexes K, J, I
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetDirection((lps / [1.0, 2.0, 3.0]).ravel())
    # its code names the growth of x, y, z, and an array of it is z, y, x
    reference = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(image, wanted[::-1]))
    assert np.array_equal(turned(voxels, affine, wanted), reference)


def test_an_unknown_orientation_is_read_as_the_file_lies() -> None:
    assert file_axes(3) == ((2, 1, 0), (False, False, False))
    assert file_axes(2) == ((0, 1), (False, False))


@pytest.mark.parametrize("broken", ["flat", "nan"])
def test_an_affine_without_inverse_is_refused(broken: str) -> None:
    affine = np.eye(4)
    affine[:, 1] = np.nan if broken == "nan" else affine[:, 0]
    with pytest.raises(DataError, match="has no inverse"):
        oriented_axes(affine, orientation="SPL")
