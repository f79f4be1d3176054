from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from shutil import copyfile

import pytest

from medres.errors import MedresError, TrackingError
from medres.tracking.store import (
    experiment_id_of,
    open_client,
    resolve_tracking_uri,
)
from tests.tracking.faults import free_port


def test_the_option_goes_before_the_environment_before_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment:5000")
    assert resolve_tracking_uri(tmp_path) == "http://from-environment:5000"
    assert resolve_tracking_uri(tmp_path, "https://given") == "https://given"


def test_a_relative_database_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri(Path("runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert resolve_tracking_uri(Path("runs"), "sqlite:///here.db") == f"sqlite:///{tmp_path}/here.db"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mlruns", "is a folder"),
        ("file:///data/mlruns", "is a folder"),
        ("./mlruns", "is a folder"),
        ("ftp://server/x", "unknown scheme"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_unusable_addresses_are_refused_with_a_way_out(tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises(TrackingError, match=said) as refused:
        resolve_tracking_uri(tmp_path, uri)
    assert "--tracking-uri sqlite:////" in refused.value.fix


@pytest.mark.parametrize("name", ["50% study", "what?"])
def test_folders_that_mlflow_misreads_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / (name + "%20" if "%" in name else name)
    with pytest.raises(TrackingError, match="misreads"):
        resolve_tracking_uri(folder)


def test_a_database_is_made_once_and_nothing_else_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "mlruns" / "0").mkdir(parents=True)
    (elsewhere / "mlruns" / "0" / "meta.yaml").write_text("artifact_location: x\n")  # an old file store: MLflow's trap
    monkeypatch.chdir(elsewhere)
    before, uri = dict(os.environ), resolve_tracking_uri(tmp_path / "mein Folder #1")
    client = open_client(uri)
    experiment = experiment_id_of(client, uri, "medres")
    assert experiment_id_of(client, uri, "medres") == experiment
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "text", "note.txt")
    assert dict(os.environ) == before
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["0", "meta.yaml", "mlruns"]
    kept = {path.name for path in (tmp_path / "mein Folder #1").iterdir()}
    assert kept == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}


def test_fresh_processes_that_start_together_do_not_brick_a_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    script = (
        "import sys; from medres.tracking.store import *; uri = sys.argv[1]; client = open_client(uri);"
        "run = client.create_run(experiment_id_of(client, uri, 'medres')); client.log_metric(run.info.run_id, 'a', 1)"
    )
    racers = [subprocess.Popen([sys.executable, "-c", script, uri], stderr=subprocess.PIPE) for _ in range(5)]
    outcomes = [(racer.communicate()[1].decode()[-500:], racer.returncode) for racer in racers]
    assert [code for _, code in outcomes] == [0] * 5, outcomes
    client = open_client(uri)
    assert len(client.search_experiments()) == 2  # MLflow's own Default and ours
    assert len(client.search_runs([experiment_id_of(client, uri, "medres")])) == 5
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_dead_server_is_told_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(TrackingError, match="Connection refused") as refused:
        open_client(f"http://me:secret@127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 5
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database, it is a text\n" * 10)
    started = time.monotonic()
    with pytest.raises(TrackingError, match="not a database"):
        open_client(f"sqlite:///{tmp_path}/mlflow.db")
    assert time.monotonic() - started < 5


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MedresError, match="file"):
        open_client(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_deleted_experiment_is_told(sqlite_template: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{copyfile(sqlite_template, tmp_path / 'mlflow.db')}"
    client = open_client(uri)
    client.delete_experiment(experiment_id_of(client, uri, "deleted"))
    with pytest.raises(TrackingError, match="'deleted' was deleted"):
        experiment_id_of(client, uri, "deleted")
