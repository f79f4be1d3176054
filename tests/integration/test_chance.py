"""Where there is nothing to find, nothing is found: signal-free phantoms and the default recipe give AUROC 0.5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import medres
from medres.data.phantoms import write_phantoms
from tests.integration.conftest import ARCH


def _aurocs(folder: Path, seeds: range, *, num_scans: int, epochs: int | None) -> list[float]:
    values = []
    for seed in seeds:
        data = folder / f"noise-{seed}"
        write_phantoms(data, modality="MR", spatial_dims=2, num_scans=num_scans, size=48, signal=0.0, seed=seed)
        run = medres.finetune(
            data, arch=ARCH, weights="none", epochs=epochs, seed=seed, output=folder, name=f"run-{seed}", tracking=False
        )
        values.append(run.metrics["pooled"]["scores"]["auroc"]["value"])
    return values


def _expect_chance(values: list[float], num_scans: int) -> None:
    # standard deviation of an AUROC of nothing (Hanley & McNeil 1982), n/2 scans a class
    deviation = np.sqrt((num_scans + 1) / (3 * num_scans**2))
    assert abs(np.mean(values) - 0.5) < 3 * deviation / np.sqrt(len(values)), values


def test_noise_gives_chance(tmp_path: Path) -> None:
    _expect_chance(_aurocs(tmp_path, range(3), num_scans=60, epochs=2), 60)


@pytest.mark.slow
def test_noise_gives_chance_with_the_default_recipe_over_ten_seeds(tmp_path: Path) -> None:
    _expect_chance(_aurocs(tmp_path, range(10), num_scans=60, epochs=None), 60)
