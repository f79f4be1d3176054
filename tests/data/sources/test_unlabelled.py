import numpy as np
import pytest

from medres.data.readers import read_scan
from medres.data.sources import list_scans
from medres.errors import DataError
from tests.data.making import write_medmnist, write_pngs


def test_files_and_folders_once_each(tmp_path):
    root = write_pngs(tmp_path, ("x/1.png", "x/y/2.png", "z.png", "x/.hidden.png"))
    (root / "x/notes.txt").touch()
    found = list_scans([root / "x", root / "z.png", root / "x/1.png"])
    assert [scan.sample_id for scan in found] == ["x/1", "x/y/2", "z"]
    assert [scan.label for scan in found] == [None] * 3
    assert (found.classes, found.root, found.patients_given) == ((), tmp_path, False)
    assert found.class_indices.tolist() == [-1, -1, -1]
    assert any(note.startswith("1 hidden file and 1 file of other kinds") for note in found.notes)


def test_one_file_and_one_folder(tmp_path):
    write_pngs(tmp_path, ("x/1.png",))
    assert list_scans([tmp_path / "x/1.png"]).scans[0].sample_id == "1"
    assert list_scans([tmp_path]).scans[0].sample_id == "x/1"


def test_a_file_is_taken_whatever_its_suffix(tmp_path):
    path = write_pngs(tmp_path, ("1.png",)) / "1.png"
    renamed = path.rename(tmp_path / "IM0001")
    assert read_scan(list_scans([renamed]).scans[0].path).spatial_shape == (8, 6)


def test_a_table_names_files_and_patients(tmp_path):
    write_pngs(tmp_path, ("x/1.png", "x/2.png"))
    (tmp_path / "new.csv").write_text("path,patient_id,label\nx/1.png,ann,?\nx/2.png,bob,\n")
    found = list_scans([tmp_path / "new.csv"])
    assert [(scan.sample_id, scan.patient_id, scan.label) for scan in found] == [
        ("x/1", "ann", None),
        ("x/2", "bob", None),
    ]


def test_a_medmnist_file_gives_its_test_images(tmp_path):
    path = write_medmnist(tmp_path / "m.npz")
    found = list_scans([path])
    assert [scan.member for scan in found] == [f"test_images:{n}" for n in range(4)]
    assert found.splits == frozenset()
    without = write_medmnist(tmp_path / "n.npz", test_images=None, test_labels=None)
    assert len(list_scans([without])) == 10
    assert len(list_scans([path, without])) == 14


def test_an_archive_of_one_array_is_one_scan(tmp_path):
    np.savez(tmp_path / "one.npz", ct=np.arange(24).reshape(2, 3, 4))
    found = list_scans([tmp_path / "one.npz"])
    assert [(scan.sample_id, scan.member) for scan in found] == [("one", None)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", "1 of 1 paths do not exist: .*gone.png"),
        ("empty", "empty holds no scans; looked for DICOM"),
        (
            "bad.csv",
            r"bad.csv has no column 'path' and cannot be joined to the files: by 'name', 1 of 1 fail: 'x' \(row 2\)",
        ),
        ("missing.csv", r"names 1 of 1 files that do not exist: 1.png \(row 2\)"),
    ],
)
def test_refusals(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("name\nx\n")
    (tmp_path / "missing.csv").write_text("path\n1.png\n")
    with pytest.raises(DataError, match=message):
        list_scans([tmp_path / name])
