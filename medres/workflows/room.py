"""Room on the disk for all that a run will write, asked before anything is prepared."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from medres.config import FinetuneConfig
from medres.deployment.integrity import can_link
from medres.errors import OutputError
from medres.finetuning.fold_training import CHECKPOINT_FILE
from medres.finetuning.freezing import freeze_to
from medres.finetuning.outcomes import OUTCOME_FILE
from medres.finetuning.stages import Stage
from medres.models.classifier import ClassificationModel
from medres.preprocessing.cache import bytes_to_prepare
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.atomic import nearest_folder
from medres.runs.folder import RunFolder
from medres.tracking.address import SQLITE, sqlite_file
from medres.tracking.record import tracking_uri_of
from medres.workflows.design import Design, sample_keys
from medres.workflows.study import Study


@dataclass(frozen=True)
class Part:
    """One kind of file that a run writes.

    Args:
        name: What it is.
        folder: Where it goes.
        num_bytes: At most.
        when: Whether it stays, is there only while a fold is trained, or comes when all are.
    """

    name: str
    folder: Path
    num_bytes: int
    when: Literal["stays", "training", "end"] = "stays"


def require_room(config: FinetuneConfig, folder: RunFolder, study: Study, design: Design) -> None:
    """Refuse a run that cannot be finished on the disks that it writes to.

    Activations of a frozen part are left out: they are kept only where there is room.

    Raises:
        OutputError: Naming the disk, the bytes that are needed there and for what, and those that are free.
    """
    parts = needed_parts(config, folder, study, design)
    by_disk: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        by_disk[os.stat(nearest_folder(part.folder)).st_dev].append(part)
    for on_disk in by_disk.values():
        _require_free(on_disk)


def needed_parts(config: FinetuneConfig, folder: RunFolder, study: Study, design: Design) -> tuple[Part, ...]:
    """Return what a run will still write, and where."""
    # only sizes are asked for: no numbers are drawn for random weights; pretrained ones are fitted to a real network
    with torch.device("meta") if design.weights is None else nullcontext():
        model = design.make_model()
    network = _size(model)
    folds = [fold.index for fold in study.folding.folds]
    left = sum(not (folder.fold(index) / OUTCOME_FILE).is_file() for index in folds)
    # a checkpoint is written beside the one that it replaces, one fold at a time, before the fold's own network
    written = sum(file.stat().st_size for file in folder.path.glob(f"fold_*/{CHECKPOINT_FILE}"))
    largest = 2 * _checkpoint(model, design.stages, design.optimisation.ema) - network - written
    while_training = max(0, largest) if left else 0
    copies = len(folds) * network
    parts = [
        Part("prepared scans", config.cache_folder, _to_prepare(config, study, design)),
        Part("networks of the folds", folder.path, left * network),
        Part("checkpoints", folder.path, while_training, "training"),
        Part("bundle", folder.path, 0 if can_link(nearest_folder(folder.path)) else copies, "end"),
    ]
    if config.tracking or config.register_name:
        uri = tracking_uri_of(folder, given=config.tracking_uri)
        if uri.startswith(SQLITE):  # a server keeps its copy on its own disk
            parts.append(Part("MLflow's copy of the bundle", sqlite_file(uri).parent, copies, "end"))
    return tuple(parts)


def most_at_once(parts: Sequence[Part]) -> int:
    """Return the bytes that parts take at most: checkpoints are gone when the bundle is written.

    Example:
        >>> kinds = [("stays", 4), ("training", 3), ("end", 1), ("end", 1)]
        >>> most_at_once([Part("", Path(), size, when) for when, size in kinds])
        7
    """
    by_time = {when: sum(part.num_bytes for part in parts if part.when == when) for when in ("training", "end")}
    return sum(part.num_bytes for part in parts if part.when == "stays") + max(by_time.values())


def _to_prepare(config: FinetuneConfig, study: Study, design: Design) -> int:
    keys = sample_keys(study)
    return bytes_to_prepare(keys, preprocessor=Preprocessor(design.plan), cache_dir=config.cache_folder)


def _checkpoint(model: ClassificationModel, stages: Sequence[Stage], averaged: bool) -> int:
    """Return the size of the largest checkpoint: weights, their average, and two moments of what is trained."""
    sizes = [0]
    for stage in stages:
        if stage.takes_steps:
            freeze_to(model, stage.train_from)
            sizes.append(sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad))
    copies = 2 if averaged and max(sizes) else 1
    return copies * _size(model) + 2 * max(sizes)


def _size(model: ClassificationModel) -> int:
    return sum(int(tensor.nbytes) for tensor in model.state_dict().values())


def _require_free(parts: Sequence[Part]) -> None:
    places: Mapping[Path, None] = {part.folder: None for part in parts if part.num_bytes}
    needed = most_at_once(parts)
    free = shutil.disk_usage(nearest_folder(parts[0].folder)).free
    if free >= needed:
        return
    what = ", ".join(f"{part.name} {part.num_bytes:,}" for part in parts)
    raise OutputError(
        f"Cannot write {' and '.join(map(str, places))}: {needed:,} bytes are needed there ({what}), "
        f"{free:,} are free.",
        fix="Free space there or choose a folder on another disk with --output, or --cache-dir for prepared scans.",
    )
