"""Before a run: what can never be used is refused, a server that is away is told in five seconds, nothing is made."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from medres.errors import MedresError, TrackingError
from medres.tracking.experiments import Experiment
from medres.tracking.start import why_silent
from medres.tracking.store import experiment_id_of, open_client
from tests.figures import RecordProperty
from tests.tracking.faults import Wire, free_port

MEDRES = Experiment(name="medres")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Somebody who takes every connection and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield int(listener.getsockname()[1])


@pytest.fixture
def web_port() -> Iterator[int]:
    """A web server that is no MLflow."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def database(tmp_path: Path, sqlite_template: Path) -> str:
    return f"sqlite:///{copyfile(sqlite_template, tmp_path / 'mlflow.db')}"


def test_a_server_that_never_answers_is_told_in_five_seconds(silent_port: int, record_property: RecordProperty) -> None:
    started = time.monotonic()
    assert "timed out" in why_silent(f"http://127.0.0.1:{silent_port}", experiment=MEDRES)
    seconds = time.monotonic() - started
    record_property("figure", f"silent MLflow: told after {seconds:.1f} s")
    assert seconds < 5


def test_a_server_that_answers_the_first_question_only_is_told_in_five_seconds(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medres.tracking import start

    def knock_then_hang(uri: str) -> str:
        wire.cut("hanging")
        return ""

    monkeypatch.setattr(start, "why_unreachable", knock_then_hang)
    started = time.monotonic()
    assert "no answer within 4.5 seconds" in why_silent(wire.uri, experiment=MEDRES)
    assert time.monotonic() - started < 5


def test_a_dead_server_is_told_and_a_living_one_is_silent_about(wire: Wire) -> None:
    assert "refused" in why_silent(f"http://127.0.0.1:{free_port()}", experiment=MEDRES)
    assert why_silent(wire.uri, experiment=MEDRES) == ""


def test_what_is_no_mlflow_is_refused(web_port: int) -> None:
    with pytest.raises(TrackingError, match="refuses"):
        why_silent(f"http://127.0.0.1:{web_port}", experiment=MEDRES)


def test_an_id_that_no_experiment_has_is_refused_naming_those_there_are(database: str, wire: Wire) -> None:
    unknown = Experiment(experiment_id="77")
    for uri in (database, wire.uri):
        with pytest.raises(TrackingError, match=r"no MLflow experiment with the id 77 .*0 \(Default\)"):
            why_silent(uri, experiment=unknown)
        assert why_silent(uri, experiment=Experiment(experiment_id="0")) == ""


def test_a_deleted_experiment_is_refused(database: str) -> None:
    client = open_client(database)
    client.delete_experiment(experiment_id_of(client, database, "medres"))
    with pytest.raises(TrackingError, match="'medres' was deleted"):
        why_silent(database, experiment=MEDRES)


def test_a_database_is_looked_at_and_nothing_is_made(tmp_path: Path, database: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert why_silent(database, experiment=MEDRES) == ""
    assert why_silent(f"sqlite:///{tmp_path}/new/mlflow.db", experiment=MEDRES) == ""
    with pytest.raises(TrackingError, match="id 77"):
        why_silent(f"sqlite:///{tmp_path}/new/mlflow.db", experiment=Experiment(experiment_id="77"))
    (tmp_path / "text.db").write_text("this is no database\n" * 100)
    for place in ("text.db", "", "text.db/mlflow.db"):
        with pytest.raises(MedresError):
            why_silent(f"sqlite:///{tmp_path}/{place}".rstrip("/"), experiment=MEDRES)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "text.db"])


def test_an_experiment_that_is_given_by_its_id_is_the_one_that_is_used(database: str) -> None:
    client = open_client(database)
    made = experiment_id_of(client, database, "theirs")
    assert experiment_id_of(client, database, Experiment(experiment_id=made)) == made
