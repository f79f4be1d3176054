from __future__ import annotations

import os
import shutil

import pytest

from medres.data.readers.rules import ReadingRules
from medres.data.sources import scans_as_given
from medres.deployment.answer_key import answer_key
from tests.data.making import write_png
from tests.data.sources.making_studies import write_study


def key_of(path, *, predictor="p", rules=None):
    (row,) = scans_as_given([path])
    return answer_key(row, predictor=predictor, rules=rules or ReadingRules())


def test_the_same_question_has_the_same_key_however_it_is_written(tmp_path, monkeypatch):
    path = write_png(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    assert len(key_of(path)) == 64
    assert key_of(path) == key_of("1.png") == key_of("./1.png")


@pytest.mark.parametrize("change", ["content", "content with the old time", "copy", "other rules", "other predictor"])
def test_another_question_has_another_key(tmp_path, change):
    path = write_png(tmp_path / "1.png", seed=1)
    before, status = key_of(path), path.stat()
    options = {}
    if change.startswith("content"):
        path.write_bytes(path.read_bytes()[::-1])
        if "old time" in change:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    elif change == "copy":
        path = shutil.copy2(path, tmp_path / "2.png")
    elif change == "other rules":
        options["rules"] = ReadingRules(volume=1)
    else:
        options["predictor"] = "q"
    assert key_of(path, **options) != before


def test_a_slice_that_comes_to_a_study_changes_its_key(tmp_path):
    write_study(tmp_path / "ct", "ann", slices=3)
    before = key_of(tmp_path / "ct")
    write_study(tmp_path / "ct", "ann", slices=4)
    assert key_of(tmp_path / "ct") != before


def test_rows_that_are_refused_are_not_kept(tmp_path):
    assert key_of(tmp_path / "gone.png") == ""
