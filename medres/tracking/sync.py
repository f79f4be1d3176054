"""Replay of a run folder into MLflow: what a dead server missed, or all of it into another store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from medres.errors import TrackingError
from medres.runs.events import Event, read_events
from medres.runs.folder import RunFolder
from medres.runs.progress import Progress, Silent
from medres.tracking.failures import may_pass
from medres.tracking.mirror import MirrorSummary
from medres.tracking.reach import without_password
from medres.tracking.record import continued_record, experiment_of, load_record, other_store_note, tracking_uri_of
from medres.tracking.settings import mlflow_settings, patient_requests
from medres.tracking.store import explained
from medres.tracking.writer import RunWriter, next_batch


def sync_run(
    run: Path,
    *,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    progress: Progress | None = None,
) -> MirrorSummary:
    """Send all events of a run again. Repeated, it changes nothing: a metric is sent once a step.

    A run that never said how it ended, and whose process is gone, is marked as killed.

    Args:
        run: The run folder.
        tracking_uri: Where to; None: see `medres.tracking.record.tracking_uri_of`.
        experiment: Name of the experiment; by default the one it was tracked in.
        progress: Shows events.

    Raises:
        TrackingError: There is no event log, the run is still going on, or the store does not answer.
    """
    folder = RunFolder(run.resolve())
    events = _events(folder)
    uri = tracking_uri_of(folder, given=tracking_uri)
    progress, note = progress or Silent(), other_store_note(folder, uri)
    if note:
        progress.note(note)
    belongs_to = experiment_of(load_record(folder), uri=uri, given=experiment)
    record = continued_record(folder, uri=uri, experiment=belongs_to)
    if record.process and record.process.runs_elsewhere():
        raise TrackingError(
            f"{run} is still running as process {record.process.pid}.", fix="Sync it when it has ended."
        )
    writer = RunWriter(folder, uri=uri, record=record)
    with mlflow_settings(), patient_requests(), explained(uri):
        return _replay(writer, _ended(events), uri=uri, progress=progress)


def _events(folder: RunFolder) -> list[Event]:
    if not folder.events.is_file():
        raise TrackingError(
            f"{folder.events} does not exist.", fix="Give the folder of a run, such as runs/ct-nodules."
        )
    events = read_events(folder.events)
    if not events:
        raise TrackingError(f"{folder.events} holds no event.", fix="There is nothing to send.")
    return events


def _ended(events: Sequence[Event]) -> list[Event]:
    kinds = [event["kind"] for event in events if event["kind"] in ("run_started", "run_finished")]
    if kinds and kinds[-1] == "run_finished":
        return list(events)
    return [*events, {"kind": "run_finished", "time": time.time(), "status": "interrupted"}]


def _replay(writer: RunWriter, events: list[Event], *, uri: str, progress: Progress) -> MirrorSummary:
    queue, refused, sent = deque(events), [], 0
    for _ in progress.track(range(len(events)), description="sync", total=len(events)):
        if not queue:
            continue
        batch = next_batch(queue)
        try:
            writer.write(batch)
            sent += len(batch)
        except Exception as error:
            if may_pass(error):
                raise
            refused.append(f"{batch[0]['kind']}: {error}")
            writer.forget()
        for _ in batch:
            queue.popleft()
    return MirrorSummary(
        uri=without_password(uri), run_id=writer.record.run_id, model_id=writer.record.model_id,
        sent=sent, missing=0, refused=tuple(refused),
    )  # fmt: skip
