"""A canary name in every place that a scan can carry one: it never reaches what may leave the hospital."""

from __future__ import annotations

import base64
import csv
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

import medres
from medres.runs.folder import RunFolder
from medres.tracking.mlflow_api import mlflow
from tests.figures import RecordProperty
from tests.integration.conftest import ARCH, inside

CANARY = "ZZQCANARY"
DATE = "19530217"
DOCS = Path(__file__).parents[2] / "docs" / "reference" / "run-folder.md"
_SPELLINGS = [
    spelling.encode(encoding)
    for spelling in (CANARY, CANARY.lower(), CANARY.title(), DATE, "1953-02-17")
    for encoding in ("ascii", "utf-16-le", "utf-16-be")
] + [base64.b64encode(CANARY.encode())[:-2], CANARY.encode().hex().encode()]


def _pixels(rng: np.random.Generator, label: str) -> np.ndarray[Any, Any]:
    pixels = rng.integers(0, 200, (48, 48)).astype(np.int16)
    pixels[10:38, 10:38] += 400
    if label == "tumour":
        pixels[18:28, 18:28] += 500
    return pixels


def write_nifti(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    image = nib.Nifti1Image(pixels[:, :, None], np.diag([0.8, 0.8, 5.0, 1.0]))
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = f"{CANARY} {field}"[:15].encode()
    dataset = Dataset()
    dataset.PatientName = f"{CANARY}^Eve"
    image.header.extensions.append(nib.nifti1.Nifti1DicomExtension(2, dataset))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{CANARY} born {DATE}".encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def write_dicom(path: Path, pixels: np.ndarray[Any, Any], patient: str) -> None:
    dataset = Dataset()
    texts = (
        "PatientName", "OtherPatientNames", "PatientComments", "PatientAddress", "InstitutionName",
        "InstitutionAddress",
        "ReferringPhysicianName", "OperatorsName", "StudyDescription", "SeriesDescription", "ProtocolName", "StudyID",
        "AccessionNumber", "StationName", "DeviceSerialNumber", "ImageComments", "BodyPartExamined", "Manufacturer",
        "ManufacturerModelName", "RequestedProcedureDescription", "PerformedProcedureStepDescription",
    )  # fmt: skip
    for keyword in texts:
        setattr(dataset, keyword, CANARY)
    for keyword in ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, keyword, DATE)
    dataset.add_new(0x00090010, "LO", CANARY)  # a private block
    dataset.add_new(0x00091001, "LT", f"{CANARY} private")
    dataset.PatientID = patient
    dataset.BurnedInAnnotation = "YES"
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", "1", "1"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.8], "5"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = pixels.astype("<i2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.SourceApplicationEntityTitle = CANARY
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.preamble = (CANARY * 15)[:128].encode()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NIfTI and DICOM images, every name, id, date, column and cell of them a canary."""
    root = tmp_path_factory.mktemp("data") / f"{CANARY}_study"
    rng, rows = np.random.default_rng(0), []
    for index in range(24):
        label = ("control", "tumour")[index % 2]
        patient = f"{CANARY}-{index // 2:03d}-{label}"
        name = f"{patient}_{DATE}/scan{index}"
        if index < 12:
            write_nifti(root / f"{name}.nii.gz", _pixels(rng, label))
            rows.append((f"{name}.nii.gz", label, patient))
        else:
            write_dicom(root / name / f"{CANARY}.dcm", _pixels(rng, label), patient)
            rows.append((name, label, patient))
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "patient_id", f"{CANARY}_comment", "physician"])
        writer.writerows([*row, f"{CANARY} seen on {DATE}", f"Dr {CANARY}"] for row in rows)
    return root


@pytest.fixture(scope="module")
def trained(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> medres.Run:
    output = tmp_path_factory.mktemp("runs")
    done = inside(
        "finetune", "--data", planted, "--arch", ARCH, "--weights", "none", "--folds", "2", "--epochs", "1",
        "--output", output, "--name", "private", "--register", "private-model",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return medres.Run(output / "private")


def first_kind() -> set[str]:
    """The files of a run that the documentation says must not leave."""
    rows = re.findall(r"^\| `([^`]+)` \|.*\| \**(yes|no|never)", DOCS.read_text(), flags=re.MULTILINE)
    assert {name for name, _ in rows} >= {"events.jsonl", "scans.csv", "pseudonyms.csv"}
    return {name for name, may in rows if may != "yes"}


def leaving(output: Path, run: str) -> Iterator[tuple[str, bytes]]:
    """Yield everything that may leave: all files beside the first kind and the cache, and each row of the store."""
    local = first_kind()
    for path in sorted(path for path in output.rglob("*") if path.is_file()):
        name = path.relative_to(output)
        if name.parts[0] != "cache" and not (name.parts[0] == run and name.parts[1] in local):
            yield str(name), path.read_bytes()
    with sqlite3.connect(output / "mlflow.db") as store:
        yield "dump of mlflow.db", "\n".join(store.iterdump()).encode()


def assert_clean(things: Iterator[tuple[str, bytes]]) -> int:
    seen = 0
    for name, content in things:
        seen += 1
        for spelling in _SPELLINGS:
            assert spelling not in content, f"{spelling!r} in {name}"
            assert spelling.decode("latin-1") not in name
    return seen


def test_the_canary_is_where_it_may_be(trained: medres.Run) -> None:
    found = [name for name in ("scans.csv", "pseudonyms.csv") if CANARY in (trained.path / name).read_text()]
    assert found == ["scans.csv", "pseudonyms.csv"]  # or the other tests look for what is not there


def test_nothing_that_may_leave_holds_it(trained: medres.Run, record_property: RecordProperty) -> None:
    seen = assert_clean(leaving(trained.path.parent, trained.path.name))
    record_property("figure", f"0 hits in {seen} files and the dump of the database")
    assert seen > 30


def test_a_run_that_breaks_tells_nobody(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: RunFolder) -> None:
        raise RuntimeError(f"{CANARY} {folder.path}")

    monkeypatch.setattr("medres.workflows.job.write_report", broken)
    done = inside(
        "finetune", "--data", planted, "--arch", ARCH, "--weights", "none", "--folds", "2", "--epochs", "1",
        "--output", tmp_path, "--name", "broken",
    )  # fmt: skip
    assert done.exit_code == 1
    assert "Traceback" not in done.stderr
    assert assert_clean(leaving(tmp_path, "broken")) > 10


def test_a_refused_data_set_leaves_nothing(planted: Path, tmp_path: Path) -> None:
    broken = tmp_path / f"{CANARY}.nii.gz"
    broken.write_bytes(next(planted.rglob("*.nii.gz")).read_bytes()[:-40])
    table = tmp_path / "labels.csv"
    table.write_text((planted / "labels.csv").read_text() + f"{broken},tumour,{CANARY}-new,,\n")
    done = inside(
        "finetune", "--data", planted, "--labels", table, "--arch", ARCH, "--weights", "none", "--output",
        tmp_path / "runs", "--name", "refused",
    )  # fmt: skip
    assert done.exit_code == 1
    assert str(broken) in done.stderr  # the terminal is local, and must name the file
    assert not (tmp_path / "runs" / "refused").exists()
    assert not (tmp_path / "runs" / "mlflow.db").exists()


def _bodies(planted: Path) -> dict[str, bytes]:
    dicom, nifti = sorted(planted.rglob("*.dcm"))[0].read_bytes(), sorted(planted.rglob("*.nii.gz"))[0].read_bytes()
    flipped = bytearray(nifti)
    flipped[len(nifti) // 2] ^= 4
    return {
        "dicom": dicom, "nifti": nifti, "truncated dicom": dicom[:-900], "truncated nifti": nifti[:-30],
        "header only": dicom[:400], "flipped nifti": bytes(flipped), "text": f"{CANARY} {DATE}".encode() * 20,
    }  # fmt: skip


def test_http_answers_never_repeat_it(
    planted: Path, trained: medres.Run, monkeypatch: pytest.MonkeyPatch, record_property: RecordProperty
) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    monkeypatch.setenv("MEDRES_SERVE_ROOT", str(planted))
    record = json.loads((trained.path / "tracking.json").read_text())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", record["uri"])  # not set_tracking_uri: that would outlive the test
    model = mlflow.pyfunc.load_model(f"models:/{record['model_id']}")
    app = TestClient(scoring_server.init(model))
    bodies = _bodies(planted)
    answers: dict[str, Any] = {}
    for name, content in bodies.items():
        row = {"columns": ["image"], "data": [[base64.b64encode(content).decode()]]}
        answers[name] = app.post("/invocations", json={"dataframe_split": row})
    for name in (f"{CANARY}/no.dcm", f"../{CANARY}", str(planted), "labels.csv"):
        row = {"columns": ["path"], "data": [[name]]}
        answers[name] = app.post("/invocations", json={"dataframe_split": row})
    assert len(answers) == 11
    for name, answer in answers.items():
        assert answer.status_code == 200, (name, answer.text)
        for spelling in (CANARY, DATE, str(planted), "Traceback"):
            assert spelling.lower() not in answer.text.lower(), (name, answer.text)
    record_property("figure", f"0 hits in {len(answers)} HTTP answers")
    predicted = {name for name in answers if answers[name].json()["predictions"][0]["predicted"] is not None}
    assert predicted == {"dicom", "nifti"}


def test_predictions_in_memory_name_nobody(planted: Path, trained: medres.Run) -> None:
    from medres.data.readers import read_scan_bytes

    bodies = _bodies(planted)
    predictions = medres.Predictor(trained.path).predict_images(
        [read_scan_bytes(bodies["dicom"]), read_scan_bytes(bodies["nifti"])]
    )
    assert CANARY not in repr(predictions)
    for name in ("truncated dicom", "truncated nifti", "header only", "flipped nifti", "text"):
        with pytest.raises(medres.errors.MedresError) as caught:
            read_scan_bytes(bodies[name])
        assert CANARY.lower() not in str(caught.value).lower(), name
        assert DATE not in str(caught.value), name


def test_temporary_voxels_lie_beside_their_destination(
    planted: Path, trained: medres.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "system-temp"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._get_default_tempdir", lambda *_, **__: pytest.fail("the system's temp folder"))
    medres.Predictor(trained.path).predict([planted]).to_csv(tmp_path / "predictions.csv")
    assert not list(elsewhere.iterdir())
