import pytest

from medres.data.sources import load_scans
from medres.data.sources.draft import EACH_ITS_OWN_PATIENT
from medres.errors import DataError
from tests.data.making import write_nifti, write_pngs

FILES = ("benign/1.png", "benign/2.png", "sick/1.png", "sick/deep/er/2.png")


def test_folders_are_classes(tmp_path):
    found = load_scans(write_pngs(tmp_path, FILES))
    assert found.source == "class folders"
    assert {scan.sample_id: scan.label for scan in found} == {
        "benign/1": "benign",
        "benign/2": "benign",
        "sick/1": "sick",
        "sick/deep/er/2": "sick",
    }
    assert [scan.patient_id for scan in found] == [scan.sample_id for scan in found]
    assert not found.patients_given
    assert found.notes == (EACH_ITS_OWN_PATIENT,)
    assert found.splits == frozenset()


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "testing"), ("train", "test")])
def test_folders_of_splits_that_hold_class_folders(tmp_path, names):
    found = load_scans(write_pngs(tmp_path, [f"{name}/{label}/1.png" for name in names for label in "ab"]))
    assert found.splits == {name[:3].lower().replace("tra", "train").replace("tes", "test") for name in names}
    assert found.classes == ("a", "b")
    assert len(found) == 2 * len(names)


def test_a_class_may_be_called_test(tmp_path):
    found = load_scans(write_pngs(tmp_path, ["control/1.png", "test/1.png"]))
    assert (found.classes, found.splits) == (("control", "test"), frozenset())


def test_patients_by_pattern(tmp_path):
    root = write_pngs(tmp_path, ["a/p1/1.png", "a/p1/2.png", "b/p2/1.png", "b/p1/3.png"])
    assert any("--patient-pattern '^[^/]+/([^/]+)/'" in note for note in load_scans(root).notes)
    found = load_scans(root, patient_pattern="^[^/]+/([^/]+)/")
    assert [scan.patient_id for scan in found] == ["p1", "p1", "p1", "p2"]
    assert found.patients_given
    assert EACH_ITS_OWN_PATIENT not in found.notes


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("10", "9", "-1"), ("-1", "9", "10")),
        (("10", "9", "x"), ("10", "9", "x")),
        (("b", "B2", "a"), ("B2", "a", "b")),
    ],
)
def test_classes_are_sorted(tmp_path, labels, classes):
    assert load_scans(write_pngs(tmp_path, [f"{label}/1.png" for label in labels])).classes == classes


@pytest.mark.parametrize("positive", ["benign", "sick"])
def test_the_positive_class_is_the_last(tmp_path, positive):
    assert load_scans(write_pngs(tmp_path, FILES), positive=positive).classes[-1] == positive


def test_what_is_left_out_is_counted(tmp_path):
    root = write_pngs(tmp_path, (*FILES, "logo.png", "benign/.cache.png", ".git/a/b.png"))
    (root / "benign/notes.txt").touch()
    (root / "sick/series.xyz").touch()
    notes = load_scans(root).notes
    assert "1 scan outside the class folders were left out: logo.png." in notes
    assert any(note.startswith("1 hidden file and 2 files of other kinds were left out") for note in notes)


def test_the_same_stem_keeps_its_suffix(tmp_path):
    root = write_pngs(tmp_path, ("a/1.png", "b/2.png"))
    write_nifti(root / "a/1.nii.gz")
    assert [scan.sample_id for scan in load_scans(root)] == ["a/1.nii.gz", "a/1.png", "b/2"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "holds no scans; looked for DICOM .* Arrange the data as one folder a class"),
        (("1.png", "2.png"), "holds 2 scans, but no class folders and no labels.csv. Arrange"),
        (("a/1.png", "a/2.png"), "one class folder with scans, 'a'; two are needed"),
        (("train/a/1.png", "test/a/1.png"), "one class folder with scans, 'a'"),
        (("train/a/1.png", "extra/b/1.png"), r"mixes split folders \(train\) with others that hold scans \(extra\)"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        load_scans(write_pngs(tmp_path, files))


def test_other_files_are_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.docx").touch()
    with pytest.raises(DataError, match=r"holds no scans \(1 file of other kinds: .docx\)"):
        load_scans(tmp_path)


def test_a_table_of_another_name_is_hinted_at(tmp_path):
    write_pngs(tmp_path, ("a/1.png",))
    (tmp_path / "cohort.csv").touch()
    with pytest.raises(DataError, match=r"If cohort.csv holds the labels, name it with --labels"):
        load_scans(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_column": "y"}, "--label-column y names a column, but .* has no table"),
        ({"patient_column": "p"}, "--patient-column p names a column"),
        ({"unit_column": "u"}, "--unit-column u names a column"),
    ],
)
def test_columns_need_a_table(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        load_scans(write_pngs(tmp_path, FILES), **options)


def test_paths_that_are_no_data(tmp_path):
    with pytest.raises(DataError, match=r"gone does not exist. Check the path given to --data"):
        load_scans(tmp_path / "gone")
    with pytest.raises(DataError, match=r"1.png is one scan, not a data set. Give a folder of class folders"):
        load_scans(write_pngs(tmp_path, FILES) / "benign/1.png")
    (tmp_path / "x.pdf").touch()
    with pytest.raises(DataError, match=r"x.pdf is no data set that medres knows"):
        load_scans(tmp_path / "x.pdf")


@pytest.mark.real
def test_real_mri_slices(real_data):
    found = load_scans(real_data / "brain_mri_tumor")
    assert (len(found), found.class_counts()) == (253, {"no": 98, "yes": 155})
