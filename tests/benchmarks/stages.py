"""Networks on noise, and one stage of training on them: what benchmarks and GPU figures time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medres.finetuning.feed import Feed
from medres.finetuning.inference import memory_format
from medres.finetuning.machine import machine_facts
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.finetuning.training_state import TrainingSamples
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model
from medres.planning.plan import Augmentation, Intensity, Plan
from medres.preprocessing.augmentation import make_augmenter
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.progress import Silent

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and its scans."""

    arch: str
    shape: tuple[int, ...]
    num_scans: int
    batch_size: int

    def make_model(self) -> ClassificationModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            dims = len(self.shape)
            model = create_model(self.arch, spatial_dims=dims, num_classes=2, in_channels=1, weights="none")
        return model.to(memory_format=memory_format(dims))

    def feed(self, folder: Path, *, device: torch.device = CPU, precision: str | None = None) -> Feed:
        """Return noise as prepared scans; `precision` None = what the CPU is fast in."""
        dims = len(self.shape)
        fast = "bf16" if machine_facts(CPU).bf16 else "fp32"
        plan = Plan(
            spatial_dims=dims, modality="other", shape=self.shape, in_channels=1, batch_size=self.batch_size,
            intensity=Intensity(scheme="scaled", scale_range=(0, 255)),
            augmentation=Augmentation(flip_axes=(dims - 1,)),
            precision=precision or fast,
        )  # fmt: skip
        preprocessor = Preprocessor(plan)
        rng, keys = np.random.default_rng(0), [f"{row:064x}" for row in range(self.num_scans)]
        cache = PackedCache(folder, key="a" * 64, shape=preprocessor.stored_shape, dtype=preprocessor.storage_dtype)
        dtype = preprocessor.storage_dtype
        cache.add((key, rng.integers(0, 255, (1, *self.shape)).astype(dtype)) for key in keys)
        return Feed(
            cache=cache,
            keys=keys,
            preprocessor=preprocessor,
            augmenter=make_augmenter(plan),
            device=device,
        )


def train_stage(
    case: Case, feed: Feed, train_from: str, *, views: int, folder: Path, epochs: int
) -> list[dict[str, Any]]:
    """Train one stage and return its events."""
    events: list[dict[str, Any]] = []
    trainer = Trainer(
        feed=feed, plan=feed.preprocessor.plan, optimisation=Optimisation(views=views), seed=0, progress=Silent(),
        on_event=lambda kind, **fields: events.append({"kind": kind, **fields}), activations=folder,
    )  # fmt: skip
    rows = np.arange(case.num_scans)
    samples = TrainingSamples(
        rows=rows, class_indices=rows % 2, class_weights=np.ones(2), offset=np.zeros(2),
        pseudonyms=("s",) * case.num_scans,
    )  # fmt: skip
    stage = Stage(name="x", train_from=train_from, epochs=epochs, lr=1e-4, norm_statistics="update")  # type: ignore[arg-type]
    trainer.train(case.make_model().to(feed.device), stage, samples, first_epoch=1)
    return events


def trained_stage(
    case: Case, folder: Path, *, device: torch.device, precision: str, train_from: str, epochs: int
) -> list[dict[str, Any]]:
    """Train one stage with the frozen part in every epoch and return the events of its epochs."""
    feed = case.feed(folder / "scans", device=device, precision=precision)
    events = train_stage(case, feed, train_from, views=0, folder=folder, epochs=epochs)
    return [event for event in events if event["kind"] == "epoch"]
