"""DICOM in every layout: what is a scan, whose it is, what was left out."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medres.data.readers import read_scan
from medres.data.readers.rules import ReadingRules
from medres.data.sample import read_sample
from medres.data.sources import list_scans, load_scans
from medres.data.sources.studies import find_studies
from medres.data.survey import survey_scans
from medres.errors import DataError, UnreadableScanError
from medres.runs.progress import Silent
from tests.data.making import write_nifti, write_pngs
from tests.data.sources.making_studies import without_suffix, write_study

PATIENTS = {"benign": ("ann", "bob"), "sick": ("cid", "dan")}


def rows(table):
    return {scan.sample_id: (scan.label, scan.patient_id, len(scan.files)) for scan in table}


def codes(table):
    return sorted(finding.code for finding in table.findings)


@pytest.fixture(scope="module")
def folder_of_patients(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("patients")
    for label, patients in PATIENTS.items():
        for patient in patients:
            write_study(root / label / patient, patient)
    return root


def test_a_folder_a_patient(folder_of_patients):
    found = load_scans(folder_of_patients)
    assert rows(found) == {
        "benign/ann": ("benign", "ann", 3),
        "benign/bob": ("benign", "bob", 3),
        "sick/cid": ("sick", "cid", 3),
        "sick/dan": ("sick", "dan", 3),
    }
    assert (found.source, found.patients_given, codes(found)) == ("class folders of DICOM studies", True, [])
    assert "12 DICOM files are 4 studies." in found.notes
    first = found.scans[0]
    assert first.path == folder_of_patients / "benign/ann"
    assert first.files == tuple(sorted(first.path.iterdir()))
    assert first.member
    assert first.member.startswith("1.2.")


def test_a_row_reads_the_scan_that_its_files_are(folder_of_patients):
    found = load_scans(folder_of_patients)
    hashes = {read_scan(scan.path, member=scan.member, files=scan.files).content_hash for scan in found}
    assert len(hashes) == 4


def test_files_without_a_suffix_in_folders_of_the_scanner(tmp_path):
    for label, patients in PATIENTS.items():
        for patient in patients:
            without_suffix(write_study(tmp_path / label / f"x_{patient}/DICOM/ST0/SE0", patient))
            (tmp_path / label / f"x_{patient}/DICOMDIR").write_bytes(b"an index")
    found = load_scans(tmp_path)
    assert rows(found) == {
        f"{label}/x_{patient}/DICOM/ST0/SE0": (label, patient, 3)
        for label, patients in PATIENTS.items()
        for patient in patients
    }


def test_one_flat_folder_a_class(tmp_path):
    for label, patients in PATIENTS.items():
        for patient in patients:
            write_study(tmp_path / label, patient, name=patient)
    write_study(tmp_path / "sick", "dan", study="second", name="later")
    found = load_scans(tmp_path)
    assert rows(found) == {
        "benign/ann": ("benign", "ann", 3),
        "benign/bob": ("benign", "bob", 3),
        "sick/cid": ("sick", "cid", 3),
        "sick/dan#1": ("sick", "dan", 3),
        "sick/dan#2": ("sick", "dan", 3),
    }


def test_a_folder_a_series_is_one_scan_a_study_and_says_which(tmp_path):
    for label, patients in PATIENTS.items():
        for patient in patients:
            write_study(tmp_path / label / f"{patient}_thin", patient, series="thin", slices=5)
            write_study(tmp_path / label / f"{patient}_thick", patient, series="thick", slices=3)
    found = load_scans(tmp_path)
    assert rows(found)["benign/ann_thin"] == ("benign", "ann", 5)
    assert len(found) == 4
    assert codes(found) == ["series-chosen"] * 4
    chosen = {finding.sample_id: finding for finding in found.findings}
    assert chosen["benign/ann_thin"].severity == "info"
    assert "'thin'" in chosen["benign/ann_thin"].value
    assert "1 other series of the study was left out" in chosen["benign/ann_thin"].value
    thick = load_scans(tmp_path, series="thick")
    assert {len(scan.files) for scan in thick} == {3}
    none = load_scans(tmp_path, series="coronal")
    assert codes(none) == ["no-series"] * 4
    assert [scan.label for scan in none] == ["benign", "benign", "sick", "sick"]


def test_one_id_for_all_is_the_id_of_nobody(tmp_path):
    for label, patients in PATIENTS.items():
        for patient in patients:  # even the uids are the same: a program removed them
            write_study(tmp_path / label / patient, "ANON-1")
    found = load_scans(tmp_path)
    assert rows(found) == {
        f"{label}/{patient}": (label, patient, 3) for label, patients in PATIENTS.items() for patient in patients
    }
    (shared,) = found.findings
    assert (shared.code, shared.severity) == ("patient-shared", "warning")
    assert "the folder stands for the patient (ann, bob, cid and 1 more)" in shared.value
    patterned = load_scans(tmp_path, patient_pattern=r"/(.)[^/]*/")
    assert [scan.patient_id for scan in patterned] == list("abcd")
    assert patterned.findings == ()


def test_ids_that_are_missing_in_part_and_folders_that_share_one(tmp_path):
    write_study(tmp_path / "benign/x1", "real", study="a")
    write_study(tmp_path / "benign/x2", "real", study="b")
    write_study(tmp_path / "sick/y1", "Anonymous", study="c")
    write_study(tmp_path / "sick/y2", "", study="d")
    found = load_scans(tmp_path)
    assert [scan.patient_id for scan in found] == ["x1", "x1", "y1", "y2"]
    assert "2 of 4 DICOM series have no patient id" in found.findings[0].value


def test_one_id_for_all_in_flat_folders_takes_each_study_as_a_patient(tmp_path):
    for label, patients in PATIENTS.items():
        for patient in patients:
            write_study(tmp_path / label, "0", study=patient, name=patient)
    found = load_scans(tmp_path)
    assert (len(found), found.num_patients, found.patients_given) == (4, 4, False)
    assert codes(found) == ["patient-shared"]


def test_a_study_of_one_patient_in_two_classes_is_two_scans_of_one_patient(tmp_path):
    write_study(tmp_path / "a/before", "ann", study="1")
    write_study(tmp_path / "b/after", "ann", study="2")
    write_study(tmp_path / "b/other", "bob")
    found = load_scans(tmp_path)
    assert [scan.patient_id for scan in found] == ["ann", "ann", "bob"]


def test_other_formats_beside_dicom(tmp_path):
    write_study(tmp_path / "a/ann", "ann")
    write_study(tmp_path / "a/ann2", "ann", study="2")
    write_study(tmp_path / "a/bob", "bob")
    write_nifti(tmp_path / "b/1.nii.gz")
    write_pngs(tmp_path, ["b/2.png"])
    found = load_scans(tmp_path)
    assert [scan.patient_id for scan in found] == ["ann", "ann", "bob", "b/1", "b/2"]
    assert (found.source, found.patients_given) == ("class folders", True)
    assert any(note.startswith("2 scans of 5 name no patient") for note in found.notes)


def test_what_is_no_scan_is_reported_and_what_cannot_be_read_is_a_row(tmp_path):
    for label, patients in PATIENTS.items():
        for patient in patients:
            write_study(tmp_path / label / patient, patient)
    write_study(tmp_path / "sick/eve", "eve", series="localizer", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "sick/dan/empty.dcm").touch()
    broken = tmp_path / "sick/dan/broken.dcm"
    broken.write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    (tmp_path / "sick/dan/text.dcm").write_text("no DICOM at all")
    found = load_scans(tmp_path)
    assert set(codes(found)) == {"no-series"}
    listed = {file for scan in found for file in (scan.files or (scan.path,))}
    files = {path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith("IM")}
    eve = set((tmp_path / "sick/eve").iterdir())
    assert files - eve <= listed
    assert any(scan.path == tmp_path / "sick/eve" for scan in found)
    left = {tmp_path / "sick/dan/empty.dcm", broken, tmp_path / "sick/dan/text.dcm"} - listed
    assert any(f"{len(left)} file" in note for note in found.notes) == bool(left)


def test_two_views_are_two_scans(tmp_path):
    for label, patient in (("a", "ann"), ("b", "bob")):
        for view in ("front", "side"):
            write_study(
                tmp_path / label / patient, patient, slices=1, name=view, series=view, modality="CR",
                ImagePositionPatient=None, ImageOrientationPatient=None,
            )  # fmt: skip
    found = load_scans(tmp_path)
    names = [scan.sample_id.rstrip("0") for scan in found]
    assert names == ["a/ann/front", "a/ann/side", "b/bob/front", "b/bob/side"]
    assert found.num_patients == 2


def test_the_check_names_all_that_is_wrong_and_leaves_out_what_is_asked(tmp_path):
    for label, patients in PATIENTS.items():
        for patient in patients:
            write_study(tmp_path / label / patient, patient)
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for number in range(2):
        write_study(tmp_path / "sick/eve", "eve", slices=1, series=f"s{number}", name=f"s{number}_", **scout)
    (tmp_path / "benign/bob/broken.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    table = load_scans(tmp_path)
    checked = survey_scans(table, progress=Silent(), refuse=False)
    errors = {finding.sample_id: finding.code for finding in checked.findings if finding.severity == "error"}
    assert set(errors) == {"sick/eve", "benign/bob/broken"}
    assert errors["sick/eve"] == "no-series"
    left = survey_scans(table, progress=Silent(), exclude=tuple(set(errors.values())))
    assert [scan.sample_id for scan in left.table] == ["benign/ann", "benign/bob", "sick/cid", "sick/dan"]


# --- tables


@pytest.fixture
def flat(tmp_path) -> Path:
    """One flat folder: four patients, one of them with two studies; and an unlisted one."""
    for patient in ("P1", "P2", "P3"):
        write_study(tmp_path / "dicom", patient, name=patient)
    write_study(tmp_path / "dicom", "P1", study="second", name="later")
    write_study(tmp_path / "dicom", "P9", name="P9")
    return tmp_path


def write_labels(root, text, name="labels.csv") -> Path:
    (root / name).write_text(text)
    return root / name


@pytest.mark.parametrize("column", ["PatientID", "patient_id", "MRN", "id"])
def test_one_flat_folder_joined_on_the_patient_id_of_the_header(flat, column):
    write_labels(flat, f"{column},label,age\nP1,a,61\nP2,b,50\nP3,b,40\n")
    found = load_scans(flat)
    assert rows(found) == {
        "dicom/P1#1": ("a", "P1", 3),
        "dicom/P1#2": ("a", "P1", 3),
        "dicom/P2": ("b", "P2", 3),
        "dicom/P3": ("b", "P3", 3),
    }
    assert found.source == "labels.csv of DICOM studies"
    assert codes(found) == ["file-not-listed"]
    assert "P9" in found.findings[0].value
    assert found.scans[0].metadata["age"] == "61"


def test_joined_on_uids(flat):
    studies = {scan.patient_id: scan for scan in list_scans([flat])}
    p2, p3 = studies["P2"].member, studies["P3"].member
    write_labels(flat, f"SeriesInstanceUID,label\n{p2},a\n{p3},b\n")
    by_series = load_scans(flat)
    assert rows(by_series) == {"dicom/P2": ("a", "P2", 3), "dicom/P3": ("b", "P3", 3)}
    write_labels(flat, f"StudyInstanceUID,patient_id,label\n{p2.rpartition('.')[0]},x,a\n{p3.rpartition('.')[0]},y,b\n")
    by_study = load_scans(flat)
    assert {scan.sample_id: scan.patient_id for scan in by_study} == {"dicom/P2": "x", "dicom/P3": "y"}
    assert "patient-mismatch" not in codes(by_study)
    assert any("other names, one for one" in note for note in by_study.notes)


def test_a_table_that_divides_patients_differently_is_found(flat):
    write_labels(flat, "StudyInstanceUID,patient_id,label\n", name="uids.csv")
    scans = list_scans([flat / "dicom"]).scans
    studies = [scan.member.rpartition(".")[0] for scan in scans]
    lines = [f"{study},{'P1' if n == 0 else f'Q{n}'},{'ab'[n % 2]}" for n, study in enumerate(studies)]
    write_labels(flat, "StudyInstanceUID,patient_id,label\n" + "\n".join(lines) + "\n")
    found = [one for one in load_scans(flat).findings if one.code == "patient-mismatch"]
    assert len(found) == len(scans) - 1
    assert any("the patient given is 'Q1', the DICOM header says 'P1'" in one.value for one in found)


def test_a_table_names_folders(folder_of_patients, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(folder_of_patients, root)
    text = "path,label\nbenign/ann,x\nbenign\\bob,x\nsick/cid/,y\nsick,y\n"
    found = load_scans(write_labels(root, text))
    assert rows(found) == {
        "benign/ann": ("x", "ann", 3),
        "benign/bob": ("x", "bob", 3),
        "sick/cid": ("y", "cid", 3),
        "sick": ("y", "sick", 0),
    }
    (several,) = [one for one in found.findings if one.severity == "error"]
    assert (several.code, several.sample_id) == ("several-patients", "sick")
    assert "holds scans of 2 patients" in several.value


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize("where", ["folder", "table"])
def test_a_table_of_single_slices_takes_patients_from_their_headers(tmp_path, suffix, where):
    files = [file for patient in ("ann", "bob") for file in write_study(tmp_path / "x", patient, name=patient)]
    if not suffix:
        without_suffix(files)
    names = sorted(path.name for path in (tmp_path / "x").iterdir())
    labels = write_labels(tmp_path, "path,label\n" + "".join(f"x/{name},{n % 2}\n" for n, name in enumerate(names)))
    found = load_scans(tmp_path if where == "folder" else labels)
    assert [scan.patient_id for scan in found] == ["ann"] * 3 + ["bob"] * 3
    assert all(scan.files == () for scan in found)
    assert codes(found) == []


def test_a_table_that_names_the_folder_of_one_series_means_that_series(tmp_path):
    for patient in ("ann", "bob"):
        write_study(tmp_path / patient / "thin", patient, series="thin", slices=5)
        write_study(tmp_path / patient / "thick", patient, series="thick", slices=3)
    write_labels(tmp_path, "path,label\nann/thick,x\nbob,y\n")
    found = load_scans(tmp_path)
    assert [len(scan.files) for scan in found] == [3, 5]
    assert "file-not-listed" not in codes(found)


def test_scans_csv_of_dicom_is_read_again(folder_of_patients, flat, tmp_path):
    write_labels(flat, "PatientID,label\nP1,a\nP2,b\nP3,b\n")
    for root in (folder_of_patients, flat):
        found = load_scans(root)
        found.write_csv(tmp_path / "scans.csv")
        again = load_scans(root, labels=tmp_path / "scans.csv")
        kept = [(s.sample_id, s.patient_id, s.path, s.member, s.files, s.label, s.metadata) for s in found]
        assert [(s.sample_id, s.patient_id, s.path, s.member, s.files, s.label, s.metadata) for s in again] == kept
        assert "num_files" in (tmp_path / "scans.csv").read_text().splitlines()[0]


# --- prediction


def test_new_scans_are_studies_too(folder_of_patients, tmp_path):
    found = list_scans([folder_of_patients / "benign", folder_of_patients / "sick/cid"])
    assert [scan.sample_id for scan in found] == ["benign/ann", "benign/bob", "sick/cid"]
    assert [scan.patient_id for scan in found] == ["ann", "bob", "cid"]
    loose = sorted((folder_of_patients / "sick/cid").iterdir())
    (one,) = list_scans(loose).scans
    assert one.files == tuple(loose)
    (single,) = list_scans(loose[:1]).scans
    assert (single.path, single.files) == (loose[0], ())
    twice = list_scans([folder_of_patients / "sick", folder_of_patients / "sick/cid", *loose])
    assert len(twice) == 2


def test_one_study_of_one_patient_is_one_scan_however_its_folders_are_called(tmp_path):
    write_study(tmp_path / "new/T1", "ANON", series="t1", slices=5)
    write_study(tmp_path / "new/T2", "ANON", series="t2", slices=3)
    (scan,) = list_scans([tmp_path / "new"]).scans
    assert len(scan.files) == 5


def test_a_zip_is_one_scan(folder_of_patients, tmp_path):
    path = shutil.make_archive(str(tmp_path / "cid"), "zip", folder_of_patients / "sick/cid")
    (scan,) = list_scans([Path(path)]).scans
    assert (scan.sample_id, scan.files) == ("cid", ())
    write_labels(tmp_path, "path,label\ncid.zip,a\ngone.zip,b\n")
    assert codes(load_scans(tmp_path)) == ["file-missing"]


def test_several_sequences_need_a_table(folder_of_patients):
    with pytest.raises(DataError, match=r"which files are t1, t2 of one scan cannot be told. Give a table"):
        list_scans([folder_of_patients], sequences=("t1", "t2"))


# --- laws


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000), flat_folder=st.booleans())
def test_two_patients_are_never_one_scan(tmp_path_factory, seed, flat_folder):
    """Random trees: every file is in one study, and every study is of one patient and one class."""
    root = tmp_path_factory.mktemp("tree")
    rng = random.Random(seed)
    owner: dict[Path, tuple[str, str]] = {}
    for number in range(rng.randint(2, 5)):
        label, patient = rng.choice("ab"), rng.choice(["P1", "P2", "P3", "", "ANON"])
        folder = root / label if flat_folder else root / label / rng.choice(["f1", "f2", "f3"])
        files = write_study(
            folder, patient, study=rng.choice(["", "2"]), series=rng.choice("st"), slices=2, name=f"n{number}_",
            SOPInstanceUID=f"1.9.{number}",
        )  # fmt: skip
        owner.update(dict.fromkeys(files, (label, patient)))
    found = find_studies(sorted(owner), root, depth=1)
    grouped = [file for study in found.studies for file in study.all_files]
    assert sorted(grouped) == sorted(owner)
    for study in found.studies:
        assert len({owner[file] for file in study.all_files}) == 1
    names = [(study.name, study.patient_id, study.folder) for study in found.studies if len(study.all_files) > 1]
    assert all(name for name, _, _ in names)


@pytest.mark.real
def test_a_real_tree_of_several_patients(real_data):
    root = real_data / "dicom/pydicom_test_files/test_files/dicomdirtests"
    found = list_scans([root])
    files = [file for scan in found for file in (scan.files or ([scan.path] if scan.path.is_file() else []))]
    assert len(files) == len(set(files))
    assert {"77654033", "98890234"} <= {scan.patient_id for scan in found}
    assert all(("7765" in str(scan.path)) == (scan.patient_id == "77654033") for scan in found)
    ids = [scan.sample_id for scan in found]
    assert len(ids) == len(set(ids)) == 20  # of 79 files; one is a folder of images without pixels


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "num_files"),
    [("ct_head_gantry_tilt", [28]), ("mr_4d_single_frame", [150]), ("mr_siemens_mosaic", [2]),
     ("mr_enhanced_multiframe", [0, 4])],
)  # fmt: skip
def test_real_series(real_data, folder, num_files):
    found = list_scans([real_data / "dicom" / folder])
    assert sorted(len(scan.files) for scan in found) == num_files


# --- a scout is no scan, in training or in use


@pytest.fixture
def lone_scout(tmp_path) -> Path:
    write_study(tmp_path / "eve", "eve", series="s1", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    return tmp_path / "eve"


def test_what_training_refuses_as_a_scout_use_refuses(lone_scout, tmp_path):
    (finding,) = list_scans([lone_scout]).findings
    beside = tmp_path / "beside"
    write_study(beside, "ann", study="one", name="A")
    write_study(beside, "ann", study="two", name="B", slices=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    file = next(lone_scout.iterdir())
    shutil.make_archive(str(tmp_path / "scout"), "zip", lone_scout)
    refused = 0
    for paths in ([lone_scout], [file], sorted(lone_scout.iterdir()), [beside], [tmp_path / "scout.zip"]):
        for scan in list_scans(paths):
            if paths == [beside] and len(scan.files) == 3:
                assert read_sample(scan, rules=ReadingRules()).spatial_dims == 3
                continue
            with pytest.raises(UnreadableScanError, match=r"no series that is a scan.*localizer") as caught:
                read_sample(scan, rules=ReadingRules())
            assert caught.value.code == finding.code == "no-series"
            refused += 1
    assert refused == 5


def test_a_scout_that_is_asked_for_is_a_scan(lone_scout, tmp_path):
    file = next(lone_scout.iterdir())
    shutil.make_archive(str(tmp_path / "scout"), "zip", lone_scout)
    asked, other = ReadingRules(series="^3 "), ReadingRules(series="thorax")
    for paths in ([lone_scout], [file], [tmp_path / "scout.zip"]):
        (scan,) = list_scans(paths, series=asked.series)
        assert read_sample(scan, rules=asked).voxels.size > 0
        with pytest.raises(UnreadableScanError, match="--series matches"):
            read_sample(scan, rules=other)


def test_ids_that_are_missing_in_part_in_flat_folders_keep_the_studies_of_a_patient_together(tmp_path):
    for name, patient in (("a", "ann"), ("b", "ann"), ("c", "")):
        write_study(tmp_path / "benign", patient, study=name, name=name)
    write_study(tmp_path / "sick", "Unknown", study="d", name="d")
    write_study(tmp_path / "sick", "bob", study="e", name="e")
    found = load_scans(tmp_path)
    assert sorted(Counter(scan.patient_id for scan in found).values()) == [1, 1, 1, 2]
    assert Counter(scan.patient_id for scan in found)["ann"] == 2
    (shared,) = found.findings
    assert "2 of 5 DICOM series have no patient id" in shared.value
    assert "each study without one is taken as its own patient" in shared.value


def test_folders_of_one_name_in_two_classes_are_one_patient_unless_their_ids_differ(tmp_path):
    for label, first, second in (("benign", "ann", ""), ("sick", "bob", "")):
        write_study(tmp_path / label / "001", first, study=label)
        write_study(tmp_path / label / "002", second, study=label)
    found = load_scans(tmp_path)
    assert [(scan.sample_id, scan.patient_id) for scan in found] == [
        ("benign/001", "benign/001"), ("benign/002", "002"), ("sick/001", "sick/001"), ("sick/002", "002")
    ]  # fmt: skip


def test_zipped_studies_are_of_the_patients_in_their_headers(tmp_path):
    for label, patient, study in (("a", "ann", "1"), ("a", "ann", "2"), ("b", "bob", "3"), ("b", "ANON", "4")):
        write_study(tmp_path / "made" / study, patient, study=study)
        shutil.make_archive(str(tmp_path / "zips" / label / f"z{study}"), "zip", tmp_path / "made" / study)
    (tmp_path / "zips/b/z5.zip").write_bytes(b"PK\x03\x04 cut")
    found = load_scans(tmp_path / "zips")
    assert [scan.patient_id for scan in found] == ["ann", "ann", "bob", "b/z4", "b/z5"]
    write_labels(tmp_path / "zips", "PatientID,label\nann,x\nbob,y\n")
    joined = load_scans(tmp_path / "zips")
    assert [(scan.path.name, scan.label) for scan in joined] == [("z1.zip", "x"), ("z2.zip", "x"), ("z3.zip", "y")]


def test_one_id_in_all_zip_files_is_the_id_of_nobody(tmp_path):
    for study, label in enumerate("aab"):
        write_study(tmp_path / "made" / str(study), "0", study=str(study))
        shutil.make_archive(str(tmp_path / "zips" / label / f"z{study}"), "zip", tmp_path / "made" / str(study))
    assert load_scans(tmp_path / "zips").num_patients == 3
