"""`MlflowMirror`: feeds MLflow from the event log in a thread of its own, so that training never waits for it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from medres.errors import MedresError
from medres.runs.events import Event
from medres.runs.folder import RunFolder
from medres.tracking.experiments import Experiment
from medres.tracking.failures import may_pass
from medres.tracking.reach import without_password
from medres.tracking.record import TrackedProcess, continued_record, save_record
from medres.tracking.settings import mlflow_settings
from medres.tracking.stale import end_stale_runs
from medres.tracking.store import first_line
from medres.tracking.writer import RunWriter, next_batch

#: Events kept for a server that is away: at 5 folds of 200 epochs, ten runs' worth, and below 10 MB.
MAX_QUEUED = 10_000
#: Failures in a row after which the server is left alone for `RETRY_SECONDS`.
MAX_FAILURES = 3
RETRY_SECONDS = 60.0
#: What the end of a run may cost when the server is away; the promise is 10 s, and the process has to end, too.
SHUTDOWN_SECONDS = 9.0
#: A model that is on its way to a server that answers is not cut off.
UPLOAD_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class MirrorSummary:
    """What arrived in MLflow and what did not.

    Args:
        uri: Address of the store, without user name and password.
        run_id: The parent run, or None where not even that could be made.
        model_id: The logged model, or None.
        sent: Number of events that arrived.
        missing: Number of events that did not; ``medres track sync RUN`` sends them again.
        reason: Why some are missing.
        refused: Events that would be refused again: kind and reason.
    """

    uri: str
    run_id: str | None
    model_id: str | None
    sent: int
    missing: int
    reason: str = ""
    refused: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything arrived."""
        return self.missing == 0 and not self.refused


class MlflowMirror:
    """Listen to an event log and repeat it in MLflow.

    ::

        mirror = MlflowMirror(uri, experiment="medres", run_name=folder.name, output=folder.path.parent)
        log.subscribe(mirror.listen)
        try:
            ...
        finally:
            summary = mirror.close()

    No call waits for the network, and no failure of MLflow is raised. While a server is away its events are kept;
    after three failures it is asked again every minute only.

    Args:
        uri: Resolved address of the store (`medres.tracking.store.resolve_tracking_uri`).
        experiment: The experiment, or its name.
        run_name: Name of the run.
        output: Folder of all runs; the run folder is ``output / run_name``.
        retry_seconds: Time between attempts once the server counts as away.

    Raises:
        OutputError: The run folder cannot be written.
    """

    def __init__(
        self,
        uri: str,
        *,
        experiment: str | Experiment,
        run_name: str,
        output: Path,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        folder = RunFolder(output / run_name)
        record = continued_record(folder, uri=uri, experiment=experiment)
        record = record.model_copy(update={"process": TrackedProcess.current()})
        save_record(folder, record)
        self._uri, self._retry_seconds = without_password(uri), retry_seconds
        self._folder, self._uri_with_password = folder, uri
        self._writer = RunWriter(folder, uri=uri, record=record)
        self._queue: deque[Event] = deque()
        self._counts: Counter[str] = Counter()
        self._reason = ""
        self._refused: list[str] = []
        self._finished = self._closing = self._abandoned = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="medres-mlflow", daemon=True)
        self._thread.start()

    def listen(self, event: Event) -> None:
        """Take one event and return at once."""
        with self._changed:
            if self._closing:
                return
            self._finished = self._finished or event["kind"] == "run_finished"
            if len(self._queue) < MAX_QUEUED:
                self._queue.append(event)
            else:
                self._counts["dropped"] += 1
            self._changed.notify_all()

    def close(self, *, budget_seconds: float = SHUTDOWN_SECONDS) -> MirrorSummary:
        """Send what is left, as far as the server answers in time, and say what arrived.

        A run that ends without a ``run_finished`` event is marked as failed.
        """
        with self._changed:
            if not self._closing and not self._finished and (self._queue or self._counts["taken"]):
                self._queue.append({"kind": "run_finished", "time": time.time(), "status": "failed"})
            self._closing = True
            self._changed.notify_all()
        self._thread.join(budget_seconds)
        if self._writer.uploading_model:
            self._thread.join(UPLOAD_SECONDS)
        with self._changed:
            self._abandoned = True
            return self._summary()

    def _summary(self) -> MirrorSummary:
        dropped = self._counts["dropped"]
        missing = len(self._queue) + dropped
        reason = self._reason or "the server did not answer in time"
        if dropped:
            reason += f" ({dropped} events went beyond the {MAX_QUEUED} that are kept)"
        return MirrorSummary(
            uri=self._uri, run_id=self._writer.record.run_id, model_id=self._writer.record.model_id,
            sent=self._counts["sent"], missing=missing, reason=reason if missing else "",
            refused=tuple(self._refused),
        )  # fmt: skip

    def _work(self) -> None:
        with mlflow_settings():
            self._end_stale_runs()
            failures = 0
            while batch := self._wait_for_batch():
                if self._send(batch):
                    failures = 0
                    continue
                failures += 1
                if not self._pause(failures):
                    return

    def _end_stale_runs(self) -> None:
        try:
            end_stale_runs(self._folder.path.parent, uri=self._uri_with_password, but=self._folder)
        except Exception as error:  # they are found again at the next run; this one is told with its own events
            self._reason = _brief(error)

    def _wait_for_batch(self) -> list[Event]:
        """Return the next events, or none when all is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            return [] if self._abandoned or not self._queue else next_batch(self._queue)

    def _send(self, batch: list[Event]) -> bool:
        """Send events and take them off the queue; False when the attempt should be repeated."""
        try:
            self._writer.write(batch)
        except Exception as error:  # nothing that MLflow does may end the thread; it is told in the summary
            self._writer.forget()
            reason = _brief(error)
            if may_pass(error):
                self._reason = reason
                return False
            self._refused.append(f"{batch[0]['kind']}: {reason}")
        else:
            self._counts["sent"] += len(batch)
        with self._changed:
            self._counts["taken"] += len(batch)
            for _ in batch:
                self._queue.popleft()
        return True

    def _pause(self, failures: int) -> bool:
        """Wait before the next attempt; False when there is no time for one."""
        seconds = self._retry_seconds if failures >= MAX_FAILURES else min(1.0, self._retry_seconds)
        with self._changed:
            if self._closing:
                return False
            self._changed.wait_for(lambda: self._closing, timeout=seconds)
            return True


def _brief(error: Exception) -> str:
    if isinstance(error, MedresError):
        return error.problem.rstrip(".")
    return f"{type(error).__name__}: {first_line(error)[:300]}"
