"""Run folders: usable names, nothing overwritten, pseudonyms that stay in place."""

from __future__ import annotations

import csv
import stat
from pathlib import Path

import pytest

from medres.errors import OutputError
from medres.runs.folder import new_run_folder, require_new_run, unused_run_name
from medres.runs.pseudonyms import write_mapping


@pytest.mark.parametrize("name", ["", "..", "a/b", " a", "-x", "a" * 101, "a\nb"])
def test_unusable_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="not usable as a folder name"):
        new_run_folder(tmp_path, name)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    folder = new_run_folder(tmp_path, "first")
    folder.metrics.write_text("{}")
    with pytest.raises(OutputError, match="already holds a run"):
        new_run_folder(tmp_path, "first")
    assert folder.metrics.read_text() == "{}"


def test_pseudonyms_stay_the_same_in_a_run_and_differ_between_runs(tmp_path: Path) -> None:
    first, second = new_run_folder(tmp_path, "a"), new_run_folder(tmp_path, "b")
    assert first.pseudonyms().patient("Doe^John") == first.pseudonyms().patient("Doe^John")
    assert first.pseudonyms().patient("Doe^John") != second.pseudonyms().patient("Doe^John")
    assert stat.S_IMODE(first.salt.stat().st_mode) == 0o600


def test_kinds_of_pseudonyms_differ(tmp_path: Path) -> None:
    names = new_run_folder(tmp_path, "a").pseudonyms()
    made = {names.sample("x")[2:], names.patient("x")[2:], names.unit("x")[2:]}
    assert len(made) == 3


def test_the_mapping_tells_who_is_who_to_its_owner_alone(tmp_path: Path) -> None:
    folder = new_run_folder(tmp_path, "x")
    known = folder.pseudonyms()
    rows = [("patient", known.patient("Doe^John, Jr"), "Doe^John, Jr"), ("sample", known.sample("1"), "1")]
    write_mapping(folder.mapping, [*rows, rows[0]])
    assert stat.S_IMODE(folder.mapping.stat().st_mode) == 0o600
    with folder.mapping.open(newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("kind", "pseudonym", "id"), *rows]


def test_runs_that_begin_in_the_same_second_have_names_of_their_own(tmp_path: Path) -> None:
    output = tmp_path / "runs"
    assert [unused_run_name(output, "net-1") for _ in range(3)] == ["net-1", "net-1-2", "net-1-3"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file stands"):
        unused_run_name(tmp_path / "file", "net")


def test_a_run_that_is_not_finished_says_how_it_goes_on(tmp_path: Path) -> None:
    folder = new_run_folder(tmp_path / "my runs", "first")
    folder.config.write_text("seed: 0")
    with pytest.raises(OutputError, match="not finished") as refused:
        new_run_folder(tmp_path / "my runs", "first")
    assert f"medres finetune --resume '{folder.path}'." in refused.value.fix  # the shell takes it as one word
    for path in (folder.metrics, folder.report):
        path.write_text("{}")
    folder.event_log().append("run_finished", status="finished")
    with pytest.raises(OutputError, match="already holds a run") as refused:
        new_run_folder(tmp_path / "my runs", "first")
    assert "--resume" not in refused.value.fix


def test_a_start_that_was_killed_before_it_wrote_anything_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / ".lock").touch()
    assert new_run_folder(tmp_path, "first").path.is_dir()


def test_asking_whether_a_run_can_begin_makes_nothing(tmp_path: Path) -> None:
    require_new_run(tmp_path / "runs", "first")
    assert list(tmp_path.iterdir()) == []
