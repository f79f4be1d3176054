from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from medres.planning.axes import reordered, scan_axes
from medres.preprocessing.orientation import file_axes, oriented_axes

CODES = ["".join(letters) for order in permutations(("RL", "AP", "SI")) for letters in product(*order)]


@pytest.mark.parametrize("target", ["SPL", "PIL", "LIP"])
def test_the_axes_are_those_that_preprocessing_takes(target: str) -> None:
    checked = 0
    for code in CODES:
        affine = inv_ornt_aff(axcodes2ornt(tuple(code)), (10, 10, 10))
        affine = np.linalg.inv(affine)
        found = "".join(nib.aff2axcodes(affine))
        assert scan_axes(found, spatial_dims=3, target=target) == oriented_axes(affine, orientation=target)[0]
        checked += 1
    assert checked == 48


@pytest.mark.parametrize("dims", [2, 3])
def test_unknown_orientations_are_read_as_preprocessing_reads_them(dims: int) -> None:
    assert scan_axes(None, spatial_dims=dims) == file_axes(dims)[0]


def test_reordered() -> None:
    assert reordered("abc", (2, 0, 1)) == ("c", "a", "b")
