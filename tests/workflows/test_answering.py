"""`medres predict`: rows in order, written as they come, gone on with after a stop."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medres.deployment.answer_file import part_of
from medres.deployment.predictor import Predictor
from medres.errors import DataError, InterruptedPredictionError, OutputError
from medres.runs.progress import Silent
from medres.workflows.answering import answer_to_file
from medres.workflows.prediction import run_predict
from tests.deployment.tiny import Tiny, tiny
from tests.integration.conftest import inside

__all__ = ["tiny"]


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Stopping(Silent):
    """End the work when some rows were handed on, as Ctrl-C or a signal would."""

    def __init__(self, after: int, stop: BaseException) -> None:
        self.after, self.stop = after, stop
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def track(self, items: Any, *, description: str, total: int) -> Iterator[Any]:
        for number, item in enumerate(items):
            if number == self.after:
                raise self.stop
            yield item


@pytest.fixture
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medres.deployment.predictor._SCANS_AT_A_TIME", 2)


@pytest.fixture
def copies(tiny: Tiny, tmp_path: Path) -> list[Path]:
    (tmp_path / "new").mkdir()
    return [Path(shutil.copy(scan.path, tmp_path / f"new/{n}.nii.gz")) for n, scan in enumerate(tiny.table)]


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_what_was_answered_before_a_stop_is_taken_over(
    tiny: Tiny, copies: list[Path], tmp_path: Path, two_at_a_time: None, stop: BaseException, code: int
) -> None:
    predictor = Predictor(tiny.bundle)
    expected = predictor.predict(copies)
    out = tmp_path / "out.csv"
    asked = [*copies[::-1], copies[5]]
    with pytest.raises(
        InterruptedPredictionError, match=r"Stopped after 4 of 7 rows, which are in .*out.csv.part"
    ) as caught:
        answer_to_file(predictor, predictor.asked(asked), out, progress=Stopping(4, stop))
    assert caught.value.exit_code == code
    assert not out.exists()
    assert [Path(row["path"]).name for row in rows_in(part_of(out))] == [path.name for path in asked[:4]]
    copies[4].write_bytes(tiny.table.scans[0].path.read_bytes())  # another scan under the name of one that was answered
    told = Stopping(99, stop)
    answers = answer_to_file(predictor, predictor.asked(copies), out, progress=told)
    assert (answers.num_taken_over, answers.num_failed) == (3, 0)
    assert told.notes == [
        f"3 of 6 rows are taken over from {part_of(out)}.",
        f"1 rows of {part_of(out)} are of another model, option or scan: not taken over.",
    ]
    found = [float(row["prob_benign"]) for row in rows_in(out)]
    of_scans = [0, 1, 2, 3, 0, 5]
    assert found == [expected.probabilities[scan, 0] for scan in of_scans]
    assert not part_of(out).exists()


def test_answers_of_another_member_are_not_taken_over(
    tiny: Tiny, copies: list[Path], tmp_path: Path, two_at_a_time: None
) -> None:
    whole, alone = Predictor(tiny.bundle), Predictor(tiny.bundle, member=0)
    out = tmp_path / "out.csv"
    with pytest.raises(InterruptedPredictionError):
        answer_to_file(alone, alone.asked(copies), out, progress=Stopping(2, KeyboardInterrupt()))
    answers = answer_to_file(whole, whole.asked(copies), out, progress=Silent())
    assert answers.num_taken_over == 0
    assert {row["fold"] for row in rows_in(out)} == {"ensemble"}


def test_a_stop_before_the_first_row_leaves_nothing(tiny: Tiny, copies: list[Path], tmp_path: Path) -> None:
    predictor = Predictor(tiny.bundle)
    with pytest.raises(InterruptedPredictionError, match="nothing was written"):
        answer_to_file(
            predictor, predictor.asked(copies), tmp_path / "out.csv", progress=Stopping(0, KeyboardInterrupt())
        )
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_command_answers_each_row_in_its_place(tiny: Tiny, copies: list[Path], tmp_path: Path) -> None:
    out, gone = tmp_path / "out.csv", tmp_path / "gone.nii.gz"
    order = [copies[3], gone, copies[0], copies[3], tmp_path / "new"]
    done = inside("predict", tiny.bundle, *order, "-o", out)
    assert done.exit_code == 1
    assert "1 of 10 scans could not be predicted" in done.output
    assert f"{gone} does not exist" in done.output.replace("\n", "")
    rows = rows_in(out)
    expected = Predictor(tiny.bundle).predict(copies).probabilities[:, 0]
    numbers = [row["prob_benign"] for row in rows]
    assert numbers[1] == ""
    assert [float(text) for text in numbers if text] == [*expected[[3, 0, 3]], *expected]
    assert [row["path"] for row in rows] == [*map(str, order[:4]), *map(str, copies)]
    assert [row["given"] for row in rows] == [*map(str, order[:4]), *[str(tmp_path / "new")] * 6]


def test_the_command_says_how_many_rows_were_taken_over(
    tiny: Tiny, copies: list[Path], tmp_path: Path, two_at_a_time: None
) -> None:
    out, predictor = tmp_path / "out.csv", Predictor(tiny.bundle)
    with pytest.raises(InterruptedPredictionError):
        answer_to_file(predictor, predictor.asked(copies), out, progress=Stopping(4, KeyboardInterrupt()))
    done = inside("predict", tiny.bundle, *copies, "-o", out, "--json")
    assert done.exit_code == 0
    summary = json.loads(done.output)
    assert (summary["num_scans"], summary["num_taken_over"], summary["num_failed"]) == (6, 4, 0)
    assert sum(summary["predicted"].values()) == sum(summary["decision"].values()) == 6


def test_an_output_that_is_a_folder_is_refused_before_the_scans_are_read(tiny: Tiny, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "member": None, "device": "cpu", "tracking_uri": None, "output": tmp_path, "progress": Silent(),
    }  # fmt: skip
    with pytest.raises(OutputError, match="a folder stands where the file should be"):
        run_predict(str(tiny.bundle), [tmp_path / "gone"], out=tmp_path, **options)
    with pytest.raises(DataError, match="1 of 1 scan could not be predicted"):
        run_predict(str(tiny.bundle), [tmp_path / "gone"], out=tmp_path / "out.csv", **options)
