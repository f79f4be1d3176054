from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from medres.runs.events import Event, Listener, read_events
from medres.runs.folder import RunFolder
from medres.tracking import mirror as mirror_module
from medres.tracking.mirror import MirrorSummary, MlflowMirror
from medres.tracking.store import open_client
from medres.tracking.sync import sync_run
from tests.tracking.faults import Mode, Wire
from tests.tracking.runs import CANARY, LOCAL, PUBLIC, make_run_folder, play, training_events

#: No call of the training loop may wait longer than this for its mirror (seconds; a lock is held for microseconds,
#: the rest is for a machine that is busy with other tests).
LONGEST_CALL = 0.5


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make_run_folder(tmp_path / "runs")


@pytest.fixture
def sqlite_uri(folder: RunFolder, sqlite_template: Path) -> str:
    path = folder.path.parent / "mlflow.db"
    copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


def start(folder: RunFolder, uri: str, **options: Any) -> MlflowMirror:
    return MlflowMirror(uri, experiment="medres", run_name=folder.name, output=folder.path.parent, **options)


def quick(listener: Listener) -> Listener:
    def timed(event: Event) -> None:
        started = time.perf_counter()
        listener(event)
        assert time.perf_counter() - started < LONGEST_CALL

    return timed


def record_run(
    folder: RunFolder,
    uri: str,
    *,
    events: Any = None,
    during: Callable[[str], None] = lambda kind: None,
    **options: Any,
) -> tuple[MirrorSummary, float]:
    """Play a run with its mirror and return the summary and what the closing took."""
    log, mirror = folder.event_log(), start(folder, uri, **options)
    log.subscribe(quick(mirror.listen))
    for kind, fields in events or training_events():
        log.append(kind, **fields)
        during(kind)
    started = time.monotonic()
    return mirror.close(), time.monotonic() - started


def histories(uri: str, run_id: str) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """All metric points of a run and its folds, by (fold, metric)."""
    client = open_client(uri)
    parent = client.get_run(run_id)
    found = client.search_runs([parent.info.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{run_id}'")
    return {
        (run.data.tags.get("medres.fold", "parent"), key): [
            (metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)
        ]
        for run in (parent, *found)
        for key in run.data.metrics
    }


def expected_histories(folds: int = 2, epochs: int = 3) -> dict[tuple[str, str], list[tuple[int, float]]]:
    points: dict[tuple[str, str], list[tuple[int, float]]] = {
        ("parent", "pooled/auroc"): [(0, 0.81)],
        ("parent", "pooled/auroc _95__"): [(0, 0.7)],
    }
    for fold in map(str, range(folds)):
        points[fold, "loss"] = [(epoch, int(fold) + 1 / epoch) for epoch in range(1, epochs + 1)]
        points[fold, "lr"] = [(epoch, 1e-3) for epoch in range(1, epochs + 1)]
        points[fold, "scores/auroc"] = [(0, 0.8 + int(fold) / 100)]
        points[fold, "fold_seconds"] = [(0, 1.5)]
    return points


def test_a_whole_run_arrives_in_a_local_store(folder: RunFolder, sqlite_uri: str) -> None:
    summary, _ = record_run(folder, sqlite_uri)
    assert summary.complete
    assert summary.run_id is not None
    assert histories(sqlite_uri, summary.run_id) == expected_histories()
    run = open_client(sqlite_uri).get_run(summary.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "ct-nodules"
    assert run.data.params["arch"] == "resnet18"
    assert run.data.params["data.classes/malignant"] == "15"
    assert len(run.data.params["long"]) == 6000
    assert run.data.tags["version.torch"] == "2.15.0"
    assert run.data.tags["medres.plan_digest"] == "cd" * 32
    assert run.inputs.dataset_inputs[0].dataset.digest == "ab" * 16
    assert {artifact.path for artifact in open_client(sqlite_uri).list_artifacts(summary.run_id)} == set(PUBLIC)


def test_each_fold_is_a_child_run_with_its_own_end(folder: RunFolder, sqlite_uri: str) -> None:
    summary, _ = record_run(folder, sqlite_uri)
    client = open_client(sqlite_uri)
    children = client.search_runs(["1"], filter_string=f"tags.`mlflow.parentRunId` = '{summary.run_id}'")
    assert {child.data.tags["medres.fold"] for child in children} == {"0", "1"}
    assert {child.info.status for child in children} == {"FINISHED"}
    assert {child.data.params["head/frozen_parameters"] for child in children} == {"11000000"}


def test_nothing_local_leaves(folder: RunFolder, sqlite_uri: str) -> None:
    record_run(folder, sqlite_uri)
    with sqlite3.connect(sqlite_uri.removeprefix("sqlite:///")) as connection:
        dump = "\n".join(connection.iterdump())
    assert "resnet18" in dump
    assert CANARY not in dump
    sent = [path for path in (folder.path.parent / "mlartifacts").rglob("*") if path.is_file()]
    assert {path.name for path in sent} == set(PUBLIC)
    assert not set(LOCAL) & {path.name for path in sent}
    assert not any(CANARY.encode() in path.read_bytes() for path in sent)
    assert CANARY not in (folder.path / "tracking.json").read_text()


@pytest.mark.parametrize(
    ("said", "status"), [("finished", "FINISHED"), ("failed", "FAILED"), ("interrupted", "KILLED"), (None, "FAILED")]
)
def test_the_end_of_a_run_is_told_also_after_an_exception(
    folder: RunFolder, sqlite_uri: str, said: str | None, status: str
) -> None:
    events = list(training_events(status=str(said)))
    cut = events[: next(n for n, event in enumerate(events) if event[0] == "fold_finished")]
    summary, _ = record_run(folder, sqlite_uri, events=[*cut, *([events[-1]] if said else [])])
    client = open_client(sqlite_uri)
    runs = client.search_runs(["1"])
    assert client.get_run(summary.run_id).info.status == status
    assert [run.info.status for run in runs] == [status] * 2  # the fold that was under way, too


def test_a_resumed_run_goes_on_where_it_was(folder: RunFolder, sqlite_uri: str) -> None:
    events = list(training_events())
    half = next(n for n, event in enumerate(events) if event[0] == "fold_finished") - 1
    first, _ = record_run(folder, sqlite_uri, events=[*events[:half], ("run_finished", {"status": "interrupted"})])
    again = [("run_started", {"name": "x", "parameters": {"arch": "resnet18", "device": "cuda", "seed": 1}})]
    second, _ = record_run(folder, sqlite_uri, events=[*again, *events[3:]])  # the fold is trained again from its start
    assert second.run_id == first.run_id
    assert second.complete
    assert histories(sqlite_uri, str(second.run_id)) == expected_histories()
    run = open_client(sqlite_uri).get_run(second.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["seed"], run.data.params["device"]) == ("0", "cuda")  # what was said first stays


def test_without_events_nothing_is_made(folder: RunFolder, sqlite_uri: str) -> None:
    summary = start(folder, sqlite_uri).close()
    assert (summary.sent, summary.missing, summary.run_id) == (0, 0, None)
    assert not open_client(sqlite_uri).search_runs(["0", "1"])


def test_events_after_the_end_of_a_run_are_not_sent(folder: RunFolder, sqlite_uri: str) -> None:
    mirror = start(folder, sqlite_uri)
    mirror.close()
    mirror.listen({"kind": "epoch", "time": 0.0})
    assert mirror.close().missing == 0


def test_an_event_that_is_refused_does_not_hold_up_the_others(folder: RunFolder, sqlite_uri: str) -> None:
    (folder.path / "report.html").unlink()
    summary, _ = record_run(folder, sqlite_uri)
    assert not summary.complete
    assert [refusal.split(":")[0] for refusal in summary.refused] == ["artifact"]
    assert histories(sqlite_uri, str(summary.run_id)) == expected_histories()


def test_memory_is_bounded(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, wire: Wire) -> None:
    monkeypatch.setattr(mirror_module, "MAX_QUEUED", 5)
    wire.cut("dead")
    summary, _ = record_run(folder, wire.uri)
    assert summary.missing == len(read_events(folder.events))
    assert "beyond the 5 that are kept" in summary.reason


def test_a_whole_run_arrives_on_a_server(folder: RunFolder, wire: Wire) -> None:
    summary, _ = record_run(folder, wire.uri)
    assert summary.complete
    assert histories(wire.uri, str(summary.run_id)) == expected_histories()
    assert {artifact.path for artifact in open_client(wire.uri).list_artifacts(summary.run_id)} == set(PUBLIC)


@pytest.mark.parametrize("mode", ["dead", "hanging"])
def test_training_goes_on_when_the_server_goes_away_and_a_replay_makes_up_for_it(
    folder: RunFolder, wire: Wire, mode: Mode
) -> None:
    mirror = start(folder, wire.uri)
    log = folder.event_log()
    log.subscribe(quick(mirror.listen))
    events = list(training_events())
    play(log, events[:6])
    while not mirror._counts["sent"]:
        time.sleep(0.05)
    wire.cut(mode)
    play(log, events[6:])
    started = time.monotonic()
    summary = mirror.close()
    assert time.monotonic() - started <= 10
    assert summary.missing > 0
    assert len(read_events(folder.events)) == len(events)  # the truth is whole

    wire.mend()
    replayed = sync_run(folder.path)
    assert replayed.complete
    assert replayed.run_id == summary.run_id
    assert histories(wire.uri, str(summary.run_id)) == expected_histories()
    sync_run(folder.path)
    assert histories(wire.uri, str(summary.run_id)) == expected_histories()  # 0 duplicates
    assert len(open_client(wire.uri).get_run(summary.run_id).inputs.dataset_inputs) == 1


@pytest.mark.parametrize("mode", ["dead", "hanging"])
def test_a_server_that_is_away_from_the_start_costs_at_most_ten_seconds(
    folder: RunFolder, wire: Wire, mode: Mode
) -> None:
    wire.cut(mode)
    started = time.monotonic()
    summary, _ = record_run(folder, wire.uri)
    assert time.monotonic() - started <= 10 + LONGEST_CALL
    assert summary.run_id is None
    assert summary.missing == len(list(training_events()))
    assert "does not work" in summary.reason or "in time" in summary.reason


@pytest.mark.parametrize("mode", ["dead", "lost answers"])
def test_a_server_that_comes_back_is_given_what_it_missed_without_duplicates(
    folder: RunFolder, wire: Wire, mode: Mode
) -> None:
    def fault(kind: str) -> None:
        if kind == "fold_started":
            time.sleep(0.3)
            wire.cut(mode)
        elif kind == "fold_finished":
            time.sleep(1.0)  # some calls fail meanwhile; of lost answers, the request itself was carried out
            wire.mend()

    summary, _ = record_run(folder, wire.uri, during=fault, retry_seconds=0.2)
    assert summary.complete
    assert histories(wire.uri, str(summary.run_id)) == expected_histories()
    experiment = open_client(wire.uri).get_run(summary.run_id).info.experiment_id
    key = open_client(wire.uri).get_run(summary.run_id).data.tags["medres.run_key"]
    assert len(open_client(wire.uri).search_runs([experiment], filter_string=f"tags.`medres.run_key` = '{key}'")) == 3


def test_the_breaker_leaves_a_dead_server_alone(folder: RunFolder, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.cut("dead")
    mirror = start(folder, wire.uri, retry_seconds=60)
    attempts = []
    write = mirror._writer.write
    monkeypatch.setattr(mirror._writer, "write", lambda batch: (attempts.append(time.monotonic()), write(batch)))
    log = folder.event_log()
    log.subscribe(mirror.listen)
    play(log, training_events())
    time.sleep(4)
    assert len(attempts) == mirror_module.MAX_FAILURES
    mirror.close()
    assert len(attempts) == mirror_module.MAX_FAILURES + 1  # one last attempt


def test_no_thread_and_no_setting_is_left_behind(folder: RunFolder, sqlite_uri: str) -> None:
    import os

    before = dict(os.environ)
    record_run(folder, sqlite_uri)
    assert dict(os.environ) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "medres-mlflow"]
