"""What a stage ends with: running statistics of all training scans, under the very weights that are kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from medres.finetuning import stage_loop
from medres.finetuning.inner_validation import EarlyStopping
from medres.finetuning.sampling import Sampling, epoch_order
from medres.finetuning.stages import Stage
from medres.models.classifier import ClassificationModel
from tests.finetuning.conftest import Cohort
from tests.finetuning.test_trainer import FULL, _samples, _trainer, train

STAGES = {
    "everything": FULL,
    "live frozen part": FULL.model_copy(update={"train_from": "layer3"}),
    "kept frozen part": FULL.model_copy(update={"train_from": "layer3", "views": 2}),
}
CHOICES: dict[str, dict[str, Any]] = {
    "averaged": {}, "last weights": {"ema": False}, "in parts": {"accumulate": 2},
    "in single precision": {"activation_storage": "single"},
}  # fmt: skip


def _theirs(model: ClassificationModel, stage: Stage, cohort: Cohort, rows: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the model's tensors, with PyTorch's own statistics of all scans in one batch behind the frozen part."""
    other = copy.deepcopy(model).eval()
    prefix, suffix = other.split_at(stage.train_from)
    with torch.no_grad():
        frozen = prefix(cohort.feed.batch(rows))
    update_bn([frozen], suffix)
    return other.state_dict()


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("stage", STAGES)
def test_they_are_pytorchs_of_all_training_scans_as_they_are(cohort: Cohort, stage: str, choice: str) -> None:
    whole = cohort.in_batches_of(len(cohort.table))
    model, _ = train(whole, STAGES[stage], **CHOICES[choice])
    expected = _theirs(model, STAGES[stage], whole, np.arange(len(cohort.table)))
    # a batch in two parts is normalised part by part (.19 here; 12 without the pass); kept activations are rounded
    tolerance = 0.5 if choice == "in parts" else 3e-3
    compared = 0
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            scale = expected[name].abs().max()
            assert (value - expected[name]).abs().max() <= tolerance * scale, name
            compared += 1
    assert compared >= 20


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_each_class_counts_as_often_as_training_shows_it(cohort: Cohort, sampling: Sampling) -> None:
    labels = cohort.table.class_indices
    rows = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:8]])
    samples = _samples(cohort, rows)
    model, whole = cohort.make_model(), cohort.in_batches_of(len(rows))
    trainer = _trainer(whole, [], sampling=sampling)
    trainer.train(model, FULL, samples, first_epoch=1)
    order = epoch_order(labels[rows], sampling=sampling, seed=trainer.seed, epoch=0)
    shown = rows[order.positions]
    assert (labels[shown] == 1).mean() == pytest.approx(0.5 if sampling == "balanced" else 8 / 28, abs=0.02)
    expected = _theirs(model, FULL, whole, shown)
    name = next(name for name, module in model.named_modules() if isinstance(module, _BatchNorm))
    found, theirs = model.state_dict()[f"{name}.running_mean"], expected[f"{name}.running_mean"]
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-5)
    otherwise = _theirs(model, FULL, whole, np.concatenate([rows, rows[-8:]]))[f"{name}.running_mean"]
    assert (found - otherwise).abs().max() > 1e-3  # another share of the classes would be seen here


def test_a_stage_that_keeps_its_statistics_keeps_them(cohort: Cohort) -> None:
    before = cohort.make_model().state_dict()
    model, _ = train(cohort, FULL.model_copy(update={"norm_statistics": "frozen"}))
    for name, value in model.state_dict().items():
        if name.rpartition(".")[2].startswith(("running", "num_batches")):
            assert torch.equal(value, before[name]), name


def test_a_stage_without_a_step_changes_nothing(cohort: Cohort) -> None:
    model, before = cohort.make_model(), cohort.make_model().state_dict()
    stage = FULL.model_copy(update={"epochs": 0, "warmup_epochs": 0.0})
    _trainer(cohort, []).train(model, stage, _samples(cohort), first_epoch=1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_small_batches_cost_no_level(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    small = cohort.in_batches_of(2)
    stage = FULL.model_copy(update={"epochs": 1})
    losses = {"renewed": _training_loss(train(small, stage)[0], cohort)}
    monkeypatch.setattr(stage_loop, "renew_statistics", lambda *args, **options: None)
    losses["trailing"] = _training_loss(train(small, stage)[0], cohort)
    assert losses["renewed"] < 0.5 * losses["trailing"]  # .14 and .57 where this was written


def _training_loss(model: ClassificationModel, cohort: Cohort) -> float:
    labels = torch.from_numpy(cohort.table.class_indices)
    with torch.inference_mode():
        logits = model.eval()(cohort.feed.batch(np.arange(len(labels))))
    return float(torch.nn.functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("best", [1, 3])
def test_early_stopping_sees_and_keeps_the_statistics_of_the_weights_that_it_keeps(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, best: int
) -> None:
    rows, watched = np.arange(30), np.arange(30, 40)
    labels = cohort.table.class_indices
    samples = replace(_samples(cohort, rows), watched=(watched, labels[watched]))
    original, seen = EarlyStopping.after, list[int]()

    def after(self: EarlyStopping, epoch: int, *, loss: float) -> EarlyStopping:
        seen.append(epoch)
        return original(self, epoch, loss=0.1 if epoch == best else 0.2)

    monkeypatch.setattr(EarlyStopping, "after", after)
    model, whole = cohort.make_model(), cohort.in_batches_of(30)
    _trainer(whole, [], early_stopping_patience=5).train(model, FULL, samples, first_epoch=1)
    assert seen == [1, 2, 3]
    expected = _theirs(model, FULL, whole, rows)
    layers = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    assert layers
    for name in layers:
        for part in ("running_mean", "running_var"):
            found, theirs = model.state_dict()[f"{name}.{part}"], expected[f"{name}.{part}"]
            assert (found - theirs).abs().max() < 3e-3 * theirs.abs().max(), name


def test_the_watched_epochs_do_not_change_the_training(cohort: Cohort, tmp_path: Path) -> None:
    rows, watched = np.arange(30), np.arange(30, 40)
    labels = cohort.table.class_indices
    plain = _samples(cohort, rows)
    weights = []
    for samples in (plain, replace(plain, watched=(watched, labels[watched]))):
        model = cohort.make_model()
        trainer = _trainer(cohort, [], early_stopping_patience=3)
        trainer.train(model, FULL, samples, first_epoch=1)
        weights.append({name: value.clone() for name, value in model.named_parameters()})
    # the watch kept the last epoch here, which is what the fixed schedule ends with
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
