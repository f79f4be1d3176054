"""Random changes of a batch beside MONAI's, which change one scan at a time: the same changes, one run, ratios.

    .venv/bin/pytest tests/benchmarks/test_augmentation.py -m slow -s -q

MONAI's are called on tensors, without dictionaries and metadata, each with probability 1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from medres.planning.plan import Augmentation
from medres.preprocessing.augmentation import Augmenter

pytestmark = pytest.mark.slow

OFF = {"rotation_degrees": 0, "scale": 0, "translation": 0, "brightness": 0, "contrast": 0, "noise": 0}
OURS: dict[str, dict[str, float]] = {
    "affine": {"rotation_degrees": 10, "scale": 0.1, "translation": 0.05},
    "blur": {"blur": 0.7},
    "bias field": {"bias_field": 0.2},
    "gamma": {"gamma": 0.2},
    "noise": {"noise": 0.1},
    "all": {"rotation_degrees": 10, "scale": 0.1, "translation": 0.05, "blur": 0.7, "bias_field": 0.2, "gamma": 0.2,
            "noise": 0.1},
}  # fmt: skip


def _theirs(shape: tuple[int, ...]) -> dict[str, Callable[[torch.Tensor], Any]]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from monai.data import set_track_meta
    from monai.transforms import Compose, RandAdjustContrast, RandAffine, RandBiasField, RandGaussianNoise
    from monai.transforms import RandGaussianSmooth as RandSmooth

    set_track_meta(False)
    turns, shifts = (np.deg2rad(10),) * (3 if len(shape) == 3 else 1), [0.05 * size for size in shape]
    affine = RandAffine(
        prob=1, rotate_range=turns, scale_range=(0.1,) * len(shape), translate_range=shifts, padding_mode="border"
    )
    each: dict[str, Any] = {
        "affine": affine,
        "blur": RandSmooth((0, 0.7), (0, 0.7), (0, 0.7), prob=1),
        "bias field": RandBiasField(prob=1, coeff_range=(-0.1, 0.1)),
        "gamma": RandAdjustContrast(prob=1, gamma=(1 / 1.2, 1.2)),
        "noise": RandGaussianNoise(prob=1, std=0.1),
    }
    return each | {"all": Compose(list(each.values()))}


def _best_of_each(*works: Callable[[], object], repeats: int = 7) -> list[float]:
    """Run them in turn, so that what else the machine does slows them alike."""
    seconds: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for work, measured in zip(works, seconds, strict=True):
            started = time.perf_counter()
            work()
            if repeat:  # the first one warms up
                measured.append(time.perf_counter() - started)
    return [min(measured) for measured in seconds]


@pytest.mark.parametrize(("shape", "number"), [((64, 64, 64), 4), ((224, 224), 16)])
def test_random_changes_beside_monai(shape: tuple[int, ...], number: int) -> None:
    from monai.data import set_track_meta

    batch, ratios = torch.rand(number, 1, *shape), {}
    try:
        for name, change in _theirs(shape).items():
            augmenter = Augmenter(Augmentation.from_mapping(OFF | OURS[name]), spatial_dims=len(shape))
            ours, theirs = _best_of_each(
                lambda: augmenter(batch, seeds=range(number)),  # noqa: B023  # called at once
                lambda: torch.stack([torch.as_tensor(change(scan)) for scan in batch]),  # noqa: B023
            )
            ratios[name] = theirs / ours
            sizes = "x".join(map(str, shape))
            print(f"\n{sizes} {name:10} {ours / number * 1e3:6.2f} ms, MONAI {theirs / number * 1e3:6.2f} ms, ", end="")
            print(f"{ratios[name]:.1f} times", end="")
    finally:
        set_track_meta(True)
    assert ratios["all"] > 1.5
