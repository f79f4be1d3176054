"""A fold that is interrupted anywhere and continued ends with the weights it would have had: bit for bit."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from medres.data.folds import make_folds
from medres.errors import TrainingError
from medres.finetuning import stage_loop
from medres.finetuning.checkpoints import Checkpoint
from medres.finetuning.fold_checkpoint import FoldCheckpoint
from medres.finetuning.fold_training import CHECKPOINT_FILE, FoldTrainer
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.outcomes import OUTCOME_FILE, WEIGHTS_FILE, FoldOutcome
from medres.finetuning.recipes import build_recipe
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.runs.progress import Silent
from tests.figures import RecordProperty
from tests.finetuning.conftest import Cohort

RECIPES = {
    "linear-probe": build_recipe("linear-probe", epochs=4),
    "lp-ft": build_recipe("lp-ft", epochs=2),
    "gradual": build_recipe("gradual", epochs=5),
    "partial": build_recipe("partial", epochs=2),
    "full": build_recipe("full", epochs=2),
    # thaws, freezes again and solves in between: nothing that a named recipe does
    "odd": (
        Stage(name="a", train_from="layer3", epochs=2, lr=1e-3, views=2),
        Stage(name="b", train_from="head", epochs=0, lr=1e-3, solver="lbfgs"),
        Stage(name="c", train_from="layer4", epochs=2, lr=1e-3, norm_statistics="update"),
    ),
}


class _Killed(BaseException):
    """As sudden as SIGKILL: no handler of errors knows it."""


def _trainer(
    cohort: Cohort, stages: tuple[Stage, ...], events: list[dict[str, Any]] | None = None, **optimisation: Any
) -> FoldTrainer:
    def on_event(kind: str, **fields: Any) -> None:
        if events is not None:
            events.append({"kind": kind, **fields})

    trainer = Trainer(
        feed=cohort.feed, plan=cohort.plan, optimisation=Optimisation(**optimisation), seed=0, progress=Silent(),
        on_event=on_event, activations=cohort.feed.cache.folder.parent / "activations",
    )  # fmt: skip
    rows = np.arange(len(cohort.table))
    return FoldTrainer(
        table=cohort.table, stages=stages, trainer=trainer, make_model=cohort.make_model, shared_rows=rows,
        test=np.array([], dtype=np.int64), pseudonyms=tuple(f"s-{row}" for row in rows), seed=0, identity="run",
    )  # fmt: skip


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / WEIGHTS_FILE)


def _assert_equal(one: Path, other: Path) -> None:
    first, second = _weights(one), _weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def _train_until(write: int | None, monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> int:
    """Train until so many checkpoints are written (None: to the end) and return how many were."""
    original, count = Checkpoint.write, 0

    def counted(self: Checkpoint, path: Path) -> None:
        nonlocal count
        original(self, path)
        count += 1
        if count == write:
            raise _Killed

    with monkeypatch.context() as patch, suppress(_Killed):
        patch.setattr(Checkpoint, "write", counted)
        train()
    return count


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_fold_killed_at_a_checkpoint_ends_with_the_same_bits(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, record_property: RecordProperty
) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]

    def train(folder: str) -> FoldOutcome:
        return _trainer(cohort, RECIPES[name]).train(fold, tmp_path / folder)

    writes = _train_until(None, monkeypatch, lambda: train("whole"))
    epochs = sum(stage.epochs for stage in RECIPES[name])
    assert writes == epochs + len(RECIPES[name]) + 1  # each epoch, each stage, and the outcome
    for write in sorted({1, writes // 2, writes - 2, writes - 1, writes} - {0}):
        assert _train_until(write, monkeypatch, lambda: train(f"killed{write}")) == write  # noqa: B023
        continued = train(f"killed{write}")
        _assert_equal(tmp_path / "whole", tmp_path / f"killed{write}")
        assert np.array_equal(train("whole").held_out_logits, continued.held_out_logits)
        assert not (tmp_path / f"killed{write}" / CHECKPOINT_FILE).exists()
    record_property("figure", f"{len(RECIPES)} recipes, each killed at up to 5 checkpoints: weights bitwise equal")


def _stopped_in_epoch(cohort: Cohort, number: int, epoch: int) -> Cohort:
    """Return a cohort whose feed sends a signal to this process when an epoch is under way."""

    class Feed(type(cohort.feed)):  # type: ignore[misc]
        def seeds(self, rows: Any, *, seed: int, epoch: int, repeats: Any = None) -> list[int]:
            if epoch == stop_at["epoch"]:
                stop_at["epoch"] = -99
                signal.raise_signal(number)
            return super().seeds(rows, seed=seed, epoch=epoch, repeats=repeats)  # type: ignore[no-any-return]

    stop_at = {"epoch": epoch}
    return replace(cohort, feed=Feed(**vars(cohort.feed)))


@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_ends_the_step_keeps_its_state_and_leaves(
    cohort: Cohort, tmp_path: Path, number: int, raised: type[BaseException]
) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    _trainer(cohort, RECIPES["full"]).train(fold, tmp_path / "whole")
    before = signal.getsignal(number)
    with pytest.raises(raised):
        _trainer(_stopped_in_epoch(cohort, number, 2), RECIPES["full"]).train(fold, tmp_path / "stopped")
    assert signal.getsignal(number) == before
    position = Checkpoint.read(tmp_path / "stopped" / CHECKPOINT_FILE).facts["stage_state"]["position"]
    assert (position["epoch"], position["done"]) == (2, 1)
    _trainer(cohort, RECIPES["full"]).train(fold, tmp_path / "stopped")
    _assert_equal(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize("choice", [{}, {"early_stopping_patience": 2}])
def test_a_signal_while_statistics_are_computed_leaves_when_they_are(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: dict[str, Any]
) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    original = stage_loop.renew_statistics

    def renewed(*args: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        original(*args, **options)

    monkeypatch.setattr(stage_loop, "renew_statistics", renewed)
    with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
        _trainer(cohort, RECIPES["full"], **choice).train(fold, tmp_path / "stopped")
    monkeypatch.setattr(stage_loop, "renew_statistics", original)
    assert not (tmp_path / "stopped" / WEIGHTS_FILE).exists()
    for folder in ("stopped", "whole"):
        _trainer(cohort, RECIPES["full"], **choice).train(fold, tmp_path / folder)
    _assert_equal(tmp_path / "whole", tmp_path / "stopped")


def test_a_finished_fold_is_read_not_trained(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    first = _trainer(cohort, RECIPES["full"]).train(fold, tmp_path)
    monkeypatch.setattr(Trainer, "train", None)
    second = _trainer(cohort, RECIPES["full"]).train(fold, tmp_path)
    assert np.array_equal(first.held_out_logits, second.held_out_logits)
    assert first.operating_point == second.operating_point
    assert first.seconds == second.seconds
    assert isinstance(second, FoldOutcome)


def test_what_was_kept_of_other_settings_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    folds = make_folds(cohort.table, num_folds=2, seed=0).folds
    _trainer(cohort, RECIPES["linear-probe"]).train(folds[0], tmp_path)
    other = replace(_trainer(cohort, RECIPES["linear-probe"]), identity="other")
    with pytest.raises(TrainingError, match=r"other data, weights or settings"):
        other.train(folds[0], tmp_path)
    with pytest.raises(TrainingError, match=r"other data, weights or settings"):
        _trainer(cohort, RECIPES["linear-probe"]).train(folds[1], tmp_path)


def test_changed_weights_of_a_finished_fold_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    _trainer(cohort, RECIPES["linear-probe"]).train(fold, tmp_path)
    content = bytearray((tmp_path / WEIGHTS_FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(TrainingError, match=r"not the file that this fold was scored with"):
        _trainer(cohort, RECIPES["linear-probe"]).train(fold, tmp_path)


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "text"])
def test_a_damaged_checkpoint_is_one_clear_refusal(cohort: Cohort, tmp_path: Path, how: str) -> None:
    path = tmp_path / CHECKPOINT_FILE
    Checkpoint(identity="a", facts={}, tensors={"model/w": torch.arange(100.0)}).write(path)
    content = path.read_bytes()
    flipped = content[:-7] + bytes([content[-7] ^ 4]) + content[-6:]
    path.write_bytes({"flipped": flipped, "truncated": content[:-9], "empty": b"", "text": b"not a checkpoint"}[how])
    with pytest.raises(TrainingError, match=r"last.ckpt is damaged .*Remove it and resume"):
        FoldCheckpoint(path, identity="a")


def test_moments_are_carried_over_to_the_next_stage(cohort: Cohort, tmp_path: Path) -> None:
    trainer = _trainer(cohort, ()).trainer
    samples = replace(_trainer(cohort, ())._samples(make_folds(cohort.table, num_folds=2, seed=0).folds[0]))
    model = cohort.make_model()
    first = Stage(name="a", train_from="layer4", epochs=2, lr=1e-3)
    memory = trainer.train(model, first, samples, first_epoch=1)
    steps = {name: int(value) for name, value in memory.items() if name.endswith("/step")}
    assert set(steps.values()) == {2 * 3}  # 20 scans in batches of 8
    second = Stage(name="b", train_from="layer3", epochs=1, lr=1e-3)
    after = trainer.train(model, second, samples, first_epoch=3, memory=memory)
    counted = {name: int(value) for name, value in after.items() if name.endswith("/step")}
    assert all(counted[name] == steps.get(name, 0) + 3 for name in counted)
    assert len(counted) > len(steps)


def test_batches_in_parts_make_the_step_of_the_whole_batch(cohort: Cohort) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    stage = Stage(name="a", train_from="layer3", epochs=2, lr=1e-3, norm_statistics="frozen")
    weights = []
    for accumulate in (1, 4):
        trainer = _trainer(cohort, (), accumulate=accumulate)
        model = cohort.make_model()
        trainer.trainer.train(model, stage, trainer._samples(fold), first_epoch=1)
        weights.append(model.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=2e-4, rtol=1e-3, msg=name)


def test_out_of_memory_halves_the_parts_and_goes_on(cohort: Cohort) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    events: list[dict[str, Any]] = []
    trainer = _trainer(cohort, (), events)

    def small_memory(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory")

    model = cohort.make_model()
    next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d)).register_forward_pre_hook(
        small_memory
    )
    stage = Stage(name="a", train_from="stem", epochs=1, lr=1e-3)
    trainer.trainer.train(model, stage, trainer._samples(fold), first_epoch=1)
    assert [event["part_size"] for event in events if event["kind"] == "smaller_parts"] == [4, 2]
    assert [event["epoch"] for event in events if event["kind"] == "epoch"] == [1]


def test_a_scan_that_does_not_fit_alone_is_refused(cohort: Cohort) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    trainer = _trainer(cohort, ())
    model = cohort.make_model()

    def always(module: torch.nn.Module, inputs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.head.register_forward_pre_hook(always)
    stage = Stage(name="a", train_from="stem", epochs=1, lr=1e-3)
    with pytest.raises(TrainingError, match=r"single scan does not fit"):
        trainer.trainer.train(model, stage, trainer._samples(fold), first_epoch=1)


def test_the_outcome_file_is_whole_or_not_there(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    trainer = _trainer(cohort, RECIPES["linear-probe"])
    trainer.train(fold, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / OUTCOME_FILE).unlink()
    again = trainer.train(fold, tmp_path / "b")
    assert again.held_out_logits.shape == (20, 2)
    _assert_equal(tmp_path / "a", tmp_path / "b")
