"""Number 1: the tracking server is killed in the middle of training; the run and its history stay whole."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from medres.runs.events import read_events
from medres.runs.folder import RunFolder
from medres.tracking.record import load_record
from tests.faults.killing import ENVIRONMENT, finetune_command, run_to_end
from tests.figures import RecordProperty
from tests.integration.conftest import write_cohort
from tests.tracking.faults import free_port
from tests.tracking.server import kill_server, mlflow_server
from tests.tracking.test_mirror import histories

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

History = dict[tuple[str, str], list[tuple[int, float]]]


def _command(scans: Path, output: Path, name: str, uri: str) -> list[str]:
    command = finetune_command(scans, output, name)
    command.remove("--no-tracking")
    return [*command, "--tracking-uri", uri]


def _wait_for_epoch(run: RunFolder, process: subprocess.Popen[str], *, fold: int) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        events = read_events(run.events) if run.events.is_file() else []
        if any(event["kind"] == "epoch" and event["fold"] == fold for event in events):
            return
        time.sleep(0.02)
    raise AssertionError(f"fold {fold} was not trained: {process.communicate()}")


def _closing_seconds(run: RunFolder, ended: float) -> float:
    """Seconds from the end of the training, as the run's log has it, to the end of the process."""
    return ended - float(read_events(run.events)[-1]["time"])


def _metrics(run: RunFolder) -> list[dict[str, float]]:
    return [
        {key: value for key, value in event["metrics"].items() if "seconds" not in key}
        for event in read_events(run.events)
        if event["kind"] == "epoch"
    ]


def _history(run: RunFolder, uri: str) -> History:
    record = load_record(run)
    assert record is not None
    return histories(uri, str(record.run_id))


def _without_times(history: History) -> History:
    return {key: points for key, points in history.items() if "seconds" not in key[1]}


def test_a_server_killed_in_the_middle_of_training(tmp_path: Path, record_property: RecordProperty) -> None:
    scans, output, port = write_cohort(tmp_path / "scans"), tmp_path / "runs", free_port()
    uri, server_folder = f"http://127.0.0.1:{port}", tmp_path / "server"
    server_folder.mkdir()
    whole, run = RunFolder(output / "whole"), RunFolder(output / "hit")
    with mlflow_server(server_folder, port) as server:
        done = run_to_end(_command(scans, output, "whole", uri))
        ordinary = _closing_seconds(whole, time.time())
        assert done.returncode == 0, done.stderr
        expected = _history(whole, uri)
        process = subprocess.Popen(
            _command(scans, output, "hit", uri), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=ENVIRONMENT,
        )  # fmt: skip
        _wait_for_epoch(run, process, fold=1)
        kill_server(server)
        killed = time.time()
        said = process.communicate(timeout=280)[1]
        extra = _closing_seconds(run, time.time()) - ordinary
    assert process.returncode == 0, said
    assert f"medres track sync {run.path}" in said
    events = read_events(run.events)
    after = sum(event["kind"] == "epoch" and event["time"] > killed for event in events)
    assert after > 5  # or it was not the middle
    assert _metrics(run) == _metrics(whole)
    assert extra <= 10
    with mlflow_server(server_folder, port):
        for _ in range(2):  # the second time changes nothing
            synced = run_to_end([sys.executable, "-m", "medres", "track", "sync", str(run.path)])
            assert synced.returncode == 0, synced.stderr
            assert _without_times(_history(run, uri)) == _without_times(expected)
        points = sum(len(history) for history in _history(run, uri).values())
    assert points == sum(len(history) for history in expected.values())
    record_property("figure", f"exit 0; {len(_metrics(run))} of {len(_metrics(whole))} epochs in events.jsonl ({after} after the kill); {extra:.1f} s longer from the last step to the exit; after `track sync` {points} metric points, 0 missing, 0 duplicate")  # fmt: skip # noqa: E501
