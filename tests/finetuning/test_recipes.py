"""Every recipe is a list of stages that spends the epochs it was given and thaws in order."""

from __future__ import annotations

from typing import get_args

import pytest

from medres.errors import ConfigError
from medres.finetuning.recipes import (
    FROM_SCRATCH_STEPS,
    RecipeName,
    build_recipe,
    check_stages,
    choose_recipe,
    default_epochs,
)

NAMES = [name for name in get_args(RecipeName) if name != "auto"]
ORDER = ("stem", "layer1", "layer2", "layer3", "layer4", "head")


def test_the_five_recipes_are_walked() -> None:
    assert len(NAMES) == 5


@pytest.mark.parametrize("epochs", [0, 1, 3, 15, 40])
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_spends_its_epochs_and_never_freezes_again(name: RecipeName, epochs: int) -> None:
    stages = build_recipe(name, epochs=epochs)
    spent = sum(stage.epochs for stage in stages if stage.solver == "sgd")
    assert spent == (0 if name == "linear-probe" else epochs)
    depths = [ORDER.index(stage.train_from) for stage in stages]
    assert depths == sorted(depths, reverse=True)
    assert all(stage.warmup_epochs <= max(stage.epochs, 0) for stage in stages)


@pytest.mark.parametrize("name", NAMES)
def test_only_a_frozen_network_gets_a_solved_head(name: RecipeName) -> None:
    for stage in build_recipe(name, epochs=10):
        assert (stage.solver == "lbfgs") == (stage.train_from == "head")


def test_auto_depends_on_the_weights_and_says_why() -> None:
    assert choose_recipe("auto", pretrained=True)[0] == "lp-ft"
    assert choose_recipe("auto", pretrained=False)[0] == "full"
    assert "random" in choose_recipe("auto", pretrained=False)[1]


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps", "xla"])
@pytest.mark.parametrize("batch_size", [4, 16, 64])
@pytest.mark.parametrize("num_scans", [4, 48, 200, 5000])
def test_random_weights_get_enough_steps_however_few_the_scans(device: str, batch_size: int, num_scans: int) -> None:
    steps = -(-num_scans // batch_size)
    usual = default_epochs(device, recipe="lp-ft", num_scans=num_scans, batch_size=batch_size)
    epochs = default_epochs(device, recipe="full", num_scans=num_scans, batch_size=batch_size)
    assert epochs * steps >= FROM_SCRATCH_STEPS
    assert epochs == usual or (epochs - 1) * steps < FROM_SCRATCH_STEPS  # and no more than that
    assert usual == default_epochs(device, recipe="lp-ft", num_scans=4 * num_scans, batch_size=batch_size)


def test_the_rate_of_random_weights_follows_the_batch_and_no_other_one_does() -> None:
    for name in NAMES:
        small, large = (build_recipe(name, epochs=10, batch_size=size)[-1] for size in (4, 64))
        assert large.lr / small.lr == (pytest.approx(4) if name == "full" else 1)


def test_an_unknown_recipe_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"'lpft' is unknown.*lp-ft"):
        choose_recipe("lpft", pretrained=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"solver": "lbfgs", "views": 3}, "a solved head takes optimisation.head_views"),
        ({"epochs": 1, "warmup_epochs": 50}, "warmup_epochs is 50, more than the 1 epochs of the stage"),
        ({"train_from": "stem", "views": 3}, "nothing lies before the stem"),
        ({"learning_rate": 1}, "learning_rate: unknown key"),
    ],
)
def test_a_stage_that_cannot_be_is_told_in_one_sentence(change: dict[str, object], said: str) -> None:
    stage = {"name": "a", "train_from": "head", "epochs": 2, "lr": 1e-3}
    with pytest.raises(ConfigError, match=said) as caught:
        check_stages([{**stage, **change}], source="my.yaml")
    assert caught.value.problem.count("stages") == 1  # nothing is said of the list as a whole


def test_a_recipe_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 item"):
        check_stages([], source="my.yaml")
