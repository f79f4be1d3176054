"""Features of the frozen network: what a linear head reads, of all views of a scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from medres.errors import TrainingError
from medres.finetuning.activations import Activations
from medres.finetuning.feed import Rows
from medres.finetuning.inference import eval_mode, fp32_arithmetic
from medres.finetuning.prefix_cache import PrefixCache
from medres.models.classifier import ClassificationModel


def pooled_features(
    cache: PrefixCache, model: ClassificationModel, rows: Rows, *, shared_rows: Rows, views: int, batch_size: int
) -> npt.NDArray[np.float32]:
    """Return pooled features of rows in fp32, ``(N, V, F)``: view 0 is the scan itself, the others augmented.

    In 2.5D slices are pooled by the attention that the model has: as it starts, their mean.

    Args:
        cache: Computes what is missing, once for all folds and epochs.
        model: On the device; everything before the head is as it is meant to be.
        rows: Rows that are wanted.
        shared_rows: Rows that are computed together, such as the training rows of all folds.
        views: How many views.
        batch_size: Rows at a time.

    Raises:
        TrainingError: They do not fit into the plan's ``activation_bytes``.
    """
    groups = [group for group in (shared_rows, np.setdiff1d(rows, shared_rows)) if len(group)]
    found = cache.open(model, "head", groups=groups, views=views, exact=True)
    if isinstance(found, str):
        raise TrainingError(
            f"The features of {sum(map(len, groups))} scans do not fit into {cache.folder}: {found}.",
            fix="Free space there, or raise the plan's budget: --set planning.activation_bytes=...",
        )
    return np.stack([_of_view(found, model, rows, view, batch_size) for view in range(views)], axis=1)


def _of_view(
    kept: Activations, model: ClassificationModel, rows: Rows, view: int, batch_size: int
) -> npt.NDArray[np.float32]:
    parts = [_of_batch(kept, model, part, [view] * len(part)) for part in _batches(rows, batch_size)]
    return np.concatenate(parts)


def _of_batch(
    kept: Activations, model: ClassificationModel, rows: Rows, views: Sequence[int]
) -> npt.NDArray[np.float32]:
    inputs = kept.read(rows, views)
    with fp32_arithmetic(), eval_mode(model), torch.no_grad():
        features: npt.NDArray[np.float32] = model.pool(inputs.scans, *inputs.beside).float().cpu().numpy()
    return features


def _batches(rows: Rows, batch_size: int) -> Iterator[Rows]:
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
