from __future__ import annotations

from typing import Any

import pytest

from medres.errors import ConfigError
from medres.planning.overrides import AugmentationWishes, PlanOverrides
from medres.planning.plan import Augmentation

GOOD: tuple[tuple[dict[str, Any], str, Any], ...] = (
    ({"windows": "lung"}, "windows", ("lung",)),
    ({"windows": ["lung", [-100, 300]]}, "windows", ("lung", (-100.0, 300.0))),
    ({"spacing_mm": "none"}, "spacing_mm", ()),
    ({"spacing_mm": [1, 2, 3]}, "spacing_mm", (1.0, 2.0, 3.0)),
    ({"orientation": "none"}, "orientation", "none"),
    ({"flip_axes": []}, "flip_axes", ()),
    ({"augmentation": False}, "augmentation", AugmentationWishes(enabled=False)),
    ({"augmentation": {"noise": 0}}, "augmentation", AugmentationWishes(noise=0)),
)  # fmt: skip


@pytest.mark.parametrize(("values", "key", "expected"), GOOD)
def test_what_users_write(values: dict[str, Any], key: str, expected: Any) -> None:
    wishes = PlanOverrides.from_mapping(values)
    assert getattr(wishes, key) == expected
    assert PlanOverrides.from_mapping(wishes.to_mapping()) == wishes


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"windows": ["lungs"]}, "did you mean 'lung'"),
    ({"windows": [[300, -100]]}, "low < high"),
    ({"windows": 7}, "must be a list of windows"),
    ({"orientation": "SPI"}, "three different axes"),
    ({"orientation": 3}, "three different axes"),
    ({"spacing_mm": [1, 0, 1]}, r"spacing_mm\.1"),
    ({"shape": [0, 64]}, r"shape\.0"),
    ({"batch_size": 0}, "batch_size"),
    ({"flip_axes": [3]}, r"flip_axes\.0"),
    ({"modality": "PET"}, "modality"),
    ({"batchsize": 3}, "batchsize: unknown key"),
    ({"augmentation": 3}, "must be false, or magnitudes"),
    ({"augmentation": {"nois": 0}}, r"augmentation\.nois: unknown key"),
    ({"augmentation": {"noise": -1}}, r"augmentation\.noise"),
    ({"augmentation": {"contrast": 1}}, r"augmentation\.contrast"),
    ({"augmentation": {"enabled": False, "noise": 1, "blur": 1}}, "enabled is false, but noise, blur is set"),
)  # fmt: skip


@pytest.mark.parametrize(("values", "message"), BAD)
def test_what_is_refused_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlanOverrides.from_mapping(values)


def test_wishes_have_the_fields_and_the_limits_of_the_plan() -> None:
    wishes = {name: field for name, field in AugmentationWishes.model_fields.items() if name != "enabled"}
    fields = {name: field for name, field in Augmentation.model_fields.items() if name != "flip_axes"}
    assert set(wishes) == set(fields)
    for name in fields:
        for value in (-0.001, 0, 0.5, 0.501, 0.9, 0.901, 1, 1.001, 4.001, 5.001, 180, 180.001):
            outcomes = []
            for document in (AugmentationWishes, Augmentation):
                try:
                    outcomes.append(getattr(document.from_mapping({name: value}), name))
                except ConfigError:
                    outcomes.append(None)
            assert outcomes[0] == outcomes[1], (name, value)
