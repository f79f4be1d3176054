"""The design of a run: what was asked of the optimisation reaches the network, or is refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath

from medres.data.phantoms import write_phantoms
from medres.errors import ConfigError, DataError, MedresError, ModelError, PlanError
from medres.finetuning.optimisation import Optimisation
from medres.models.classifier import ClassificationModel
from medres.models.loading import LoadingReport
from medres.runs.progress import Silent
from medres.workflows.design import Design
from medres.workflows.finetuning import finetune
from tests.finetuning.conftest import ARCH, Cohort, make_cohort


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_cohort(tmp_path)


def _model(cohort: Cohort, **optimisation: Any) -> ClassificationModel:
    return Design(
        arch=ARCH, num_classes=2, device=torch.device("cpu"), weights=None, loading=LoadingReport(),
        plan=cohort.plan, recipe="full", stages=(), optimisation=Optimisation(**optimisation), seed=5,
    ).make_model()  # fmt: skip


def test_dropout_and_stochastic_depth_reach_the_network_and_leave_its_weights_alone(cohort: Cohort) -> None:
    plain, dropped = _model(cohort), _model(cohort, dropout=0.3, drop_path=0.2)
    rates = [module.drop_prob for module in dropped.modules() if isinstance(module, DropPath)]
    assert (plain.dropout.p, dropped.dropout.p) == (0.0, 0.3)
    assert rates
    assert max(rates) == pytest.approx(0.2)
    assert not [module for module in plain.modules() if isinstance(module, DropPath)]
    expected = plain.state_dict()
    assert list(dropped.state_dict()) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in dropped.state_dict().items())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"arch": "densenet121", "optimisation": {"drop_path": 0.1}}, ModelError, "densenet121 has no residual"),
        ({"arch": "resnet18", "dims": "2.5", "optimisation": {"mixup": 0.2}}, ConfigError, "slice by slice"),
        (
            {"arch": "resnet18", "optimisation": {"tta": 2}, "planning": {"augmentation": False}},
            PlanError,
            "allows 0 views",
        ),
    ],
)
def test_what_the_network_or_the_plan_cannot_do_is_refused_before_training_and_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[MedresError], words: str
) -> None:
    dims = 3 if "dims" in options else 2
    scans = write_phantoms(tmp_path / "scans", modality="CT", spatial_dims=dims, num_scans=8, num_classes=2, size=32)
    with pytest.raises(error, match=words):
        finetune(scans, weights="none", folds=2, output=tmp_path / "runs", name="x", tracking=False, **options)
    assert not (tmp_path / "runs" / "x").exists()


def test_early_stopping_without_scans_to_watch_is_refused_before_training_and_leaves_nothing(tmp_path: Path) -> None:
    scans = write_phantoms(tmp_path / "scans", modality="CT", spatial_dims=2, num_scans=4, num_classes=2, size=32)
    with pytest.raises(DataError, match=r"Early stopping in fold 0 cannot hold back .*early_stopping_patience=0"):
        finetune(
            scans, arch=ARCH, weights="none", folds=2, output=tmp_path / "runs", name="x", tracking=False,
            optimisation={"early_stopping_patience": 2},
        )  # fmt: skip
    assert not (tmp_path / "runs" / "x").exists()
    # a solved head has no epoch to stop at: nothing is held back
    finetune(
        scans, arch=ARCH, weights="none", recipe="linear-probe", folds=2, output=tmp_path / "runs", name="y",
        tracking=False, optimisation={"early_stopping_patience": 2},
    )  # fmt: skip


def test_epochs_for_a_recipe_that_has_none_are_said_to_change_nothing(tmp_path: Path) -> None:
    class Notes(Silent):
        said: list[str]

        def note(self, text: str) -> None:
            self.said.append(text)

    scans = write_phantoms(tmp_path / "scans", modality="CT", spatial_dims=2, num_scans=8, num_classes=2, size=32)
    for epochs, expected in ((7, 1), (None, 0)):
        notes = Notes()
        notes.said = []
        finetune(
            scans, arch=ARCH, weights="none", recipe="linear-probe", epochs=epochs, folds=2, progress=notes,
            output=tmp_path / "runs", name=f"epochs-{epochs}", tracking=False,
        )  # fmt: skip
        assert sum("--epochs changes nothing" in text for text in notes.said) == expected
