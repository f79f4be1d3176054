"""The event log is the truth: every line whole, every number finite."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from medres.runs.events import EventLog, read_events


def test_events_come_back_in_order_with_their_fields(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for epoch in range(3):
        log.append("epoch", fold=0, epoch=epoch, metrics={"loss": 1.0 / (epoch + 1)})
    events = read_events(log.path)
    assert [event["epoch"] for event in events] == [0, 1, 2]
    assert all(event["format"] == 1 and event["kind"] == "epoch" for event in events)


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append("epoch", metrics={"loss": float("nan"), "lr": [float("inf"), 1.0]})
    assert read_events(log.path)[0]["metrics"] == {"loss": None, "lr": [None, 1.0]}


def test_an_unfinished_last_line_is_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append("run_started", name="a")
    with log.path.open("a") as file:
        file.write('{"format": 1, "kind": "ep')
    assert [event["kind"] for event in read_events(log.path)] == ["run_started"]


def test_listeners_hear_every_event_and_threads_do_not_mix_lines(tmp_path: Path) -> None:
    log, heard = EventLog(tmp_path / "events.jsonl"), []

    def listen(event: dict[str, Any]) -> None:
        heard.append(event["number"])

    log.subscribe(listen)
    threads = [
        threading.Thread(target=lambda start=start: [log.append("n", number=start + i) for i in range(20)])
        for start in (0, 100, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sorted(start + i for start in (0, 100, 200) for i in range(20))
    assert sorted(event["number"] for event in read_events(log.path)) == expected
    assert sorted(heard) == expected
