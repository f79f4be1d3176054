"""A fold from weights to calibrated predictions, and that no fold learns from what it is scored on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medres.data.folds import Folding, make_folds
from medres.evaluation.training_fit import signs_of_no_learning
from medres.finetuning.cross_validation import fit_temperatures, score_held_out, score_test
from medres.finetuning.features import pooled_features
from medres.finetuning.fold_training import FoldTrainer, inner_splits
from medres.finetuning.freezing import freeze_to
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.outcomes import FoldOutcome, read_outcome
from medres.finetuning.recipes import RecipeName, build_recipe
from medres.finetuning.trainer import Trainer
from medres.models.classifier import ClassificationModel
from medres.runs.progress import Silent
from tests.finetuning.conftest import Cohort, assert_same_logits, make_cohort


def _fold_trainer(
    cohort: Cohort, recipe: RecipeName, *, test: np.ndarray | None = None, epochs: int = 2
) -> FoldTrainer:  # type: ignore[type-arg]
    stages = build_recipe(recipe, epochs=epochs)
    trainer = Trainer(
        feed=cohort.feed,
        plan=cohort.plan,
        optimisation=Optimisation(head_views=2),
        seed=0,
        progress=Silent(),
        on_event=lambda kind, **fields: None,
        activations=cohort.feed.cache.folder.parent / "activations",
    )
    return FoldTrainer(
        table=cohort.table,
        stages=stages,
        trainer=trainer,
        make_model=cohort.make_model,
        shared_rows=np.arange(len(cohort.table)),
        test=np.array([], dtype=np.int64) if test is None else test,
        pseudonyms=tuple(f"s-{row}" for row in range(len(cohort.table))),
        seed=0,
    )


def _folding(cohort: Cohort, num_folds: int = 2) -> Folding:
    return make_folds(cohort.table, num_folds=num_folds, seed=0)


@pytest.mark.parametrize("recipe", ["linear-probe", "lp-ft", "gradual", "partial", "full"])
def test_every_recipe_trains_a_fold_and_its_file_gives_its_logits(
    cohort: Cohort, tmp_path: Path, recipe: RecipeName
) -> None:
    folding = _folding(cohort)
    outcome = _fold_trainer(cohort, recipe).train(folding.folds[0], tmp_path / "fold_0")
    assert outcome.held_out_logits.shape == (len(folding.folds[0].held_out), 2)
    logits = cohort.logits_of(outcome.weights_file, outcome.fold.held_out)
    assert_same_logits(logits, outcome.held_out_logits)


@pytest.mark.parametrize("recipe", ["linear-probe", "lp-ft", "full"])
def test_labels_of_held_out_scans_change_nothing(tmp_path: Path, recipe: RecipeName) -> None:
    cohort = make_cohort(tmp_path / "cache")
    fold = _folding(cohort).folds[0]
    outcome = _fold_trainer(cohort, recipe).train(fold, tmp_path / "a")
    turned = set(fold.held_out.tolist())
    other = {"class0": "class1", "class1": "class0"}
    scans = tuple(
        scan.__class__(**{**vars(scan), "label": other[scan.label or ""]}) if row in turned else scan
        for row, scan in enumerate(cohort.table.scans)
    )
    liar = Cohort(
        table=cohort.table.__class__(**{**vars(cohort.table), "scans": scans}), feed=cohort.feed, plan=cohort.plan
    )
    again = _fold_trainer(liar, recipe).train(fold, tmp_path / "b")
    assert np.array_equal(outcome.held_out_logits, again.held_out_logits)


def _features(cohort: Cohort, folder: Path, *, batch_size: int = 8) -> np.ndarray:  # type: ignore[type-arg]
    cache = _fold_trainer(cohort, "lp-ft").trainer.prefix_cache
    plan = cohort.plan.model_copy(update={"batch_size": batch_size})
    rows = np.arange(len(cohort.table))
    model = freeze_to(cohort.make_model(), "head")
    return pooled_features(
        replace(cache, folder=folder, plan=plan), model, rows, shared_rows=rows, views=2, batch_size=8
    )


def test_frozen_features_do_not_depend_on_the_batch_and_view_zero_is_the_scan_itself(
    cohort: Cohort, tmp_path: Path
) -> None:
    features = _features(cohort, tmp_path / "a")
    np.testing.assert_allclose(features, _features(cohort, tmp_path / "b", batch_size=5), atol=1e-5)
    prefix, _ = cohort.make_model().eval().split_at("head")
    with torch.inference_mode():
        np.testing.assert_allclose(features[:, 0], prefix(cohort.feed.batch(np.arange(40))).numpy(), atol=1e-5)
    assert not np.allclose(features[:, 0], features[:, 1])


def test_inner_splits_keep_patients_together_and_stay_inside_the_training_rows(cohort: Cohort) -> None:
    rows = _folding(cohort).folds[0].train
    splits = inner_splits(cohort.table, rows, seed=0)
    assert len(splits) == 5
    patients = np.array([cohort.table.scans[row].patient_id for row in rows])
    for train, validation in splits:
        assert not set(patients[train]) & set(patients[validation])
        assert max(train.max(), validation.max()) < len(rows)


def test_no_inner_split_where_a_class_has_one_patient(cohort: Cohort) -> None:
    labels = cohort.table.class_indices
    rows = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:1]])
    assert inner_splits(cohort.table, rows, seed=0) == []


def _outcomes(cohort: Cohort, tmp_path: Path, folding: Folding) -> list[FoldOutcome]:
    trainer = _fold_trainer(cohort, "linear-probe", test=folding.test)
    return [trainer.train(fold, tmp_path / f"fold_{fold.index}") for fold in folding.folds]


def test_a_scan_never_calibrates_itself(cohort: Cohort, tmp_path: Path) -> None:
    outcomes = _outcomes(cohort, tmp_path, _folding(cohort, 4))
    labels = cohort.table.class_indices
    temperatures = fit_temperatures(outcomes, labels)
    own = outcomes[0].fold.held_out
    turned = labels.copy()
    turned[own] = 1 - turned[own]
    changed = fit_temperatures(outcomes, turned)
    assert changed[0] == temperatures[0]
    assert changed[1:] != temperatures[1:]


def test_a_single_fold_without_validation_keeps_temperature_one(cohort: Cohort, tmp_path: Path) -> None:
    outcomes = _outcomes(cohort, tmp_path, make_folds(cohort.table, num_folds=1, seed=0))
    assert fit_temperatures(outcomes, cohort.table.class_indices) == [1.0]


def test_softmax_of_the_reported_logits_is_the_reported_probability(cohort: Cohort, tmp_path: Path) -> None:
    folding = _folding(cohort)
    outcomes = _outcomes(cohort, tmp_path, folding)
    scored = score_held_out(outcomes[0], 1.7)
    softmax = np.exp(scored.logits) / np.exp(scored.logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, scored.probabilities, atol=1e-12)
    test_folding = Folding(folds=folding.folds, test=folding.folds[0].held_out, kind="cross-validation")
    outcomes = _outcomes(cohort, tmp_path / "t", test_folding)
    ensemble = score_test(outcomes, [1.0, 2.0], test_folding)
    assert ensemble.fold == "ensemble"
    np.testing.assert_allclose(np.exp(ensemble.logits), ensemble.probabilities)
    np.testing.assert_allclose(ensemble.probabilities.sum(axis=1), 1.0)


def test_a_linear_probe_runs_the_frozen_network_once_and_says_what_the_whole_network_says(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _fold_trainer(cohort, "linear-probe")

    def again(*_: object, **__: object) -> None:
        raise AssertionError("the frozen network ran again")

    monkeypatch.setattr("medres.finetuning.fold_training.compute_logits", again)
    outcome = trainer.train(_folding(cohort).folds[0], tmp_path / "fold_0")
    logits = cohort.logits_of(outcome.weights_file, outcome.fold.held_out)
    assert_same_logits(outcome.held_out_logits, logits)


def test_a_network_that_learns_nothing_is_told_from_one_that_learns(cohort: Cohort, tmp_path: Path) -> None:
    fold = _folding(cohort).folds[0]
    solved = _fold_trainer(cohort, "linear-probe").train(fold, tmp_path / "solved")
    assert solved.training_fit.is_better_than_prior
    assert solved.training_fit.num_scans == len(fold.train)
    trainer = _fold_trainer(cohort, "full", epochs=1)
    still = replace(trainer.trainer, optimisation=Optimisation(lr_factor=1e-12))

    def blind() -> ClassificationModel:
        model = cohort.make_model()
        torch.nn.init.zeros_(model.head.weight)
        torch.nn.init.zeros_(model.head.bias)
        return model

    dead = replace(trainer, trainer=still, make_model=blind).train(fold, tmp_path / "dead")
    assert not dead.training_fit.is_better_than_prior
    assert read_outcome(fold, tmp_path / "dead", identity=trainer.fold_identity(fold)) is not None
    [temperature] = fit_temperatures([dead], cohort.table.class_indices)
    scored = score_held_out(dead, temperature)
    signs = signs_of_no_learning(dead.training_fit, temperature=temperature, probabilities=scored.probabilities)
    assert [sign.split(" ")[1] for sign in signs] == ["log-loss", "probabilities"]
