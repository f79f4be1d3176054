"""The training loop: one stage of a recipe, by gradient descent, over Lightning Fabric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric

from medres.errors import TrainingError
from medres.finetuning.averaging import WeightAverage
from medres.finetuning.checkpoints import named_part, part_of
from medres.finetuning.engine import make_fabric, renewed
from medres.finetuning.feed import Feed, Rows
from medres.finetuning.freezing import freeze_to
from medres.finetuning.frozen import Batch, FrozenPart, KeptPart, LivePart
from medres.finetuning.inference import compute_logits
from medres.finetuning.losses import TrainingLoss, mean_over_samples
from medres.finetuning.memory import is_out_of_memory, release_memory
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.optimisers import Memory, make_optimiser, memory_of
from medres.finetuning.prefix_cache import PrefixCache, tensors_digest
from medres.finetuning.ranks import ALONE, Ranks
from medres.finetuning.sampling import epoch_order
from medres.finetuning.schedule import warmup_cosine
from medres.finetuning.stages import Stage
from medres.finetuning.stopping import StopRequest, stop_requests
from medres.finetuning.watch import Watch
from medres.models.classifier import ClassificationModel
from medres.planning.plan import Plan
from medres.runs.progress import Progress

OnEvent = Callable[..., object]
KeepState = Callable[["StageState"], None]

#: Steps in a row that fp16 may skip while it looks for a scale; after that the loss itself is not finite.
MAX_SKIPPED_STEPS = 10
#: An epoch that takes longer is kept in between, too.
KEEP_SECONDS = 600.0
#: Launchers of several processes pass a signal on that the terminal has sent to all of them already.
ECHO_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class TrainingSamples:
    """What a fold trains on.

    Args:
        rows: Rows of the feed, ``(N,)``.
        class_indices: ``(N,)``.
        class_weights: Weights of the classes in the loss, ``(K,)``.
        offset: What weights and sampling add to the logits, ``(K,)``.
        pseudonyms: One a row, to name a scan in a message without its id.
        shared_rows: Rows whose frozen activations are computed together: those of all folds, so that no fold repeats
            another's work; None = `rows`.
        watched: Rows of an inner validation, and their classes, whose loss ends a stage early; None = none.
    """

    rows: Rows
    class_indices: npt.NDArray[np.int64]
    class_weights: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    pseudonyms: tuple[str, ...]
    shared_rows: Rows | None = None
    watched: tuple[Rows, npt.NDArray[np.int64]] | None = None


@dataclass(frozen=True, kw_only=True)
class StageState:
    """What a stage continues from.

    Args:
        facts: Plain values: epoch, step, and what was decided on the way (size of the parts, kept or live).
        tensors: ``model/``, ``average/`` and ``optimiser/`` by name.
    """

    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Train stages on one device, or on those of several processes.

    Args:
        feed: Where batches come from.
        plan: Batch size, precision and augmentation.
        optimisation: What all stages share.
        seed: Of sample order and augmentation.
        progress: Shows epochs.
        on_event: Called with the kind and the fields of each event.
        activations: Folder of kept activations, shared by runs.
        ranks: Processes that train together; each batch of the plan is divided among them.
        engine: Made once a run (`make_fabric`); None = made here.
    """

    feed: Feed
    plan: Plan
    optimisation: Optimisation
    seed: int
    progress: Progress
    on_event: OnEvent
    activations: Path
    ranks: Ranks = ALONE
    engine: Fabric | None = None

    @cached_property
    def fabric(self) -> Fabric:
        """The engine: device, precision, processes."""
        return renewed(self.engine) if self.engine else make_fabric(self.feed.device, self.plan.precision, self.ranks)

    @cached_property
    def prefix_cache(self) -> PrefixCache:
        """Activations of frozen parts."""
        return PrefixCache(
            feed=self.feed, plan=self.plan, folder=self.activations, seed=self.seed,
            augment=self.optimisation.augment, autocast=self.fabric.autocast,
            storage=self.optimisation.activation_storage, progress=self.progress, on_event=self.on_event,
            ranks=self.ranks,
        )  # fmt: skip

    def train(
        self, model: ClassificationModel, stage: Stage, samples: TrainingSamples, *, first_epoch: int,
        memory: Mapping[str, torch.Tensor] | None = None, state: StageState | None = None,
        keep: KeepState | None = None,
    ) -> Memory:  # fmt: skip
        """Train one stage in place and return what its optimiser remembers.

        Args:
            model: On the feed's device.
            stage: Solved by gradient descent (``sgd``).
            samples: The fold's training scans, nothing else.
            first_epoch: Number of the stage's first epoch, counted through all stages of the fold from 1.
            memory: What the optimisers of earlier stages remember.
            state: Where a stage that was interrupted goes on; None begins it.
            keep: Called with the state after each epoch, and before SIGTERM or Ctrl-C end the process.

        Raises:
            TrainingError: The loss is not finite (the weights of that step are not kept anywhere), or a single scan
                does not fit into memory.
        """
        loop = _StageLoop(self, model, stage, samples, memory or {}, first_epoch, state)
        keep = keep or (lambda state: None)
        echo = ECHO_SECONDS if self.ranks.size > 1 else 0.0
        devices = [self.feed.device] if self.feed.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), stop_requests(echo_seconds=echo) as stop:
            epochs = range(loop.epoch, first_epoch + stage.epochs)
            for epoch in self.progress.track(epochs, description=f"{stage.name}: epochs", total=len(epochs)):
                if loop.should_stop:
                    break
                self.on_event("epoch", stage=stage.name, epoch=epoch, **loop.run_epoch(epoch, keep, stop))
                keep(loop.state())
                loop.leave_if_asked(stop)
        return loop.finish()


@dataclass
class _Position:
    """Where a stage is. An epoch that was left in its middle is continued there.

    Args:
        epoch: The epoch that comes next, or is under way.
        done: Steps of that epoch that were made.
        loss: Sum over the samples of those steps.
        step: Steps of the stage that were made.
        skipped: Steps in a row that fp16 skipped.
        part_size: Samples that are computed together.
    """

    epoch: int
    part_size: int
    done: int = 0
    loss: float = 0.0
    step: int = 0
    skipped: int = 0
    averaged: int = field(default=0)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Some samples of an epoch: their positions, and how often the epoch showed each of them before."""

    positions: Rows
    repeats: Rows

    def divided(self, count: int) -> list[_Part]:
        """Return even parts."""
        parts = zip(np.array_split(self.positions, count), np.array_split(self.repeats, count), strict=True)
        return [_Part(positions=positions, repeats=repeats) for positions, repeats in parts]

    def at(self, places: Rows) -> _Part:
        """Return the samples at some places."""
        return _Part(positions=self.positions[places], repeats=self.repeats[places])


class _StageLoop:
    """The state of one stage: frozen part, trained suffix, optimiser, schedule, average."""

    def __init__(
        self, trainer: Trainer, model: ClassificationModel, stage: Stage, samples: TrainingSamples,
        memory: Mapping[str, torch.Tensor], first_epoch: int, state: StageState | None,
    ) -> None:  # fmt: skip
        self._trainer, self._stage, self._samples = trainer, stage, samples
        self._model = freeze_to(model, stage.train_from, norm_statistics=stage.norm_statistics)
        if state:
            model.load_state_dict(part_of(state.tensors, "model"))
        self._prefix, self._suffix = model.split_at(stage.train_from)
        self._ranks = trainer.ranks
        self._steps_an_epoch = math.ceil(len(samples.rows) / trainer.plan.batch_size)
        self._total_steps = stage.epochs * self._steps_an_epoch
        self._warmup_steps = round(stage.warmup_epochs * self._steps_an_epoch)
        size = math.ceil(self._ranks.share_size(trainer.plan.batch_size) / trainer.optimisation.accumulate)
        self._at = _Position(**state.facts["position"]) if state else _Position(epoch=first_epoch, part_size=size)
        self._set_up(part_of(state.tensors, "optimiser") if state else memory)
        averaged = trainer.optimisation.ema and self._total_steps
        self._average = WeightAverage(self._suffix, total_steps=self._total_steps) if averaged else None
        if state and self._average:
            self._average.restore(part_of(state.tensors, "average"), steps=self._at.averaged)
        if state and state.facts["scaler"]:
            self._trainer.fabric.strategy.precision.load_state_dict(state.facts["scaler"])
        self._frozen = self._frozen_part(kept=state.facts["kept"] if state else None)
        self._loss_of = TrainingLoss.of(
            trainer.optimisation, class_weights=samples.class_weights, device=trainer.feed.device
        )
        self._watch = Watch.of(trainer.optimisation, watched=samples.watched, offset=samples.offset)
        if state and self._watch:
            self._watch.restore(state.facts["watch"], part_of(state.tensors, "best"))

    @property
    def epoch(self) -> int:
        """The epoch that comes next."""
        return self._at.epoch

    @property
    def should_stop(self) -> bool:
        """Whether an inner validation says that the stage is over."""
        return self._watch is not None and self._watch.should_stop

    def run_epoch(self, epoch: int, keep: KeepState, stop: StopRequest) -> dict[str, Any]:
        """Train on every sample once and return what the event log says of it."""
        self._suffix.train()
        started = kept = time.monotonic()
        self._waited = 0.0
        for number, batch in enumerate(self._batches(epoch)):
            if number < self._at.done:
                continue
            self._at.loss += self._train_step(batch, epoch) * len(batch.positions)
            self._at.done += 1
            asked = self._agree(stop)
            if asked or time.monotonic() - kept > KEEP_SECONDS:
                keep(self.state())
                kept = time.monotonic()
            if asked:
                self.leave(stop)
        summary = self._summary(epoch, time.monotonic() - started)
        if self._watch:
            summary["metrics"]["inner_log_loss"] = self._watched_loss(self._watch, epoch)
        return summary

    def leave_if_asked(self, stop: StopRequest) -> None:
        """Leave where any process was asked to stop; what is needed to go on was kept before."""
        if self._agree(stop):
            self.leave(stop)

    def leave(self, stop: StopRequest) -> None:
        """Leave with all other processes, when rank 0 has written."""
        self._ranks.wait()
        stop.leave()

    def _agree(self, stop: StopRequest) -> bool:
        """Make a request to one process one to all, and return whether there is one."""
        stop.signal = self._ranks.largest(stop.signal or 0) or None
        return bool(stop)

    def state(self) -> StageState:
        """Return what the stage continues from."""
        average = self._average.tensors if self._average else {}
        tensors = {
            **named_part(self._model.state_dict(), "model"), **named_part(average, "average"),
            **named_part(memory_of(self._optimiser, self._model), "optimiser"),
            **named_part(self._watch.best if self._watch else {}, "best"),
        }  # fmt: skip
        facts = {
            "watch": self._watch.stopping.to_mapping() if self._watch else None,
            "position": dict(vars(self._at)), "kept": isinstance(self._frozen, KeptPart),
            "scaler": self._trainer.fabric.strategy.precision.state_dict(),
        }  # fmt: skip
        return StageState(facts=facts, tensors=tensors)

    def finish(self) -> Memory:
        """Put the averaged weights in place, leave the model in eval mode and return the optimiser's memory."""
        if self._average:
            self._average.copy_to(self._suffix)
        if self._watch and self._watch.best:
            self._suffix.load_state_dict(self._watch.best)
        self._model.eval()
        # each process has counted its own share for the normalisation statistics
        self._ranks.adopt(dict(self._suffix.named_buffers()))
        if self._ranks.size > 1:
            self._ranks.require_equal(tensors_digest(self._model), what=f"the stage {self._stage.name}")
        return memory_of(self._optimiser, self._model)

    def _set_up(self, memory: Mapping[str, torch.Tensor]) -> None:
        trainer = self._trainer
        self._optimiser = make_optimiser(
            self._model, self._stage, trainer.optimisation, memory=memory, fused=trainer.plan.precision != "fp16"
        )
        self._rates = [group["lr"] * trainer.optimisation.lr_factor for group in self._optimiser.param_groups]
        suffix: Any = torch.compile(self._suffix) if trainer.optimisation.compile else self._suffix
        # a new setup for each stage: parameters that thaw after a setup would miss its gradient hooks
        self._trained, self._stepper = trainer.fabric.setup(suffix, self._optimiser)

    def _frozen_part(self, *, kept: bool | None) -> FrozenPart:
        """Return kept activations where the stage asks for them and there is room, else the frozen part itself.

        Args:
            kept: What was decided when the stage began; None = decide.
        """
        trainer, stage = self._trainer, self._stage
        live = LivePart(
            feed=trainer.feed, prefix=self._prefix, seed=trainer.seed, optimisation=trainer.optimisation,
            num_classes=len(self._samples.class_weights), autocast=trainer.fabric.autocast,
        )  # fmt: skip
        views = planned_views(stage, trainer.optimisation)
        if not views or kept is False or not stage.epochs:
            return live
        rows = self._samples.rows if self._samples.shared_rows is None else self._samples.shared_rows
        found = trainer.prefix_cache.open(self._model, stage.train_from, groups=[rows], views=views)
        reason = found if isinstance(found, str) else ""
        trainer.on_event("frozen_part", stage=stage.name, kept=not reason, views=views, reason=reason)
        if isinstance(found, str):
            trainer.progress.note(f"{stage.name}: the frozen part runs in every epoch: {reason}")
            return live
        return KeptPart(feed=trainer.feed, activations=found, views=views, seed=trainer.seed)

    def _summary(self, epoch: int, seconds: float) -> dict[str, Any]:
        loss = self._at.loss / len(self._samples.rows)
        self._at.epoch, self._at.done, self._at.loss = epoch + 1, 0, 0.0
        rates = {group["name"].partition("/")[0]: float(group["lr"]) for group in self._optimiser.param_groups}
        numbers = sum(parameter.numel() for parameter in self._suffix.parameters() if parameter.requires_grad)
        metrics = {"loss": loss, "lr": max(rates.values()), "seconds": seconds, "waiting_seconds": self._waited}
        return {"metrics": metrics, "learning_rates": rates, "trainable_parameters": numbers}

    def _watched_loss(self, watch: Watch, epoch: int) -> float:
        """Return the loss of the inner validation at the weights that the stage would end with now."""
        trained = {name: tensor.detach().clone() for name, tensor in self._suffix.state_dict().items()}
        if self._average:
            self._average.copy_to(self._suffix)
        feed = self._trainer.feed
        logits = self._ranks.first(  # one verdict for all processes, whose normalisation statistics may differ
            lambda: compute_logits(
                self._model, feed.preprocessor, lambda part: feed.stored(watch.rows[part]), len(watch.rows),
                batch_size=self._trainer.plan.batch_size, device=feed.device,
            )
        )  # fmt: skip
        loss = watch.see(epoch, logits, self._suffix)
        self._suffix.load_state_dict(trained)
        return loss

    def _train_step(self, batch: _Part, epoch: int) -> float:
        self._set_learning_rates()
        loss = self._with_smaller_parts(batch, epoch)
        self._require_finite(loss, batch.positions, epoch, what="loss")
        usable = self._is_usable(self._clip_gradient(), batch.positions, epoch)
        # fp16 sees an infinite gradient, leaves the weights alone and lowers its scale
        self._stepper.step()
        if usable and self._average:
            self._average.update(self._suffix)
            self._at.averaged += 1
        self._at.step += 1
        return loss

    def _with_smaller_parts(self, batch: _Part, epoch: int) -> float:
        while True:
            # dropout and the like draw from here: the same numbers, however often a step is begun
            seed = step_seed(self._trainer.seed, epoch=epoch, step=self._at.step, part=self._ranks.rank)
            torch.manual_seed(seed)
            self._stepper.zero_grad(set_to_none=True)
            try:
                return self._gradient(batch, epoch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._halve(len(batch.positions))

    def _gradient(self, batch: _Part, epoch: int) -> float:
        """Add up the gradient of a batch, part by part, and return its mean loss; each process takes its share."""
        total, num_samples = 0.0, len(batch.positions)
        parts = parts_of(np.arange(num_samples), self._ranks, size=self._at.part_size)
        for number, places in enumerate(parts):
            with self._trainer.fabric.no_backward_sync(self._trained, enabled=number + 1 < len(parts)):
                losses = self._losses(batch.at(places), epoch, number * self._ranks.size + self._ranks.rank)
                loss = mean_over_samples(losses, num_samples=num_samples)
                # the mean over the processes is then the gradient of the whole batch, though shares are uneven
                self._trainer.fabric.backward(loss * self._ranks.size)
            total += float(loss.detach())
        return self._ranks.total(total)

    def _losses(self, part: _Part, epoch: int, number: int) -> torch.Tensor:
        """Return the losses of some samples."""
        started = time.monotonic()
        labels = torch.from_numpy(self._samples.class_indices[part.positions]).to(self._trainer.feed.device)
        batch = Batch(
            rows=self._samples.rows[part.positions], class_indices=labels, epoch=epoch, repeats=part.repeats,
            seed=step_seed(self._trainer.seed, epoch=epoch, step=self._at.step, part=number),
        )  # fmt: skip
        inputs, targets = self._frozen(batch)
        self._waited += time.monotonic() - started
        return self._loss_of(self._trained(inputs.scans, *inputs.beside), targets)

    def _halve(self, batch_size: int) -> None:
        if self._ranks.size > 1:
            # the others wait in the middle of this step, with another number of parts
            raise TrainingError(
                f"Process {self._ranks.rank} of {self._ranks.size} is out of memory.",
                fix="Use a smaller --batch-size, or --set optimisation.accumulate=2, and go on with a new run.",
            )
        largest = min(self._at.part_size, batch_size)
        if largest <= 1:
            raise TrainingError(
                "A single scan does not fit into the memory.",
                fix="Plan smaller inputs (--set planning.shape=...), or use a smaller --arch.",
            )
        self._at.part_size = math.ceil(largest / 2)
        release_memory(self._trainer.feed.device)
        self._trainer.on_event("smaller_parts", stage=self._stage.name, part_size=self._at.part_size)
        self._trainer.progress.note(
            f"{self._stage.name}: out of memory; batches are computed in parts of {self._at.part_size} from now on"
        )

    def _batches(self, epoch: int) -> list[_Part]:
        order = epoch_order(
            self._samples.class_indices, sampling=self._trainer.optimisation.sampling, seed=self._trainer.seed,
            epoch=epoch,
        )  # fmt: skip
        # even parts instead of a short last batch: batch normalisation cannot use a batch of one
        return _Part(positions=order.positions, repeats=order.repeats).divided(self._steps_an_epoch)

    def _set_learning_rates(self) -> None:
        factor = warmup_cosine(self._at.step, total_steps=self._total_steps, warmup_steps=self._warmup_steps)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _clip_gradient(self) -> float:
        limit = self._trainer.optimisation.gradient_clip or math.inf
        fabric = self._trainer.fabric
        norm = fabric.clip_gradients(self._trained, self._stepper, max_norm=limit, error_if_nonfinite=False)
        return float(norm) if norm is not None else 0.0

    def _is_usable(self, norm: float, positions: Rows, epoch: int) -> bool:
        """Return whether the gradient is finite; fp16 may look for its scale for a few steps."""
        self._at.skipped = 0 if math.isfinite(norm) else self._at.skipped + 1
        if self._trainer.plan.precision != "fp16" or self._at.skipped > MAX_SKIPPED_STEPS:
            self._require_finite(norm, positions, epoch, what="gradient")
        return math.isfinite(norm)

    def _require_finite(self, value: float, positions: Rows, epoch: int, *, what: str) -> None:
        if math.isfinite(value):
            return
        names = ", ".join(self._samples.pseudonyms[position] for position in positions[:8])
        raise TrainingError(
            f"The {what} is {value} in epoch {epoch}, in a batch with the scans {names}; the weights were not kept.",
            fix="Look at these scans, or lower the learning rate: --set optimisation.lr_factor=0.1.",
        )


def planned_views(stage: Stage, optimisation: Optimisation) -> int:
    """Return how many views of a scan go through the frozen part once; 0 = it runs in every epoch.

    More views than epochs would be work for nothing, and without augmentation all views are the same.

    Example:
        >>> stage = Stage(name="top", train_from="layer4", epochs=3, lr=1e-3, views=4)
        >>> planned_views(stage, Optimisation()), planned_views(stage, Optimisation(augment=False))
        (3, 1)
    """
    asked = stage.views if optimisation.views is None else optimisation.views
    if not asked or stage.train_from == "stem":
        return 0
    return min(asked, stage.epochs) if optimisation.augment else 1


def step_seed(seed: int, *, epoch: int, step: int, part: int = 0) -> int:
    """Return the seed of what a training step draws: of the run's seed, epoch, step and part of it alone."""
    return int(np.random.SeedSequence((seed, epoch, step, part)).generate_state(1)[0])


def parts_of(positions: Rows, ranks: Ranks, *, size: int) -> list[Rows]:
    """Return the parts that a process computes its share of a batch in: as many in each process, none of them empty.

    Args:
        positions: The whole batch.
        ranks: Processes that share it.
        size: Of a part; exceeded by one where shares are uneven and a part would be empty otherwise.

    Raises:
        TrainingError: The batch has fewer samples than there are processes.

    Example:
        >>> [part.tolist() for part in parts_of(np.arange(5), Ranks(), size=2)]
        [[0, 1], [2, 3], [4]]
    """
    if len(positions) < ranks.size:
        raise TrainingError(
            f"A batch of {len(positions)} scans cannot be divided among {ranks.size} processes.",
            fix="Use fewer processes or a larger --batch-size (it is that of all processes together).",
        )
    number = min(math.ceil(ranks.share_size(len(positions)) / size), len(positions) // ranks.size)
    return np.array_split(ranks.share(positions), number)
