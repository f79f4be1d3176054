"""Runs whose process died without a word (SIGKILL, a power cut): MLflow would show them as running for ever."""

from __future__ import annotations

import time
from pathlib import Path

from medres.errors import MedresError
from medres.runs.events import read_events
from medres.runs.folder import RunFolder
from medres.tracking.reach import without_password
from medres.tracking.record import TrackingRecord, load_record
from medres.tracking.writer import RunWriter


def end_stale_runs(output: Path, *, uri: str, but: RunFolder) -> list[str]:
    """Mark runs as killed that are open in this store and whose process on this machine is gone.

    Args:
        output: Folder of all runs.
        uri: The store; runs that are tracked elsewhere are left alone.
        but: The run that is beginning.

    Returns:
        Names of the runs that were marked.

    Raises:
        MlflowException, OSError: The store does not answer.
    """
    ended = []
    for path in sorted(output.glob("*/tracking.json")):
        folder = RunFolder(path.parent)
        record = None if folder.path == but.path else _stale_record(folder, uri)
        if record is None:
            continue
        event = {"format": 1, "kind": "run_finished", "time": time.time(), "status": "interrupted"}
        RunWriter(folder, uri=uri, record=record).write([event])
        folder.event_log().take_over(event)
        ended.append(folder.name)
    return ended


def _stale_record(folder: RunFolder, uri: str) -> TrackingRecord | None:
    """Return the record of a run that nobody feeds any more though it never said that it ended, else None."""
    try:
        record = load_record(folder)
    except MedresError:
        return None  # it is told when that run is used
    if record is None or record.run_id is None or record.uri != without_password(uri):
        return None
    if record.process is None or not record.process.is_gone() or not folder.events.is_file():
        return None
    kinds = [event["kind"] for event in read_events(folder.events)]
    ends = [kind for kind in kinds if kind in ("run_started", "run_finished")]
    return record if ends and ends[-1] == "run_started" else None
