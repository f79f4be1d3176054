"""Early stopping on an inner validation: patients of the *training* scans, never those that are scored."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pydantic
from scipy.special import log_softmax

from medres.data.folds import Fold, inner_split
from medres.data.table import ScanTable
from medres.errors import DataError
from medres.runs.documents import Document

Rows = npt.NDArray[np.int64]

#: Share of the training scans that the inner validation takes.
INNER_SHARE = 0.2


class EarlyStopping(Document):
    """How a validation loss went so far; each epoch makes a new one, and it travels in a checkpoint.

    The caller keeps the weights of the best epoch (``improved``) and puts them in place when it stops.

    Args:
        patience: Epochs without a better loss after which to stop.
        best_loss: The lowest loss so far; None before the first finite one.
        best_epoch: Its epoch.
        epochs_since: Epochs after it.

    Example:
        >>> state = EarlyStopping(patience=2)
        >>> for epoch, loss in enumerate([0.7, 0.5, 0.6, 0.6], start=1):
        ...     state = state.after(epoch, loss=loss)
        >>> state.best_epoch, state.should_stop, EarlyStopping.from_mapping(state.to_mapping()) == state
        (2, True, True)
    """

    patience: int = pydantic.Field(ge=1)
    best_loss: float | None = None
    best_epoch: int | None = None
    epochs_since: int = pydantic.Field(default=0, ge=0)

    def after(self, epoch: int, *, loss: float) -> EarlyStopping:
        """Return the state after an epoch; a loss that is not finite is no improvement, nor is one that is equal."""
        if math.isfinite(loss) and (self.best_loss is None or loss < self.best_loss):
            return EarlyStopping(patience=self.patience, best_loss=float(loss), best_epoch=epoch)
        return self.model_copy(update={"epochs_since": self.epochs_since + 1})

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best one."""
        return self.best_epoch is not None and self.epochs_since == 0

    @property
    def should_stop(self) -> bool:
        """Whether the patience is used up."""
        return self.epochs_since >= self.patience


def inner_validation(table: ScanTable, fold: Fold, *, seed: int) -> tuple[Rows, Rows]:
    """Return the rows of a fold to train on, and those to watch the loss on.

    A given validation split is that. Else a fifth of the training scans, stratified and grouped by patient: what is
    held out of the fold plays no part in it.

    Args:
        table: The whole table.
        fold: Its training rows are divided.
        seed: Of the division.

    Raises:
        DataError: A class has a single patient among them.
    """
    if len(fold.val):
        return fold.train, fold.val
    try:
        return inner_split(table, fold.train, fraction=INNER_SHARE, seed=seed)
    except DataError as error:
        raise DataError(
            f"Early stopping in fold {fold.index} cannot hold back an inner validation: {error.problem}",
            fix="Set optimisation.early_stopping_patience=0 for the fixed schedule.",
        ) from None


def validation_loss(
    logits: npt.NDArray[np.float32], class_indices: npt.NDArray[np.int64], *, offset: npt.NDArray[np.float64]
) -> float:
    """Return the mean log-loss at the data's own prevalence: what class weights or sampling added is taken off.

    Args:
        logits: As the network gives them, ``(N, K)``.
        class_indices: ``(N,)``.
        offset: Of `medres.finetuning.losses.training_offset`, ``(K,)``.

    Example:
        >>> round(validation_loss(np.zeros((2, 2), np.float32), np.array([0, 1]), offset=np.zeros(2)), 4)
        0.6931
    """
    log_probabilities = log_softmax(logits.astype(np.float64) - offset, axis=1)
    return float(-log_probabilities[np.arange(len(logits)), class_indices].mean())
