"""Kept activations: what they are, that nothing is computed twice, that training on them is training on the network."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from medres.errors import TrainingError
from medres.finetuning import prefix_cache
from medres.finetuning.activations import UNUSED_SECONDS, USED_MARK, Activations, sweep_unused, view_of
from medres.finetuning.feed import augmentation_seeds
from medres.finetuning.freezing import freeze_to
from medres.finetuning.frozen import Batch, KeptPart, LivePart
from medres.finetuning.head_solver import solve_head, standardisation
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.prefix_cache import PrefixCache, tensors_digest
from medres.finetuning.stage_loop import planned_views
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.finetuning.training_state import StageState, TrainingSamples
from medres.models.classifier import ClassificationModel
from medres.runs.progress import Silent
from tests.finetuning.conftest import Cohort

CUTS = ("layer1", "layer2", "layer3", "layer4", "head")


def _trainer(cohort: Cohort, events: list[dict[str, Any]] | None = None, **optimisation: Any) -> Trainer:
    def on_event(kind: str, **fields: Any) -> None:
        if events is not None:
            events.append({"kind": kind, **fields})

    return Trainer(
        feed=cohort.feed, plan=cohort.plan, optimisation=Optimisation(**optimisation), seed=7, progress=Silent(),
        on_event=on_event, activations=cohort.feed.cache.folder.parent / "activations",
    )  # fmt: skip


def _samples(cohort: Cohort) -> TrainingSamples:
    labels = cohort.table.class_indices
    return TrainingSamples(
        rows=np.arange(len(labels)), class_indices=labels, class_weights=np.ones(len(cohort.table.classes)),
        offset=np.zeros(len(cohort.table.classes)),
        pseudonyms=tuple(f"s-{row}" for row in range(len(labels))),
    )  # fmt: skip


def _open(cache: PrefixCache, model: ClassificationModel, cut: str, *, views: int = 1, rows: int = 40) -> Activations:
    found = cache.open(model, cut, groups=[np.arange(rows)], views=views)
    assert isinstance(found, Activations)
    return found


def _batch(rows: np.ndarray, labels: torch.Tensor, *, epoch: int = 1) -> Batch:  # type: ignore[type-arg]
    return Batch(rows=rows, class_indices=labels, epoch=epoch, repeats=np.zeros_like(rows), seed=0)


@pytest.mark.parametrize("cut", CUTS)
def test_they_are_what_the_frozen_part_gives(cohort: Cohort, cut: str) -> None:
    cache = _trainer(cohort, activation_storage="single").prefix_cache
    model = freeze_to(cohort.make_model(), cut)
    rows = np.array([3, 17, 0])
    kept = _open(cache, model, cut, views=2)
    prefix, _ = model.split_at(cut)
    with torch.no_grad():
        itself = prefix(cohort.feed.batch(rows))
        seeds = augmentation_seeds([cohort.feed.keys[row] for row in rows], seed=7, epoch=-1)
        changed = prefix(cohort.feed.batch(rows, seeds=seeds))
    torch.testing.assert_close(kept.read(rows, [0, 0, 0]).scans, itself, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(kept.read(rows, [1, 1, 1]).scans, changed, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(itself, changed)


@pytest.mark.parametrize("cut", ["layer3", "layer4", "head"])
def test_the_suffix_on_them_has_the_gradients_of_the_whole_network(cohort: Cohort, cut: str) -> None:
    cache = _trainer(cohort, activation_storage="single").prefix_cache
    model = freeze_to(cohort.make_model(), cut)
    rows = np.arange(8)
    targets = torch.from_numpy(cohort.table.class_indices[rows])
    torch.nn.functional.cross_entropy(model(cohort.feed.batch(rows)), targets).backward()
    whole = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
    model.zero_grad(set_to_none=True)
    _, suffix = model.split_at(cut)
    part = KeptPart(feed=cohort.feed, activations=_open(cache, model, cut), views=1, seed=7)
    inputs, labels = part(_batch(rows, targets))
    torch.nn.functional.cross_entropy(suffix(inputs.scans), labels).backward()
    found = {name: part.grad for name, part in model.named_parameters() if part.grad is not None}
    assert found.keys() == whole.keys()
    assert found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, whole[name], atol=1e-5, rtol=1e-5)


def test_training_on_them_is_training_with_the_frozen_part_in_every_epoch(cohort: Cohort) -> None:
    stage = Stage(name="top", train_from="layer4", epochs=3, lr=1e-3, views=1)
    models = []
    for views in (1, 0):
        events: list[dict[str, Any]] = []
        trainer = _trainer(cohort, events, augment=False, activation_storage="single", views=views)
        model = cohort.make_model()
        trainer.train(model, stage, _samples(cohort), first_epoch=1)
        assert [event["kept"] for event in events if event["kind"] == "frozen_part"] == [True] * views
        models.append(model.state_dict())
    for name, tensor in models[0].items():
        torch.testing.assert_close(tensor, models[1][name], atol=1e-4, rtol=1e-3, msg=name)


def test_nothing_is_computed_twice(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    original = PrefixCache._run

    def counted(self: PrefixCache, prefix: Any, batch: Any, exact: bool) -> Any:
        computed.append(len(batch))
        return original(self, prefix, batch, exact)

    monkeypatch.setattr(PrefixCache, "_run", counted)
    cache = _trainer(cohort).prefix_cache
    model = freeze_to(cohort.make_model(), "layer4")
    _open(cache, model, "layer4", views=2)
    assert sum(computed) == 1 + 80  # one scan tells the shape
    _open(cache, model, "layer4", views=2)
    assert sum(computed) == 2 + 80
    _open(replace(cache, seed=cache.seed), freeze_to(cohort.make_model(), "layer4"), "layer4", views=3)
    assert sum(computed) == 3 + 120


def test_other_tensors_seeds_and_types_are_kept_apart(cohort: Cohort) -> None:
    model = freeze_to(cohort.make_model(), "layer4")
    cache = _trainer(cohort).prefix_cache
    keys = {_open(cache, model, "layer4").cache.key, _open(cache, model, "layer3").cache.key}
    keys |= {_open(replace(cache, seed=seed), model, "layer4", views=2).cache.key for seed in (7, 8)}
    keys.add(_open(replace(cache, storage="single"), model, "layer4").cache.key)
    with torch.no_grad():
        next(model.parameters()).add_(1e-4)
    keys.add(_open(cache, model, "layer4").cache.key)
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    norm.running_mean.add_(0.01)  # type: ignore[union-attr, operator]
    keys.add(_open(cache, model, "layer4").cache.key)
    assert len(keys) == 7


def test_without_drawn_views_all_seeds_read_the_same(cohort: Cohort) -> None:
    model = freeze_to(cohort.make_model(), "layer4")
    cache = _trainer(cohort).prefix_cache
    assert len({_open(replace(cache, seed=seed), model, "layer4").cache.key for seed in (7, 8)}) == 1
    still = replace(cache, augment=False)
    assert len({_open(replace(still, seed=seed), model, "layer4", views=2).cache.key for seed in (7, 8)}) == 1


def test_half_precision_holds_and_what_is_beyond_it_is_kept_in_fp32(cohort: Cohort) -> None:
    model = freeze_to(cohort.make_model(), "layer4")
    events: list[dict[str, Any]] = []
    cache = _trainer(cohort, events).prefix_cache
    assert _open(cache, model, "layer4").cache.dtype == np.float16
    assert _open(cache, model, "head").cache.dtype == np.float32  # reported probabilities are made of them
    assert events == []
    for parameter in model.backbone.net.parameters():
        parameter.data.mul_(40)
    kept = _open(cache, model, "layer4")
    assert kept.cache.dtype == np.float32
    assert [event["kind"] for event in events] == ["activations_in_fp32"]
    prefix, _ = model.split_at("layer4")
    with torch.no_grad():
        torch.testing.assert_close(kept.read(np.arange(4), [0] * 4).scans, prefix(cohort.feed.batch(np.arange(4))))


def test_beyond_the_budget_the_frozen_part_runs_live_and_the_log_says_why(cohort: Cohort) -> None:
    plan = cohort.plan.model_copy(update={"activation_bytes": 1000})
    events: list[dict[str, Any]] = []
    trainer = replace(_trainer(cohort, events), plan=plan)
    stage = Stage(name="top", train_from="layer4", epochs=2, lr=1e-3, views=2)
    trainer.train(cohort.make_model(), stage, _samples(cohort), first_epoch=1)
    (decision,) = [event for event in events if event["kind"] == "frozen_part"]
    assert not decision["kept"]
    assert "more than the plan's" in decision["reason"]
    assert [event["epoch"] for event in events if event["kind"] == "epoch"] == [1, 2]


def test_a_network_that_is_not_finite_is_refused(cohort: Cohort) -> None:
    model = freeze_to(cohort.make_model(), "layer4")
    next(model.backbone.net.parameters()).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        _trainer(cohort).prefix_cache.open(model, "layer4", groups=[np.arange(4)], views=1)


def test_every_scan_sees_every_view_equally_often_and_not_all_the_same_at_once() -> None:
    keys = [f"scan{number}" for number in range(50)]
    seen = np.array([view_of(keys, epoch=epoch, views=4, seed=1) for epoch in range(1, 9)])
    assert all((seen == view).sum(axis=0).tolist() == [2] * 50 for view in range(4))
    assert all(len(set(row)) == 4 for row in seen)


@pytest.mark.parametrize(
    ("stage_views", "asked", "augment", "expected"),
    [(4, None, True, 4), (4, 0, True, 0), (0, 2, True, 2), (4, None, False, 1), (0, None, True, 0), (9, None, True, 5)],
)
def test_how_many_views_are_kept(stage_views: int, asked: int | None, augment: bool, expected: int) -> None:
    stage = Stage(name="top", train_from="layer4", epochs=5, lr=1e-3, views=stage_views)
    assert planned_views(stage, Optimisation(views=asked, augment=augment)) == expected
    whole = Stage(name="all", train_from="stem", epochs=5, lr=1e-3)
    assert planned_views(whole, Optimisation(views=asked, augment=augment)) == 0


def test_the_solved_head_is_the_logistic_regression_of_the_same_features(cohort: Cohort) -> None:
    model = freeze_to(cohort.make_model(), "head")
    kept = _open(_trainer(cohort).prefix_cache, model, "head")
    features = kept.read(np.arange(40), [0] * 40).scans.numpy().astype(np.float64)
    labels, weights = cohort.table.class_indices, np.array([0.8, 1.3])
    head = solve_head(features[:, None], labels, weights=weights, inner=[])
    mean, scale = standardisation(features)
    reference = LogisticRegression(C=1.0 / 40, tol=1e-10, max_iter=10_000, class_weight={0: 0.8, 1: 1.3})
    reference.fit((features - mean) / scale, labels)
    logits = features @ head.weight.T + head.bias
    expected = reference.decision_function((features - mean) / scale)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-4)


def test_unused_activations_make_room(cohort: Cohort, tmp_path: Path) -> None:
    cache = replace(_trainer(cohort).prefix_cache, folder=tmp_path / "kept")
    folder = _open(cache, freeze_to(cohort.make_model(), "layer4"), "layer4").cache.folder
    assert sweep_unused(tmp_path / "kept") == 0
    assert folder.is_dir()
    assert sweep_unused(tmp_path / "kept", older_than_seconds=-1) == 1
    assert not folder.exists()


def test_a_large_stock_is_read_from_the_disk(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    model = freeze_to(cohort.make_model(), "layer4")
    cache = _trainer(cohort).prefix_cache
    in_memory = _open(cache, model, "layer4")
    monkeypatch.setattr(prefix_cache, "_HELD_BYTES", 0)
    on_disk = _open(cache, model, "layer4")
    assert in_memory.held
    assert not on_disk.held
    rows = np.array([5, 2, 39])
    assert torch.equal(in_memory.read(rows, [0] * 3).scans, on_disk.read(rows, [0] * 3).scans)


def test_the_live_part_is_the_prefix_of_augmented_scans(cohort: Cohort) -> None:
    model = freeze_to(cohort.make_model(), "layer4")
    prefix, _ = model.split_at("layer4")
    trainer = _trainer(cohort)
    part = LivePart(
        feed=cohort.feed, prefix=prefix, seed=7, optimisation=Optimisation(), num_classes=2,
        autocast=trainer.fabric.autocast,
    )  # fmt: skip
    rows = np.array([1, 2])
    seeds = cohort.feed.seeds(rows, seed=7, epoch=3)
    with torch.no_grad():
        inputs, _ = part(_batch(rows, torch.zeros(2, dtype=torch.int64), epoch=3))
        torch.testing.assert_close(inputs.scans, prefix(cohort.feed.batch(rows, seeds=seeds)))


def test_the_digest_sees_every_tensor() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    seen = {tensors_digest(net)}
    for tensor in net.state_dict().values():
        tensor.view(-1)[0] += 1
        seen.add(tensors_digest(net))
    assert len(seen) == 1 + len(net.state_dict())


def _with_free_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def _needed(cohort: Cohort) -> int:
    kept = _open(_trainer(cohort).prefix_cache, freeze_to(cohort.make_model(), "layer4"), "layer4", views=2)
    shutil.rmtree(kept.cache.folder)
    return kept.cache.row_bytes * 80


def test_what_is_kept_already_takes_no_room_again(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk that the first fold has filled refuses nothing to the next: all members are trained alike."""
    cache, needed = _trainer(cohort).prefix_cache, _needed(cohort)
    model = freeze_to(cohort.make_model(), "layer4")
    _with_free_disk(monkeypatch, 2 * needed)
    _open(cache, model, "layer4", views=2)
    _with_free_disk(monkeypatch, needed)
    _open(cache, model, "layer4", views=2)
    refusal = cache.open(model, "layer4", groups=[np.arange(40)], views=4)
    assert isinstance(refusal, str)
    assert "more than half" in refusal


def test_a_stage_that_began_on_kept_activations_never_goes_on_without_them(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(name="top", train_from="layer4", epochs=2, lr=1e-3, views=2)
    states: list[StageState] = []
    trainer, needed = _trainer(cohort), _needed(cohort)
    trainer.train(cohort.make_model(), stage, _samples(cohort), first_epoch=1, keep=states.append)
    shutil.rmtree(trainer.activations)
    _with_free_disk(monkeypatch, needed)
    with pytest.raises(TrainingError, match=r"stage top began on kept activations.*more than half.*Free space"):
        trainer.train(cohort.make_model(), stage, _samples(cohort), first_epoch=1, state=states[0])


def test_activations_without_a_mark_are_found_and_those_in_use_are_kept(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "_HELD_BYTES", 0)
    cache, model = _trainer(cohort).prefix_cache, freeze_to(cohort.make_model(), "layer4")
    kept = _open(cache, model, "layer4")
    long_ago = time.time() - 2 * UNUSED_SECONDS
    os.utime(kept.cache.folder / USED_MARK, (long_ago, long_ago))
    kept.read(np.arange(4), [0] * 4)
    killed = cache.folder / "killed-while-it-was-filled"
    killed.mkdir()
    os.utime(killed, (long_ago, long_ago))
    assert sweep_unused(cache.folder) == 1
    assert kept.cache.folder.is_dir()
    assert not killed.exists()
