"""Number 3: eight processes meet a database that is not there yet, twenty times."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from medres.tracking.store import experiment_id_of, open_client
from tests.figures import RecordProperty

PROCESSES, ROUNDS = 8, 20
#: One line in, one database opened and written to, one line out: the processes start a round at the same moment,
#: closer together than processes that have to import first.
_WORKER = """
import sys
from medres.tracking.store import experiment_id_of, open_client
print("ready", flush=True)
for line in sys.stdin:
    uri = line.strip()
    try:
        client = open_client(uri)
        run = client.create_run(experiment_id_of(client, uri, "medres"))
        client.log_metric(run.info.run_id, "a", 1)
        print("OK", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip


def _answer(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def _race(workers: list[subprocess.Popen[str]], uri: str) -> list[str]:
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{uri}\n")
        worker.stdin.flush()
    return [_answer(worker) for worker in workers]


def _is_whole(database: Path) -> bool:
    uri = f"sqlite:///{database}"
    with sqlite3.connect(database) as connection:
        sound = connection.execute("pragma integrity_check").fetchone() == ("ok",)
    client = open_client(uri)
    return sound and len(client.search_runs([experiment_id_of(client, uri, "medres")])) == PROCESSES


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_eight_processes_on_twenty_fresh_databases(tmp_path: Path, record_property: RecordProperty) -> None:
    workers = [_start() for _ in range(PROCESSES)]
    try:
        assert [_answer(worker) for worker in workers] == ["ready"] * PROCESSES
        databases = [tmp_path / str(number) / "mlflow.db" for number in range(ROUNDS)]
        answers = [answer for database in databases for answer in _race(workers, f"sqlite:///{database}")]
        whole = sum(_is_whole(database) for database in databases)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    record_property("figure", f"{answers.count('OK')} of {PROCESSES * ROUNDS} OK; {ROUNDS - whole} bricked databases")
    assert set(answers) == {"OK"}
    assert len(answers) == PROCESSES * ROUNDS
    assert whole == ROUNDS
