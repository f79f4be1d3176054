from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import pytest

from medres.errors import TrackingError
from medres.runs.folder import RunFolder
from medres.tracking.record import TrackedProcess, load_record, save_record
from medres.tracking.store import open_client
from medres.tracking.sync import sync_run
from tests.tracking.runs import make_run_folder, play, training_events
from tests.tracking.test_mirror import expected_histories, histories, record_run


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> RunFolder:
    folder = make_run_folder(tmp_path / "runs")
    copyfile(sqlite_template, tmp_path / "runs" / "mlflow.db")
    return folder


def uri_of(folder: RunFolder) -> str:
    return f"sqlite:///{folder.path.parent}/mlflow.db"


def test_a_run_that_was_never_tracked_is_sent_whole_and_only_once(folder: RunFolder) -> None:
    play(folder.event_log(), training_events())
    first = sync_run(folder.path)
    assert first.complete
    second = sync_run(folder.path)
    assert second.run_id == first.run_id
    assert histories(uri_of(folder), str(first.run_id)) == expected_histories()
    assert len(open_client(uri_of(folder)).search_runs(["1"])) == 3


def test_a_replay_equals_what_was_mirrored_live(folder: RunFolder, tmp_path: Path, sqlite_template: Path) -> None:
    live, _ = record_run(folder, uri_of(folder))
    copyfile(sqlite_template, tmp_path / "other.db")
    other = f"sqlite:///{tmp_path}/other.db"
    replayed = sync_run(folder.path, tracking_uri=other, experiment="elsewhere")
    assert replayed.run_id != live.run_id
    assert histories(other, str(replayed.run_id)) == histories(uri_of(folder), str(live.run_id))
    runs = [open_client(uri).get_run(run) for uri, run in ((uri_of(folder), live.run_id), (other, replayed.run_id))]
    assert runs[0].data.params == runs[1].data.params
    assert runs[0].info.end_time == runs[1].info.end_time


def test_a_run_is_found_again_when_its_record_was_lost_half_way(folder: RunFolder) -> None:
    live, _ = record_run(folder, uri_of(folder))
    record = load_record(folder)
    assert record is not None
    save_record(folder, record.without_ids())  # as after a crash between the creation and the record
    assert sync_run(folder.path).run_id == live.run_id
    assert len(open_client(uri_of(folder)).search_runs(["1"])) == 3


def test_a_run_that_was_deleted_from_the_store_is_made_anew(folder: RunFolder) -> None:
    live, _ = record_run(folder, uri_of(folder))
    open_client(uri_of(folder)).delete_run(live.run_id)
    again = sync_run(folder.path)
    assert again.run_id != live.run_id
    assert histories(uri_of(folder), str(again.run_id))["parent", "pooled/auroc"] == [(0, 0.81)]


def test_a_run_that_was_killed_and_never_said_so_counts_as_killed(folder: RunFolder) -> None:
    play(folder.event_log(), list(training_events())[:-1])
    summary = sync_run(folder.path)
    assert open_client(uri_of(folder)).get_run(summary.run_id).info.status == "KILLED"


def test_a_run_that_is_still_going_on_is_left_alone(folder: RunFolder) -> None:
    record_run(folder, uri_of(folder))
    record = load_record(folder)
    assert record is not None
    assert record.process is not None
    import psutil

    parent = psutil.Process().parent()
    alive = TrackedProcess(host=record.process.host, pid=parent.pid, started=parent.create_time())
    save_record(folder, record.model_copy(update={"process": alive}))
    with pytest.raises(TrackingError, match="still running"):
        sync_run(folder.path)
    reused = alive.model_copy(update={"started": alive.started - 1000})  # the number of a process that is gone
    save_record(folder, record.model_copy(update={"process": reused}))
    sync_run(folder.path)


def test_an_unfinished_last_line_is_left_out(folder: RunFolder) -> None:
    play(folder.event_log(), training_events())
    with folder.events.open("a") as file:
        file.write('{"kind": "epoch", "fo')
    summary = sync_run(folder.path)
    assert summary.complete
    assert histories(uri_of(folder), str(summary.run_id)) == expected_histories()


@pytest.mark.parametrize("content", [None, ""])
def test_a_folder_without_events_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "events.jsonl").write_text(content)
    with pytest.raises(TrackingError, match=r"events\.jsonl"):
        sync_run(tmp_path)


def test_a_store_that_does_not_answer_is_told(folder: RunFolder) -> None:
    play(folder.event_log(), training_events())
    with pytest.raises(TrackingError, match="does not work"):
        sync_run(folder.path, tracking_uri="http://127.0.0.1:1")
