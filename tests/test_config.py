"""What was asked for: file, options and assignments, in that order; everything unknown is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.config import FinetuneConfig
from medres.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def test_options_win_over_the_file_and_assignments_over_both(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("arch: resnet18\nseed: 3\noptimisation:\n  ema: false\n  gradient_clip: 2.0\n")
    config = FinetuneConfig.build(
        file=tmp_path / "c.yaml",
        data="scans",
        arch="resnet50",
        seed=None,
        assignments=("optimisation.gradient_clip=0.5",),
    )
    assert (config.arch, config.seed) == ("resnet50", 3)
    assert (config.optimisation.ema, config.optimisation.gradient_clip) == (False, 0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "x"}, ["arch: is required"]),
        ({"data": "x", "arch": "resnet18", "folds": 0}, ["folds", "greater than or equal to 1", "got 0"]),
        ({"data": "x", "arch": "resnet18", "recipe": "lpft"}, ["recipe", "lp-ft"]),
        (
            {"data": "x", "arch": "resnet18", "assignments": ("optimisation.emma=1",)},
            ["optimisation.emma", "unknown key"],
        ),
        ({"data": "x", "arch": "resnet18", "assignments": ("seed",)}, ["--set 'seed' is not an assignment"]),
        ({"data": "x", "arch": "resnet18", "assignments": ("seed.x=1",)}, ["seed"]),
    ],
)
def test_bad_values_are_named(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        FinetuneConfig.build(**options)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)


def test_the_resolved_file_can_be_followed_again(tmp_path: Path) -> None:
    config = FinetuneConfig.build(data="scans", arch="resnet18", dims="3", register="ct", folds=4)
    config.write_yaml(tmp_path / "config.yaml")
    assert FinetuneConfig.build(file=tmp_path / "config.yaml") == config
    assert "register: ct" in (tmp_path / "config.yaml").read_text()


def test_a_number_for_dims_is_understood() -> None:
    assert FinetuneConfig.build(data="x", arch="a", assignments=("dims=2.5",)).dims == "2.5"
    assert FinetuneConfig.build(data="x", arch="a", assignments=("dims=3",)).dims == "3"


def test_parameters_for_tracking_hold_no_path_and_no_column_name() -> None:
    config = FinetuneConfig.build(
        data="/data/DOE_JOHN",
        arch="resnet18",
        output="/home/DOE_JOHN",
        weights="/w/DOE_JOHN.pth",
        name="DOE_JOHN",
        patient_pattern="DOE_JOHN(.*)",
        label_column="DOE_JOHN",
        patient_column="DOE_JOHN",
        unit_column="DOE_JOHN",
        labels="DOE_JOHN.csv",
        tracking_uri="http://DOE_JOHN:pw@host",
        experiment="DOE_JOHN",
    )
    parameters = config.to_parameters()
    assert "DOE_JOHN" not in str(parameters)
    assert parameters["optimisation.ema"] is True


def test_every_recipe_file_is_valid() -> None:
    assert len(CONFIGS) >= 3
    for path in CONFIGS:
        config = FinetuneConfig.build(file=path, data="scans", arch="resnet18")
        assert config.arch == "resnet18"
        assert path.read_text().startswith("#"), f"{path.name} opens with its command"
        assert "medres finetune --config configs/" + path.name in path.read_text()


def test_one_magnitude_of_augmentation_is_set_by_its_path() -> None:
    config = FinetuneConfig.build(
        data="scans", arch="resnet18",
        assignments=("planning.augmentation.noise=0", "planning.augmentation.blur=1.5"),
    )  # fmt: skip
    assert config.planning.augmentation is not None
    assert config.planning.augmentation.magnitudes() == {"noise": 0.0, "blur": 1.5}
    assert config.to_parameters()["planning.augmentation.blur"] == 1.5
    switched_off = FinetuneConfig.build(data="scans", arch="resnet18", assignments=("planning.augmentation=false",))
    assert switched_off.planning.augmentation is not None
    assert not switched_off.planning.augmentation.enabled


def test_named_weights_stay_names_whatever_lies_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("none", "auto", "imagenet", "medicalnet", "mine.safetensors"):
        (tmp_path / name).touch()
    located = {
        name: FinetuneConfig.build(data=Path("scans"), arch="resnet18", weights=name).located()
        for name in ("none", "auto", "imagenet", "medicalnet", "mine.safetensors", "resnet18.a1_in1k")
    }
    assert [name for name, config in located.items() if config.weights != name] == ["mine.safetensors"]
    assert located["mine.safetensors"].weights == str(tmp_path / "mine.safetensors")
    assert all(config.data == tmp_path / "scans" for config in located.values())


@pytest.mark.parametrize("weights", ["x" * 300, "~nobody-of-this-name/x.pth", ""])
def test_weights_that_cannot_be_a_path_stay_as_they_are(weights: str) -> None:
    assert FinetuneConfig.build(data=Path("scans"), arch="resnet18", weights=weights).located().weights == weights
