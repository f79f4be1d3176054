"""A refused command leaves the disk as it found it, and what others do there meanwhile as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.errors import DataError
from medres.runs.leftovers import emptied_when_refused, files_as_found, folders_as_found


def _refused_run(run: Path, memory: Path, kept: Path) -> None:
    with folders_as_found(run), files_as_found(memory, kept):
        run.mkdir()
        memory.parent.mkdir(parents=True)
        memory.write_text("{}")
        with emptied_when_refused(run):
            (run / "fold_0").mkdir()
            (run / "fold_0" / "last.ckpt").write_text("half")
            (run / "config.yaml").write_text("seed: 0")
            raise DataError("No scan is labelled.")


def test_what_was_not_there_goes_and_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "old.json").write_text("{}")
    with pytest.raises(DataError):
        _refused_run(
            tmp_path / "runs" / "x", tmp_path / "cache" / "deeper" / "survey.json", tmp_path / "runs" / "old.json"
        )
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old.json", "runs"]


def _refused_beside_another(cache: Path) -> None:
    with files_as_found(cache / "survey.json"):
        cache.mkdir()
        (cache / "segment-1.bin").write_text("of another run")
        raise DataError("No scan is labelled.")


def test_a_folder_that_somebody_else_uses_meanwhile_stays(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        _refused_beside_another(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["segment-1.bin"]


def _ended_by(error: type[BaseException], folder: Path) -> None:
    with folders_as_found(folder), emptied_when_refused(folder):
        folder.mkdir()
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_and_a_defect_leave_what_was_done(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        _ended_by(error, tmp_path / "runs")
    assert (tmp_path / "runs").is_dir()
