"""One fold: its stages in order, then the logits of the scans that it did not learn from."""

from __future__ import annotations

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
from medres.evaluation.training_fit import TrainingFit
from medres.finetuning.features import pooled_features
from medres.finetuning.feed import Rows
from medres.finetuning.fold_checkpoint import FoldCheckpoint
from medres.finetuning.freezing import freeze_to, thaw
from medres.finetuning.head_solver import Split, solve_head
from medres.finetuning.inference import compute_logits, linear_logits
from medres.finetuning.inner_validation import inner_validation
from medres.finetuning.losses import class_weights, training_offset
from medres.finetuning.optimisers import Memory
from medres.finetuning.outcomes import WEIGHTS_FILE, FoldOutcome, Logits, read_outcome, write_outcome
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.finetuning.training_state import TrainingSamples
from medres.models.classifier import ClassificationModel
from medres.models.synchronisation import synchronised
from medres.runs.atomic import atomic_write
from medres.runs.documents import digest_of

MAX_INNER_FOLDS = 5
#: Training scans that a trained network is asked about: enough to tell it from one that learned nothing.
MAX_FIT_SCANS = 200
CHECKPOINT_FILE = "last.ckpt"


@dataclass(frozen=True, kw_only=True)
class FoldTrainer:
    """Train folds of one table with one recipe.

    Args:
        table: All scans.
        stages: The recipe.
        trainer: The loop for stages by gradient descent.
        make_model: Builds the network with its starting weights; the same each time.
        shared_rows: Training rows of all folds: their frozen activations are computed together, once.
        test: Rows that the ensemble is scored on.
        pseudonyms: One a row.
        seed: Of the inner split.
        identity: Digest of all that the outcome depends on, but for the fold; what was kept of other settings is
            refused.
    """

    table: ScanTable
    stages: tuple[Stage, ...]
    trainer: Trainer
    make_model: Callable[[], ClassificationModel]
    shared_rows: Rows
    test: Rows
    pseudonyms: tuple[str, ...]
    seed: int
    identity: str = ""

    def train(self, fold: Fold, folder: Path) -> FoldOutcome:
        """Train one fold, or go on with it, and write ``model.safetensors`` and its outcome into ``folder``.

        A fold that is finished is read; one that was interrupted continues from ``last.ckpt``.

        Raises:
            TrainingError: What was kept is damaged or belongs to other settings; or see `Trainer.train`.
        """
        identity, ranks = self.fold_identity(fold), self.trainer.ranks
        outcome = ranks.first(lambda: read_outcome(fold, folder, identity=identity)) or self._trained(fold, folder)
        if ranks.is_first:
            (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        return outcome

    def fold_identity(self, fold: Fold) -> str:
        """Return the digest of all that the outcome of a fold depends on."""
        rows = {"train": fold.train, "val": fold.val, "held_out": fold.held_out, "test": self.test}
        keys = {part: [self.trainer.feed.keys[row] for row in of] for part, of in rows.items()}
        labels = [self.table.scans[row].label for row in (*fold.train, *fold.val)]
        # "outcome": what is written down of a fold; one of an older medres lacks the fit to its training scans
        return digest_of({"run": self.identity, "fold": fold.index, "keys": keys, "labels": labels, "outcome": 2})

    def _trained(self, fold: Fold, folder: Path) -> FoldOutcome:
        samples = self._samples(fold)
        ranks, identity = self.trainer.ranks, self.fold_identity(fold)
        place = FoldCheckpoint(folder / CHECKPOINT_FILE, identity=identity, ranks=ranks)
        model = self._run_stages(place, fold, samples)
        weights_file = folder / WEIGHTS_FILE
        outcome = FoldOutcome(
            fold=fold, weights_file=weights_file, offset=samples.offset,
            operating_point=self._operating_point(fold),
            held_out_logits=self._logits(model, fold.held_out), val_logits=self._logits(model, fold.val),
            test_logits=self._logits(model, self.test), training_fit=self._training_fit(model, samples),
            seconds=place.seconds,
        )  # fmt: skip
        if ranks.is_first:
            write_weights(model, weights_file)
            write_outcome(outcome, identity=identity)
        return outcome

    def _run_stages(self, place: FoldCheckpoint, fold: Fold, samples: TrainingSamples) -> ClassificationModel:
        """Run the stages that are left and return the trained network."""
        model = self.make_model().to(self.trainer.feed.device)
        if self.trainer.optimisation.sync_batchnorm and self.trainer.ranks.size > 1:
            model = synchronised(model)
        place.restore(model)
        if not place.is_new:
            self.trainer.on_event("fold_continued", stage_number=place.stage, first_epoch=place.first_epoch)
        for stage in self.stages[place.stage :]:
            memory = self._run_stage(model, stage, fold, samples, place)
            place.end_stage(model, epochs=0 if stage.solver == "lbfgs" else stage.epochs, memory=memory)
        thaw(model)
        return model.eval()

    def _samples(self, fold: Fold) -> TrainingSamples:
        rows, watched = fold.train, None
        if self.trainer.optimisation.early_stopping_patience and any(stage.takes_steps for stage in self.stages):
            rows, inner = inner_validation(self.table, fold, seed=self.seed)
            watched = (inner, self.table.class_indices[inner])
        labels, num_classes = self.table.class_indices[rows], len(self.table.classes)
        optimisation = self.trainer.optimisation
        return TrainingSamples(
            rows=rows,
            class_indices=labels,
            class_weights=class_weights(labels, num_classes=num_classes, weighting=optimisation.class_weights),
            offset=training_offset(labels, num_classes=num_classes, optimisation=optimisation),
            pseudonyms=tuple(self.pseudonyms[row] for row in rows),
            shared_rows=self.shared_rows,
            watched=watched,
        )

    def _run_stage(
        self, model: ClassificationModel, stage: Stage, fold: Fold, samples: TrainingSamples, place: FoldCheckpoint
    ) -> Memory:
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
            return {}
        return self.trainer.train(
            model,
            stage,
            samples,
            first_epoch=place.first_epoch,
            memory=place.memory,
            state=place.state,
            keep=place.keep,
        )

    def _solve(self, model: ClassificationModel, fold: Fold, samples: TrainingSamples) -> None:
        rows, inner = self._rows_and_inner_splits(fold, samples.rows)
        features = self._features(model, rows, views=self.trainer.optimisation.head_views).astype(np.float64)
        labels = self.table.class_indices[rows]
        # balanced sampling amounts to these weights, for a head that sees every scan once
        weights, train = np.exp(samples.offset), np.arange(len(samples.rows))
        head = self.trainer.ranks.first(lambda: solve_head(features, labels, weights=weights, inner=inner, train=train))
        head.copy_to(model.head)
        self.trainer.on_event("head_solved", strength=head.strength, inner_log_loss=head.inner_log_loss)

    def _features(self, model: ClassificationModel, rows: Rows, *, views: int) -> npt.NDArray[np.float32]:
        """Return what the head reads of some rows, ``(N, V, F)``; view 0 is the scan itself."""
        return pooled_features(
            self.trainer.prefix_cache, model, rows, shared_rows=self.shared_rows, views=views,
            batch_size=self.trainer.ranks.share_size(self.trainer.plan.batch_size),
        )  # fmt: skip

    def _rows_and_inner_splits(self, fold: Fold, train: Rows) -> tuple[Rows, list[Split]]:
        """Return training rows, then validation rows, and the splits of them that choose the L2 strength."""
        if len(fold.val):
            rows = np.concatenate([train, fold.val])
            return rows, [(np.arange(len(train)), np.arange(len(train), len(rows)))]
        return train, inner_splits(self.table, train, seed=self.seed)

    def _operating_point(self, fold: Fold) -> OperatingPoint:
        # of all training scans, also those that early stopping watches: folds.csv tells the same
        counts = np.bincount(self.table.class_indices[fold.train], minlength=len(self.table.classes))
        return OperatingPoint(priors=tuple(float(count) for count in counts / counts.sum()))

    def _training_fit(self, model: ClassificationModel, samples: TrainingSamples) -> TrainingFit:
        """Return how well the network answers scans that it was trained on, as they are."""
        order = np.random.default_rng(self.seed).permutation(len(samples.rows))
        asked = np.sort(order[:MAX_FIT_SCANS])
        logits = self._logits(model, samples.rows[asked]) - samples.offset
        return TrainingFit.of(logits, samples.class_indices[asked])

    def _logits(self, model: ClassificationModel, rows: Rows) -> Logits:
        feed, ranks = self.trainer.feed, self.trainer.ranks
        if not len(rows):
            return np.empty((0, len(self.table.classes)), dtype=np.float32)
        tta = self.trainer.optimisation.tta
        if not tta and all(stage.train_from == "head" for stage in self.stages):
            # nothing before the head was trained: its features are known, view 0 is the scan itself
            features = self._features(model, rows, views=1)[:, 0]
            return ranks.first(lambda: linear_logits(model.head, features, device=feed.device))
        mine = ranks.share(rows)
        return ranks.joined(
            compute_logits(
                model, feed.preprocessor, lambda part: feed.stored(mine[part]), len(mine),
                batch_size=ranks.share_size(self.trainer.plan.batch_size), device=feed.device, tta=tta,
            )
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
    content = safetensors.torch.save(tensors)
    with atomic_write(path, num_bytes=len(content)) as file:
        file.write(content)
