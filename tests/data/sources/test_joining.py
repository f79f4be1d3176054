import pytest

from medres.data.sources import load_scans
from medres.errors import DataError
from tests.data.making import write_pngs


def joined(root, text, **options):
    (root / "labels.csv").write_text(text)
    return {scan.sample_id: (scan.label, scan.patient_id) for scan in load_scans(root, **options)}


FOLDERS = ("p1/t1.png", "p1/t2.png", "p2/t1.png", "deep/p3/x/t1.png")


def test_by_the_folder_of_the_patient(tmp_path):
    found = joined(write_pngs(tmp_path, FOLDERS), "patient_id,label\np1,a\np2,b\np3,b\n")
    assert found == {
        "p1/t1": ("a", "p1"),
        "p1/t2": ("a", "p1"),
        "p2/t1": ("b", "p2"),
        "deep/p3/x/t1": ("b", "p3"),
    }


def test_by_the_folder_named_in_a_column_of_ids(tmp_path):
    found = joined(write_pngs(tmp_path, FOLDERS), "id,label\np1,a\np2,b\np3,b\n")
    assert {patient for _, patient in found.values()} == {"p1", "p2", "p3"}


@pytest.mark.parametrize("suffix", ["", ".png"])
def test_by_the_stem_or_name_of_the_file(tmp_path, suffix):
    root = write_pngs(tmp_path, ("x/s1.png", "y/s2.png", "s3.png"))
    found = joined(root, f"image_id,label\ns1{suffix},a\ns2{suffix},b\n")
    assert found == {"x/s1": ("a", "x/s1"), "y/s2": ("b", "y/s2")}


def test_the_patient_column_counts_beside_a_column_of_ids(tmp_path):
    root = write_pngs(tmp_path, ("s1.png", "s2.png", "s3.png"))
    found = joined(root, "id,patient,label\ns1,ann,a\ns2,ann,b\ns3,bob,b\n")
    assert {patient for _, patient in found.values()} == {"ann", "bob"}


def test_ids_are_text(tmp_path):
    root = write_pngs(tmp_path, ("001/a.png", "1/a.png"))
    assert joined(root, "patient,label\n001,x\n1,y\n") == {"001/a": ("x", "001"), "1/a": ("y", "1")}


def test_files_that_no_row_names_are_findings(tmp_path):
    root = write_pngs(tmp_path, FOLDERS)
    (root / "labels.csv").write_text("patient_id,label\np1,a\np2,b\n")
    found = load_scans(root).findings
    assert [(one.code, one.severity, one.value) for one in found] == [
        ("file-not-listed", "warning", "deep/p3/x/t1.png is not in labels.csv: left out.")
    ]


def test_an_id_that_matches_nothing_is_a_finding_that_names_what_looks_like_it(tmp_path):
    root = write_pngs(tmp_path, FOLDERS)
    (root / "labels.csv").write_text("name,label\np1,a\nP02,b\np3,b\n")
    table = load_scans(root)
    assert [scan.sample_id for scan in table] == ["P02", "deep/p3/x/t1", "p1/t1", "p1/t2"]
    missing = next(one for one in table.findings if one.code == "file-missing")
    assert missing.sample_id == "P02"
    assert "row 3" in missing.value
    assert "'P02' matches no folder and no file (p2 looks like it, but for case and leading zeros)" in missing.value


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (("p1/a.png", "q/b.png", "r/c.png"), "patient,label\np1,a\np1,b\nq,a\nr,b\n"),
        (("p1/q/a.png", "p1/b.png", "r/c.png"), "patient,label\np1,a\nq,b\nr,b\n"),
    ],
)
def test_rows_that_claim_one_file_contradict_each_other(tmp_path, files, text):
    root = write_pngs(tmp_path, files)
    (root / "labels.csv").write_text(text)
    assert {one.code for one in load_scans(root).findings} & {"label-conflict", "rows-contradict"}


@pytest.mark.parametrize(
    ("files", "text", "message"),
    [
        (
            FOLDERS,
            "name,label\np8,a\np9,b\n",
            r"by 'name', 2 of 2 fail: .*'p9' \(row 3\) matches no folder and no file",
        ),
        (("x/1.png", "y/1.png", "z.png"), "id,label\n1,a\nz,b\n", r"'1' \(row 2\) matches 2 places \(1.png, 1.png\)"),
        (("x/p1/a.png", "y/p1/a.png"), "patient,label\np1,a\n", r"matches 2 places \(x/p1/, y/p1/\)"),
        (("p1/a.png", "p1.png"), "patient,label\np1,a\n", "matches 2 places"),
        (("a.png", "b.png"), "colour,label\nred,a\n", "no column 'path' and none of ids; it has colour, label"),
        (("p/s.png", "q/t.png", "q/r.png"), "id,patient,label\nr,p,a\nt,q,b\n", "both name files, but not the same"),
        ((), "patient,label\np1,a\n", "matches no folder and no file"),
    ],
)
def test_what_cannot_be_joined_is_refused(tmp_path, files, text, message):
    with pytest.raises(DataError, match=message) as caught:
        joined(write_pngs(tmp_path, files), text)
    assert "Add a column 'path'" in str(caught.value)


def test_a_file_in_folders_of_the_same_name_is_found_once(tmp_path):
    root = write_pngs(tmp_path, ("p1/p1/a.png", "p1/b.png", "p2/c.png"))
    assert joined(root, "patient,label\np1,a\np2,b\n")["p1/p1/a"] == ("a", "p1")


def test_a_pattern_finds_the_patient_of_the_table_in_names_of_files(tmp_path):
    root = write_pngs(tmp_path, ("scans/ct_P01_a.png", "scans/ct_P01_b.png", "scans/ct_P02_a.png", "scans/other.png"))
    text = "patient,label,age\nP01,x,61\nP02,y,50\nP03,y,40\n"
    found = joined(root, text, patient_pattern="ct_([^_]+)_")
    assert found == {
        "scans/ct_P01_a": ("x", "P01"),
        "scans/ct_P01_b": ("x", "P01"),
        "scans/ct_P02_a": ("y", "P02"),
        "P03": ("y", "P03"),
    }
    findings = load_scans(root, patient_pattern="ct_([^_]+)_").findings
    assert sorted(one.code for one in findings) == ["file-missing", "file-not-listed"]
