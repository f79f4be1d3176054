from __future__ import annotations

import csv
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medres.deployment.answer_file import AnswerFile, alone_at, part_of
from medres.errors import OutputError

COLUMNS = ["sample", "findings"]
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=6)


def rows_in(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def fast_disk():
    """Not to wait for the disk hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cells=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5), data=st.data())
def test_a_file_that_is_cut_anywhere_gives_the_rows_that_are_whole(tmp_path_factory, fast_disk, cells, data):
    out = tmp_path_factory.mktemp("cut") / "out.csv"
    keys = [f"{number:064d}" for number in range(len(cells))]
    first = AnswerFile(out, COLUMNS, wanted=keys)
    ends = []
    for key, row in zip(keys, cells, strict=True):
        first.add([(key, row)])
        ends.append(first.part.stat().st_size)
    cut = data.draw(st.integers(0, ends[-1]))
    first.part.write_bytes(first.part.read_bytes()[:cut])
    again = AnswerFile(out, COLUMNS, wanted=keys)
    whole = sum(end <= cut for end in ends)
    assert {key: tuple(row) for key, row in again.known.items()} == dict(zip(keys[:whole], cells[:whole], strict=True))
    assert rows_in(again.part)[1:] == [[*row, key] for key, row in zip(keys[:whole], cells[:whole], strict=True)]


def test_only_what_is_asked_for_is_taken_over(tmp_path):
    file = AnswerFile(tmp_path / "out.csv", COLUMNS, wanted=["a", "b"])
    file.add([("a", ("1", "")), ("", ("2", "refused")), ("b", ("3", ""))])
    again = AnswerFile(tmp_path / "out.csv", COLUMNS, wanted=["b", "c"])
    assert again.known == {"b": ["3", ""]}
    assert again.num_dropped == 1
    assert rows_in(again.part) == [[*COLUMNS, "answer_key"], ["3", "", "b"]]
    assert AnswerFile(tmp_path / "out.csv", ["sample", "prob_x"], wanted=["b"]).known == {}


def test_the_whole_file_appears_at_the_end(tmp_path):
    (tmp_path / "out.csv").write_text("old")
    file = AnswerFile(tmp_path / "out.csv", COLUMNS, wanted=["a"])
    file.add([("a", ("1", "ü \udcfc"))])
    assert (tmp_path / "out.csv").read_text() == "old"
    file.finish([("2", ""), ("1", "x\ny")])
    assert rows_in(tmp_path / "out.csv") == [COLUMNS, ["2", ""], ["1", "x\ny"]]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("content", [b"sample,findings\nx,y\n", b"\x89PNG\r\n\xff", b"\n"])
def test_a_file_of_somebody_else_is_not_written_over(tmp_path, content):
    part_of(tmp_path / "out.csv").write_bytes(content)
    with pytest.raises(OutputError, match=r"out.csv.part is in the way"):
        AnswerFile(tmp_path / "out.csv", COLUMNS, wanted=[])
    assert part_of(tmp_path / "out.csv").read_bytes() == content


def test_two_processes_do_not_write_one_file(tmp_path):
    other = FileLock(tmp_path / ".out.csv.lock")
    with other, pytest.raises(OutputError, match="Another process is writing"), alone_at(tmp_path / "out.csv"):
        pass
    with alone_at(tmp_path / "out.csv"):
        assert (tmp_path / ".out.csv.lock").exists()
    assert not list(tmp_path.iterdir())
