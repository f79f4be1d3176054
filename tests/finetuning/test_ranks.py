"""Two processes do what one does: the same gradient, the same features, the same logits, nothing twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from medres.data.folds import make_folds
from medres.errors import TrainingError
from medres.finetuning.batches import parts_of, step_seed
from medres.finetuning.fold_training import FoldTrainer
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.ranks import ALONE, Ranks
from medres.finetuning.recipes import build_recipe
from medres.finetuning.stage_loop import StageLoop
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.finetuning.training_state import TrainingSamples
from medres.finetuning.world import World
from medres.runs.progress import Silent
from tests.finetuning.conftest import Cohort, make_cohort
from tests.finetuning.gloo import in_processes

#: 11 scans in one batch: shares of 6 and 5.
NUM_TRAINED = 11
STAGE = Stage(name="all", train_from="layer2", epochs=1, lr=1e-3, norm_statistics="frozen")


def _trainer(cohort: Cohort, ranks: Ranks, folder: Path, **optimisation: Any) -> Trainer:
    return Trainer(
        feed=cohort.feed, plan=cohort.plan, optimisation=Optimisation(**optimisation), seed=7, progress=Silent(),
        on_event=lambda kind, **fields: None, activations=folder / f"activations-{ranks.size}", ranks=ranks,
    )  # fmt: skip


def _stage_loop(cohort: Cohort, ranks: Ranks, folder: Path, accumulate: int) -> StageLoop:
    labels = cohort.table.class_indices[:NUM_TRAINED]
    samples = TrainingSamples(
        rows=np.arange(NUM_TRAINED), class_indices=labels, class_weights=np.array([0.6, 1.7]),
        offset=np.log([0.6, 1.7]),
        pseudonyms=tuple(map(str, range(NUM_TRAINED))),
    )  # fmt: skip
    trainer = _trainer(cohort, ranks, folder, accumulate=accumulate)
    return StageLoop(trainer, cohort.make_model(), STAGE, samples, {}, 1, None)


def _gradient(cohort: Cohort, ranks: Ranks, folder: Path, accumulate: int) -> tuple[float, dict[str, torch.Tensor]]:
    loop = _stage_loop(cohort, ranks, folder, accumulate)
    loop._suffix.train()
    loop._waited = 0.0
    loss = loop._gradient(loop._batches(1)[0], None, 1)
    parameters = loop._model.named_parameters()
    return loss, {name: value.grad.clone() for name, value in parameters if value.grad is not None}


def _fold_trainer(cohort: Cohort, ranks: Ranks, folder: Path, recipe: Any) -> FoldTrainer:
    return FoldTrainer(
        table=cohort.table, stages=build_recipe(recipe, epochs=2),
        trainer=_trainer(cohort, ranks, folder, head_views=2), make_model=cohort.make_model,
        shared_rows=np.arange(len(cohort.table)), test=np.arange(3), seed=0,
        pseudonyms=tuple(f"s-{row}" for row in range(len(cohort.table))),
    )  # fmt: skip


def _measured(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Return what must not depend on the number of processes, and what each of them did."""
    cohort = make_cohort(folder / "cache").in_batches_of(NUM_TRAINED)
    gradients = {accumulate: _gradient(cohort, ranks, folder, accumulate) for accumulate in (1, 2, 6)}
    predicted: Counter[int] = Counter()
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    trainer = _fold_trainer(cohort, ranks, folder, "lp-ft")
    model = cohort.make_model()
    with pytest.MonkeyPatch.context() as patch:
        original = type(cohort.feed).stored

        def stored(self: Any, rows: Any) -> Any:
            predicted.update(int(row) for row in rows)
            return original(self, rows)

        patch.setattr(type(cohort.feed), "stored", stored)
        logits = trainer._logits(model, fold.held_out)
    features = trainer._features(model, fold.train, views=2)
    trained = trainer.train(fold, folder / f"fold-{ranks.size}")
    probe = _fold_trainer(cohort, ranks, folder, "linear-probe").train(fold, folder / f"probe-{ranks.size}")
    weights = trained.weights_file.read_bytes()
    return {
        "gradients": gradients, "logits": logits, "features": features, "predicted": predicted, "weights": weights,
        "trained": trained.held_out_logits, "test": trained.test_logits, "probe": probe.held_out_logits,
    }  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    return _measured(ALONE, folder), in_processes(_measured, folder)


@pytest.mark.parametrize("accumulate", [1, 2, 6])
def test_the_gradient_of_two_processes_is_that_of_the_whole_batch(measured: Any, accumulate: int) -> None:
    alone, several = measured
    loss, gradient = alone["gradients"][accumulate]
    assert len(gradient) > 10
    for one in several:
        assert one["gradients"][accumulate][0] == pytest.approx(loss, abs=1e-5)
        assert one["gradients"][accumulate][1].keys() == gradient.keys()
        for name, value in gradient.items():
            torch.testing.assert_close(one["gradients"][accumulate][1][name], value, atol=1e-5, rtol=1e-5)


def test_both_processes_hold_the_same_gradient_bit_for_bit(measured: Any) -> None:
    first, second = (one["gradients"][2][1] for one in measured[1])
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_logits_and_features_are_those_of_one_process_and_no_scan_is_predicted_twice(measured: Any) -> None:
    alone, several = measured
    for one in several:
        np.testing.assert_allclose(one["logits"], alone["logits"], atol=1e-5)
        np.testing.assert_allclose(one["features"], alone["features"], atol=1e-5)
        np.testing.assert_allclose(one["probe"], alone["probe"], atol=1e-4)
        assert one["trained"].shape == alone["trained"].shape
    assert sum((one["predicted"] for one in several), Counter()) == alone["predicted"]
    assert set(alone["predicted"].values()) == {1}


def test_a_trained_fold_is_the_same_in_both_processes(measured: Any) -> None:
    first, second = measured[1]
    for name in ("trained", "test", "probe"):
        assert np.array_equal(first[name], second[name])
    assert first["weights"] == second["weights"]


def test_normalisation_statistics_are_those_of_the_scans_of_all_processes(cohort: Cohort, measured: Any) -> None:
    fold = make_folds(cohort.table, num_folds=2, seed=0).folds[0]
    for one in (measured[0], measured[1][0]):
        model = cohort.make_model()
        model.load_state_dict(safetensors.torch.load(one["weights"]))
        # of the first normalisation: what later ones read depends on how the ones before them saw each share
        layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)]
        name, first = layers[0]
        found = {part: getattr(first, part).clone() for part in ("running_mean", "running_var")}
        update_bn([cohort.feed.batch(fold.train)], model)
        for part, value in found.items():
            torch.testing.assert_close(value, getattr(first, part), rtol=1e-4, atol=1e-5, msg=f"{name}.{part}")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("num", [5, 8, 13, 64])
@pytest.mark.parametrize("part", [1, 2, 7, 100])
def test_parts_are_as_many_in_each_process_never_empty_and_hold_each_sample_once(
    size: int, num: int, part: int
) -> None:
    positions = np.random.default_rng(0).permutation(num)
    if num < size:
        with pytest.raises(TrainingError, match="cannot be divided among 8 processes"):
            parts_of(positions, Ranks(World(size=size, local_size=size)), size=part)
        return
    all_parts = [
        parts_of(positions, Ranks(World(rank=rank, local_rank=rank, size=size, local_size=size)), size=part)
        for rank in range(size)
    ]
    assert len({len(parts) for parts in all_parts}) == 1
    lengths = [len(piece) for parts in all_parts for piece in parts]
    assert min(lengths) >= 1
    assert max(lengths) <= part + 1
    together = np.concatenate([piece for parts in all_parts for piece in parts])
    assert sorted(together) == list(range(num))


def test_dropout_differs_between_processes_and_is_what_it_was_in_one() -> None:
    seeds = {step_seed(3, epoch=1, step=2, part=rank) for rank in range(8)}
    assert len(seeds) == 8


def test_out_of_memory_in_one_of_several_processes_ends_the_run(cohort: Cohort, tmp_path: Path) -> None:
    loop = _stage_loop(cohort, ALONE, tmp_path, accumulate=1)
    loop._halve(8)
    assert loop._at.part_size == 4
    loop._ranks = Ranks(World(rank=1, local_rank=1, size=2, local_size=2))
    with pytest.raises(TrainingError, match=r"Process 1 of 2 is out of memory.*accumulate=2"):
        loop._halve(8)
