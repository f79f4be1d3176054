"""One stage while it is trained: frozen part, trained suffix, optimiser, schedule, average."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import zip_longest
from typing import Any

import numpy as np
import torch

from medres.data.wording import counted, first_of
from medres.errors import StoppedError, TrainingError
from medres.finetuning.averaging import WeightAverage
from medres.finetuning.batches import EpochPart, parts_of, step_seed
from medres.finetuning.checkpoints import named_part, part_of
from medres.finetuning.engine import backward, renewed
from medres.finetuning.feed import Rows
from medres.finetuning.freezing import freeze_to
from medres.finetuning.frozen import Batch, FrozenPart, KeptPart, LivePart
from medres.finetuning.inference import compute_logits
from medres.finetuning.losses import TrainingLoss, mean_over_samples
from medres.finetuning.memory import is_out_of_memory, release_memory
from medres.finetuning.norm_statistics import renew_statistics
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.optimisers import Memory, make_optimiser, memory_of
from medres.finetuning.prefix_cache import tensors_digest
from medres.finetuning.read_ahead import ReadAhead, Wanted
from medres.finetuning.sampling import epoch_order
from medres.finetuning.schedule import warmup_cosine
from medres.finetuning.stages import Stage
from medres.finetuning.stopping import StopRequest
from medres.finetuning.training_setting import TrainingSetting
from medres.finetuning.training_state import Position, StageState, TrainingSamples
from medres.finetuning.watch import Watch
from medres.models.classifier import ClassificationModel
from medres.models.names import is_builtin
from medres.models.seeding import StepDraws
from medres.preprocessing.stacks import Inputs

WantedInputs = Wanted[tuple[Inputs, torch.Tensor]]
KeepState = Callable[[StageState], None]

#: Steps in a row that fp16 may skip while it looks for a scale; after that the loss itself is not finite.
MAX_SKIPPED_STEPS = 10
#: An epoch that takes longer is kept in between, too.
KEEP_SECONDS = 600.0


class StageLoop:
    """The state of one stage: frozen part, trained suffix, optimiser, schedule, average."""

    def __init__(
        self, setting: TrainingSetting, model: ClassificationModel, stage: Stage, samples: TrainingSamples,
        memory: Mapping[str, torch.Tensor], first_epoch: int, state: StageState | None,
    ) -> None:  # fmt: skip
        self._setting, self._stage, self._samples = setting, stage, samples
        renewed(setting.fabric)  # a stage that goes on after a kill knows nothing of the scale of the stage before
        self._model = freeze_to(model, stage.train_from, norm_statistics=stage.norm_statistics)
        if state:
            model.load_state_dict(part_of(state.tensors, "model"))
        self._prefix, self._suffix = model.split_at(stage.train_from)
        self._ranks = setting.ranks
        self._steps_an_epoch = math.ceil(len(samples.rows) / setting.plan.batch_size)
        self._total_steps = stage.epochs * self._steps_an_epoch
        self._warmup_steps = round(stage.warmup_epochs * self._steps_an_epoch)
        size = math.ceil(self._ranks.share_size(setting.plan.batch_size) / setting.optimisation.accumulate)
        self._at = Position(**state.facts["position"]) if state else Position(epoch=first_epoch, part_size=size)
        self._set_up(part_of(state.tensors, "optimiser") if state else memory)
        averaged = setting.optimisation.ema and self._total_steps
        self._average = WeightAverage(self._suffix, total_steps=self._total_steps) if averaged else None
        if state and self._average:
            self._average.restore(part_of(state.tensors, "average"), steps=self._at.averaged)
        if state and state.facts["scaler"]:
            self._setting.fabric.strategy.precision.load_state_dict(state.facts["scaler"])
        self._draws = StepDraws(model, setting.feed.device, is_own=is_builtin(model.backbone.arch))
        self._frozen = self._frozen_part(kept=state.facts["kept"] if state else None)
        self._ahead = ReadAhead[tuple[Inputs, torch.Tensor]](active=setting.feed.device.type == "cuda")
        self._loss_of = TrainingLoss.of(
            setting.optimisation, class_weights=samples.class_weights, device=setting.feed.device
        )
        self._watch = Watch.of(setting.optimisation, watched=samples.watched, offset=samples.offset)
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
        batches = self._batches(epoch)[self._at.done :]
        for batch, following in zip_longest(batches, batches[1:]):
            self._at.loss += self._train_step(batch, following, epoch) * len(batch.positions)
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

    def close(self) -> None:
        """End what runs beside the training."""
        self._ahead.drop()
        self._draws.end()

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
            "scaler": self._setting.fabric.strategy.precision.state_dict(),
        }  # fmt: skip
        return StageState(facts=facts, tensors=tensors)

    def finish(self) -> Memory:
        """Put the weights of the end in place, leave the model in eval mode and return the optimiser's memory."""
        if self._watch and self._watch.best:
            self._suffix.load_state_dict(self._watch.best)
        else:
            self._end_here()
        self._model.eval()
        # what a plug-in's layers count in buffers of their own, each process has counted of its own share
        self._ranks.adopt(dict(self._suffix.named_buffers()))
        if self._ranks.size > 1:
            self._ranks.require_equal(tensors_digest(self._model), what=f"the stage {self._stage.name}")
        return memory_of(self._optimiser, self._model)

    def _set_up(self, memory: Mapping[str, torch.Tensor]) -> None:
        setting = self._setting
        self._optimiser = make_optimiser(
            self._model, self._stage, setting.optimisation, memory=memory, fused=setting.plan.precision != "fp16"
        )
        self._rates = [group["lr"] * setting.optimisation.lr_factor for group in self._optimiser.param_groups]
        suffix: Any = torch.compile(self._suffix) if setting.optimisation.compile else self._suffix
        # a new setup for each stage: parameters that thaw after a setup would miss its gradient hooks
        self._trained, self._stepper = setting.fabric.setup(suffix, self._optimiser)

    def _frozen_part(self, *, kept: bool | None) -> FrozenPart:
        """Return kept activations where the stage asks for them and there is room, else the frozen part itself.

        Args:
            kept: What was decided when the stage began; None = decide.
        """
        setting, stage = self._setting, self._stage
        live = LivePart(
            feed=setting.feed, prefix=self._prefix, seed=setting.seed, optimisation=setting.optimisation,
            num_classes=len(self._samples.class_weights), autocast=setting.fabric.autocast,
        )  # fmt: skip
        views = planned_views(stage, setting.optimisation)
        if not views or kept is False or not stage.epochs:
            return live
        rows = self._samples.rows if self._samples.shared_rows is None else self._samples.shared_rows
        found = setting.prefix_cache.open(self._model, stage.train_from, groups=[rows], views=views)
        reason = found if isinstance(found, str) else ""
        if reason and kept:
            raise StoppedError(
                f"The stage {stage.name} began on kept activations and cannot go on with them: {reason}.",
                fix=f"Free space for {setting.activations}.",
            )
        setting.on_event("frozen_part", stage=stage.name, kept=not reason, views=views, reason=reason)
        if isinstance(found, str):
            setting.progress.note(f"{stage.name}: the frozen part runs in every epoch: {reason}")
            return live
        return KeptPart(feed=setting.feed, activations=found, views=views, seed=setting.seed)

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
        self._end_here()
        feed = self._setting.feed
        logits = self._ranks.first(  # one verdict for all processes, to the last bit
            lambda: compute_logits(
                self._model, feed.preprocessor, lambda part: feed.stored(watch.rows[part]), len(watch.rows),
                batch_size=self._setting.plan.batch_size, device=feed.device,
            )
        )  # fmt: skip
        loss = watch.see(epoch, logits, self._suffix)
        self._suffix.load_state_dict(trained)
        return loss

    def _end_here(self) -> None:
        """Put the weights in place that the stage would end with now, and normalisation statistics that fit them."""
        if self._average:
            self._average.copy_to(self._suffix)
        if self._stage.norm_statistics == "update" and self._at.step:
            with self._setting.fabric.autocast():
                renew_statistics(self._suffix, self._unchanged_scans(), ranks=self._ranks)

    def _unchanged_scans(self) -> Iterator[Inputs]:
        """Yield this process's share of the training scans, as often as an epoch shows each class.

        The network learnt among these: by the statistics of other shares its logits would be off by a constant.
        """
        for batch in self._batches(epoch=0):
            for part in parts_of(batch.positions, self._ranks, size=self._at.part_size):
                yield self._frozen.unchanged(self._samples.rows[part])

    def _train_step(self, batch: EpochPart, following: EpochPart | None, epoch: int) -> float:
        self._set_learning_rates()
        loss = self._with_smaller_parts(batch, following, epoch)
        if not math.isfinite(loss):
            raise self._not_finite(loss, self._blamed(batch), epoch, what="loss")
        usable = self._is_usable(self._clip_gradient(), batch.positions, epoch)
        # fp16 sees an infinite gradient, leaves the weights alone and lowers its scale
        self._stepper.step()
        if usable and self._average:
            self._average.update(self._suffix)
            self._at.averaged += 1
        self._at.step += 1
        return loss

    def _with_smaller_parts(self, batch: EpochPart, following: EpochPart | None, epoch: int) -> float:
        while True:
            # dropout and the like draw from here: the same numbers, however often a step is begun
            seed = step_seed(self._setting.seed, epoch=epoch, step=self._at.step, part=self._ranks.rank)
            self._stepper.zero_grad(set_to_none=True)
            try:
                with self._draws.seeded(seed):
                    return self._gradient(batch, following, epoch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._halve(len(batch.positions))

    def _gradient(self, batch: EpochPart, following: EpochPart | None, epoch: int) -> float:
        """Add up the gradient of a batch, part by part, and return its mean loss; each process takes its share."""
        total, num_samples, self._parts_losses = 0.0, len(batch.positions), list[torch.Tensor]()
        parts = self._wanted(batch, epoch, self._at.step)
        next_parts = self._wanted(following, epoch, self._at.step + 1)[:1] if following else []
        for part, then in zip_longest(parts, [*parts[1:], *next_parts]):
            with self._setting.fabric.no_backward_sync(self._trained, enabled=part is not parts[-1]):
                losses = self._losses(part, then)
                loss = mean_over_samples(losses, num_samples=num_samples)
                # the mean over the processes is then the gradient of the whole batch, though shares are uneven
                backward(self._setting.fabric, loss * self._ranks.size)
            self._parts_losses.append(losses.detach())
            total += float(loss.detach())
        return self._ranks.total(total)

    def _wanted(self, batch: EpochPart, epoch: int, step: int) -> list[WantedInputs]:
        """Return the parts in which this process computes its share of a batch."""
        size = self._at.part_size
        parts = parts_of(np.arange(len(batch.positions)), self._ranks, size=size)
        return [
            Wanted((epoch, step, number, size), partial(self._make, batch.at(places), epoch, step, number))
            for number, places in enumerate(parts)
        ]

    def _make(self, part: EpochPart, epoch: int, step: int, number: int) -> tuple[Inputs, torch.Tensor]:
        """Return what the trained part reads of some samples, and the targets."""
        labels = torch.from_numpy(self._samples.class_indices[part.positions]).to(self._setting.feed.device)
        return self._frozen(
            Batch(
                rows=self._samples.rows[part.positions], class_indices=labels, epoch=epoch, repeats=part.repeats,
                seed=step_seed(
                    self._setting.seed, epoch=epoch, step=step, part=number * self._ranks.size + self._ranks.rank
                ),
            )
        )  # fmt: skip

    def _losses(self, part: WantedInputs, then: WantedInputs | None) -> torch.Tensor:
        """Return the losses of some samples."""
        started = time.monotonic()
        inputs, targets = self._ahead.take(part, then=then)
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
        self._ahead.drop()
        release_memory(self._setting.feed.device)
        self._setting.on_event("smaller_parts", stage=self._stage.name, part_size=self._at.part_size)
        self._setting.progress.note(
            f"{self._stage.name}: out of memory; batches are computed in parts of {self._at.part_size} from now on"
        )

    def _batches(self, epoch: int) -> list[EpochPart]:
        order = epoch_order(
            self._samples.class_indices, sampling=self._setting.optimisation.sampling, seed=self._setting.seed,
            epoch=epoch,
        )  # fmt: skip
        # even parts instead of a short last batch: batch normalisation cannot use a batch of one
        return EpochPart(positions=order.positions, repeats=order.repeats).divided(self._steps_an_epoch)

    def _set_learning_rates(self) -> None:
        factor = warmup_cosine(self._at.step, total_steps=self._total_steps, warmup_steps=self._warmup_steps)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    def _clip_gradient(self) -> float:
        limit = self._setting.optimisation.gradient_clip or math.inf
        fabric = self._setting.fabric
        norm = fabric.clip_gradients(self._trained, self._stepper, max_norm=limit, error_if_nonfinite=False)
        return float(norm) if norm is not None else 0.0

    def _is_usable(self, norm: float, positions: Rows, epoch: int) -> bool:
        """Return whether the gradient is finite; fp16 may look for its scale for a few steps."""
        self._at.skipped = 0 if math.isfinite(norm) else self._at.skipped + 1
        if self._at.skipped > (MAX_SKIPPED_STEPS if self._setting.plan.precision == "fp16" else 0):
            raise self._not_finite(norm, positions, epoch, what="gradient")
        return math.isfinite(norm)

    def _blamed(self, batch: EpochPart) -> Rows:
        """Return the samples whose own loss is not finite, of all processes."""
        parts = parts_of(batch.positions, self._ranks, size=self._at.part_size)
        mine = [
            part[~torch.isfinite(losses).cpu().numpy()] for part, losses in zip(parts, self._parts_losses, strict=True)
        ]
        return np.concatenate(self._ranks.gathered(np.concatenate(mine)))

    def _not_finite(self, value: float, positions: Rows, epoch: int, *, what: str) -> TrainingError:
        names = first_of([self._samples.pseudonyms[position] for position in positions])
        return TrainingError(
            f"The {what} is {value} in epoch {epoch}, with {counted(len(positions), 'scan')}: {names}; "
            "the weights were not kept.",
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
