"""Models of several sequences and of regions of interest behind MLflow's pyfunc interface."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medres.data.readers.rules import ReadingRules
from medres.deployment.predictor import Predictor
from medres.tracking.logged_model import save_model
from medres.tracking.mlflow_api import mlflow
from medres.tracking.served_inputs import (
    BAD_REGION,
    BAD_SEQUENCES,
    NEEDS_ONE,
    NEEDS_REGION,
    NEEDS_SEQUENCES,
    NO_PATHS,
    NOT_A_SCAN,
    input_columns,
    read_row,
)
from tests.deployment.lesions import Lesions, make_lesions

CANARY = "Doe^John_1953"
CENTER = ("center_x_mm", "center_y_mm", "center_z_mm")


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Lesions:
    return make_lesions(tmp_path_factory.mktemp("lesions"))


@pytest.fixture(scope="module")
def model(lesions: Lesions, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("logged") / "model"
    save_model(lesions.bundle, folder)
    return mlflow.pyfunc.load_model(str(folder))


def by_center(lesions: Lesions) -> list[dict[str, Any]]:
    return [{**_images(scan), **dict(zip(CENTER, scan.center_ras_mm or (), strict=True))} for scan in lesions.table]


def by_mask(lesions: Lesions) -> list[dict[str, Any]]:
    return [{**_images(scan), "mask": scan.mask.read_bytes()} for scan in lesions.masked if scan.mask]


def _images(scan: Any) -> dict[str, Any]:
    return {f"image_{name}": path.read_bytes() for name, path in scan.sequences.items()}


def by_path(lesions: Lesions) -> list[dict[str, Any]]:
    root = lesions.table.root
    return [
        {**{f"path_{name}": str(path.relative_to(root)) for name, path in scan.sequences.items()},
         "mask_path": str(scan.mask)}
        for scan in lesions.masked
    ]  # fmt: skip


def test_the_signature_names_what_the_model_needs(model: Any) -> None:
    columns = {column.name: str(column.type) for column in model.metadata.get_input_schema().inputs}
    assert columns == {
        "image_t1": "DataType.binary", "path_t1": "DataType.string", "image_t2": "DataType.binary",
        "path_t2": "DataType.string", **dict.fromkeys(CENTER, "DataType.double"), "mask": "DataType.binary",
        "mask_path": "DataType.string",
    }  # fmt: skip
    assert list(input_columns(ReadingRules())) == ["image", "path"]
    assert list(input_columns(ReadingRules(sequences=("t1",)))) == ["image", "path"]


@pytest.mark.parametrize("rows_of", [by_center, by_mask, by_path])
def test_pyfunc_says_what_the_predictor_says(
    lesions: Lesions, model: Any, rows_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDRES_SERVE_ROOT", str(lesions.table.root))
    expected = Predictor(lesions.bundle).predict(lesions.table)
    answer = model.predict(pd.DataFrame(rows_of(lesions)))
    found = answer[["prob_benign", "prob_malignant"]].to_numpy(dtype=np.float64)
    np.testing.assert_allclose(found, expected.probabilities, atol=1e-5)
    assert len(found) == 6


def test_over_http_centres_may_be_whole_numbers(lesions: Lesions, model: Any) -> None:
    from base64 import b64encode

    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    row = by_mask(lesions)[0]
    sent = {name: b64encode(content).decode() for name, content in row.items()}
    missing = {**sent, "mask": ""}  # MLflow refuses null in a column of bytes
    scan = lesions.table.scans[0]
    whole = {**missing, **dict(zip(CENTER, (round(value) for value in scan.center_ras_mm or ()), strict=True))}
    client = TestClient(scoring_server.init(model))
    for body in (
        {"dataframe_records": [sent, whole, missing]},
        {"dataframe_split": {"columns": list(missing), "data": [list(missing.values())]}},
    ):
        answer = client.post("/invocations", json=body)
        assert answer.status_code == 200
        rows = answer.json()["predictions"]
        assert all(found["prob_benign"] is not None for found in rows[:-1])
        assert rows[-1]["findings"] == NEEDS_REGION


def bad_rows(lesions: Lesions) -> list[tuple[dict[str, Any], str]]:
    center = dict.fromkeys(CENTER)
    good = by_center(lesions)[0]
    empty, colour = lesions.table.root / "empty.nii.gz", lesions.table.root / "colour.png"
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4)), empty)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(colour)
    return [
        ({**good, "image_t2": None}, NEEDS_SEQUENCES),
        ({**good, "path_t2": CANARY}, NEEDS_SEQUENCES),
        ({"image": good["image_t1"]}, NEEDS_SEQUENCES),
        ({**good, "image_t2": colour.read_bytes()}, BAD_SEQUENCES),
        ({**good, "image_t2": CANARY.encode()}, NOT_A_SCAN),
        ({**good, "image_t2": None, "path_t2": CANARY}, NO_PATHS),
        ({**good, **center}, NEEDS_REGION),
        ({**good, "center_z_mm": float("nan")}, NEEDS_REGION),
        ({**good, "center_z_mm": CANARY}, NEEDS_REGION),
        ({**good, **dict.fromkeys(CENTER, CANARY)}, NEEDS_REGION),
        ({**good, "center_x_mm": 4e5}, BAD_REGION),
        ({**good, **center, "mask": empty.read_bytes()}, BAD_REGION),
        ({**good, **center, "mask": CANARY.encode()}, NOT_A_SCAN),
        ({**good, **center, "mask_path": CANARY}, NO_PATHS),
        ({**good, **center, "mask": empty.read_bytes(), "mask_path": CANARY}, NEEDS_REGION),
    ]


def test_whatever_goes_wrong_is_one_fixed_sentence(lesions: Lesions) -> None:
    rows = bad_rows(lesions)
    assert [read_row(row, lesions.plan.reading) for row, _ in rows] == [sentence for _, sentence in rows]
    assert read_row({}, ReadingRules()) == NEEDS_ONE
    assert not any(CANARY in sentence for _, sentence in rows)


def test_a_surprise_is_not_told(lesions: Lesions, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*arguments: Any, **named: Any) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr("medres.tracking.served_inputs.assemble_sample", surprise)
    assert read_row(by_center(lesions)[0], lesions.plan.reading) == NOT_A_SCAN
