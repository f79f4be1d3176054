"""Number 14: SIGTERM, as a scheduler sends it, to a run that is tracked."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from medres.finetuning.checkpoints import Checkpoint
from medres.runs.folder import RunFolder
from medres.tracking.record import load_record
from medres.tracking.store import open_client
from tests.faults.killing import ENVIRONMENT, finetune_command, outcome_of, resume_command, run_to_end
from tests.figures import RecordProperty
from tests.integration.conftest import write_cohort

NOTICE_SECONDS = 30


def _statuses(run: RunFolder, uri: str) -> list[str]:
    record = load_record(run)
    assert record is not None
    return [open_client(uri).get_run(known).info.status for known in (str(record.run_id), *record.folds.values())]


def _terminate_when(command: list[str], there: Path) -> tuple[int, float]:
    """Send SIGTERM as soon as a file is there; return the exit code and the seconds until the process ended."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    while not there.exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    return process.wait(timeout=120), time.monotonic() - sent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tracked_run_that_is_told_to_end(tmp_path: Path, record_property: RecordProperty) -> None:
    scans, run = write_cohort(tmp_path / "scans"), RunFolder(tmp_path / "runs" / "run")
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    whole = run_to_end(finetune_command(scans, tmp_path / "whole", "run"))
    assert whole.returncode == 0, whole.stderr
    command = [word for word in finetune_command(scans, tmp_path / "runs", "run") if word != "--no-tracking"]
    code, seconds = _terminate_when(command, run.fold(1) / "last.ckpt")
    assert code == 128 + signal.SIGTERM
    assert seconds <= NOTICE_SECONDS
    assert Checkpoint.read(run.fold(1) / "last.ckpt").tensors
    stopped = _statuses(run, uri)
    assert stopped[0] == "KILLED"
    assert "RUNNING" not in stopped
    resumed = run_to_end(resume_command(run.path))
    assert resumed.returncode == 0, resumed.stderr
    assert set(_statuses(run, uri)) == {"FINISHED"}
    assert outcome_of(run.path) == outcome_of(tmp_path / "whole" / "run")
    record_property("figure", f"SIGTERM: checkpoint kept and process gone after {seconds:.1f} s, MLflow says {stopped[0]}; resumed: weights and scores bitwise equal, MLflow says FINISHED")  # fmt: skip # noqa: E501
