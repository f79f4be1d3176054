"""Where a fold is in its recipe, kept on disk at every epoch and between stages."""

from __future__ import annotations

import time
from pathlib import Path

from medres.finetuning.checkpoints import Checkpoint, named_part, part_of
from medres.finetuning.optimisers import Memory
from medres.finetuning.outcomes import require_same
from medres.finetuning.ranks import ALONE, Ranks
from medres.finetuning.training_state import StageState
from medres.models.classifier import ClassificationModel


class FoldCheckpoint:
    """The place of a fold, read from its file where there is one.

    Args:
        path: ``last.ckpt`` of the fold.
        identity: Digest of all that the fold depends on.
        ranks: Processes that train the fold: rank 0 reads and writes the file, all know what is in it.

    Raises:
        TrainingError: The file is damaged or belongs to other settings.
    """

    def __init__(self, path: Path, *, identity: str, ranks: Ranks = ALONE) -> None:
        self._path, self._identity, self._ranks = path, identity, ranks
        self.stage, self.first_epoch = 0, 1
        self.memory: Memory = {}
        self.state: StageState | None = None
        self._model: dict[str, object] = {}
        seconds = 0.0
        kept = ranks.first(lambda: Checkpoint.read(path) if path.is_file() else None)
        if kept:
            seconds = self._continue_from(kept)
        self._started = time.monotonic() - seconds

    @property
    def is_new(self) -> bool:
        """Whether nothing was kept before."""
        return not self._model

    @property
    def seconds(self) -> float:
        """Time spent on the fold, interruptions left out."""
        return time.monotonic() - self._started

    def restore(self, model: ClassificationModel) -> None:
        """Put the kept weights into a model with its starting weights; nothing to do where nothing was kept."""
        if self._model:
            model.load_state_dict(self._model)

    def keep(self, state: StageState) -> None:
        """Write the state of the stage that is under way."""
        at_work = part_of(state.tensors, "optimiser")
        earlier = {name: tensor for name, tensor in self.memory.items() if name not in at_work}
        tensors = {**state.tensors, **named_part(earlier, "memory")}
        self._write({"stage_state": state.facts}, tensors)

    def end_stage(self, model: ClassificationModel, *, epochs: int, memory: Memory) -> None:
        """Write that a stage is done and what its optimiser remembers."""
        self.stage, self.first_epoch, self.state = self.stage + 1, self.first_epoch + epochs, None
        self.memory = {**self.memory, **memory}
        self._write({}, {**named_part(model.state_dict(), "model"), **named_part(self.memory, "memory")})

    def _write(self, more: dict[str, object], tensors: Memory) -> None:
        if not self._ranks.is_first:
            return
        facts = {"stage": self.stage, "first_epoch": self.first_epoch, "seconds": self.seconds, **more}
        Checkpoint(identity=self._identity, facts=facts, tensors=tensors).write(self._path)

    def _continue_from(self, kept: Checkpoint) -> float:
        require_same(kept, self._path, identity=self._identity)
        self.stage, self.first_epoch = kept.facts["stage"], kept.facts["first_epoch"]
        self.memory = part_of(kept.tensors, "memory")
        self._model = dict(part_of(kept.tensors, "model"))
        if "stage_state" in kept.facts:
            self.state = StageState(facts=kept.facts["stage_state"], tensors=kept.tensors)
        return float(kept.facts["seconds"])
