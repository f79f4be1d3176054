import csv

import numpy as np
import pytest

from medres.data.checks.recorded import check_recorded, read_record
from medres.data.sources import load_scans
from medres.data.survey import survey_scans
from medres.errors import DataError
from medres.runs.progress import Silent
from tests.data.making import volume, write_medmnist, write_nifti
from tests.figures import RecordProperty

NUM_FLIPS = 200


def surveyed(root, **options):
    return survey_scans(load_scans(root), progress=Silent(), refuse=False, **options)


@pytest.fixture
def root(tmp_path):
    for n, label in enumerate("aabb"):
        write_nifti(tmp_path / f"scans/{label}/{n}.nii", volume((7, 6, 5), seed=n))
    return tmp_path / "scans"


@pytest.fixture
def record(root, tmp_path):
    surveyed(root).table.write_csv(tmp_path / "scans.csv")
    return read_record(tmp_path / "scans.csv")


def codes(root, record):
    return {(f.code, f.sample_id) for f in surveyed(root, record=record).findings}


def test_unchanged_scans_give_none(root, record):
    assert len(record.hashes) == 4
    assert codes(root, record) == set()


def test_each_of_many_flipped_bits_in_the_voxels_of_a_plain_file_is_found(
    root, record, record_property: RecordProperty
):
    file = root / "a/1.nii"
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    table, first = load_scans(root), 352
    found = 0
    for bit in rng.choice(8 * (len(whole) - first), NUM_FLIPS, replace=False):
        changed = bytearray(whole)
        changed[first + bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(changed)
        survey = survey_scans(table.subset([1]), progress=Silent(), refuse=False)
        found += "content-changed" in {finding.code for finding in check_recorded(survey.table, record)}
    record_property("figure", f".nii against the recorded hash: {found} of {NUM_FLIPS}")
    assert found == NUM_FLIPS


def test_a_changed_scan_is_an_error_that_names_its_file(root, record):
    write_nifti(root / "b/2.nii", volume((7, 6, 5), seed=99))
    [finding] = surveyed(root, record=record).findings
    assert (finding.code, finding.severity) == ("content-changed", "error")
    assert str(root / "b/2.nii") in finding.value


def test_compression_changes_nothing_but_the_name(root, record):
    (root / "a/0.nii").unlink()
    write_nifti(root / "a/0.nii.gz", volume((7, 6, 5), seed=0))
    assert codes(root, record) == {("not-recorded", "a/0"), ("recorded-gone", None)}


def test_a_scan_that_cannot_be_read_is_not_called_changed(root, record):
    (root / "a/0.nii").write_bytes((root / "a/0.nii").read_bytes()[:-9])
    assert {code for code, _ in codes(root, record)}.isdisjoint({"content-changed", "not-recorded"})


def test_members_of_an_archive(tmp_path):
    write_medmnist(tmp_path / "x.npz")
    surveyed(tmp_path / "x.npz").table.write_csv(tmp_path / "scans.csv")
    record = read_record(tmp_path / "scans.csv")
    assert surveyed(tmp_path / "x.npz", record=record).findings == surveyed(tmp_path / "x.npz").findings
    images = np.load(tmp_path / "x.npz")["train_images"]
    images[3, 0, 0] ^= 1
    write_medmnist(tmp_path / "x.npz", train_images=images)
    changed = [f for f in surveyed(tmp_path / "x.npz", record=record).findings if f.code == "content-changed"]
    assert [finding.sample_id for finding in changed] == ["train/00003"]


@pytest.mark.parametrize("content", ["", "path,label\na,b\n", "content_hash\nx\n", "path,content_hash\n", "\x00\x01"])
def test_other_tables_are_refused(tmp_path, content):
    (tmp_path / "scans.csv").write_text(content)
    with pytest.raises(DataError, match=r"scans.csv (is no scans.csv|cannot be read)"):
        read_record(tmp_path / "scans.csv")


def test_a_record_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_record(tmp_path / "scans.csv")


def test_more_columns_and_another_order_do_not_matter(root, record, tmp_path):
    with (tmp_path / "scans.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "other.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["extra", *reversed(rows[0])])
        writer.writeheader()
        writer.writerows({"extra": "x", **row} for row in reversed(rows))
    assert read_record(tmp_path / "other.csv").hashes == record.hashes
