"""A lesion of a few millimetres in a large scan: lost to a whole-volume classifier, plain in its region of interest."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import medres

SHAPE = (128, 128, 64)
CENTER = ("center_x_mm", "center_y_mm", "center_z_mm")


def write_lesions(folder: Path, count: int) -> None:
    """Scans of 256 x 256 x 192 mm; one lesion of 16 mm is fat or dense, ten others of both kinds mean nothing."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        label = number % 2
        voxels, affine = _body(rng), np.diag([-2.0, -2.0, 3.0, 1.0])
        affine[:3, 3] = rng.uniform(-50, 50, 3)
        for _ in range(10):
            _put(voxels, rng.uniform((30, 40, 10), (98, 88, 54)), rng.choice([-100, 150]))
        place = rng.uniform((40, 45, 12), (88, 83, 52))
        _put(voxels, place, 150 if label else -100)
        nib.save(nib.Nifti1Image(np.rint(voxels).astype(np.int16), affine), folder / f"{number}.nii.gz")
        rows.append([f"{number}.nii.gz", ("fat", "dense")[label], *(affine @ [*place, 1.0])[:3]])
    for name, width in (("regions.csv", 5), ("whole.csv", 2)):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([["path", "label", *CENTER][:width], *(row[:width] for row in rows)])


def _body(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    i, j, _ = np.indices(SHAPE)
    inside = ((i - 64) / 55) ** 2 + ((j - 64) / 45) ** 2 < 1
    return np.where(inside, 40.0, -1000.0) + rng.normal(0, 20, SHAPE)


def _put(voxels: np.ndarray[Any, Any], place: Any, value: float) -> None:
    i, j, k = np.indices(SHAPE)
    voxels[(i - place[0]) ** 2 + (j - place[1]) ** 2 + (1.5 * (k - place[2])) ** 2 < 16] = value


def auroc(run: Path) -> float:
    scores = json.loads((run / "metrics.json").read_text())["pooled"]["scores"]
    return float(scores["auroc"]["value"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_small_lesion_is_learnt_in_its_region_and_not_in_the_whole_scan(tmp_path: Path) -> None:
    write_lesions(tmp_path / "data", 40)
    found = {}
    for name in ("regions", "whole"):
        medres.finetune(
            tmp_path / "data" / f"{name}.csv", arch="resnet10", weights="none", folds=2, epochs=4,
            roi_size_mm=[40.0] if name == "regions" else None, output=tmp_path / "runs", name=name,
            planning={"shape": [64, 64, 64], "precision": "fp32"},
        )  # fmt: skip
        found[name] = auroc(tmp_path / "runs" / name)
    assert found["regions"] > 0.95
    assert found["whole"] < 0.8
    predictions = medres.predict(tmp_path / "runs" / "regions", tmp_path / "data" / "regions.csv")
    assert predictions.num_failed == 0
    assert medres.predict(tmp_path / "runs" / "regions", tmp_path / "data" / "0.nii.gz").num_failed == 1
