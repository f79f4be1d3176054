"""Features of the frozen network: computed once for all scans, shared by all folds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from medres.finetuning.feed import Feed, Rows, augmentation_seeds
from medres.finetuning.inference import fp32_arithmetic
from medres.models.classifier import ClassificationModel
from medres.runs.progress import Progress


def frozen_features(
    model: ClassificationModel, feed: Feed, *, num_rows: int, num_views: int, batch_size: int, seed: int,
    progress: Progress,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Return pooled features of all rows in fp32, ``(N, V, F)``: view 0 is the scan itself, the others augmented.

    They depend on the frozen network, the scan and the seed of the view, not on a fold or a label. In 2.5D they are the
    means over the slices, as long as the attention is as it starts.
    """
    model = model.to(feed.device).eval()
    views = []
    with fp32_arithmetic(), torch.inference_mode():
        for view in range(num_views):
            batches = list(_batches(num_rows, batch_size))
            shown = progress.track(batches, description=f"frozen features {view + 1}/{num_views}", total=len(batches))
            rows = [_features_of(model, feed, batch, view=view, seed=seed) for batch in shown]
            views.append(np.concatenate(rows))
    return np.stack(views, axis=1)


def _features_of(
    model: ClassificationModel, feed: Feed, rows: Rows, *, view: int, seed: int
) -> npt.NDArray[np.float32]:
    # epoch numbers start at 1, so -view never repeats the augmentation of an epoch
    seeds = augmentation_seeds(rows, seed=seed + 1_000_003 * view, epoch=0) if view else None
    inputs = feed.inputs(rows, seeds=seeds)
    features: npt.NDArray[np.float32] = model.pooled_features(inputs.scans, *inputs.beside).float().cpu().numpy()
    return features


def _batches(num_rows: int, batch_size: int) -> Iterator[Rows]:
    for start in range(0, num_rows, batch_size):
        yield np.arange(start, min(start + batch_size, num_rows))
