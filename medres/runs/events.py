"""The event log ``events.jsonl``: the truth about a run, one JSON object a line, append only.

Everything else (MLflow, the progress bars) is fed from it, so that a tracking server may die without a loss.
Events hold pseudonyms only: no path, no patient id, no name.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medres.runs.atomic import explained_os_errors
from medres.runs.plain_data import PlainDataError, parse_json

Event = dict[str, Any]
Listener = Callable[[Event], None]


class EventLog:
    """Append events to one file and hand each one to the listeners.

    Args:
        path: The ``events.jsonl`` to append to.

    Example:
        >>> import tempfile, pathlib
        >>> log = EventLog(pathlib.Path(tempfile.mkdtemp()) / "events.jsonl")
        >>> _ = log.append("epoch", fold=0, epoch=1, metrics={"loss": 0.5})
        >>> read_events(log.path)[0]["metrics"]["loss"]
        0.5
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listeners: list[Listener] = []
        self._begun = False
        self._lock = threading.Lock()

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` with every later event, in the writing thread; it must return at once."""
        self._listeners.append(listener)

    def append(self, kind: str, **fields: Any) -> Event:
        """Write one event through to the disk and return it.

        Args:
            kind: What happened: ``run_started``, ``epoch``, ``fold_finished``, ...
            fields: Plain values; NaN and infinity are written as null.

        Raises:
            OutputError: The disk is full or cannot be written.
        """
        return self.take_over({"format": 1, "time": time.time(), "kind": kind, **_without_nan(fields)})

    def take_over(self, event: Event) -> Event:
        """Write an event of another log, with its own time, and return it.

        Raises:
            OutputError: The disk is full or cannot be written.
        """
        line = json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock, explained_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self._separator() + line)
                file.flush()
                os.fsync(file.fileno())
        for listener in self._listeners:
            listener(event)
        return event

    def _separator(self) -> str:
        """Return a line break where a killed writer left a line unfinished, else nothing."""
        if self._begun:
            return ""
        self._begun = True
        with self.path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return ""
            file.seek(-1, os.SEEK_END)
            return "" if file.read(1) == b"\n" else "\n"


class SilentLog(EventLog):
    """An event log that keeps nothing: of a process beside the one that writes.

    Example:
        >>> log = SilentLog(Path("nowhere.jsonl"))
        >>> log.append("epoch")["kind"], log.path.exists()
        ('epoch', False)
    """

    def take_over(self, event: Event) -> Event:
        """Return the event."""
        return event


def read_events(path: Path) -> list[Event]:
    """Return all whole events; what is none (a line that a killed writer left unfinished) is left out."""
    events = []
    for line in path.read_bytes().splitlines():  # as text it would be cut at separators inside of a name, too
        try:
            event = parse_json(line)
        except PlainDataError:
            continue
        if isinstance(event, dict) and isinstance(event.get("kind"), str):
            events.append(event)
    return events


def settled(events: Sequence[Event]) -> list[Event]:
    """Return events without what a run that was continued did again: of equal epochs of a fold the last one stays.

    Example:
        >>> again = [{"kind": "epoch", "fold": 0, "epoch": 1, "run": run} for run in (1, 2)]
        >>> settled(again)
        [{'kind': 'epoch', 'fold': 0, 'epoch': 1, 'run': 2}]
    """
    last = {_place(event, number): number for number, event in enumerate(events)}
    return [events[number] for number in sorted(last.values())]


def _place(event: Event, number: int) -> tuple[Any, ...]:
    if event["kind"] in ("epoch", "fold_finished", "head_solved") and "fold" in event:
        return (event["kind"], event["fold"], event.get("epoch"), event.get("stage"))
    return (number,)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return value
