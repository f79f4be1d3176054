"""A run whose process was killed is not shown as running for ever: the next run of the output folder ends it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from medres.runs.events import read_events
from medres.runs.folder import RunFolder
from medres.tracking.record import TrackedProcess, continued_record, load_record, save_record
from medres.tracking.settings import mlflow_settings
from medres.tracking.stale import end_stale_runs
from medres.tracking.store import open_client
from medres.tracking.writer import RunWriter
from tests.tracking.runs import make_run_folder, training_events

DEAD = TrackedProcess(host=socket.gethostname(), pid=2**22 + 1, started=1.0)


def _open_run(output: Path, name: str, uri: str, process: TrackedProcess) -> RunFolder:
    """A run that began a fold and was never heard of again."""
    folder = make_run_folder(output, name)
    record = continued_record(folder, uri=uri, experiment="medres").model_copy(update={"process": process})
    save_record(folder, record)
    log = folder.event_log()
    begun = [log.append(kind, **fields) for kind, fields in list(training_events())[:5]]
    writer = RunWriter(folder, uri=uri, record=record)
    with mlflow_settings():
        for event in begun:
            writer.write([event])
    return folder


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


def _status(folder: RunFolder, uri: str) -> list[str]:
    record = load_record(folder)
    assert record is not None
    client = open_client(uri)
    return [client.get_run(run).info.status for run in (str(record.run_id), *record.folds.values())]


def test_a_run_whose_process_is_gone_is_ended_once(tmp_path: Path, uri: str) -> None:
    dead = _open_run(tmp_path / "runs", "dead", uri, DEAD)
    alive = _open_run(tmp_path / "runs", "alive", uri, TrackedProcess.current())
    elsewhere = _open_run(tmp_path / "runs", "far", uri, DEAD.model_copy(update={"host": "another-machine"}))
    new = RunFolder(tmp_path / "runs" / "new")
    with mlflow_settings():
        assert end_stale_runs(tmp_path / "runs", uri=uri, but=new) == ["dead"]
        assert end_stale_runs(tmp_path / "runs", uri=uri, but=new) == []
    assert _status(dead, uri) == ["KILLED", "KILLED"]
    assert _status(alive, uri) == ["RUNNING", "RUNNING"]
    assert _status(elsewhere, uri) == ["RUNNING", "RUNNING"]
    assert read_events(dead.events)[-1]["status"] == "interrupted"


def test_runs_of_another_store_are_left_alone(tmp_path: Path, uri: str) -> None:
    dead = _open_run(tmp_path / "runs", "dead", uri, DEAD)
    other = f"sqlite:///{tmp_path}/other.db"
    with mlflow_settings():
        assert end_stale_runs(tmp_path / "runs", uri=other, but=RunFolder(tmp_path / "runs" / "new")) == []
    assert _status(dead, uri) == ["RUNNING", "RUNNING"]
