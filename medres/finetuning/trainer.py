"""`Trainer`: stages of a recipe by gradient descent, over Lightning Fabric."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import torch

from medres.finetuning.optimisers import Memory
from medres.finetuning.stage_loop import KeepState, StageLoop
from medres.finetuning.stages import Stage
from medres.finetuning.stopping import stop_requests
from medres.finetuning.training_setting import TrainingSetting
from medres.finetuning.training_state import StageState, TrainingSamples
from medres.models.classifier import ClassificationModel

#: Launchers of several processes pass a signal on that the terminal has sent to all of them already.
ECHO_SECONDS = 5.0


class Trainer(TrainingSetting):
    """Trains stages on one device, or on those of several processes; its arguments are those of `TrainingSetting`."""

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
        loop = StageLoop(self, model, stage, samples, memory or {}, first_epoch, state)
        keep = keep or (lambda state: None)
        echo = ECHO_SECONDS if self.ranks.size > 1 else 0.0
        with closing(loop), stop_requests(echo_seconds=echo) as stop:
            epochs = range(loop.epoch, first_epoch + stage.epochs)
            for epoch in self.progress.track(epochs, description=f"{stage.name}: epochs", total=len(epochs)):
                if loop.should_stop:
                    break
                self.on_event("epoch", stage=stage.name, epoch=epoch, **loop.run_epoch(epoch, keep, stop))
                keep(loop.state())
                loop.leave_if_asked(stop)
            end = loop.finish()
            loop.leave_if_asked(stop)
        return end
