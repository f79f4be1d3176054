"""The training loop: one stage of a recipe, by gradient descent, over Lightning Fabric."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch.nn import functional as F  # noqa: N812 -- the field's own name

from medres.errors import TrainingError
from medres.finetuning.averaging import WeightAverage
from medres.finetuning.feed import Feed, Rows, augmentation_seeds
from medres.finetuning.freezing import freeze_to
from medres.finetuning.inference import laid_out
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.parameter_groups import parameter_groups
from medres.finetuning.schedule import warmup_cosine
from medres.finetuning.stages import Stage
from medres.models.classifier import ClassificationModel
from medres.planning.plan import Plan
from medres.preprocessing.stacks import Inputs
from medres.runs.progress import Progress

OnEvent = Callable[..., object]


@dataclass(frozen=True, kw_only=True)
class TrainingSamples:
    """What a fold trains on.

    Args:
        rows: Rows of the feed, ``(N,)``.
        class_indices: ``(N,)``.
        class_weights: Weights of the classes in the loss, ``(K,)``.
        pseudonyms: One a row, to name a scan in a message without its id.
    """

    rows: Rows
    class_indices: npt.NDArray[np.int64]
    class_weights: npt.NDArray[np.float64]
    pseudonyms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Train stages on one device.

    Args:
        feed: Where batches come from.
        plan: Batch size, precision and augmentation.
        optimisation: What all stages share.
        seed: Of sample order and augmentation.
        progress: Shows epochs.
        on_event: Called with the kind and the fields of each event.
    """

    feed: Feed
    plan: Plan
    optimisation: Optimisation
    seed: int
    progress: Progress
    on_event: OnEvent

    def train(self, model: ClassificationModel, stage: Stage, samples: TrainingSamples, *, first_epoch: int) -> int:
        """Train one stage in place and return the number of the last epoch.

        Args:
            model: On the feed's device.
            stage: Solved by gradient descent (``sgd``).
            samples: The fold's training scans, nothing else.
            first_epoch: Number of the stage's first epoch, counted through all stages of the fold from 1.

        Raises:
            TrainingError: The loss is not finite; the weights of that step are not kept anywhere.
        """
        step = _StageLoop(self, model, stage, samples)
        epochs = range(first_epoch, first_epoch + stage.epochs)
        for epoch in self.progress.track(epochs, description=f"{stage.name}: epochs", total=stage.epochs):
            started = time.monotonic()
            loss = step.run_epoch(epoch)
            metrics = {"loss": loss, "lr": step.learning_rate, "seconds": time.monotonic() - started}
            self.on_event("epoch", stage=stage.name, epoch=epoch, metrics=metrics)
        step.finish()
        return first_epoch + stage.epochs - 1


class _StageLoop:
    """The state of one stage: frozen prefix, trained suffix, optimiser, schedule, average."""

    def __init__(self, trainer: Trainer, model: ClassificationModel, stage: Stage, samples: TrainingSamples) -> None:
        self._trainer, self._samples = trainer, samples
        self._model = freeze_to(model, stage.train_from, norm_statistics=stage.norm_statistics)
        self._prefix, self._suffix = model.split_at(stage.train_from)
        self._steps_an_epoch = math.ceil(len(samples.rows) / trainer.plan.batch_size)
        self._total_steps = stage.epochs * self._steps_an_epoch
        self._warmup_steps = round(stage.warmup_epochs * self._steps_an_epoch)
        self._step = 0
        self._fabric = make_fabric(trainer.feed.device, trainer.plan.precision)
        optimizer = torch.optim.AdamW(parameter_groups(model, stage))
        self._rates = [group["lr"] * trainer.optimisation.lr_factor for group in optimizer.param_groups]
        # a new setup for each stage: parameters that thaw after a setup would miss its gradient hooks
        self._trained, self._optimizer = self._fabric.setup(self._suffix, optimizer)
        averaged = trainer.optimisation.ema and self._total_steps
        self._average = WeightAverage(self._suffix, total_steps=self._total_steps) if averaged else None
        self._class_weights = torch.as_tensor(samples.class_weights, dtype=torch.float32, device=trainer.feed.device)

    @property
    def learning_rate(self) -> float:
        """Of the head, as last used."""
        return float(max(group["lr"] for group in self._optimizer.param_groups))

    def run_epoch(self, epoch: int) -> float:
        """Train on every sample once and return the mean loss."""
        self._suffix.train()
        total = 0.0
        for positions in self._batches(epoch):
            total += self._train_step(positions, epoch) * len(positions)
        return total / len(self._samples.rows)

    def finish(self) -> None:
        """Put the averaged weights in place and leave the model in eval mode."""
        if self._average:
            self._average.copy_to(self._suffix)
        self._model.eval()

    def _train_step(self, positions: Rows, epoch: int) -> float:
        self._set_learning_rates()
        inputs, targets = self._inputs(positions, epoch)
        with torch.no_grad(), self._fabric.autocast():
            frozen = self._prefix(laid_out(inputs), *inputs.beside)
        logits = self._trained(frozen, *inputs.beside)
        loss = self._loss(logits, targets)
        value = float(loss.detach())
        self._require_finite(value, positions, epoch, what="loss")
        self._optimizer.zero_grad(set_to_none=True)
        self._fabric.backward(loss)
        self._require_finite(self._clip_gradient(), positions, epoch, what="gradient")
        self._optimizer.step()
        if self._average:
            self._average.update(self._suffix)
        self._step += 1
        return value

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        smoothing = self._trainer.optimisation.label_smoothing
        total = F.cross_entropy(logits, targets, weight=self._class_weights, label_smoothing=smoothing, reduction="sum")
        # over the number of samples, not over their weights: in a small batch of one class the weight would cancel out
        return total / len(targets)

    def _inputs(self, positions: Rows, epoch: int) -> tuple[Inputs, torch.Tensor]:
        rows, feed = self._samples.rows[positions], self._trainer.feed
        augment = self._trainer.optimisation.augment
        seeds = augmentation_seeds(rows, seed=self._trainer.seed, epoch=epoch) if augment else None
        inputs = feed.inputs(rows, seeds=seeds)
        targets = torch.from_numpy(self._samples.class_indices[positions]).to(feed.device)
        return inputs, targets

    def _batches(self, epoch: int) -> Iterator[Rows]:
        order = np.random.default_rng((self._trainer.seed, epoch)).permutation(len(self._samples.rows))
        # even parts instead of a short last batch: batch normalisation cannot use a batch of one
        yield from np.array_split(order, self._steps_an_epoch)

    def _set_learning_rates(self) -> None:
        factor = warmup_cosine(self._step, total_steps=self._total_steps, warmup_steps=self._warmup_steps)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _clip_gradient(self) -> float:
        limit = self._trainer.optimisation.gradient_clip or math.inf
        norm = self._fabric.clip_gradients(self._trained, self._optimizer, max_norm=limit, error_if_nonfinite=False)
        return float(norm) if norm is not None else 0.0

    def _require_finite(self, value: float, positions: Rows, epoch: int, *, what: str) -> None:
        if math.isfinite(value):
            return
        names = ", ".join(self._samples.pseudonyms[position] for position in positions[:8])
        raise TrainingError(
            f"The {what} is {value} in epoch {epoch}, in a batch with the scans {names}; the weights were not kept.",
            fix="Look at these scans, or lower the learning rate: --set optimisation.lr_factor=0.1.",
        )


def make_fabric(device: torch.device, precision: str) -> Fabric:
    """Return the engine for one device."""
    devices: Any = [device.index or 0] if device.type == "cuda" else 1
    with _without_announcements():
        return Fabric(
            accelerator=device.type, devices=devices, precision="bf16-mixed" if precision == "bf16" else "32-true"
        )


@contextmanager
def _without_announcements() -> Iterator[None]:
    """Keep Fabric from announcing the precision once a stage: the plan has said it."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
