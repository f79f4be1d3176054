import os
from dataclasses import replace
from pathlib import Path

import pytest

from medres.data.readers.rules import ReadingRules
from medres.data.survey_memory import SurveyMemory
from medres.data.table import Scan
from tests.data.checks.describing import entry

RULES = ReadingRules()


@pytest.fixture
def scan(tmp_path):
    for name in ("t1.nii", "t2.nii", "mask.nii", "other.nii"):
        (tmp_path / name).write_bytes(name.encode())
    return Scan(
        sample_id="a", patient_id="p", path=tmp_path / "t1.nii", mask=tmp_path / "mask.nii",
        sequences={"t1": tmp_path / "t1.nii", "t2": tmp_path / "t2.nii"},
    )  # fmt: skip


def memory(tmp_path, rules=RULES):
    return SurveyMemory.read(tmp_path / "memory.json", rules=rules)


def remember(tmp_path, scan, **known):
    before = memory(tmp_path)
    before.write([(before.key(scan), entry(**known))])


def recalled(tmp_path, scan, rules=RULES):
    after = memory(tmp_path, rules)
    return after.get(after.key(scan))


def test_what_was_written_comes_back(tmp_path, scan):
    remember(tmp_path, scan, notes=("units: said",))
    assert recalled(tmp_path, scan) == entry(notes=("units: said",))


@pytest.mark.parametrize("name", ["t1.nii", "t2.nii", "mask.nii"])
@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_a_change_of_any_of_its_files_forgets_a_scan(tmp_path, scan, name, change):
    remember(tmp_path, scan)
    file = tmp_path / name
    if change == "size":
        status = file.stat()
        file.write_bytes(b"longer than before")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(file, ns=(1, 1))
    else:
        file.unlink()
    assert recalled(tmp_path, scan) is None


def test_a_change_of_another_file_forgets_nothing(tmp_path, scan):
    remember(tmp_path, scan)
    (tmp_path / "other.nii").write_bytes(b"changed")
    assert recalled(tmp_path, scan) is not None


@pytest.mark.parametrize("changed", [
    {"member": "x:1"}, {"center_ras_mm": (1.0, 2.0, 3.0)}, {"mask": None}, {"sequences": {}},
    {"files": (Path("/none"),)},
])  # fmt: skip
def test_another_part_of_the_same_files_is_another_entry(tmp_path, scan, changed):
    remember(tmp_path, scan)
    assert recalled(tmp_path, replace(scan, **changed)) is None


def test_other_rules_are_another_entry_beside_the_first(tmp_path, scan):
    remember(tmp_path, scan)
    other = ReadingRules(volume=1)
    assert recalled(tmp_path, scan, other) is None
    after = memory(tmp_path, other)
    after.write([(after.key(scan), entry(notes=("units: 1",)))])
    assert (recalled(tmp_path, scan).notes, recalled(tmp_path, scan, other).notes) == ((), ("units: 1",))


def test_ids_and_labels_do_not_matter(tmp_path, scan):
    remember(tmp_path, scan)
    assert recalled(tmp_path, replace(scan, sample_id="b", patient_id="q", label="x", unit="u")) is not None


def test_a_new_state_replaces_the_old_one(tmp_path, scan):
    remember(tmp_path, scan)
    os.utime(tmp_path / "t1.nii", ns=(5, 5))
    remember(tmp_path, scan)
    assert len(memory(tmp_path).entries) == 1


def test_a_file_that_changed_while_it_was_read_is_read_again(tmp_path, scan):
    before = memory(tmp_path)
    key = before.key(scan)
    os.utime(tmp_path / "t1.nii", ns=(9, 9))  # after the key was taken
    before.write([(key, entry())])
    assert recalled(tmp_path, scan) is None


def test_without_a_file_nothing_is_looked_at(scan):
    nowhere = SurveyMemory.read(None, rules=RULES)
    assert nowhere.key(scan) is None
    nowhere.write([(None, entry())])
