"""What is asked for of the training loop: rules between the keys, each with one clear message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medres.errors import ConfigError
from medres.finetuning.optimisation import Optimisation

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "optimisation.md"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mixup": -1}, ["mixup", "greater than or equal to 0", "got -1"]),
        ({"cutmix": -0.1}, ["cutmix", "greater than or equal to 0"]),
        ({"dropout": 1}, ["dropout", "less than 1"]),
        ({"drop_path": 1.0}, ["drop_path", "less than 1"]),
        ({"focal_gamma": -1}, ["focal_gamma"]),
        ({"loss": "hinge"}, ["loss", "cross_entropy", "focal", "hinge"]),
        ({"optimiser": "adam"}, ["optimiser", "adamw", "sgd"]),
        ({"momentum": 1.0}, ["momentum", "less than 1"]),
        ({"tta": -1}, ["tta", "got -1"]),
        ({"early_stopping_patience": -1}, ["early_stopping_patience"]),
        ({"sampling": "balanced", "class_weights": "balanced"}, ["count rare classes twice", "class_weights: none"]),
        ({"loss": "focal", "class_weights": "balanced"}, ["cannot be taken out", "class_weights: none"]),
        ({"loss": "focal", "sampling": "balanced"}, ["cannot be taken out", "sampling: shuffled"]),
        ({"loss": "focal", "mixup": 0.2, "cutmix": 1.0}, ["mixup and cutmix", "loss: cross_entropy"]),
        ({"loss": "focal", "label_smoothing": 0.1}, ["label_smoothing", "loss: cross_entropy"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Optimisation.from_mapping(values, source="config.yaml")
    for word in words:
        assert word in str(caught.value)
    assert "Value error" not in str(caught.value)
    assert str(caught.value).count("config.yaml is not valid") == 1


@pytest.mark.parametrize("values", [{"sampling": "balanced"}, {"loss": "focal"}])
def test_what_takes_the_place_of_class_weights_switches_them_off_and_says_so_in_the_file(
    values: dict[str, str], tmp_path: Path
) -> None:
    asked = Optimisation(**values)  # type: ignore[arg-type]
    assert asked.class_weights == "none"
    asked.write_yaml(tmp_path / "optimisation.yaml")
    assert Optimisation.read(tmp_path / "optimisation.yaml") == asked
    assert Optimisation().class_weights == "balanced"


def test_every_key_is_explained() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert [key for key in Optimisation.model_fields if f"| `{key}` |" not in text] == []
