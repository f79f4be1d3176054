"""After a fault in the middle of a run the message says what to type, and that is what the next command accepts."""

from __future__ import annotations

import errno
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from medres.data.phantoms import write_phantoms
from medres.errors import OutputError, TrainingError
from medres.finetuning import checkpoints
from medres.workflows import room
from medres.workflows.advice import going_on_with
from tests.integration.conftest import ARCH, inside


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_phantoms(tmp_path / "p", modality="MR", spatial_dims=2, num_scans=12, num_classes=2, size=32)


def _command(scans: Path, output: Path, *more: str) -> list[str | Path]:
    # a folder with a blank in it: what is advised must survive the shell
    options = ["--data", scans, "--arch", ARCH, "--weights", "none", "--folds", "2", "--no-tracking"]
    return ["finetune", *options, "--recipe", "linear-probe", "--output", output, "--name", "b", "-q", *more]


def _advised(message: str) -> list[str]:
    """Return the command that a message says goes on with the run."""
    found = re.search(r"[Gg]o on with(?: it)?: medres (.*?)(?:\. Or give .*)?$", message.strip())
    assert found, message
    return shlex.split(found[1])


def _full_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the disk be full when a file of this name is first written."""
    real, failed = os.replace, []

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == name and not failed:
            failed.append(target)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr("medres.runs.atomic.os.replace", replace)


@pytest.mark.parametrize(
    "file",
    [
        "last.ckpt",
        "report.html",
        pytest.param("model.safetensors", marks=pytest.mark.slow),
        pytest.param("metrics.json", marks=pytest.mark.slow),
    ],
)
def test_after_a_full_disk_the_advised_command_finishes_the_run(
    scans: Path, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _full_once(monkeypatch, file)
    output = tmp_path / "my runs"
    done = inside(*_command(scans, output))
    assert done.exit_code == 1
    assert f"{file}: the disk is full" in done.stderr
    assert "--output" not in done.stderr  # a run that goes on keeps its folder
    again = inside(*_command(scans, output))
    assert again.exit_code == 1
    assert _advised(again.stderr) == _advised(done.stderr)  # who missed it is told again
    went_on = inside(*_advised(done.stderr), "-q")
    assert went_on.exit_code == 0, went_on.stderr
    assert (output / "b" / "report.html").is_file()


def test_after_a_damaged_cache_the_advised_command_finishes_the_run(scans: Path, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    assert inside(*_command(scans, output)).exit_code == 0
    segment = next((output / "cache").glob("*/segment-*.bin"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(bytes(content))
    done = inside(*_command(scans, output, "--name", "c", "--seed", "1"))
    assert done.exit_code == 1
    assert "is damaged" in done.stderr
    assert inside(*_advised(done.stderr), "-q").exit_code == 0


def test_a_damaged_checkpoint_says_what_to_remove_and_what_to_type(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "runs"
    _full_once(monkeypatch, "model.safetensors")
    first = inside(*_command(scans, output))
    checkpoint = output / "b" / "fold_0" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-7])
    done = inside(*_advised(first.stderr), "-q")
    assert done.exit_code == 1
    assert f"{checkpoint} is damaged" in done.stderr
    checkpoint.unlink()
    assert inside(*_advised(done.stderr), "-q").exit_code == 0


def test_a_job_of_one_fold_is_told_to_run_again(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_once(monkeypatch, "last.ckpt")
    command = _command(scans, tmp_path / "runs", "--fold", "1")
    done = inside(*command)
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("Then go on with: the same command again")
    assert inside(*command).exit_code == 0


def test_a_defect_is_met_again_by_the_command_that_is_told(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(checkpoints.Checkpoint, "write", broken)
    done = inside(*_command(scans, tmp_path / "runs"))
    assert "did not expect: ZeroDivisionError" in done.stderr
    command = re.search(r"Go on with: medres (.*) with --debug", done.stderr)
    assert command
    again = inside(*shlex.split(command[1]), "-q")
    assert "ZeroDivisionError" in again.stderr  # not: "already holds a run"


@pytest.mark.parametrize(
    "error", [OutputError("Full.", fix="Free space."), TrainingError("Not finite.", fix="Lower it.")]
)
def test_what_is_met_again_whatever_is_done_gets_no_such_advice(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, going_on_with("medres finetune --resume b"):
        raise error
    assert ("--resume b" in str(raised.value)) is isinstance(error, OutputError)


def test_a_disk_that_is_too_small_is_told_with_all_that_is_needed_and_nothing_is_left(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = room.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    command = [text for text in _command(scans, tmp_path / "runs") if text != "--no-tracking"]
    done = inside(*command)
    assert done.exit_code == 1
    for part in (
        "prepared scans",
        "networks of the folds",
        "checkpoints",
        "bundle",
        "MLflow's copy",
        "100,000 are free",
    ):
        assert part in done.stderr
    assert not (tmp_path / "runs").exists()
    monkeypatch.undo()
    assert inside(*_command(scans, tmp_path / "runs")).exit_code == 0


def test_what_is_needed_is_what_is_written(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[room.Part, ...]] = []
    needed = room.needed_parts

    def told(*arguments: Any) -> tuple[room.Part, ...]:
        asked.append(needed(*arguments))
        return asked[-1]

    sizes: list[int] = []
    write = checkpoints.Checkpoint.write

    def measured(self: checkpoints.Checkpoint, path: Path) -> None:
        write(self, path)
        if path.name == "last.ckpt":
            sizes.append(path.stat().st_size)

    monkeypatch.setattr(room, "needed_parts", told)
    monkeypatch.setattr(checkpoints.Checkpoint, "write", measured)
    assert inside(*_command(scans, tmp_path / "runs", "--recipe", "full", "--epochs", "1")).exit_code == 0
    parts = {part.name: part.num_bytes for part in asked[0]}
    networks = sum(file.stat().st_size for file in (tmp_path / "runs" / "b").glob("fold_*/model.safetensors"))
    prepared = sum(file.stat().st_size for file in (tmp_path / "runs" / "cache").glob("*/segment-*.bin"))
    assert networks == pytest.approx(parts["networks of the folds"], rel=0.05)  # names and checksums come on top
    assert prepared == parts["prepared scans"]
    assert 2 * max(sizes) - networks / 2 == pytest.approx(parts["checkpoints"], rel=0.1)
