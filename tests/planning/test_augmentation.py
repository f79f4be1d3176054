from __future__ import annotations

from itertools import permutations, product

import pytest

from medres.planning.augmentation import choose_augmentation
from medres.planning.overrides import PlanOverrides

CODES = ["".join(letters) for order in permutations(("RL", "AP", "SI")) for letters in product(*order)]


def test_only_the_left_right_axis_of_a_body_is_mirrored() -> None:
    for code in CODES:
        chosen = choose_augmentation(
            modality="MR", spatial_dims=3, orientation=code, spacing_mm=(1, 1, 1), wishes=PlanOverrides()
        ).value
        assert [code[axis] in "LR" for axis in chosen.flip_axes] == [True]
    assert len(CODES) == 48


@pytest.mark.parametrize("dims", [2, 3])
def test_without_orientation_only_the_last_axis_is_mirrored(dims: int) -> None:
    chosen = choose_augmentation(
        modality="other", spatial_dims=dims, orientation=None, spacing_mm=None, wishes=PlanOverrides()
    )  # fmt: skip
    assert chosen.value.flip_axes == (dims - 1,)
    assert "planning.flip_axes=[]" in chosen.reason


def test_mr_varies_more_than_ct() -> None:
    ct, mr = (
        choose_augmentation(
            modality=modality, spatial_dims=3, orientation="SPL", spacing_mm=(1, 1, 1), wishes=PlanOverrides()
        ).value
        for modality in ("CT", "MR")
    )
    assert (ct.brightness, ct.contrast, ct.noise) < (mr.brightness, mr.contrast, mr.noise)
    assert ct.rotation_degrees == mr.rotation_degrees == 10
