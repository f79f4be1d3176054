"""The main job, end to end: what it leaves behind, and that the parts agree with each other."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import medres
from medres.runs.events import read_events
from medres.tracking.store import open_client
from tests.integration.conftest import ARCH, command

FILES = {
    "config.yaml", "scans.csv", "findings.json", "fingerprint.json", "plan.yaml", "folds.csv", "events.jsonl",
    "predictions.csv", "metrics.json", "report.html", "model", "pseudonyms.csv", "pseudonyms.json", "tracking.json",
    "fold_0", "fold_1", "fold_2", "identity.json", "weights.json", ".lock",
}  # fmt: skip


def test_the_run_folder_holds_what_the_design_says(run: medres.Run) -> None:
    assert {path.name for path in run.path.iterdir()} == FILES
    for fold in range(3):
        names = {path.name for path in (run.path / f"fold_{fold}").iterdir()}
        assert names == {"model.safetensors", "outcome.safetensors", "predictions.csv", ".lock"}


def test_every_scan_is_held_out_once_and_no_patient_is_in_two_folds(run: medres.Run) -> None:
    predictions = run.predictions
    assert len(predictions) == 36 == predictions["sample"].nunique()
    assert predictions.groupby("patient")["fold"].nunique().max() == 1
    folds = list(csv.DictReader((run.path / "folds.csv").open()))
    for fold in "012":
        trained = {row["patient"] for row in folds if row["fold"] == fold and row["part"] == "train"}
        held_out = {row["patient"] for row in folds if row["fold"] == fold and row["part"] == "held-out"}
        assert trained
        assert not trained & held_out


def test_the_score_is_that_of_the_predictions(run: medres.Run) -> None:
    predictions, classes = run.predictions, run.metrics["classes"]
    auroc = run.metrics["pooled"]["scores"]["auroc"]
    expected = roc_auc_score(predictions["label"] == classes[-1], predictions[f"prob_{classes[-1]}"])
    assert auroc["value"] == pytest.approx(expected, abs=1e-12)
    assert (auroc["n_patients"], auroc["n_units"], auroc["n_events"]) == (18, 36, 18)
    logits = predictions[[f"logit_{name}" for name in classes]].to_numpy()
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, predictions[[f"prob_{name}" for name in classes]], atol=1e-12)


def test_each_member_predicts_its_own_held_out_rows_again(run: medres.Run) -> None:
    pseudonyms = run.folder.pseudonyms()
    scans = list(csv.DictReader((run.path / "scans.csv").open()))
    root = Path(json.loads(json.dumps(_data_root(run))))
    paths = {pseudonyms.sample(scan["sample_id"]): root / scan["path"] for scan in scans}
    classes = [f"prob_{name}" for name in run.metrics["classes"]]
    for fold in range(3):
        rows = run.predictions[run.predictions["fold"] == str(fold)]
        predictor = medres.Predictor(run.path, member=fold)
        again = predictor.predict([paths[name] for name in rows["sample"]])
        np.testing.assert_allclose(again.probabilities, rows[classes].to_numpy(), atol=1e-5)
        assert list(again.decision) == list(rows["decision"])
        assert not any("training" in " ".join(finding) for finding in again.findings)


def _data_root(run: medres.Run) -> str:
    for line in (run.path / "config.yaml").read_text().splitlines():
        if line.startswith("data: "):
            return line.removeprefix("data: ")
    raise AssertionError("config.yaml names no data")


def test_the_same_seed_gives_the_same_numbers_and_prepares_nothing_again(phantoms: Path, run: medres.Run) -> None:
    cache = run.path.parent / "cache"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("segment-*")}
    again = medres.finetune(
        phantoms, arch=ARCH, weights="none", folds=3, epochs=2, output=run.path.parent, name="again", tracking=False
    )
    assert before == {path: path.stat().st_mtime_ns for path in cache.rglob("segment-*")}
    scores = {name: score["value"] for name, score in run.metrics["pooled"]["scores"].items()}
    assert scores == {name: score["value"] for name, score in again.metrics["pooled"]["scores"].items()}


def test_nothing_that_may_leave_holds_a_path_or_an_id(run: medres.Run, phantoms: Path) -> None:
    ids = {row["patient_id"] for row in csv.DictReader((run.path / "scans.csv").open())}
    names = {Path(row["path"]).stem for row in csv.DictReader((run.path / "scans.csv").open())}
    canaries = ids | names | {str(phantoms), phantoms.name}
    leaving = [
        "events.jsonl",
        "predictions.csv",
        "metrics.json",
        "report.html",
        "folds.csv",
        "plan.yaml",
        "weights.json",
        "fingerprint.json",
    ]
    files = [run.path / name for name in leaving] + list((run.path / "model").iterdir())
    files += list(run.path.parent.glob("mlflow.db*"))
    files += [path for path in (run.path.parent / "mlartifacts").rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        for canary in canaries:
            assert canary.encode() not in content, f"{canary} in {path}"


def test_mlflow_has_a_parent_a_child_a_fold_and_the_model(run: medres.Run) -> None:
    record = json.loads((run.path / "tracking.json").read_text())
    client = open_client(record["uri"])
    parent = client.get_run(record["run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["pooled/auroc"] == pytest.approx(run.metrics["pooled"]["scores"]["auroc"]["value"])
    assert parent.data.params["recipe"] == "full"
    children = [client.get_run(run_id) for run_id in record["folds"].values()]
    assert len(children) == 3
    epochs = [event for event in read_events(run.folder.events) if event["kind"] == "epoch" and event["fold"] == 0]
    history = client.get_metric_history(record["folds"]["0"], "loss")
    assert [point.value for point in history] == pytest.approx([event["metrics"]["loss"] for event in epochs])
    assert parent.inputs.dataset_inputs
    assert client.get_logged_model(record["model_id"]).status == "READY"


def test_linear_probe_needs_weights_but_runs_and_given_splits_are_scored_under_test(
    phantoms: Path, tmp_path: Path
) -> None:
    rows = list(csv.DictReader((phantoms / "labels.csv").open()))
    patients = sorted({row["patient_id"] for row in rows})
    split = {
        patient: ("test", "val", "train", "train", "train", "train")[index % 6]
        for index, patient in enumerate(patients)
    }
    with (tmp_path / "labels.csv").open("w") as file:
        writer = csv.DictWriter(file, fieldnames=["path", "label", "patient_id", "split"])
        writer.writeheader()
        for row in rows:
            path = (phantoms / row["path"]).as_posix()
            writer.writerow({**row, "path": path, "split": split[row["patient_id"]]})
    run = medres.finetune(
        tmp_path / "labels.csv",
        arch=ARCH,
        weights="none",
        recipe="linear-probe",
        output=tmp_path / "runs",
        name="given",
        tracking=False,
    )
    assert run.metrics["kind"] == "given-split"
    assert run.metrics["pooled"] is None
    assert run.metrics["test"]["scores"]["auroc"]["n_units"] == len(run.predictions)
    assert set(run.predictions["split"]) == {"test"}
    assert run.report_path.is_file()


def test_units_are_scored_as_one(phantoms: Path, tmp_path: Path) -> None:
    run = medres.finetune(
        phantoms, arch=ARCH, weights="none", recipe="linear-probe", folds=2, unit_column="patient_id",
        output=tmp_path, name="units", tracking=False,
    )  # fmt: skip
    auroc = run.metrics["pooled"]["scores"]["auroc"]
    assert (auroc["n_units"], auroc["n_patients"]) == (18, 18)
    assert run.metrics["unit"] == "patient_id"
    assert len(run.predictions) == 36


def test_the_command_line_prints_one_json_document(phantoms: Path, tmp_path: Path) -> None:
    done = command(
        "finetune", "--data", phantoms, "--arch", ARCH, "--weights", "none", "--folds", "2", "--epochs", "1",
        "--output", tmp_path, "--name", "json", "--no-tracking", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["scores"]["auroc"]["n_patients"] == 18
    assert Path(document["report"]).is_file()
