"""The loop: it learns, it repeats itself bit for bit, it never touches what is frozen, it stops at the first NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medres.errors import TrainingError
from medres.finetuning import stage_loop
from medres.finetuning.feed import Rows, augmentation_seeds
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.finetuning.training_state import TrainingSamples
from medres.models.classifier import ClassificationModel
from medres.runs.progress import Silent
from tests.finetuning.conftest import Cohort

FULL = Stage(name="full", train_from="stem", epochs=3, lr=3e-3, warmup_epochs=0.5, norm_statistics="update")


def _trainer(cohort: Cohort, events: list[dict[str, Any]], **optimisation: Any) -> Trainer:
    def on_event(kind: str, **fields: Any) -> None:
        events.append({"kind": kind, **fields})

    return Trainer(
        feed=cohort.feed,
        plan=cohort.plan,
        optimisation=Optimisation(**optimisation),
        seed=7,
        progress=Silent(),
        on_event=on_event,
        activations=cohort.feed.cache.folder.parent / "activations",
    )


def _samples(cohort: Cohort, rows: Rows | None = None) -> TrainingSamples:
    rows = np.arange(len(cohort.table)) if rows is None else rows
    labels = cohort.table.class_indices[rows]
    return TrainingSamples(
        rows=rows,
        class_indices=labels,
        class_weights=np.ones(len(cohort.table.classes)),
        offset=np.zeros(len(cohort.table.classes)),
        pseudonyms=tuple(f"s-{row:012x}" for row in rows),
    )


def train(cohort: Cohort, stage: Stage = FULL, **optimisation: Any) -> tuple[ClassificationModel, list[dict[str, Any]]]:
    """Train the tiny net on a cohort and return it and the events."""
    events: list[dict[str, Any]] = []
    model = cohort.make_model()
    _trainer(cohort, events, **optimisation).train(model, stage, _samples(cohort), first_epoch=1)
    assert [event["epoch"] for event in events if event["kind"] == "epoch"][-1] == stage.epochs
    return model, events


def test_it_learns_what_can_be_learnt_and_logs_every_epoch(cohort: Cohort) -> None:
    _, events = train(cohort, replace_epochs(8))
    losses = [event["metrics"]["loss"] for event in events]
    assert [event["epoch"] for event in events] == list(range(1, 9))
    assert losses[-1] < 0.5 * losses[0]
    rates = [event["metrics"]["lr"] for event in events]
    assert rates[0] == max(rates)
    assert rates[-1] < 0.1 * rates[0]


def replace_epochs(epochs: int) -> Stage:
    return FULL.model_copy(update={"epochs": epochs})


def test_the_same_seed_gives_the_same_weights_bit_for_bit(cohort: Cohort) -> None:
    first, second = train(cohort)[0], train(cohort)[0]
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_an_epoch_sees_every_scan_once_in_even_batches(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, unchanged = list[np.ndarray[Any, Any]](), list[np.ndarray[Any, Any]]()
    original = type(cohort.feed).inputs

    def inputs(self: Any, rows: Any, *, seeds: Any = None) -> Any:
        (seen if seeds else unchanged).append(rows)
        return original(self, rows, seeds=seeds)

    monkeypatch.setattr(type(cohort.feed), "inputs", inputs)
    train(cohort.in_batches_of(13), replace_epochs(1))
    for rows in (seen, unchanged):  # in training, then once more for the statistics of normalisation
        assert sorted(np.concatenate(rows)) == list(range(40))
        assert {len(batch) for batch in rows} <= {10}


@pytest.mark.parametrize("train_from", ["layer3", "head"])
def test_what_lies_before_the_stage_is_bit_identical(cohort: Cohort, train_from: str) -> None:
    stage = FULL.model_copy(update={"train_from": train_from})
    before = cohort.make_model().state_dict()
    model, _ = train(cohort, stage)
    order = model.stages
    frozen = [name for name in before if order.index(model.stage_of(name)) < order.index(train_from)]
    assert frozen
    for name in frozen:
        assert torch.equal(model.state_dict()[name], before[name]), name
    assert not torch.equal(model.head.weight, before["head.weight"])


def test_without_averaging_the_last_weights_are_kept(cohort: Cohort) -> None:
    averaged, last = train(cohort)[0], train(cohort, ema=False)[0]
    assert not torch.equal(averaged.head.weight, last.head.weight)


def test_gradients_of_the_suffix_equal_those_of_the_whole_network(cohort: Cohort) -> None:
    model = cohort.make_model()
    model.eval()
    batch = cohort.feed.batch(np.arange(6))
    targets = torch.from_numpy(cohort.table.class_indices[:6])
    torch.nn.functional.cross_entropy(model(batch), targets).backward()
    whole = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad(set_to_none=True)
    prefix, suffix = model.split_at("layer4")
    with torch.no_grad():
        frozen = prefix(batch)
    torch.nn.functional.cross_entropy(suffix(frozen), targets).backward()
    compared = 0
    for name, parameter in model.named_parameters():
        if model.stage_of(name) in ("layer4", "head"):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, whole[name], atol=1e-5, rtol=1e-5)
            compared += 1
    assert compared >= 8


def test_a_loss_that_is_not_finite_stops_at_once_and_names_scans_by_pseudonym(cohort: Cohort) -> None:
    model = cohort.make_model()
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    events: list[dict[str, Any]] = []
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 1.*s-0000.*lr_factor") as caught:
        _trainer(cohort, events).train(model, FULL, _samples(cohort), first_epoch=1)
    assert "scan1" not in str(caught.value)
    assert events == []


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_single_bad_scan_is_named_and_no_other(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    original = type(cohort.feed).inputs

    def inputs(self: Any, rows: Any, *, seeds: Any = None) -> Any:
        made = original(self, rows, seeds=seeds)
        made.scans[torch.from_numpy(rows == 17)] = float("nan")
        return made

    monkeypatch.setattr(type(cohort.feed), "inputs", inputs)
    large = cohort.in_batches_of(40)
    stage = FULL.model_copy(update={"norm_statistics": "frozen"})  # else the batch's statistics spoil all scans
    with pytest.raises(TrainingError, match=r"with 1 scan: s-000000000011; the weights were not kept"):
        train(large, stage, accumulate=accumulate)


def test_every_stage_begins_with_the_engine_as_it_was_made(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[Any] = []
    monkeypatch.setattr(stage_loop, "renewed", renewed.append)
    trainer = _trainer(cohort, [])
    for _ in range(2):
        trainer.train(cohort.make_model(), replace_epochs(1), _samples(cohort), first_epoch=1)
    assert renewed == [trainer.fabric] * 2


def test_augmentation_depends_on_seed_scan_and_epoch_alone() -> None:
    keys = ["c", "a", "b"]
    seeds = augmentation_seeds(keys, seed=5, epoch=2)
    assert augmentation_seeds(keys[::-1], seed=5, epoch=2) == seeds[::-1]
    assert len({*seeds, *augmentation_seeds(keys, seed=5, epoch=3), *augmentation_seeds(keys, seed=6, epoch=2)}) == 9
