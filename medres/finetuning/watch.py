"""An inner validation that watches a stage, and the best weights that it saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medres.finetuning.feed import Rows
from medres.finetuning.inner_validation import EarlyStopping, validation_loss
from medres.finetuning.optimisation import Optimisation

Watched = tuple[Rows, npt.NDArray[np.int64]]


class Watch:
    """Follows the log-loss of scans that the stage does not learn from.

    Args:
        rows: Rows of the feed.
        class_indices: Their classes.
        offset: What weights and sampling add to the logits, ``(K,)``.
        patience: Epochs without a better loss after which the stage ends.
    """

    def __init__(
        self, rows: Rows, class_indices: npt.NDArray[np.int64], *, offset: npt.NDArray[np.float64], patience: int
    ) -> None:
        self.rows = rows
        self.stopping = EarlyStopping(patience=patience)
        self.best: dict[str, torch.Tensor] = {}
        self._class_indices, self._offset = class_indices, offset

    @classmethod
    def of(
        cls, optimisation: Optimisation, *, watched: Watched | None, offset: npt.NDArray[np.float64]
    ) -> Watch | None:
        """Return the watch that was asked for, or None."""
        if watched is None or not optimisation.early_stopping_patience:
            return None
        return cls(*watched, offset=offset, patience=optimisation.early_stopping_patience)

    @property
    def should_stop(self) -> bool:
        """Whether the patience is used up."""
        return self.stopping.should_stop

    def see(self, epoch: int, logits: npt.NDArray[np.float32], suffix: nn.Module) -> float:
        """Take in an epoch, remember its weights if it is the best one, and return its loss."""
        loss = validation_loss(logits, self._class_indices, offset=self._offset)
        self.stopping = self.stopping.after(epoch, loss=loss)
        if self.stopping.improved:
            self.best = {name: tensor.detach().clone() for name, tensor in suffix.state_dict().items()}
        return loss

    def restore(self, facts: Mapping[str, Any], best: dict[str, torch.Tensor]) -> None:
        """Go on with a watch that was kept."""
        self.stopping, self.best = EarlyStopping.from_mapping(facts), best
