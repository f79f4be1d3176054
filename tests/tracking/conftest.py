from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.tiny import tiny
from tests.tracking.faults import Wire, free_port
from tests.tracking.server import mlflow_server

__all__ = ["tiny"]


@pytest.fixture(autouse=True, scope="session")
def _no_tracking_variables() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            monkeypatch.delenv(name)
        yield


@pytest.fixture(scope="session")
def mlflow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real MLflow server on loopback, with artefacts proxied through it."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    with mlflow_server(folder, port):
        yield port


@pytest.fixture
def wire(mlflow_port: int) -> Iterator[Wire]:
    """The way to that server, which can be cut."""
    wire = Wire(mlflow_port)
    yield wire
    wire.cut("dead")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh database, made once: the migrations take 5 seconds."""
    from medres.tracking.store import open_client

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    open_client(f"sqlite:///{path}")
    return path
