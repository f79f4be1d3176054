"""``tracking.json`` in the run folder: which MLflow runs belong to it, so that a replay continues them."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Literal

import psutil

from medres.runs.documents import Document
from medres.runs.folder import RunFolder
from medres.tracking.reach import without_password


class TrackedProcess(Document):
    """The process that a run is tracked from; its start time tells it from a later one with the same number.

    Args:
        host: Name of the machine.
        pid: Process number.
        started: Seconds since 1970.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> TrackedProcess:
        """Return this process."""
        return cls(host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time())

    def runs_elsewhere(self) -> bool:
        """Return whether it is alive on this machine and is not this process."""
        return self.host == socket.gethostname() and self.pid != os.getpid() and self._is_alive()

    def is_gone(self) -> bool:
        """Return whether it was on this machine and is not there any more; of other machines nothing is known."""
        return self.host == socket.gethostname() and not self._is_alive()

    def _is_alive(self) -> bool:
        try:
            # the start time is read from the clock ticks of the kernel, exact to a hundredth of a second
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1.0
        except psutil.Error:
            return False


class TrackingRecord(Document):
    """What is known about a run's place in MLflow.

    Args:
        format: Version of this document.
        uri: Address of the store, without user name and password.
        experiment: Name of the experiment.
        run_key: Random mark of the run, a tag there: a run whose creation was not confirmed is found again by it.
        run_id: The parent run.
        folds: The child run of each fold.
        model_id: The logged model.
        process: Who feeds it, or fed it last.
    """

    format: Literal[1] = 1
    uri: str
    experiment: str
    run_key: str
    run_id: str | None = None
    folds: Mapping[str, str] = {}
    model_id: str | None = None
    process: TrackedProcess | None = None

    def without_ids(self) -> TrackingRecord:
        """Return the record of a run that is not in the store (any more)."""
        return self.model_copy(update={"run_id": None, "folds": {}, "model_id": None})

    def with_fold(self, fold: str, run_id: str) -> TrackingRecord:
        """Return the record with one more child run."""
        return self.model_copy(update={"folds": {**self.folds, fold: run_id}})


def load_record(folder: RunFolder) -> TrackingRecord | None:
    """Return the record of a run, or None where it was never tracked.

    Raises:
        ConfigError: The file is damaged.
    """
    path = folder.path / "tracking.json"
    return TrackingRecord.read(path) if path.exists() else None


def continued_record(folder: RunFolder, *, uri: str, experiment: str) -> TrackingRecord:
    """Return the record to go on with: the one that is there if it is about the same store, else a new one."""
    public = without_password(uri)
    found = load_record(folder)
    if found is None:
        return TrackingRecord(uri=public, experiment=experiment, run_key=secrets.token_hex(16))
    if (found.uri, found.experiment) == (public, experiment):
        return found
    return found.without_ids().model_copy(update={"uri": public, "experiment": experiment})


def save_record(folder: RunFolder, record: TrackingRecord) -> None:
    """Write ``tracking.json``."""
    record.write_json(folder.path / "tracking.json")
