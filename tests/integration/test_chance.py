"""Where there is nothing to find, nothing is found: AUROC 0.5 on phantoms without signal, and on random labels.

Random labels are the experiment of Yagis et al. (2021, Sci Rep 11:22544): with several slices of each patient, a split
of slices recognises the patients and scored 96 %, a split of patients 50 %.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier

import medres
from medres.data.folds import make_folds
from medres.data.phantoms import write_phantoms
from medres.data.sources import load_scans
from medres.data.survey import survey_scans
from medres.data.table import ScanTable
from medres.finetuning.recipes import RecipeName
from medres.runs.progress import Silent
from tests.data.test_perceptual import picture
from tests.figures import RecordProperty
from tests.integration.conftest import ARCH

PATIENTS, SLICES = 40, 4


def _aurocs(
    folder: Path, seeds: range, *, num_scans: int, epochs: int | None, recipe: RecipeName = "auto"
) -> list[float]:
    values = []
    for seed in seeds:
        data = folder / f"noise-{seed}"
        write_phantoms(data, modality="MR", spatial_dims=2, num_scans=num_scans, size=48, signal=0.0, seed=seed)
        run = medres.finetune(
            data, arch=ARCH, weights="none", recipe=recipe, epochs=epochs, seed=seed, output=folder,
            name=f"run-{seed}", tracking=False,
        )  # fmt: skip
        values.append(run.metrics["pooled"]["scores"]["auroc"]["value"])
    return values


def _expect_chance(values: list[float], num_scans: int) -> None:
    # standard deviation of an AUROC of nothing (Hanley & McNeil 1982), n/2 scans a class
    deviation = np.sqrt((num_scans + 1) / (3 * num_scans**2))
    assert abs(np.mean(values) - 0.5) < 3 * deviation / np.sqrt(len(values)), values


def test_noise_gives_chance(tmp_path: Path) -> None:
    _expect_chance(_aurocs(tmp_path, range(3), num_scans=60, epochs=2), 60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_noise_gives_chance_with_the_default_recipe_over_ten_seeds(
    tmp_path: Path, record_property: RecordProperty
) -> None:
    values = _aurocs(tmp_path, range(10), num_scans=60, epochs=None)
    record_property("figure", f"AUROC of labels without meaning {np.mean(values):.3f} (mean of 10 trainings)")
    _expect_chance(values, 60)


#: Every recipe that is a name of its own.
RECIPES = [name for name in get_args(RecipeName) if name != "auto"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", RECIPES)
def test_noise_gives_chance_with_every_recipe_over_ten_seeds(recipe: RecipeName, tmp_path: Path) -> None:
    values = _aurocs(tmp_path, range(10), num_scans=60, epochs=5, recipe=recipe)
    print(f"\nphantoms without signal, {recipe}: {np.mean(values):.3f}, sd {np.std(values, ddof=1):.3f}, {values}")
    _expect_chance(values, 60)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", RECIPES)
def test_shuffled_labels_of_real_scans_give_chance_with_every_recipe(
    recipe: RecipeName, real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "brain_mri_tumor"
    paths = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))
    values = []
    for seed in range(10):
        labels = np.random.default_rng(seed).permutation([path.split("/")[0] for path in paths])
        table = tmp_path / f"labels-{seed}.csv"
        table.write_text(
            "path,label\n" + "".join(f'"{path}",{label}\n' for path, label in zip(paths, labels, strict=True))
        )
        run = medres.finetune(
            folder, labels=table, arch=ARCH, weights="none", recipe=recipe, epochs=5, seed=seed, tracking=False,
            planning={"shape": [64, 64]}, output=tmp_path, name=f"run-{seed}",
        )  # fmt: skip
        values.append(run.metrics["pooled"]["scores"]["auroc"]["value"])
    print(f"\nshuffled labels, {recipe}: {np.mean(values):.3f}, sd {np.std(values, ddof=1):.3f}, {values}")
    _expect_chance(values, len(paths))


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return 4 slices of each of 40 patients, which differ by noise and brightness; a random label for each patient."""
    folder = tmp_path_factory.mktemp("slices")
    rng = np.random.default_rng(0)
    labels = rng.permutation(["benign", "malignant"] * (PATIENTS // 2))
    rows = ["path,label,patient_id"]
    for patient in range(PATIENTS):
        shown = picture((48, 48), seed=patient) / 4095
        for index in range(SLICES):
            pixels = shown * rng.uniform(180, 230) + rng.normal(0, 5, shown.shape) + 10
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{patient:02}-{index}.png")
            rows.append(f"{patient:02}-{index}.png,{labels[patient]},p{patient}")
    (folder / "labels.csv").write_text("\n".join(rows))
    # the same without patient ids: only the pictures say what belongs together
    (folder / "anonymous.csv").write_text("\n".join(row.rsplit(",", 1)[0] for row in rows))
    return folder


def _surveyed(slices: Path, labels: str) -> ScanTable:
    return survey_scans(load_scans(slices, labels=slices / labels), progress=Silent()).table


def _nearest_neighbour(table: ScanTable, parts: list[np.ndarray], labels: np.ndarray) -> float:
    pixels = np.stack([np.asarray(Image.open(scan.path), dtype=np.float32).ravel() for scan in table])
    pixels -= pixels.mean(axis=1, keepdims=True)
    scores = np.empty(len(table))
    for part in parts:
        train = np.setdiff1d(np.arange(len(table)), part)
        model = KNeighborsClassifier(n_neighbors=1).fit(pixels[train], labels[train])
        scores[part] = model.predict_proba(pixels[part])[:, 1]
    return float(roc_auc_score(labels, scores))


@pytest.mark.parametrize("labels", ["labels.csv", "anonymous.csv"])
def test_slices_of_a_patient_stay_together_with_and_without_patient_ids(slices: Path, labels: str) -> None:
    table = _surveyed(slices, labels)
    patient = np.array([scan.path.name[:2] for scan in table])
    folds = [fold.held_out for fold in make_folds(table, num_folds=5, seed=0).folds]
    assert all(not set(patient[one]) & set(patient[np.setdiff1d(np.arange(len(table)), one)]) for one in folds)
    by_slice = [part for _, part in KFold(5, shuffle=True, random_state=0).split(patient)]
    rng = np.random.default_rng(1)
    ours, leaking = [], []
    for _ in range(10):
        random = dict(zip(sorted(set(patient)), rng.permutation([0, 1] * (PATIENTS // 2)), strict=True))
        targets = np.array([random[name] for name in patient])
        ours.append(_nearest_neighbour(table, folds, targets))
        leaking.append(_nearest_neighbour(table, by_slice, targets))
    assert np.mean(leaking) > 0.95  # what a split of slices pretends to have found in random labels
    _expect_chance(ours, PATIENTS)


@pytest.mark.parametrize("labels", ["anonymous.csv", pytest.param("labels.csv", marks=pytest.mark.slow)])
def test_random_labels_give_chance(slices: Path, labels: str, tmp_path: Path) -> None:
    run = medres.finetune(
        slices, labels=slices / labels, arch=ARCH, weights="none", epochs=4, output=tmp_path, tracking=False
    )
    score = run.metrics["pooled"]["scores"]["auroc"]
    assert score["low"] < 0.5 < score["high"]
    _expect_chance([score["value"]], PATIENTS)
