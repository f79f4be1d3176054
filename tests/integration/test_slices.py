"""2.5D from the plan to the served answer: volumes of different numbers of thick slices, cut, trained, predicted."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

import medres
from medres.deployment.bundle import load_bundle
from medres.models.factory import create_model
from medres.models.slices import SliceModel
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.events import read_events
from tests.integration.conftest import ARCH, inside

NUM_SCANS = 24


def _write(folder: Path, *, num_scans: int = NUM_SCANS, seed: int = 0) -> Path:
    """Write MR of 5 mm slices, 3 to 10 a scan; in one class a lesion shines in a single slice."""
    rng = np.random.default_rng(seed)
    for index in range(num_scans):
        label = ("healthy", "lesion")[index % 2]
        count = int(rng.integers(3, 11))
        grid = np.stack(np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48), indexing="ij"))
        radius = np.square(grid).sum(0)
        body = (radius < 0.7) * (400.0 - 400.0 * radius)  # brightest in the middle, as in a coil: few voxels are bright
        volume = body[:, :, None] + rng.normal(0, 20, (48, 48, count))
        if label == "lesion":
            row, column = rng.integers(16, 26, 2)
            volume[row : row + 7, column : column + 7, rng.integers(count)] += 500
        path = folder / label / f"patient{index:02}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = np.diag([-1.0, -1.0, 5.0, 1.0])
        nib.save(nib.Nifti1Image(volume.clip(0).astype(np.int16), affine), path)  # type: ignore[attr-defined]
    return folder


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("stacks"))


@pytest.fixture(scope="module", params=["lp-ft", "linear-probe"])
def run(request: pytest.FixtureRequest, stacks: Path, tmp_path_factory: pytest.TempPathFactory) -> medres.Run:
    neighbours = 3 if request.param == "lp-ft" else 1
    return medres.finetune(
        stacks, arch=ARCH, weights="none", recipe=request.param, folds=3, epochs=2, tracking=False,
        output=tmp_path_factory.mktemp("runs"), name="slices", planning={"neighbours": neighbours},
    )  # fmt: skip


def _paths(run: medres.Run, data: Path) -> dict[str, Path]:
    pseudonyms = run.folder.pseudonyms()
    scans = csv.DictReader((run.path / "scans.csv").open())
    return {pseudonyms.sample(scan["sample_id"]): data / scan["path"] for scan in scans}


def test_the_plan_says_slices_and_the_cache_holds_each_scans_own(run: medres.Run) -> None:
    bundle = load_bundle(run.path / "model")
    plan = bundle.plan
    assert (plan.spatial_dims, plan.slicewise) == (3, True)
    assert plan.shape[0] <= 10
    assert isinstance(bundle.members[0].model, SliceModel)
    index = next((run.path.parent / "cache").glob("*/index.json"))
    shapes = [shape for segment in json.loads(index.read_text())["segments"]
              for _, shape, _ in segment["samples"].values()]  # fmt: skip
    assert len(shapes) == NUM_SCANS
    assert len({shape[1] for shape in shapes}) >= 4


def test_each_member_predicts_its_own_held_out_rows_again(run: medres.Run, stacks: Path) -> None:
    paths, classes = _paths(run, stacks), [f"prob_{name}" for name in run.metrics["classes"]]
    counted = 0
    for fold in range(3):
        rows = run.predictions[run.predictions["fold"] == str(fold)]
        again = medres.Predictor(run.path, member=fold).predict([paths[name] for name in rows["sample"]])
        np.testing.assert_allclose(again.probabilities, rows[classes].to_numpy(), atol=1e-5)
        together = medres.Predictor(run.path, member=fold, batch_size=5).predict([paths[n] for n in rows["sample"]])
        np.testing.assert_allclose(together.probabilities, again.probabilities, atol=1e-5)
        np.testing.assert_allclose(together.logits, again.logits, rtol=1e-4, atol=1e-5)
        counted += len(rows)
    assert counted == NUM_SCANS


def test_the_server_gives_the_predictors_answers(run: medres.Run, stacks: Path) -> None:
    from medres.tracking.served_model import ServedModel

    files = sorted(stacks.rglob("*.nii.gz"))[:4]
    served = ServedModel()
    served.load_context(SimpleNamespace(artifacts={"bundle": str(run.path / "model")}))
    answers = served.predict(None, pd.DataFrame({"image": [path.read_bytes() for path in files]}))
    expected = medres.Predictor(run.path).predict(files)
    columns = [f"prob_{name}" for name in expected.classes]
    np.testing.assert_allclose(answers[columns].to_numpy(dtype=float), expected.probabilities, atol=1e-6)


def test_weights_of_slices_can_be_had_for_an_explanation(run: medres.Run, stacks: Path) -> None:
    bundle = load_bundle(run.path / "model")
    model, preprocessor = bundle.members[0].model, Preprocessor(bundle.plan)
    assert isinstance(model, SliceModel)
    images = [medres.data.readers.read_scan(path) for path in sorted(stacks.rglob("*.nii.gz"))[:3]]
    prepared = [preprocessor.prepare(image) for image in images]
    inputs = preprocessor.inputs([array for array, _ in prepared], device=torch.device("cpu"))
    with torch.no_grad():
        weights = model.slice_weights(*inputs)
    for row, (image, (_, geometry)) in enumerate(zip(images, prepared, strict=True)):
        assert geometry.shape[0] == image.spatial_shape[2]
        assert weights[row, geometry.shape[0] :].sum() == 0
        assert float(weights[row].sum()) == pytest.approx(1, abs=1e-5)
        shown = np.broadcast_to(weights[row, : geometry.shape[0], None, None], geometry.shape)
        back = geometry.to_scan(shown, fill=np.nan)[24, 24]
        np.testing.assert_allclose(back, weights[row, : geometry.shape[0]], atol=1e-6)


def test_the_head_is_solved_on_means_and_the_attention_moves_in_fine_tuning_alone(run: medres.Run) -> None:
    solved = [event for event in read_events(run.folder.events) if event["kind"] == "head_solved"]
    assert len(solved) == 3
    scores = [member.model.attention.score.weight for member in load_bundle(run.path / "model").members]  # type: ignore[union-attr]
    trained = any(event["kind"] == "epoch" for event in read_events(run.folder.events))
    assert [bool(weight.any()) for weight in scores] == [trained] * 3


def test_a_scan_with_more_slices_than_any_in_training_is_predicted(run: medres.Run, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(300, 50, (48, 48, 90)).astype(np.int16)
    path = tmp_path / "long.nii.gz"
    nib.save(nib.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0])), path)  # type: ignore[attr-defined]
    answer = medres.Predictor(run.path).predict([path])
    assert answer.errors == (None,)
    assert np.isfinite(answer.probabilities).all()
    assert "spacing along D" in " ".join(answer.findings[0])


def test_the_command_line_follows_a_plan_of_slices(run: medres.Run, stacks: Path, tmp_path: Path) -> None:
    answer = inside(
        "finetune", "--data", stacks, "--arch", ARCH, "--weights", "none", "--recipe", "linear-probe", "--folds", "2",
        "--plan", run.path / "plan.yaml", "--output", tmp_path, "--name", "again", "--cache-dir",
        run.path.parent / "cache", "--set", "tracking=false",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    assert "2.5D MR" in answer.output
    assert (tmp_path / "again" / "plan.yaml").read_text() == (run.path / "plan.yaml").read_text()


def test_images_are_not_read_as_slices(phantoms: Path, tmp_path: Path) -> None:
    answer = inside(
        "finetune", "--data", phantoms, "--arch", ARCH, "--weights", "none", "--dims", "2.5", "--output", tmp_path
    )
    assert answer.exit_code == 1
    assert "there is no third axis" in answer.output


def test_five_neighbours_from_the_command_line_to_prediction(stacks: Path, tmp_path: Path) -> None:
    """With a stem for RGB, divided over them."""
    torch.manual_seed(0)
    trained = dict(create_model(ARCH, num_classes=2, in_channels=3).backbone.net.state_dict())
    safetensors.torch.save_file(trained, tmp_path / "rgb.safetensors")
    answer = inside(
        "finetune", "--data", stacks, "--arch", ARCH, "--weights", tmp_path / "rgb.safetensors", "--folds", "2",
        "--epochs", "1", "--output", tmp_path, "--name", "five", "--no-tracking", "--set", "planning.neighbours=5",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    run = medres.Run(tmp_path / "five")
    bundle = load_bundle(run.path / "model")
    assert (bundle.plan.neighbours, bundle.members[0].model.backbone.in_channels) == (5, 5)
    paths, classes = _paths(run, stacks), [f"prob_{name}" for name in run.metrics["classes"]]
    rows = run.predictions[run.predictions["fold"] == "0"]
    again = medres.Predictor(run.path, member=0).predict([paths[name] for name in rows["sample"]])
    np.testing.assert_allclose(again.probabilities, rows[classes].to_numpy(), atol=1e-5)
