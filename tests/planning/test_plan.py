from __future__ import annotations

from typing import Any

import pytest

from medres.errors import ConfigError
from medres.planning.plan import CT_WINDOWS_HU, Plan

VALUES: dict[str, Any] = {
    "spatial_dims": 3, "modality": "CT", "orientation": "SPL", "spacing_mm": [2.0, 1.0, 1.0], "shape": [64, 96, 96],
    "in_channels": 2, "intensity": {"scheme": "hu_windows", "windows_hu": ["lung", [-160, 240]]}, "augmentation": {},
    "batch_size": 4,
}  # fmt: skip


def plan_with(**changes: Any) -> Plan:
    return Plan.from_mapping({**VALUES, **changes})


def test_windows_by_name_and_by_number() -> None:
    bounds = plan_with().intensity.window_bounds_hu()
    assert bounds == (CT_WINDOWS_HU["lung"], CT_WINDOWS_HU["soft_tissue"])
    assert all(low < high for low, high in CT_WINDOWS_HU.values())


#: What is stored depends on these alone: a change of anything else must find the cache again.
STORED = {
    "orientation": "RAS", "spacing_mm": [2.0, 2.0, 2.0], "shape": [64, 64, 64], "crop": "foreground", "modality": "MR",
}  # fmt: skip
LATER = {
    "batch_size": 8, "precision": "bf16", "fingerprint_digest": "0" * 64, "reasons": {"shape": "because."},
    "intensity": {"scheme": "hu_windows", "windows_hu": ["bone", "wide"], "mean": [0.1], "std": [0.2]},
    "augmentation": {"flip_axes": [2]},
}  # fmt: skip


@pytest.mark.parametrize("key", [*STORED, *LATER])
def test_the_cache_depends_on_what_is_stored_alone(key: str) -> None:
    changed = plan_with(**{key: (STORED | LATER)[key]})
    assert changed.digest() != plan_with().digest()
    assert (changed.preparation() != plan_with().preparation()) == (key in STORED)


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"shape": [64, 64]}, "order D,H,W"),
    ({"shape": [64, 64, 0]}, "3 positive sizes"),
    ({"spacing_mm": [1.0, 1.0]}, "3 positive numbers"),
    ({"spacing_mm": [1.0, 1.0, -1.0]}, "3 positive numbers"),
    ({"spatial_dims": 2, "shape": [64, 64], "spacing_mm": None}, "orientation must name"),
    ({"orientation": "LRS"}, "three different axes"),
    ({"in_channels": 3}, "windows_hu has 2"),
    ({"intensity": {"scheme": "hu_windows"}}, "at least one window"),
    ({"intensity": {"scheme": "scaled", "scale_range": [1, 1]}}, "low < high"),
    ({"intensity": {"scheme": "scaled", "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}, "1 or 2 values"),
    ({"intensity": {"scheme": "scaled", "std": [0]}}, "std must be positive"),
    ({"intensity": {"scheme": "scaled", "mean": [], "std": []}}, "std must be positive"),
    ({"intensity": {"scheme": "hu_windows", "windows_hu": [["a", 3], "lung"]}}, "must be a name"),
    ({"augmentation": {"flip_axes": [3]}}, "below 3"),
    ({"augmentation": {"rotation_degrees": -1}}, "rotation_degrees"),
    ({"augmentation": {"crop": 0.95}}, "crop"),
    ({"augmentation": {"blur": 5.5}}, "blur"),
    ({"augmentation": {"gamma": -0.1}}, "gamma"),
    ({"augmentation": {"bias_field": 1.5}}, "bias_field"),
    ({"augmentation": {"slice_dropout": 0.1}}, "slicewise is false"),
    ({"batch_size": 0}, "batch_size"),
    ({"colour": "red"}, "colour: unknown key"),
)  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_with(**changes)


def test_a_plan_that_was_written_before_a_change_existed_has_it_off() -> None:
    old = ("rotation_degrees", "scale", "translation", "brightness", "contrast", "noise")
    written = plan_with(augmentation={"flip_axes": [2], **dict.fromkeys(old, 0.2)}).augmentation
    assert {name for name, value in written if value} == {"flip_axes", *old}
