"""What is left of a trained fold, and its file: a run that goes on does not train it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medres.data.folds import Fold
from medres.errors import StoppedError, TrainingError
from medres.evaluation.operating_point import OperatingPoint
from medres.evaluation.training_fit import TrainingFit
from medres.finetuning.checkpoints import Checkpoint
from medres.runs.documents import sha256_of

Logits = npt.NDArray[np.float32]

#: The network of a fold, and what it says of the scans that it is scored on.
WEIGHTS_FILE = "model.safetensors"
OUTCOME_FILE = "outcome.safetensors"

_LOGITS = ("held_out_logits", "val_logits", "test_logits")


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
        training_fit: How well it answers scans that it was trained on.
        seconds: Time taken, interruptions left out.
    """

    fold: Fold
    weights_file: Path
    offset: npt.NDArray[np.float64]
    operating_point: OperatingPoint
    held_out_logits: Logits
    val_logits: Logits
    test_logits: Logits
    training_fit: TrainingFit
    seconds: float


def write_outcome(outcome: FoldOutcome, *, identity: str) -> None:
    """Write the outcome beside its weights.

    Args:
        outcome: Of a fold whose weights are written.
        identity: Digest of all that it depends on.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    facts = {
        "weights_sha256": sha256_of(outcome.weights_file), "seconds": outcome.seconds,
        "offset": outcome.offset.tolist(), "priors": list(outcome.operating_point.priors),
        "training_fit": outcome.training_fit.to_mapping(),
    }  # fmt: skip
    tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(outcome, name))) for name in _LOGITS}
    Checkpoint(identity=identity, facts=facts, tensors=tensors).write(outcome.weights_file.parent / OUTCOME_FILE)


def read_outcome(fold: Fold, folder: Path, *, identity: str) -> FoldOutcome | None:
    """Return the outcome of a fold that is finished, or None.

    Raises:
        TrainingError: It is damaged, belongs to other settings, or its weights were changed.
    """
    path = folder / OUTCOME_FILE
    if not path.is_file():
        return None
    kept = Checkpoint.read(path)
    require_same(kept, path, identity=identity)
    weights_file = folder / WEIGHTS_FILE
    if not weights_file.is_file() or sha256_of(weights_file) != kept.facts["weights_sha256"]:
        raise StoppedError(
            f"{weights_file} is not the file that this fold was scored with.",
            fix=f"Put it back, or remove {path.name} beside it and resume: the fold is then trained again.",
        )
    logits = {name: kept.tensors[name].numpy() for name in _LOGITS}
    return FoldOutcome(
        fold=fold, weights_file=weights_file, offset=np.array(kept.facts["offset"]), seconds=kept.facts["seconds"],
        operating_point=OperatingPoint(priors=tuple(kept.facts["priors"])),
        training_fit=TrainingFit.from_mapping(kept.facts["training_fit"]), **logits,
    )  # fmt: skip


def require_same(kept: Checkpoint, path: Path, *, identity: str) -> None:
    """Refuse a file that was made with other settings than those that it is to be continued with.

    Raises:
        TrainingError: Naming the file.
    """
    if kept.identity != identity:
        raise TrainingError(
            f"{path} was made with other data, weights or settings than the run has now.",
            fix="Put back what was changed in the run folder or at the data, or begin a new run.",
        )
