"""``tracking.json`` in the run folder: which MLflow runs belong to it, so that a replay continues them."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psutil

from medres.runs.documents import Document, digest_of
from medres.runs.folder import RunFolder
from medres.tracking.address import SQLITE, resolve_tracking_uri, sqlite_file
from medres.tracking.experiments import DEFAULT_EXPERIMENT, Experiment, choose_experiment
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
        experiment: Name of the experiment; empty where it was given by its id.
        experiment_id: Its id, where it was given by that.
        place: Digest of the folder that the run was tracked from: a copy of it lies elsewhere.
        run_key: Random mark of the run, a tag there: a run whose creation was not confirmed is found again by it.
        run_id: The parent run.
        folds: The child run of each fold.
        model_id: The logged model.
        process: Who feeds it, or fed it last.
    """

    format: Literal[1] = 1
    uri: str
    experiment: str
    experiment_id: str = ""
    place: str = ""
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


def tracking_uri_of(folder: RunFolder, *, output: Path | None = None, given: str | None = None) -> str:
    """Return where a run is tracked from now on: the same at every door.

    The option goes before ``MLFLOW_TRACKING_URI``, that before the folder of all runs where one is given, and that
    before the store that the run is in. A run that was copied or moved leaves a database behind, but no server.

    Args:
        folder: The run.
        output: Folder of all runs, where the user gave one; None = the run's parent.
        given: What the user gave.

    Raises:
        TrackingError: The address is none that medres can use.
        ConfigError: The run's record is damaged.
    """
    known = None if output else _home(load_record(folder), folder)
    return resolve_tracking_uri(output or folder.path.resolve().parent, given, known=known)


def experiment_of(record: TrackingRecord | None, *, uri: str, given: str | None = None) -> Experiment:
    """Return the experiment of a run: what was given, the one that it is in, or that of a new run.

    Args:
        record: What is known of the run.
        uri: Where it is tracked from now on.
        given: Name that the user gave.
    """
    if record and not given and record.uri == without_password(uri):
        return Experiment(record.experiment, record.experiment_id)
    return choose_experiment(given, default=(record.experiment if record else "") or DEFAULT_EXPERIMENT)


def other_store_note(folder: RunFolder, uri: str) -> str:
    """Return a sentence where a run was tracked in another store than the one that is used now; else nothing."""
    record, now = load_record(folder), without_password(uri)
    if record is None or record.uri == now:
        return ""
    return (
        f"{folder.name} was tracked at {record.uri}; now it goes to {now} (--tracking-uri {record.uri} for the other)"
    )


def continued_record(folder: RunFolder, *, uri: str, experiment: str | Experiment) -> TrackingRecord:
    """Return the record to go on with: the one that is there if it is about the same store, else a new one."""
    name, experiment_id = Experiment(name=experiment) if isinstance(experiment, str) else experiment
    about = {
        "uri": without_password(uri), "experiment": name, "experiment_id": experiment_id, "place": _place(folder)
    }  # fmt: skip
    found = load_record(folder)
    if found is None:
        return TrackingRecord.from_mapping({**about, "run_key": secrets.token_hex(16)}, source="tracking.json")
    same = (found.uri, found.experiment, found.experiment_id) == (about["uri"], name, experiment_id)
    return (found if same else found.without_ids()).model_copy(update=about)


def save_record(folder: RunFolder, record: TrackingRecord) -> None:
    """Write ``tracking.json``."""
    record.write_json(folder.path / "tracking.json")


def _home(record: TrackingRecord | None, folder: RunFolder) -> str | None:
    """Return the store that a run is in, None where it has none or was taken away from its database."""
    if record is None or not record.uri.startswith(SQLITE):
        return record.uri if record else None
    stays = record.place in ("", _place(folder)) and sqlite_file(record.uri).is_file()
    return record.uri if stays else None


def _place(folder: RunFolder) -> str:
    return digest_of(str(folder.path.resolve()))[:16]
