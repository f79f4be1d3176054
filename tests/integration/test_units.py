"""Scores do not depend on the unit of the voxels, of whole runs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medres

#: Diffusivities in mm²/s and m²/s, a large offset, values beyond single precision.
UNITS = {"mm2_s": (1e-5, 0.0), "m2_s": (1e-11, 0.0), "offset": (1.0, 1e6), "huge": (1e200, 0.0)}


def write_scans(folder: Path, factor: float, offset: float) -> Path:
    """Twelve volumes of noise; every other one has a bright corner."""
    for number in range(12):
        voxels = np.random.default_rng(number).normal(100, 10, (16, 16, 16))
        voxels[:5, :5, :5] += 60 * (number % 2)
        target = folder / "ab"[number % 2] / f"{number:02}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels * factor + offset, np.diag([2, 2, 2, 1.0])), target)
    return folder


def log_loss(root: Path, name: str, factor: float, offset: float, recipe: str) -> tuple[float, float]:
    run = medres.finetune(
        write_scans(root / name, factor, offset), arch="resnet10", weights="none", recipe=recipe, folds=2, epochs=1,
        name=name, output=root / "runs", tracking=False, optimisation={"head_views": 2},
    )  # fmt: skip
    scores = run.metrics["pooled"]["scores"]
    return scores["auroc"]["value"], scores["log_loss"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["linear-probe", "full"])
def test_scores_are_the_same_in_every_unit(tmp_path: Path, recipe: str) -> None:
    usual = log_loss(tmp_path, "usual", 1.0, 0.0, recipe)
    assert usual[0] == 1.0 or recipe == "full"
    for name, (factor, offset) in UNITS.items():
        # bf16 rounds the last digits of the input otherwise in each unit
        tolerance = 1e-4 if recipe == "linear-probe" else 0.01
        assert log_loss(tmp_path, name, factor, offset, recipe) == pytest.approx(usual, abs=tolerance), name
