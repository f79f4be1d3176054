"""Number 16: a prediction is the same at every door, and HTTP adds little time."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medres.deployment.predictor import Predictor
from medres.tracking.logged_model import save_model
from medres.tracking.mlflow_api import mlflow
from tests.deployment.tiny import Tiny
from tests.figures import RecordProperty

TRIES = 15


@pytest.fixture(scope="module")
def model(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("parity") / "model"
    save_model(tiny.bundle, folder)
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def app(model: Any) -> Any:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    return TestClient(scoring_server.init(model))


def _body(contents: list[bytes]) -> dict[str, Any]:
    data = [[base64.b64encode(content).decode()] for content in contents]
    return {"dataframe_split": {"columns": ["image"], "data": data}}


def _probabilities(rows: Any, classes: tuple[str, ...]) -> Any:
    return pd.DataFrame(rows)[[f"prob_{name}" for name in classes]].to_numpy(np.float64)


def _least_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(TRIES):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def test_predict_pyfunc_and_http_give_the_same_probabilities(
    tiny: Tiny, model: Any, app: Any, record_property: RecordProperty
) -> None:
    expected = Predictor(tiny.bundle).predict(tiny.table).probabilities
    contents = [Path(scan.path).read_bytes() for scan in tiny.table]
    classes = tiny.manifest.classes
    by_pyfunc = _probabilities(model.predict(pd.DataFrame({"image": contents})), classes)
    answer = app.post("/invocations", json=_body(contents))
    by_http = _probabilities(answer.json()["predictions"], classes)
    difference = max(float(np.abs(by_pyfunc - expected).max()), float(np.abs(by_http - expected).max()))
    record_property("figure", f"largest difference {difference:.1e} over {len(contents)} scans")
    assert difference <= 1e-6


def test_http_adds_at_most_50_ms(tiny: Tiny, model: Any, app: Any, record_property: RecordProperty) -> None:
    content = tiny.table.scans[0].path.read_bytes()
    table, body = pd.DataFrame({"image": [content]}), _body([content])
    forward = _least_seconds(lambda: model.predict(table))
    whole = _least_seconds(lambda: app.post("/invocations", json=body))
    record_property("figure", f"HTTP adds {1000 * (whole - forward):.1f} ms to {1000 * forward:.0f} ms (least of {TRIES} tries, {len(content) / 1000:.0f} kB as base64)")  # fmt: skip # noqa: E501
    assert whole - forward <= 0.05
