"""Columns that say which part of a scan is looked at, and which images are its channels."""

from __future__ import annotations

import pytest

from medres.data.sources import list_scans, load_scans
from medres.errors import DataError
from tests.data.making import write_pngs
from tests.data.sources.making_studies import write_study

FILES = ("t1/1.png", "t1/2.png", "t2/1.png", "t2/2.png", "mask/1.png", "mask/2.png")
CENTER = "center_x_mm,center_y_mm,center_z_mm"


@pytest.fixture
def root(tmp_path):
    return write_pngs(tmp_path / "data", FILES)


def load(root, text, **options):
    (root / "labels.csv").write_text(text)
    return load_scans(root, **options)


def codes(found):
    return sorted(finding.code for finding in found.findings)


# --- sequences


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("t1,t2,label", {}),
        ("t1,t2,label", {"sequences": ("t1", "t2")}),
        ("path_t1,image_t2,label", {"sequences": ("t1", "t2")}),
    ],
)
def test_columns_of_images_are_channels(root, header, options):
    found = load(root, f"{header}\nt1/1.png,t2/1.png,a\nt1/2.png,t2/2.png,b\n", **options)
    assert [list(scan.sequences.items()) for scan in found] == [
        [("t1", root / f"t1/{n}.png"), ("t2", root / f"t2/{n}.png")] for n in (1, 2)
    ]
    assert [scan.path for scan in found] == [root / "t1/1.png", root / "t1/2.png"]
    assert [scan.sample_id for scan in found] == ["t1/1", "t1/2"]
    assert all(scan.metadata == {} for scan in found)
    assert codes(found) == ["file-not-listed"] * 2  # the masks
    said = any("t1, t2 name images: they become the channels" in note for note in found.notes)
    assert said == (not options)


def test_their_order_is_that_of_the_option(root):
    found = load(root, "t1,t2,label\nt1/1.png,t2/1.png,a\nt1/2.png,t2/2.png,b\n", sequences=("t2", "t1"))
    assert list(found.scans[0].sequences) == ["t2", "t1"]
    assert found.scans[0].path == root / "t2/1.png"


def test_one_column_of_images_is_the_path_whatever_its_name(root):
    found = load(root, "bild,label,grade\nt1/1.png,a,1.5\nt1/2.png,b,2.0\n")
    assert "Paths are taken from the column 'bild'." in found.notes
    assert [scan.path.name for scan in found] == ["1.png", "2.png"]
    assert found.scans[0].metadata == {"grade": "1.5"}


def test_further_images_beside_a_path_are_hinted_at_not_read(root):
    found = load(root, "path,t2,label\nt1/1.png,t2/1.png,a\nt1/2.png,t2/2.png,b\n")
    assert any("give --sequences path,t2" in note for note in found.notes)
    assert all(not scan.sequences for scan in found)
    both = load(root, "path,t2,label\nt1/1.png,t2/1.png,a\nt1/2.png,t2/2.png,b\n", sequences=("path", "t2"))
    assert list(both.scans[0].sequences) == ["path", "t2"]


def test_sequences_that_are_missing_are_findings(root):
    found = load(root, "t1,t2,label\nt1/1.png,t2/1.png,a\nt1/2.png,,b\nt1/1.png,t2/9.png,b\n")
    assert [code for code in codes(found) if code != "file-not-listed"] == ["file-missing", "sequence-missing"]
    assert len(found) == 3


def test_sequences_may_be_folders_of_dicom(tmp_path):
    for patient in ("ann", "bob"):
        for name in ("t1", "flair"):
            write_study(tmp_path / patient / name, patient, series=name)
    text = "t1,flair,patient,label\nann/t1,ann/flair,ann,a\nbob/t1,bob/flair,bob,b\n"
    found = load(tmp_path, text, sequences=("t1", "flair"))
    assert found.scans[0].sequences == {"t1": tmp_path / "ann/t1", "flair": tmp_path / "ann/flair"}
    assert codes(found) == []


# --- regions of interest


def test_masks(root):
    found = load(root, "path,mask,label\nt1/1.png,mask/1.png,a\nt1/2.png,,b\n")
    assert [scan.mask for scan in found] == [root / "mask/1.png", None]
    assert any("masks in the column 'mask'" in note for note in found.notes)
    named = load(root, "path,roi,label\nt1/1.png,mask/1.png,a\nt1/2.png,mask/9.png,b\n", mask_column="roi")
    assert "file-missing" in codes(named)
    assert named.scans[1].mask == root / "mask/9.png"


def test_a_column_mask_that_holds_no_files_is_metadata(root):
    found = load(root, "path,mask,label\nt1/1.png,yes,a\nt1/2.png,no,b\n")
    assert [scan.mask for scan in found] == [None, None]
    assert found.scans[0].metadata == {"given_mask": "yes"}


def test_centers_and_several_lesions_of_one_scan(root):
    text = f"path,label,{CENTER},lesion\nt1/1.png,a,1.5,-2,3e1,x\nt1/1.png,b,9,9,9,y\nt1/2.png,b,,,,z\n"
    found = load(root, text)
    assert {scan.sample_id: scan.center_ras_mm for scan in found} == {
        "t1/1#1": (1.5, -2.0, 30.0), "t1/1#2": (9.0, 9.0, 9.0), "t1/2": None,
    }  # fmt: skip
    units = load(root, text.replace("t1/1.png", "t1\\1.png"), unit_column="lesion", patient_column="path")
    assert [scan.sample_id for scan in units] == ["t1/1#x", "t1/1#y", "t1/2"]


@pytest.mark.parametrize(
    ("delimiter", "cell", "number"),
    [(";", "12,5", 12.5), (";", "12.5", 12.5), ("\t", "-0,25", -0.25), (";", "1.234,5", None), (",", '"12,5"', None),
     (",", "nan", None), (",", "inf", None), (",", "12 mm", None), (",", "1_0", None), (",", "+3", 3.0)],
)  # fmt: skip
def test_numbers_as_they_are_written(root, delimiter, cell, number):
    lines = [["path", "label", *CENTER.split(",")], ["t1/1.png", "a", cell, "0", "0"], ["t1/2.png", "b", "1", "1", "1"]]
    found = load(root, "\n".join(delimiter.join(line) for line in lines) + "\n")
    scan = found.scans[0]
    assert scan.center_ras_mm == (None if number is None else (number, 0.0, 0.0))
    assert ("roi-unknown" in codes(found)) == (number is None)


def test_part_of_a_center_is_refused(root):
    with pytest.raises(DataError, match=r"center_x_mm and center_z_mm, but not center_y_mm. .*needs all three"):
        load(
            root,
            "path,label,center_x_mm,Center Z mm\nt1/1.png,a,1,1\nt1/2.png,b,1,1\n".replace(
                "Center Z mm", "center_z_mm"
            ),
        )


def test_one_lesion_of_two_patients_is_found(root):
    found = load(root, f"path,label,patient,{CENTER}\nt1/1.png,a,p,1,1,1\nt1/1.png,b,q,9,9,9\nt1/2.png,b,r,1,1,1\n")
    assert "rows-contradict" in codes(found)


def test_scans_csv_is_read_again_with_regions_and_sequences(root, tmp_path):
    text = f"t1,t2,mask,label,patient,age,lesion,{CENTER}\n"
    text += "t1/1.png,t2/1.png,mask/1.png,a,p,61,l1,1.25,-2,3\nt1/1.png,t2/1.png,,b,p,61,l2,0.1,0.2,0.3\n"
    text += "t1/2.png,t2/2.png,mask/2.png,b,q,,l3,,,\n"
    found = load(root, text, unit_column="lesion")
    found.write_csv(tmp_path / "scans.csv")
    again = load_scans(root, labels=tmp_path / "scans.csv")
    assert again.scans == found.scans
    again.write_csv(tmp_path / "third.csv")
    assert (tmp_path / "third.csv").read_text() == (tmp_path / "scans.csv").read_text()


# --- prediction


def test_new_scans_by_table_have_the_same_columns(root):
    text = f"t1,t2,mask,patient,{CENTER}\nt1/1.png,t2/1.png,mask/1.png,p,1,2,3\nt1/2.png,t2/2.png,,q,,,\n"
    (root / "new.csv").write_text(text)
    found = list_scans([root / "new.csv"], sequences=("t1", "t2"))
    assert [list(scan.sequences) for scan in found] == [["t1", "t2"]] * 2
    assert found.scans[0].center_ras_mm == (1.0, 2.0, 3.0)
    assert [scan.mask for scan in found] == [root / "mask/1.png", None]
    assert [scan.patient_id for scan in found] == ["p", "q"]
    assert [scan.label for scan in found] == [None, None]


def test_new_lesions_of_one_scan_are_rows(root):
    (root / "new.csv").write_text(f"path,{CENTER}\nt1/1.png,1,2,3\nt1/1.png,4,5,6\n")
    assert [scan.sample_id for scan in list_scans([root / "new.csv"])] == ["t1/1#1", "t1/1#2"]


def test_new_scans_may_be_joined_on_patients_of_dicom_headers(tmp_path):
    for patient in ("ann", "bob"):
        write_study(tmp_path / "flat", patient, name=patient)
    (tmp_path / "new.csv").write_text(f"PatientID,{CENTER}\nann,1,2,3\nbob,4,5,6\n")
    found = list_scans([tmp_path / "new.csv"])
    assert [(scan.patient_id, scan.center_ras_mm) for scan in found] == [("ann", (1, 2, 3)), ("bob", (4, 5, 6))]
    assert all(len(scan.files) == 3 for scan in found)
