"""What a stage of training works on, and what it continues from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medres.finetuning.feed import Rows


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


@dataclass
class Position:
    """Where a stage is. An epoch that was left in its middle is continued there.

    Args:
        epoch: The epoch that comes next, or is under way.
        done: Steps of that epoch that were made.
        loss: Sum over the samples of those steps.
        step: Steps of the stage that were made.
        skipped: Steps in a row that fp16 skipped.
        part_size: Samples that are computed together.
        averaged: Steps that the average of the weights has taken in.
    """

    epoch: int
    part_size: int
    done: int = 0
    loss: float = 0.0
    step: int = 0
    skipped: int = 0
    averaged: int = 0
