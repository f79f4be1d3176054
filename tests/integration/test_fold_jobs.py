"""Folds as jobs of their own: they join one run side by side, and bad input of one leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.runs.atomic import PART_PREFIX, atomic_write
from tests.integration.conftest import ARCH, inside


def _job(data: Path, output: Path, fold: int, *, name: str = "jobs") -> tuple[str | Path, ...]:
    return (
        "finetune", "--data", data, "--arch", ARCH, "--weights", "none", "--recipe", "linear-probe", "--folds", "2",
        "--output", output, "--name", name, "--no-tracking", "--fold", str(fold),
    )  # fmt: skip


def test_a_job_that_joins_leaves_alone_what_another_is_writing(phantoms: Path, tmp_path: Path) -> None:
    assert inside(*_job(phantoms, tmp_path, 0)).exit_code == 0
    written = tmp_path / "jobs" / "fold_0" / "last.ckpt"
    with atomic_write(written) as file:
        file.write(b"half of a checkpoint")
        joined = inside(*_job(phantoms, tmp_path, 1))
    assert joined.exit_code == 0, joined.output
    assert written.read_bytes() == b"half of a checkpoint"
    killed = [tmp_path / "jobs" / f"{PART_PREFIX}killed", tmp_path / "jobs" / "fold_1" / f"{PART_PREFIX}killed"]
    for orphan in killed:
        orphan.touch()
    assert inside(*_job(phantoms, tmp_path, 1)).exit_code == 0
    assert [orphan.exists() for orphan in killed] == [True, False]  # each is swept by who holds its folder
    assert inside("collect", tmp_path / "jobs").exit_code == 0
    assert not killed[0].exists()


@pytest.mark.parametrize("name", ["../evil", "a/b", "x y", ""])
def test_a_name_that_is_no_folder_of_the_output_is_refused_before_anything_is_made(
    phantoms: Path, tmp_path: Path, name: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = inside(*_job(phantoms, tmp_path / "runs", 0, name=name))
    assert done.exit_code == 1
    assert "is not usable as a folder name" in done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_written_is_one_message(phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = inside(*_job(phantoms, tmp_path / "file", 0))
    assert done.exit_code == 1
    assert "did not expect" not in done.output
    assert "Cannot write" in done.output
