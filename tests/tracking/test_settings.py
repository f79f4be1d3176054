from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

import pytest

from medres.tracking.settings import mlflow_settings, patient_requests


def test_settings_are_given_back_even_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    level = logging.getLogger("urllib3").level
    before = dict(os.environ)
    inside: dict[str, str] = {}

    def fail() -> None:
        with mlflow_settings():
            inside.update(os.environ)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert inside["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "5"
    assert dict(os.environ) == before
    assert logging.getLogger("urllib3").level == level


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "90")
    with mlflow_settings(), patient_requests():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "90"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "90"


def test_uploads_may_take_longer() -> None:
    with mlflow_settings():
        with patient_requests():
            assert int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) > 5
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "5"


def test_blocks_that_overlap_between_threads_restore_once() -> None:
    before = dict(os.environ)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with mlflow_settings():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    with mlflow_settings():
        thread.start()
        inside.wait(10)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"  # the thread still needs it
    leave.set()
    thread.join()
    assert dict(os.environ) == before


def test_telemetry_is_off_and_the_environment_untouched_after_the_import() -> None:
    script = (
        "import os; before = dict(os.environ); import medres.tracking.mlflow_api;"
        "from mlflow.telemetry.client import get_telemetry_client;"
        "assert get_telemetry_client() is None; assert dict(os.environ) == before"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_CURRENT_TEST")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_importing_the_rooms_loads_nothing_heavy() -> None:
    script = (
        "import sys, medres.tracking, medres.deployment;"
        "heavy = {'mlflow', 'torch', 'pandas', 'monai', 'timm'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
