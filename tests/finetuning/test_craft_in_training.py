"""Every choice of `Optimisation` reaches the training loop, and what it adds to the logits is taken out again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from medres.data.folds import make_folds
from medres.finetuning.fold_training import FoldTrainer
from medres.finetuning.inner_validation import inner_validation, validation_loss
from medres.finetuning.losses import training_offset
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.outcomes import WEIGHTS_FILE
from medres.finetuning.recipes import RecipeName, build_recipe
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model
from medres.runs.progress import Silent
from tests.finetuning.conftest import ARCH, Cohort, make_cohort


def _fold_trainer(
    cohort: Cohort, stages: tuple[Stage, ...], events: list[dict[str, Any]], **options: Any
) -> FoldTrainer:
    optimisation = Optimisation.from_mapping(options)

    def make_model() -> ClassificationModel:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return create_model(
                ARCH, num_classes=len(cohort.table.classes), drop_rate=optimisation.dropout,
                drop_path=optimisation.drop_path,
            )  # fmt: skip

    trainer = Trainer(
        feed=cohort.feed, plan=cohort.plan, optimisation=optimisation, seed=0, progress=Silent(),
        on_event=lambda kind, **fields: events.append({"kind": kind, **fields}),
        activations=cohort.feed.cache.folder.parent / "activations",
    )  # fmt: skip
    rows = np.arange(len(cohort.table))
    return FoldTrainer(
        table=cohort.table, stages=stages, trainer=trainer, make_model=make_model, shared_rows=rows,
        test=np.array([], dtype=np.int64), pseudonyms=tuple(f"s-{row}" for row in rows), seed=0,
    )  # fmt: skip


def _train(cohort: Cohort, folder: Path, recipe: RecipeName = "full", epochs: int = 2, **options: Any) -> Any:
    events: list[dict[str, Any]] = []
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    outcome = _fold_trainer(cohort, build_recipe(recipe, epochs=epochs), events, **options).train(fold, folder)
    return outcome, events


CHOICES: dict[str, dict[str, Any]] = {
    "focal": {"loss": "focal"},
    "balanced sampling": {"sampling": "balanced"},
    "no weights": {"class_weights": "none"},
    "label smoothing": {"label_smoothing": 0.1},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "dropout": {"dropout": 0.5},
    "drop path": {"drop_path": 0.5},
    "sgd": {"optimiser": "sgd"},
    "no average": {"ema": False},
    "no augmentation": {"augment": False},
    "clipped": {"gradient_clip": 0.01},
}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three scans of the first class to one of the second."""
    cohort = make_cohort(tmp_path_factory.mktemp("uneven"))
    scans = tuple(
        replace(scan, label="class1" if row % 4 == 3 else "class0") for row, scan in enumerate(cohort.table.scans)
    )
    return replace(cohort, table=replace(cohort.table, scans=scans))


@pytest.fixture(scope="module")
def default(uneven: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    _train(uneven, folder)
    return folder


@pytest.mark.parametrize("name", list(CHOICES))
def test_every_choice_changes_the_training_and_repeats_itself(
    uneven: Cohort, default: Path, tmp_path: Path, name: str
) -> None:
    outcome, _ = _train(uneven, tmp_path / "a", **CHOICES[name])
    again, _ = _train(uneven, tmp_path / "b", **CHOICES[name])
    assert np.isfinite(outcome.held_out_logits).all()
    assert np.array_equal(outcome.held_out_logits, again.held_out_logits)
    plain = safetensors.torch.load_file(default / WEIGHTS_FILE)
    chosen = safetensors.torch.load_file(tmp_path / "a" / WEIGHTS_FILE)
    assert plain.keys() == chosen.keys()
    assert any(not plain[key].equal(chosen[key]) for key in plain)


@pytest.mark.parametrize("options", [{}, {"sampling": "balanced"}, {"class_weights": "none"}, {"loss": "focal"}])
def test_what_is_added_to_the_logits_is_told(uneven: Cohort, tmp_path: Path, options: dict[str, Any]) -> None:
    outcome, _ = _train(uneven, tmp_path, "linear-probe", **options)
    labels = uneven.table.class_indices[outcome.fold.train]
    expected = training_offset(labels, num_classes=2, optimisation=Optimisation.from_mapping(options))
    np.testing.assert_allclose(outcome.offset, expected)


def test_early_stopping_ends_a_stage_and_keeps_its_best_weights(tmp_path: Path) -> None:
    # nothing to learn: on scans that are held back the loss cannot get better for 30 epochs, on any processor
    noise = make_cohort(tmp_path / "cache", signal=0.0)
    outcome, events = _train(noise, tmp_path / "a", epochs=30, early_stopping_patience=2)
    losses = [event["metrics"]["inner_log_loss"] for event in events if event["kind"] == "epoch"]
    assert len(losses) < 30
    assert int(np.argmin(losses)) == len(losses) - 3
    prevalence = np.bincount(noise.table.class_indices[outcome.fold.train]) / len(outcome.fold.train)
    np.testing.assert_allclose(outcome.operating_point.priors, prevalence)  # that of all training scans
    again, _ = _train(noise, tmp_path / "a", epochs=30, early_stopping_patience=2)
    assert np.isfinite(again.held_out_logits).all()
    _, watched = inner_validation(noise.table, outcome.fold, seed=0)
    logits = noise.logits_of(outcome.weights_file, watched)
    loss = validation_loss(logits, noise.table.class_indices[watched], offset=outcome.offset)
    assert loss == pytest.approx(min(losses), rel=1e-4)


def test_without_patience_nothing_is_held_back(uneven: Cohort, tmp_path: Path) -> None:
    _, events = _train(uneven, tmp_path)
    assert all("inner_log_loss" not in event["metrics"] for event in events if event["kind"] == "epoch")


@pytest.mark.parametrize("recipe", ["linear-probe", "full"])
def test_views_of_prediction_reach_the_scored_logits(uneven: Cohort, tmp_path: Path, recipe: RecipeName) -> None:
    without, _ = _train(uneven, tmp_path / "a", recipe)
    averaged, _ = _train(uneven, tmp_path / "b", recipe, tta=2)
    first, second = (safetensors.torch.load_file(tmp_path / name / WEIGHTS_FILE) for name in "ab")
    assert all(first[key].equal(second[key]) for key in first)
    assert not np.allclose(without.held_out_logits, averaged.held_out_logits)
