from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import copyfile
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medres.deployment.predictor import Predictor
from medres.tracking import served_inputs
from medres.tracking.logged_model import save_model
from medres.tracking.mlflow_api import mlflow
from medres.tracking.registry import register_bundle
from medres.tracking.sent_rows import RequestError
from medres.tracking.served_inputs import BAD_PATH, FAILED, NEEDS_ONE, NO_PATHS, NOT_A_SCAN, NOT_BASE64, allowed_path
from medres.tracking.served_model import BAD_POLICY, DOES_NOT_FIT, UNLIKE
from medres.tracking.store import experiment_id_of, open_client
from tests.deployment.tiny import Tiny, make_tiny
from tests.tracking.faults import free_port
from tests.tracking.test_sent_files import SPELLINGS

CANARY = "Doe^John_1953"


@pytest.fixture(scope="session")
def model_folder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged") / "model"
    save_model(tiny.bundle, folder)
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> Any:
    """The model as MLflow loads it, with pickle forbidden."""
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    try:
        return mlflow.pyfunc.load_model(str(model_folder))
    finally:
        del os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"]


@pytest.fixture(scope="session")
def expected(tiny: Tiny) -> Any:
    return Predictor(tiny.bundle).predict(tiny.table)


def content_of(tiny: Tiny) -> list[bytes]:
    return [scan.path.read_bytes() for scan in tiny.table]


def probabilities(answer: Any) -> np.ndarray[Any, Any]:
    table = pd.DataFrame(answer)
    return table[["prob_benign", "prob_malignant"]].to_numpy(dtype=np.float64)


def test_pyfunc_says_what_the_predictor_says(tiny: Tiny, model: Any, expected: Any) -> None:
    answer = model.predict(pd.DataFrame({"image": content_of(tiny)}))
    np.testing.assert_allclose(probabilities(answer), expected.probabilities, atol=1e-6)
    assert list(answer.columns) == ["predicted", "prob_benign", "prob_malignant", "decision", "findings"]
    assert tuple(answer["predicted"]) == expected.predicted
    assert tuple(answer["decision"]) == expected.decision
    assert "in the training data" in answer["findings"][0]
    assert answer["findings"].iloc[-1] == ""


def test_paths_below_the_root_are_served(
    tiny: Tiny, model: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDRES_SERVE_ROOT", str(tiny.table.root))
    relative = [str(scan.path.relative_to(tiny.table.root)) for scan in tiny.table]
    absolute = [str(scan.path) for scan in tiny.table]
    for paths in (relative, absolute):
        answer = model.predict(pd.DataFrame({"path": paths}))
        np.testing.assert_allclose(probabilities(answer), expected.probabilities, atol=1e-6)


def test_paths_are_refused_without_a_root(tiny: Tiny, model: Any) -> None:
    answer = model.predict(pd.DataFrame({"path": [str(tiny.table.scans[0].path)]}))
    assert answer["findings"][0] == NO_PATHS
    assert answer["prob_benign"][0] is None


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "root" / "folder").mkdir(parents=True)
    (tmp_path / "root" / "inside.nii").write_text("inside")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "beside.nii").write_text("secret")
    (tmp_path / "secret.nii").write_text("secret")
    (tmp_path / "root" / "link.nii").symlink_to(tmp_path / "secret.nii")
    (tmp_path / "root" / "folder" / "up").symlink_to(tmp_path)
    (tmp_path / "root" / "good_link.nii").symlink_to(tmp_path / "root" / "inside.nii")
    monkeypatch.setenv("MEDRES_SERVE_ROOT", str(tmp_path / "root"))
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "../secret.nii", "folder/../../secret.nii", "link.nii", "folder/up/secret.nii", "/etc/passwd", "folder", ".",
        "absent.nii", "../root2/beside.nii", "\0", "x" * 5000, "~/x", "file:///etc/passwd", "inside.nii/..",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_root_and_all_refusals_read_the_same(root: Path, path: str) -> None:
    with pytest.raises(Exception, match="^" + BAD_PATH):
        allowed_path(path)


@pytest.mark.parametrize("path", ["inside.nii", "./inside.nii", "folder/../inside.nii", "good_link.nii"])
def test_files_below_the_root_are_found(root: Path, path: str) -> None:
    assert allowed_path(path).read_text() == "inside"


def bad_rows(tiny: Tiny) -> list[tuple[Any, Any, str]]:
    """(image, path, what the answer says)."""
    good = tiny.table.scans[0].path.read_bytes()
    flat = nibabel.Nifti1Image(np.zeros((8, 8), np.int16), np.eye(4)).to_bytes()
    return [
        (CANARY.encode(), None, NOT_A_SCAN),
        (good[: len(good) // 2], None, NOT_A_SCAN),
        (b"\x1f\x8b" + os.urandom(100), None, NOT_A_SCAN),
        (b"PK\x03\x04" + os.urandom(100), None, NOT_A_SCAN),
        (flat, None, f"{DOES_NOT_FIT} mixed-dimensions: It is an image; the training scans are volumes."),
        (b"", None, NEEDS_ONE),
        (None, None, NEEDS_ONE),
        (good, "x", NEEDS_ONE),
        (None, f"/data/{CANARY}.nii.gz", NO_PATHS),
        (12, None, NEEDS_ONE),
        (None, 12.5, NEEDS_ONE),
    ]


def test_whatever_goes_wrong_is_one_sentence_in_its_row(tiny: Tiny, model: Any, expected: Any) -> None:
    rows = bad_rows(tiny)
    table = pd.DataFrame(
        {
            "image": pd.Series([row[0] for row in rows] + [content_of(tiny)[0]], dtype=object),
            "path": pd.Series([row[1] for row in rows] + [None], dtype=object),
        }
    )
    answer = model.unwrap_python_model().predict(None, table)
    assert list(answer["findings"][:-1]) == [row[2] for row in rows]
    assert answer.drop(columns="findings")[:-1].isna().all().all()
    np.testing.assert_allclose(probabilities(answer[-1:]), expected.probabilities[:1], atol=1e-6)
    assert CANARY not in answer.to_json()


def test_a_surprise_inside_is_not_told_to_the_client(
    tiny: Tiny, model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def surprise(*arguments: Any, **named: Any) -> None:
        raise RuntimeError(f"/data/{CANARY}")

    inner = model.unwrap_python_model()
    monkeypatch.setattr(inner._predictor, "predict_images", surprise)
    answer = inner.predict(None, pd.DataFrame({"image": content_of(tiny)[:2]}))
    assert list(answer["findings"]) == [FAILED] * 2
    monkeypatch.setattr(served_inputs, "read_scan_bytes", surprise)
    answer = inner.predict(None, pd.DataFrame({"image": content_of(tiny)[:1]}))
    assert list(answer["findings"]) == [NOT_A_SCAN]
    assert CANARY not in caplog.text
    assert "RuntimeError" in caplog.text


def foreign_files(tiny: Tiny) -> list[bytes]:
    """A black volume and one without its intercept, as large as the training scans."""
    source = nibabel.load(tiny.table.scans[-1].path)
    values = np.asarray(source.dataobj).astype(np.int16)
    return [nibabel.Nifti1Image(made, source.affine).to_bytes() for made in (np.zeros_like(values), values + 1024)]


def test_pyfunc_withholds_decisions_about_foreign_scans_unless_told_otherwise(tiny: Tiny, model: Any) -> None:
    table = pd.DataFrame({"image": [*foreign_files(tiny), content_of(tiny)[-1]]})
    answers = {
        policy: model.predict(table, params={"on_mismatch": policy}) for policy in ("warn", "withhold", "refuse")
    }
    pd.testing.assert_frame_equal(model.predict(table), answers["withhold"])
    assert list(answers["withhold"]["decision"].isna()) == [True, True, False]
    assert "decision-withheld" in answers["withhold"]["findings"][0]
    assert "constant: " in answers["withhold"]["findings"][0]
    assert "mixed-modality: " in answers["withhold"]["findings"][1]
    assert answers["withhold"]["prob_benign"].notna().all()
    assert answers["warn"]["decision"].notna().all()
    assert "constant: " in answers["warn"]["findings"][0]
    assert list(answers["refuse"]["prob_benign"].isna()) == [True, True, False]
    assert answers["refuse"]["findings"][0].startswith(UNLIKE)
    assert "constant: " in answers["refuse"]["findings"][0]


def test_a_policy_that_does_not_exist_is_told_in_the_rows(tiny: Tiny, model: Any) -> None:
    answer = model.predict(pd.DataFrame({"image": content_of(tiny)[:1]}), params={"on_mismatch": CANARY})
    assert list(answer["findings"]) == [BAD_POLICY]


def test_a_request_without_rows_or_columns_gives_no_answer(model: Any) -> None:
    inner = model.unwrap_python_model()
    assert len(inner.predict(None, pd.DataFrame({"image": []}))) == 0
    left_out = "Left out: other; this model takes image, path."
    assert list(inner.predict(None, pd.DataFrame({"other": [1, 2]}))["findings"]) == [f"{NEEDS_ONE} {left_out}"] * 2
    with pytest.raises(RequestError, match="No column that this model takes was sent"):
        model.predict(pd.DataFrame({"other": [1, 2]}))  # MLflow drops the column, and with it the rows


ROWS = st.lists(st.sampled_from(["scan 0", "scan 1", "nothing", "cut", "img", "null", "text"]), min_size=1, max_size=5)


def rows_of(kinds: list[str], tiny: Tiny) -> list[dict[str, Any]]:
    images = content_of(tiny)
    by_kind: dict[str, dict[str, Any]] = {
        "scan 0": {"image": images[0]}, "scan 1": {"image": images[1]}, "nothing": {}, "cut": {"image": images[0][:99]},
        "img": {"img": images[0]}, "null": {"image": None, "path": None}, "text": {"image": CANARY},
    }  # fmt: skip
    return [by_kind[kind] for kind in kinds]


def assert_rows(answer: pd.DataFrame, kinds: list[str], expected: Any) -> None:
    said = {"nothing": NEEDS_ONE, "cut": NOT_A_SCAN, "img": NEEDS_ONE, "null": NEEDS_ONE, "text": NOT_BASE64}
    assert len(answer) == len(kinds)
    for (_, row), kind in zip(answer.iterrows(), kinds, strict=True):
        if kind.startswith("scan"):
            assert row["prob_benign"] == pytest.approx(expected.probabilities[int(kind[-1]), 0], abs=1e-5)
        else:
            assert pd.isna(row["prob_benign"])
            assert row["findings"].startswith(said[kind])
        assert ("Left out: img" in row["findings"]) == (kind == "img")


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(kinds=ROWS)
def test_each_row_of_a_table_is_answered_in_its_place(tiny: Tiny, model: Any, expected: Any, kinds: list[str]) -> None:
    table = pd.DataFrame([dict.fromkeys(("image", "path", "img"))] * len(kinds), dtype=object)
    for number, row in enumerate(rows_of(kinds, tiny)):
        for name, value in row.items():
            table.at[number, name] = value
    answer = model.predict(table)
    assert_rows(answer.assign(findings=[f"{text} " for text in answer["findings"]]), [
        "nothing" if kind == "img" else kind for kind in kinds  # MLflow drops the column, not the row
    ], expected)  # fmt: skip


def test_a_changed_bundle_is_not_served(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(tiny.bundle, folder)
    weights = folder / "artifacts" / "bundle" / "member_1.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    with pytest.raises(Exception, match="changed after it was written"):
        mlflow.pyfunc.load_model(str(folder))


def test_the_signature_names_every_class(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path, "MR 3D", num_members=1, num_scans=3)
    save_model(tiny.bundle, tmp_path / "logged" / "model")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "logged" / "model"))
    outputs = loaded.metadata.get_output_schema().input_names()
    assert outputs == ["predicted", "prob_a", "prob_b", "prob_c", "decision", "findings"]
    inputs = loaded.metadata.get_input_schema()
    assert [(column.name, str(column.type), column.required) for column in inputs.inputs] == [
        ("image", "DataType.binary", False), ("path", "DataType.string", False),
    ]  # fmt: skip
    answer = loaded.predict(pd.DataFrame({"image": content_of(tiny)}))
    assert list(answer.columns) == outputs


# ---------------------------------------------------------------- over HTTP


@pytest.fixture(scope="session")
def app(model: Any) -> Any:
    """MLflow's own scoring server around the model, without a process of its own."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    return TestClient(scoring_server.init(model))


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def request_bodies(tiny: Tiny) -> Iterator[dict[str, Any]]:
    images = [encoded(content) for content in content_of(tiny)]
    yield {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}}
    yield {"dataframe_records": [{"image": image} for image in images]}
    yield {"inputs": {"image": images}}
    yield {"instances": [{"image": image} for image in images]}


def test_http_says_what_the_predictor_says_in_every_layout(tiny: Tiny, app: Any, expected: Any) -> None:
    tried = 0
    for body in request_bodies(tiny):
        answer = app.post("/invocations", json=body)
        assert answer.status_code == 200
        np.testing.assert_allclose(probabilities(answer.json()["predictions"]), expected.probabilities, atol=1e-6)
        tried += 1
    assert tried == 4


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(kinds=ROWS)
def test_each_row_of_a_request_is_answered_in_its_place(
    tiny: Tiny, app: Any, expected: Any, form: str, kinds: list[str]
) -> None:
    rows = [
        {name: encoded(value) if isinstance(value, bytes) else value for name, value in row.items()}
        for row in rows_of(kinds, tiny)
    ]
    body: Any = rows
    if form == "dataframe_split":
        columns = ["path", "img", "image"]
        body = {"columns": columns, "data": [[row.get(name) for name in columns] for row in rows]}
    answer = app.post("/invocations", json={form: body})
    assert answer.status_code == 200
    found = pd.DataFrame(answer.json()["predictions"])
    if form == "dataframe_split":  # each row has all columns there
        found["findings"] = [text.replace("Left out: img; ", "") for text in found["findings"]]
        kinds = ["nothing" if kind == "img" else kind for kind in kinds]
    assert_rows(found, kinds, expected)


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_base64_is_read_as_tools_write_it(tiny: Tiny, app: Any, expected: Any, form: str, spelling: str) -> None:
    text = SPELLINGS[spelling](content_of(tiny)[0])
    body: Any = {
        "dataframe_split": {"columns": ["image"], "data": [[text]]}, "inputs": {"image": [text]},
    }.get(form, [{"image": text}])  # fmt: skip
    answer = app.post("/invocations", json={form: body}).json()["predictions"]
    np.testing.assert_allclose(probabilities(answer), expected.probabilities[:1], atol=1e-6)


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs"])
def test_what_is_no_base64_is_called_that(tiny: Tiny, app: Any, form: str) -> None:
    text = encoded(content_of(tiny)[0]).replace("+", " ")
    body: Any = {
        "dataframe_split": {"columns": ["image"], "data": [[text]]}, "inputs": {"image": [text]},
    }.get(form, [{"image": text}])  # fmt: skip
    (answer,) = app.post("/invocations", json={form: body}).json()["predictions"]
    assert answer["findings"] == NOT_BASE64


@pytest.mark.parametrize(
    ("body", "kind"),
    [("img\nx\ny\n", "text/csv"), (json.dumps({"instances": []}), "application/json"),
     (json.dumps({"inputs": {}}), "application/json")],
)  # fmt: skip
def test_no_row_vanishes_from_a_request(app: Any, body: str, kind: str) -> None:
    answer = app.post("/invocations", content=body, headers={"content-type": kind})
    assert answer.status_code == (200 if "instances" in body else 400)
    assert "predictions" not in answer.json() or answer.json()["predictions"] == []


def test_http_withholds_decisions_about_foreign_scans_unless_told_otherwise(tiny: Tiny, app: Any) -> None:
    rows = [[encoded(content)] for content in foreign_files(tiny)]
    body = {"dataframe_split": {"columns": ["image"], "data": rows}}
    by_default = app.post("/invocations", json=body).json()["predictions"]
    assert [row["decision"] for row in by_default] == [None, None]
    assert all(row["findings"].startswith("decision-withheld: ") for row in by_default)
    warned = app.post("/invocations", json={**body, "params": {"on_mismatch": "warn"}}).json()["predictions"]
    assert None not in [row["decision"] for row in warned]
    np.testing.assert_array_equal(probabilities(warned), probabilities(by_default))


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["image"], "data": [[encoded(CANARY.encode())]]}},
        {"dataframe_split": {"columns": ["image"], "data": [[CANARY]]}},
        {"dataframe_split": {"columns": ["image"], "data": [[17]]}},
        {"dataframe_split": {"columns": ["image", "path"], "data": [[None, CANARY]]}},
        {"dataframe_split": {"columns": ["path"], "data": [[f"/data/{CANARY}"]]}},
        {"dataframe_split": {"columns": ["path"], "data": [[{"name": CANARY}]]}},
        {"dataframe_split": {"columns": ["patient"], "data": [[CANARY]]}},
        {"dataframe_records": [{"path": f"../{CANARY}"}]},
        {"inputs": {"image": [CANARY]}},
        [CANARY],
        {"something": CANARY},
    ],
    ids=str,
)
def test_no_answer_repeats_what_was_sent_or_shows_the_inside(app: Any, body: Any) -> None:
    answer = app.post("/invocations", json=body)
    assert answer.status_code in (200, 400)
    for secret in (CANARY, "Traceback", "stack_trace", "site-packages", str(Path(__file__).parents[2])):
        assert secret not in answer.text
    if answer.status_code == 200:
        assert all(row["prob_benign"] is None for row in answer.json()["predictions"])


def test_a_registered_model_is_served_by_mlflow_itself(
    tiny: Tiny, sqlite_template: Path, expected: Any, tmp_path: Path
) -> None:
    copyfile(sqlite_template, tmp_path / "mlflow.db")
    uri, port = f"sqlite:///{tmp_path}/mlflow.db", free_port()
    client = open_client(uri)
    experiment = experiment_id_of(client, uri, "medres")
    made = register_bundle(client, tiny.bundle, name="nodules", experiment_id=experiment)
    environment = {
        **os.environ, "MLFLOW_TRACKING_URI": uri, "MEDRES_SERVE_ROOT": str(tiny.table.root), "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow calls uvicorn by its name
    }  # fmt: skip
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", made.uri, "--env-manager", "local",
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for_ping(port, server)
        bodies = [*request_bodies(tiny), {"dataframe_records": [{"path": str(scan.path)} for scan in tiny.table]}]
        for body in bodies:
            answer = _post(port, body)
            np.testing.assert_allclose(probabilities(answer["predictions"]), expected.probabilities, atol=1e-6)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for_ping(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError("the scoring server did not come up")


def _post(port: int, body: Any) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)
