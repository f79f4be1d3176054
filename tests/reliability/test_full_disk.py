"""Number 5: a real disk of 8 MB fills up in the cache, in a checkpoint, in the report and in MLflow's database."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from medres.runs.folder import RunFolder
from medres.tracking.record import load_record
from tests.faults.killing import corrupt_files, finetune_command, resume_command, run_to_end
from tests.figures import RecordProperty
from tests.integration.conftest import write_cohort
from tests.reliability.conftest import MountDisk
from tests.tracking.test_mirror import histories

#: What fits on 8 MB with all its checkpoints.
SMALL = ("--recipe", "linear-probe", "--folds", "2")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("scans"))


def _fill(disk: Path, *, leave: int = 0) -> None:
    """Write zeros until no more than so many bytes are free."""
    with (disk / "filler").open("ab", buffering=0) as filler:
        while (free := shutil.disk_usage(disk).free - leave) > 0:
            try:
                filler.write(bytes(min(free, 2**20)))
            except OSError:
                return


@contextmanager
def _filled_when(disk: Path, there: Path, *, leave: int = 0) -> Iterator[None]:
    """Fill the disk but for some bytes as soon as a file is there, and keep it full until the block ends."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            if there.exists():
                _fill(disk, leave=leave)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        (disk / "filler").unlink(missing_ok=True)


def _require_whole(output: Path) -> None:
    assert corrupt_files(output) == []


def test_a_full_disk_where_scans_are_prepared(
    scans: Path, tmp_path: Path, mount_disk: MountDisk, record_property: RecordProperty
) -> None:
    disk = mount_disk("size=8m")
    command = finetune_command(scans, tmp_path / "runs", "run", "--cache-dir", str(disk / "cache"))
    _fill(disk, leave=50_000)
    done = run_to_end(command)
    assert done.returncode == 1
    said = re.search(rf"{disk}.*?([\d,]+) bytes.* are needed", done.stderr)
    assert said, done.stderr
    (disk / "filler").unlink()
    again = run_to_end(command)
    assert again.returncode == 0, again.stderr
    _require_whole(tmp_path / "runs")
    record_property("figure", f"cache: exit 1, names the folder and the {said[1]} bytes needed; same command then 0")


@pytest.mark.parametrize(
    ("there", "leave", "file"),
    [("identity.json", 300_000, "last.ckpt"), ("metrics.json", 20_000, "report.html"), ("identity.json", 20_000, "")],
    ids=["checkpoint", "report", "activations"],
)
def test_a_disk_that_fills_up_in_the_middle_of_a_run(
    scans: Path, mount_disk: MountDisk, record_property: RecordProperty, there: str, leave: int, file: str
) -> None:
    disk = mount_disk("size=8m")
    output = disk / "runs"
    with _filled_when(disk, output / "run" / there, leave=leave):
        done = run_to_end(finetune_command(scans, output, "run", *SMALL))
        assert done.returncode == 1, done.stdout
        assert str(output) in done.stderr
        needed = re.search(r"([\d,]+) bytes (are needed|of activations)", done.stderr)
        assert needed, done.stderr
        _require_whole(output)
    again = run_to_end(resume_command(output / "run"))
    assert again.returncode == 0, again.stderr
    _require_whole(output)
    assert (output / "run" / "report.html").is_file()
    named = re.findall(r"[\w.]+(?=: the disk is full)", done.stderr)
    record_property("figure", f"{named[0] if named else file or 'activations'}: exit 1, names the place and {needed[1]} bytes, 0 truncated files, `--resume` then 0")  # fmt: skip # noqa: E501


def test_a_full_disk_under_the_database_of_mlflow(
    scans: Path, tmp_path: Path, mount_disk: MountDisk, record_property: RecordProperty
) -> None:
    disk = mount_disk("size=8m")
    uri, run = f"sqlite:///{disk}/mlflow.db", RunFolder(tmp_path / "runs" / "run")
    command = finetune_command(scans, tmp_path / "runs", "run", "--tracking-uri", uri)
    command.remove("--no-tracking")
    with _filled_when(disk, run.fold(0) / "last.ckpt"):
        done = run_to_end(command)
    assert done.returncode == 0, done.stderr  # what is tracked never ends a training
    assert f"medres track sync {run.path}" in done.stderr
    _require_whole(run.path)
    synced = subprocess.run(
        [sys.executable, "-m", "medres", "track", "sync", str(run.path)], capture_output=True, text=True, check=False
    )
    assert synced.returncode == 0, synced.stderr
    record = load_record(run)
    assert record is not None
    kept = histories(uri, str(record.run_id))
    epochs = [len(points) for (fold, name), points in kept.items() if name == "loss" and fold != "parent"]
    assert len(epochs) == 3
    assert min(epochs) == max(epochs) > 0
    record_property("figure", f"MLflow: the training goes on (exit 0) and says what to type; `track sync` then brings all {sum(epochs)} epochs")  # fmt: skip # noqa: E501
