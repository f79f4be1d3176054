"""One fold: its stages in order, then the logits of the scans that it did not learn from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch

from medres.data.folds import Fold, make_folds
from medres.data.table import ScanTable
from medres.errors import DataError
from medres.evaluation.operating_point import OperatingPoint
from medres.finetuning.feed import Rows
from medres.finetuning.freezing import freeze_to, thaw
from medres.finetuning.head_solver import Split, solve_head
from medres.finetuning.inference import compute_logits, linear_logits
from medres.finetuning.losses import class_weights, logit_offset
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer, TrainingSamples
from medres.models.classifier import ClassificationModel
from medres.runs.atomic import atomic_write

Logits = npt.NDArray[np.float32]

MAX_INNER_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class FoldOutcome:
    """What is left of a trained fold.

    Args:
        fold: Which scans it was trained on, chose with, and is scored on.
        weights_file: Its weights, as safetensors.
        offset: log(class weight), what the weighted loss added to the logits, ``(K,)``.
        operating_point: The classes' prevalence among its training scans.
        held_out_logits: ``(len(fold.held_out), K)``, as the network gives them.
        val_logits: ``(len(fold.val), K)``.
        test_logits: Of the scans that the ensemble is scored on.
        seconds: Time taken.
    """

    fold: Fold
    weights_file: Path
    offset: npt.NDArray[np.float64]
    operating_point: OperatingPoint
    held_out_logits: Logits
    val_logits: Logits
    test_logits: Logits
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FoldTrainer:
    """Train folds of one table with one recipe.

    Args:
        table: All scans.
        stages: The recipe.
        trainer: The loop for stages by gradient descent.
        make_model: Builds the network with its starting weights; the same each time.
        features: Frozen features of all scans ``(N, V, F)`` for a first stage that is solved; None without one.
        test: Rows that the ensemble is scored on.
        pseudonyms: One a row.
        seed: Of the inner split.
    """

    table: ScanTable
    stages: tuple[Stage, ...]
    trainer: Trainer
    make_model: Callable[[], ClassificationModel]
    features: npt.NDArray[np.float32] | None
    test: Rows
    pseudonyms: tuple[str, ...]
    seed: int

    def train(self, fold: Fold, folder: Path) -> FoldOutcome:
        """Train one fold and write ``model.safetensors`` into ``folder``."""
        started = time.monotonic()
        samples = self._samples(fold)
        model = self.make_model().to(self.trainer.feed.device)
        epoch = 1
        for stage in self.stages:
            epoch = self._run_stage(model, stage, fold, samples, epoch)
        thaw(model)
        model.eval()
        weights_file = folder / "model.safetensors"
        write_weights(model, weights_file)
        return FoldOutcome(
            fold=fold, weights_file=weights_file, offset=logit_offset(samples.class_weights),
            operating_point=self._operating_point(samples),
            held_out_logits=self._logits(model, fold.held_out), val_logits=self._logits(model, fold.val),
            test_logits=self._logits(model, self.test), seconds=time.monotonic() - started,
        )  # fmt: skip

    def _samples(self, fold: Fold) -> TrainingSamples:
        labels = self.table.class_indices[fold.train]
        weighting = self.trainer.optimisation.class_weights
        return TrainingSamples(
            rows=fold.train,
            class_indices=labels,
            class_weights=class_weights(labels, num_classes=len(self.table.classes), weighting=weighting),
            pseudonyms=tuple(self.pseudonyms[row] for row in fold.train),
        )

    def _run_stage(
        self, model: ClassificationModel, stage: Stage, fold: Fold, samples: TrainingSamples, epoch: int
    ) -> int:
        freeze_to(model, stage.train_from, norm_statistics=stage.norm_statistics)
        sizes = {True: 0, False: 0}
        for parameter in model.parameters():
            sizes[parameter.requires_grad] += parameter.numel()
        self.trainer.on_event(
            "stage_started", stage=stage.name, train_from=stage.train_from, epochs=stage.epochs,
            trainable_parameters=sizes[True], frozen_parameters=sizes[False],
        )  # fmt: skip
        if stage.solver == "lbfgs":
            self._solve(model, fold, samples)
            return epoch
        return self.trainer.train(model, stage, samples, first_epoch=epoch) + 1

    def _solve(self, model: ClassificationModel, fold: Fold, samples: TrainingSamples) -> None:
        if self.features is None:
            raise ValueError("a solved head needs frozen features")
        rows, inner = self._rows_and_inner_splits(fold)
        features = self.features[rows].astype(np.float64)
        labels = self.table.class_indices[rows]
        head = solve_head(
            features, labels, weights=samples.class_weights, inner=inner, train=np.arange(len(fold.train))
        )
        head.copy_to(model.head)
        self.trainer.on_event("head_solved", strength=head.strength, inner_log_loss=head.inner_log_loss)

    def _rows_and_inner_splits(self, fold: Fold) -> tuple[Rows, list[Split]]:
        """Return training rows, then validation rows, and the splits of them that choose the L2 strength."""
        if len(fold.val):
            rows = np.concatenate([fold.train, fold.val])
            return rows, [(np.arange(len(fold.train)), np.arange(len(fold.train), len(rows)))]
        return fold.train, inner_splits(self.table, fold.train, seed=self.seed)

    def _operating_point(self, samples: TrainingSamples) -> OperatingPoint:
        counts = np.bincount(samples.class_indices, minlength=len(self.table.classes))
        return OperatingPoint(priors=tuple(float(count) for count in counts / counts.sum()))

    def _logits(self, model: ClassificationModel, rows: Rows) -> Logits:
        feed = self.trainer.feed
        if self.features is not None and all(stage.solver == "lbfgs" for stage in self.stages):
            # nothing before the head was trained: its features are known, view 0 is the scan itself
            return linear_logits(model.head, self.features[rows, 0], device=feed.device)
        return compute_logits(
            model, feed.preprocessor, lambda part: feed.stored(rows[part]), len(rows),
            batch_size=self.trainer.plan.batch_size, device=feed.device,
        )  # fmt: skip


def inner_splits(table: ScanTable, rows: Rows, *, seed: int) -> list[Split]:
    """Return patient-grouped, stratified folds of training rows, as positions in ``rows``; at most 5.

    The list is empty where a class has a single patient, so that nothing can be held back.
    """
    for num_folds in range(MAX_INNER_FOLDS, 1, -1):
        try:
            folds = make_folds(table.subset(rows).without_splits(), num_folds=num_folds, seed=seed).folds
        except DataError:  # too few patients for that many: the rows were accepted before, so nothing else is wrong
            continue
        return [(fold.train, fold.held_out) for fold in folds]
    return []


def write_weights(model: ClassificationModel, path: Path) -> None:
    """Write all tensors of a model as safetensors, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors))
