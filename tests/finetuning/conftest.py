"""A small prepared cohort: 8-bit images whose mean brightness says the class, and the tiny net that learns it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.torch
import torch

from medres.data.table import Scan, ScanTable
from medres.finetuning.feed import Feed
from medres.models.classifier import ClassificationModel
from medres.models.factory import create_model
from medres.planning.plan import Augmentation, Intensity, Plan
from medres.preprocessing.augmentation import Augmenter
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.preprocessor import Preprocessor

ARCH = "test_resnet"
SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A table, the way to its prepared scans, and the plan."""

    table: ScanTable
    feed: Feed
    plan: Plan

    def in_batches_of(self, size: int) -> Cohort:
        return replace(self, plan=self.plan.model_copy(update={"batch_size": size}))

    def make_model(self) -> ClassificationModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return create_model(
                ARCH, spatial_dims=2, num_classes=len(self.table.classes), in_channels=1, weights="none"
            )

    def logits_of(self, weights_file: Path, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return what the whole network with the weights of a file says of some scans, all at once."""
        model = self.make_model().eval()
        model.load_state_dict(safetensors.torch.load_file(weights_file))
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = model(self.feed.batch(rows)).numpy()
        return logits


def make_cohort(
    folder: Path, *, num_scans: int = 40, num_classes: int = 2, signal: float = 60.0, size: int = SIZE
) -> Cohort:
    rng = np.random.default_rng(0)
    labels = np.arange(num_scans) % num_classes
    images = rng.integers(0, 120, (num_scans, 1, size, size)) + (signal * labels)[:, None, None, None]
    plan = Plan(
        spatial_dims=2,
        modality="other",
        shape=(size, size),
        in_channels=1,
        intensity=Intensity(scheme="scaled", scale_range=(0, 255)),
        augmentation=Augmentation(flip_axes=(1,)),
        batch_size=8,
    )
    preprocessor = Preprocessor(plan)
    keys = tuple(f"{row:064x}" for row in range(num_scans))
    cache = PackedCache(folder, key="a" * 64, shape=preprocessor.stored_shape, dtype=preprocessor.storage_dtype)
    stored = images.clip(0, 255).astype(preprocessor.storage_dtype)
    cache.add(zip(keys, stored, strict=True))
    classes = tuple(f"class{index}" for index in range(num_classes))
    scans = tuple(
        Scan(
            sample_id=f"scan{row}",
            patient_id=f"patient{row // 2}",
            path=folder / f"{row}.png",
            label=classes[labels[row]],
            content_hash=keys[row],
        )
        for row in range(num_scans)
    )
    table = ScanTable(root=folder, scans=scans, classes=classes, source="made", patients_given=True)
    feed = Feed(
        cache=cache,
        keys=keys,
        preprocessor=preprocessor,
        augmenter=Augmenter(plan.augmentation, spatial_dims=2),
        device=torch.device("cpu"),
    )
    return Cohort(table=table, feed=feed, plan=plan)


def assert_same_logits(actual: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    """Check two computations in fp32: within 1e-4, or a few units in the last place of logits that are large."""
    np.testing.assert_allclose(actual, expected, atol=max(1e-4, 2e-6 * float(np.abs(expected).max())))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return make_cohort(tmp_path)


@pytest.fixture
def heeded_signals() -> Iterator[None]:
    """Give signals Python's own handlers: a shell's background job starts with SIGINT ignored, and so stays ignored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
