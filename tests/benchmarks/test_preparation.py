"""Preparing scans beside what a user would write with MONAI: the same files, the same grid, one run, ratios."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medres.data.phantoms import write_phantoms
from medres.data.sources import load_scans
from medres.data.survey import survey_scans
from medres.planning.plan import Augmentation, Intensity, Plan
from medres.preprocessing.cache import prepare_table
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.progress import Silent

pytestmark = pytest.mark.slow

PLAN = Plan(
    spatial_dims=3,
    modality="CT",
    orientation="SPL",
    spacing_mm=(4.0, 4.0, 4.0),
    shape=(96, 96, 96),
    in_channels=1,
    intensity=Intensity(scheme="hu_windows", windows_hu=("wide",)),
    augmentation=Augmentation(),
    batch_size=4,
)


def _best_of(work: Callable[[int], None], repeats: int = 3) -> float:
    seconds = []
    for repeat in range(repeats):
        started = time.perf_counter()
        work(repeat)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def test_preparation_beside_monai(tmp_path: Path) -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from monai.data import CacheDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        LoadImage,
        Orientation,
        ResizeWithPadOrCrop,
        ScaleIntensityRange,
        Spacing,
    )

    write_phantoms(tmp_path / "scans", num_scans=12, size=160)
    table = load_scans(tmp_path / "scans")

    def ours(repeat: int) -> None:
        survey = survey_scans(table, progress=Silent())
        cache = prepare_table(
            survey.table,
            preprocessor=Preprocessor(PLAN),
            cache_dir=tmp_path / f"cache-{repeat}",
            images=survey.images,
            progress=Silent(),
        )
        assert len(cache) == len(table)

    pipeline = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation(axcodes="SPL"),
            Spacing(pixdim=(4.0, 4.0, 4.0)),
            ResizeWithPadOrCrop((96, 96, 96), value=-1024),
            ScaleIntensityRange(-1000, 1000, 0, 1, clip=True),
        ]
    )

    def monai(repeat: int) -> None:
        del repeat
        dataset = CacheDataset([scan.path for scan in table], pipeline, num_workers=2, progress=False)
        assert dataset[0].shape == (1, 96, 96, 96)

    ratio = _best_of(monai) / _best_of(ours)
    print(f"\npreparation: 12 CT of 160^3 to 96^3, MONAI CacheDataset / medres survey and cache = {ratio:.2f}")
