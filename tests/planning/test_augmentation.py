from __future__ import annotations

from itertools import permutations, product
from typing import Any

import pytest

from medres.errors import PlanError
from medres.planning.augmentation import OFF, choose_augmentation
from medres.planning.choice import Choice
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Augmentation

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


def chosen_for(modality: Any, *, slicewise: bool = False, **wishes: Any) -> Choice[Augmentation]:
    return choose_augmentation(
        modality=modality, spatial_dims=3, orientation="SPL", spacing_mm=(1, 1), slicewise=slicewise,
        wishes=PlanOverrides.from_mapping(wishes),
    )  # fmt: skip


@pytest.mark.parametrize("modality", ["CT", "MR", "other"])
@pytest.mark.parametrize("slicewise", [False, True])
def test_a_bias_field_is_for_mr_and_slices_are_left_out_of_slices(modality: str, slicewise: bool) -> None:
    chosen, reason = chosen_for(modality, slicewise=slicewise)
    assert (chosen.bias_field > 0) == (modality == "MR")
    assert (chosen.gamma > 0) == (modality != "CT")
    assert (chosen.slice_dropout > 0) == slicewise
    assert chosen.crop == 0 < chosen.blur < 1
    assert ("slices are left out" in reason) == slicewise
    assert ("bias field for the coils" in reason) == (modality == "MR")


def test_every_magnitude_can_be_wished_for() -> None:
    magnitudes = {name: 0.125 for name in Augmentation.model_fields if name != "flip_axes"}
    without = chosen_for("MR", slicewise=True).value
    for name in magnitudes:
        chosen, reason = chosen_for("MR", slicewise=True, augmentation={name: 0.125})
        assert chosen == without.model_copy(update={name: 0.125})
        assert f"(planning.augmentation): {name} 0.125. Without it: {name} {getattr(without, name):g}." in reason
    nothing = dict.fromkeys(magnitudes, 0)
    assert chosen_for("MR", slicewise=True, augmentation=nothing, flip_axes=[]).value == OFF


def test_all_are_switched_off_at_once() -> None:
    for wish in (False, {"enabled": False}):
        chosen, reason = chosen_for("MR", slicewise=True, augmentation=wish)
        assert chosen == OFF
        assert "Switched off by you" in reason
    assert not any(value for _, value in OFF)
    assert chosen_for("MR", augmentation=True) == chosen_for("MR")


def test_slices_cannot_be_left_out_of_volumes() -> None:
    with pytest.raises(PlanError, match=r"slice_dropout is 0\.2.*--dims 2\.5"):
        chosen_for("MR", augmentation={"slice_dropout": 0.2})
