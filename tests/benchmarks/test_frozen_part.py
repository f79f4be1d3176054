"""A frozen stage of 20 epochs, its activations kept, beside the same stage with the frozen part in every epoch.

Both are medres' own loop on the same scans in one run; what other tools do (a plain loop over the whole network) costs
at least as much as the second.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from medres.finetuning.feed import Feed
from medres.finetuning.inference import memory_format
from medres.finetuning.machine import machine_facts
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.stages import Stage
from medres.finetuning.trainer import Trainer
from medres.finetuning.training_state import TrainingSamples
from medres.models.arch_facts import count_macs
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model
from medres.planning.plan import Augmentation, Intensity, Plan
from medres.preprocessing.augmentation import make_augmenter
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.progress import Silent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EPOCHS = 20


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

    def feed(self, folder: Path) -> Feed:
        dims = len(self.shape)
        plan = Plan(
            spatial_dims=dims, modality="other", shape=self.shape, in_channels=1, batch_size=self.batch_size,
            intensity=Intensity(scheme="scaled", scale_range=(0, 255)),
            augmentation=Augmentation(flip_axes=(dims - 1,)),
            precision="bf16" if machine_facts(torch.device("cpu")).bf16 else "fp32",
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
            device=torch.device("cpu"),
        )


RESNET50 = Case(arch="resnet50", shape=(224, 224), num_scans=48, batch_size=16)
RESNET18_3D = Case(arch="resnet18", shape=(64, 64, 64), num_scans=32, batch_size=8)


def _seconds(case: Case, feed: Feed, train_from: str, *, views: int, folder: Path, epochs: int) -> float:
    trainer = Trainer(
        feed=feed, plan=feed.preprocessor.plan, optimisation=Optimisation(views=views), seed=0, progress=Silent(),
        on_event=lambda kind, **fields: None, activations=folder,
    )  # fmt: skip
    rows = np.arange(case.num_scans)
    samples = TrainingSamples(
        rows=rows,
        class_indices=rows % 2,
        class_weights=np.ones(2),
        offset=np.zeros(2),
        pseudonyms=("s",) * case.num_scans,
    )
    stage = Stage(name="x", train_from=train_from, epochs=epochs, lr=1e-4, norm_statistics="update")  # type: ignore[arg-type]
    model = case.make_model()
    started = time.perf_counter()
    trainer.train(model, stage, samples, first_epoch=1)
    return time.perf_counter() - started


def _allowed(case: Case, train_from: str, *, views: int) -> float:
    """Return the ratio that the arithmetic allows: multiply-adds with and without keeping; backward = twice forward."""
    whole = count_macs(case.make_model(), (1, *case.shape))
    prefix = count_macs(case.make_model().split_at(train_from)[0], (1, *case.shape))
    trained = 3 * (whole - prefix)
    return EPOCHS * (prefix + trained) / (views * prefix + EPOCHS * trained)


@pytest.mark.parametrize("case", [RESNET50, RESNET18_3D], ids=lambda case: f"{case.arch}-{len(case.shape)}D")
@pytest.mark.parametrize(("train_from", "views", "least"), [("head", 1, 15.0), ("head", 4, 4.0), ("layer4", 1, 0.0)])
def test_kept_activations_beside_a_frozen_part_in_every_epoch(
    case: Case, train_from: str, views: int, least: float, tmp_path: Path
) -> None:
    feed = case.feed(tmp_path / "scans")
    # an epoch of the slow way is as long as the next: 4 of them tell 20, and the warm-up of either way is left out
    _seconds(case, feed, train_from, views=0, folder=tmp_path, epochs=1)
    live = _seconds(case, feed, train_from, views=0, folder=tmp_path, epochs=4) * EPOCHS / 4
    kept = _seconds(case, feed, train_from, views=views, folder=tmp_path / "kept", epochs=EPOCHS)
    allowed = _allowed(case, train_from, views=views)
    print(
        f"\nfrozen before {train_from}, {case.arch} {len(case.shape)}D, {case.num_scans} scans, {EPOCHS} epochs, "
        f"{views} view(s): every epoch / kept = {live / kept:.1f} (the arithmetic allows {allowed:.2f})"
    )
    # layer4 of a 3D ResNet-18 holds 25 of its 33 million parameters: the passes of the optimiser over them, which the
    # count of multiply-adds leaves out, take longer than the convolutions over the few positions that are left
    bound_by_memory = train_from == "layer4" and len(case.shape) == 3
    assert live / kept >= (1.5 if bound_by_memory else least or 0.8 * allowed)
