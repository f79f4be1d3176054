"""A server refuses what is too large, with a status and one sentence, and its requests share one pool of memory."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import nibabel
import numpy as np
import psutil
import pytest

from medres.data.readers.budget import MAX_SCAN_VARIABLE, MemoryPool
from medres.errors import ConfigError
from medres.planning.fingerprint import Fingerprint
from medres.tracking import served_limits
from medres.tracking.logged_model import save_model
from medres.tracking.mlflow_api import mlflow
from medres.tracking.served_limits import BUSY, MAX_REQUEST_VARIABLE, TOO_LARGE, ServedLimits
from tests.deployment.tiny import Tiny

MB = 2**20


@pytest.fixture(scope="module")
def fingerprint(tiny: Tiny) -> Fingerprint:
    return Fingerprint.read(tiny.bundle / "fingerprint.json")


@pytest.fixture(scope="module")
def model(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("limited") / "model"
    save_model(tiny.bundle, folder)
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture
def app(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    # models of other tests, in this process, may take larger requests: the largest limit counts
    original = getattr(scoring_server.invocations, "limited", (scoring_server.invocations,))[0]
    monkeypatch.setattr(scoring_server, "invocations", original)
    served_limits.limit_requests(served(model)._limits.max_request_bytes)
    return TestClient(scoring_server.init(model))


def served(model: Any) -> Any:
    return model.unwrap_python_model()


def body_of(*contents: bytes) -> dict[str, Any]:
    data = [[base64.b64encode(content).decode()] for content in contents]
    return {"dataframe_split": {"columns": ["image"], "data": data}}


def zeros_of(shape: tuple[int, int, int]) -> bytes:
    """Zeros at level 1: 229:1."""
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)).header
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352
    block = gzip.compress(bytes(2**20), 1)
    return gzip.compress(header.binaryblock + bytes(4), 1) + block * (2 * int(np.prod(shape)) // 2**20)


def one_scan(tiny: Tiny) -> bytes:
    return tiny.table.scans[0].path.read_bytes()


# ---------------------------------------------------------------- what follows from the plan


def test_limits_follow_from_the_scans_of_the_training(fingerprint: Fingerprint) -> None:
    small = ServedLimits(fingerprint)
    assert (small.max_scan_bytes, small.max_request_bytes) == (256 * MB, 64 * MB)
    grid = fingerprint.volumes
    assert grid is not None
    size = tuple(axis.model_copy(update={"maximum": top}) for axis, top in zip(grid.size, (700, 512, 512), strict=True))
    large = fingerprint.model_copy(update={"volumes": grid.model_copy(update={"size": size}), "dtypes": {"int16": 6}})
    limits = ServedLimits(large)
    assert limits.max_scan_bytes == 4 * 700 * 512 * 512 * 2
    assert limits.max_request_bytes > 700 * 512 * 512 * 2
    regions = ServedLimits(fingerprint.model_copy(update={"num_regions": 6}))
    assert regions.max_scan_bytes >= 512 * 512 * 2000 * 2  # the whole body comes, of which a lesion is cut out


def test_the_environment_counts_before_the_plan(fingerprint: Fingerprint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_SCAN_VARIABLE, "10")
    monkeypatch.setenv(MAX_REQUEST_VARIABLE, "20")
    limits = ServedLimits(fingerprint)
    assert (limits.max_scan_bytes, limits.max_request_bytes) == (10 * MB, 20 * MB)
    monkeypatch.setenv(MAX_REQUEST_VARIABLE, "a lot")
    with pytest.raises(ConfigError, match=MAX_REQUEST_VARIABLE):
        ServedLimits(fingerprint)


# ---------------------------------------------------------------- over HTTP


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "application/octet-stream"])
def test_a_body_of_80_mb_is_refused_with_413_and_one_sentence(app: Any, kind: str) -> None:
    body = b'{"dataframe_split": {"columns": ["image"], "data": [["' + b"A" * (80 * MB) + b'"]]}}'
    before = psutil.Process().memory_info().rss
    answer = app.post("/invocations", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 413
    said = answer.json()["message"]
    assert said.startswith("The request has 80 MB, the limit is 64 MB")
    assert MAX_REQUEST_VARIABLE in said
    assert "AAAA" not in answer.text
    # the body itself, as the server and the client of this test hold it
    assert psutil.Process().memory_info().rss - before < 300 * MB


def test_a_bomb_is_refused_in_its_row_and_the_others_are_answered(app: Any, tiny: Tiny) -> None:
    before = psutil.Process().memory_info().rss
    answer = app.post("/invocations", json=body_of(one_scan(tiny), zeros_of((800, 800, 800)), one_scan(tiny)))
    assert answer.status_code == 200
    first, bomb, last = answer.json()["predictions"]
    assert first["predicted"]
    assert first == last
    assert (bomb["predicted"], bomb["prob_benign"], bomb["findings"]) == (None, None, TOO_LARGE)
    assert psutil.Process().memory_info().rss - before < 60 * MB


def test_a_plain_scan_above_the_limit_is_refused_by_its_header(
    app: Any, model: Any, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served(model)._limits, "max_scan_bytes", 100)
    [row] = app.post("/invocations", json=body_of(one_scan(tiny))).json()["predictions"]
    assert (row["predicted"], row["findings"]) == (None, TOO_LARGE)


def test_requests_share_one_pool_and_wait_for_each_other(
    app: Any, model: Any, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, held, lock = [0], [0], threading.Lock()

    class Watched(MemoryPool):
        def take(self, num_bytes: int) -> bool:
            taken = super().take(num_bytes)
            with lock:
                held[0] += num_bytes * taken
                most[0] = max(most[0], held[0])
            return taken

        def give_back(self, num_bytes: int) -> None:
            with lock:
                held[0] -= num_bytes
            super().give_back(num_bytes)

    voxels = nibabel.load(tiny.table.scans[0].path)
    size = int(np.prod(voxels.shape)) * voxels.get_data_dtype().itemsize  # type: ignore[attr-defined]
    monkeypatch.setattr(served(model)._limits, "_pool", Watched(int(2.5 * size), wait_s=60))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: app.post("/invocations", json=body_of(one_scan(tiny))), range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({json.dumps(answer.json()) for answer in answers}) == 1
    assert size <= most[0] <= 2.5 * size
    assert held[0] == 0


def test_a_server_without_memory_says_try_again(
    app: Any, model: Any, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = MemoryPool(MB, wait_s=0.05)
    pool.take(MB)
    monkeypatch.setattr(served(model)._limits, "_pool", pool)
    answer = app.post("/invocations", json=body_of(one_scan(tiny)))
    assert (answer.status_code, answer.json()["message"]) == (503, BUSY)
    pool.give_back(MB)
    assert app.post("/invocations", json=body_of(one_scan(tiny))).status_code == 200


def test_two_models_of_one_process_take_what_the_larger_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.pyfunc import scoring_server

    monkeypatch.setattr(scoring_server, "invocations", lambda data, *rest: len(data))
    for limit in (10, 30, 20):
        served_limits.limit_requests(limit)
    assert scoring_server.invocations(b"x" * 30) == 30
    with pytest.raises(served_limits.RefusedRequestError):
        scoring_server.invocations(b"x" * 31)
