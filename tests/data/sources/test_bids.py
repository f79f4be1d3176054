from pathlib import Path

import pytest

from medres.data.sources import load_scans
from medres.errors import DataError
from tests.data.making import write_nifti, write_png

PARTICIPANTS = "participant_id\tage\tgroup\nsub-01\t61\tcontrol\nsub-02\t50\tpatient\n"


def write_bids(root: Path, images, participants=PARTICIPANTS, **tables) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    if participants:
        (root / "participants.tsv").write_text(participants)
    for name, text in tables.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".tsv").write_text(text)
    for image in images:
        write_nifti(root / image)
        (root / image.replace(".nii.gz", ".json")).write_text("{}")
    return root


T1 = ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
BOLD = tuple(f"{name[:6]}/func/{name[:6]}_task-rest_bold.nii.gz" for name in T1)


def rows(found):
    return {scan.sample_id: (scan.label, scan.patient_id) for scan in found}


def codes(found):
    return sorted(finding.code for finding in found.findings)


def test_participants_are_patients(tmp_path):
    root = write_bids(tmp_path, (*T1, *BOLD, "derivatives/prep/sub-01/anat/sub-01_T1w.nii.gz"))
    write_png(root / "sourcedata/sub-01/x.png")
    found = load_scans(root, label_column="group")
    assert rows(found) == {
        "sub-01/anat/sub-01_T1w": ("control", "sub-01"),
        "sub-02/anat/sub-02_T1w": ("patient", "sub-02"),
    }
    assert (found.source, found.patients_given, codes(found)) == ("BIDS", True, [])
    assert found.scans[0].metadata == {"age": "61"}
    assert "The scans are the images T1w (--suffix chooses others)." in found.notes
    assert "2 images other than T1w were left out." in found.notes


@pytest.mark.parametrize("spelling", ["sub-{}", "{}", " {}"])
def test_participants_with_and_without_prefix(tmp_path, spelling):
    text = PARTICIPANTS.replace("sub-01", spelling.format("01")).replace("sub-02", spelling.format("02"))
    found = load_scans(write_bids(tmp_path, T1, text), label_column="group")
    assert [scan.patient_id for scan in found] == ["sub-01", "sub-02"]


def test_participants_that_lost_their_zeros_are_hinted_at(tmp_path):
    images = (*T1, "sub-10/anat/sub-10_T1w.nii.gz", "sub-11/anat/sub-11_T1w.nii.gz")
    rows_of = "participant_id\tgroup\n1\tcontrol\n2\tpatient\n10\tcontrol\n11\tpatient\n"
    found = load_scans(write_bids(tmp_path, images, rows_of), label_column="group")
    absent = [one.value for one in found.findings if one.code == "participant-without-scan"]
    assert len(absent) == 2
    assert "sub-1 (sub-01 looks like it; were leading zeros lost?) has no such image" in absent[0]


@pytest.mark.parametrize("suffix", ["mask", "dseg", "probseg"])
def test_a_mask_of_each_subject_is_not_taken_for_the_scans(tmp_path, suffix):
    masks = [name.replace("T1w", suffix) for name in T1]
    repeated = (*T1, T1[0].replace("T1w", "run-2_T1w"))  # the masks alone are there once in every session
    found = load_scans(write_bids(tmp_path, (*repeated, *masks)), label_column="group")
    assert {scan.sample_id.rpartition("_")[2] for scan in found} == {"T1w"}
    assert len(load_scans(tmp_path, label_column="group", suffix=suffix)) == 2


def test_the_suffix_is_chosen_or_asked_for(tmp_path):
    both = (*T1, *(name.replace("T1w", "T2w") for name in T1))
    root = write_bids(tmp_path, both)
    with pytest.raises(DataError, match=r"images of several kinds: T1w 2, T2w 2. Say with --suffix"):
        load_scans(root, label_column="group")
    assert all("T2w" in scan.sample_id for scan in load_scans(root, label_column="group", suffix="T2w"))
    with pytest.raises(DataError, match=r"no images 'FLAIR'; it has T1w 2, T2w 2"):
        load_scans(root, label_column="group", suffix="FLAIR")


def test_the_suffix_that_everyone_has_once_is_taken(tmp_path):
    root = write_bids(tmp_path, (*T1, "sub-01/anat/sub-01_FLAIR.nii.gz"))
    assert len(load_scans(root, label_column="group")) == 2


def test_a_suffix_with_entities(tmp_path):
    images = [f"{sub}/anat/{sub}_acq-{acq}_T1w.nii.gz" for sub in ("sub-01", "sub-02") for acq in "ab"]
    root = write_bids(tmp_path, images)
    found = load_scans(root, label_column="group", suffix="acq-b_T1w")
    assert all("acq-b" in scan.sample_id for scan in found)
    assert len(found) == 2
    everything = load_scans(root, label_column="group", suffix="T1w")
    assert (len(everything), everything.num_patients) == (4, 2)
    assert any("2 sessions with several T1w (runs)" in note for note in everything.notes)


def test_sessions_are_scans_of_one_patient_with_labels_of_their_own(tmp_path):
    images = [f"sub-{n}/ses-{m}/anat/sub-{n}_ses-{m}_T1w.nii.gz" for n in ("01", "02") for m in (1, 2)]
    root = write_bids(
        tmp_path, images, **{
            "sub-01__sub-01_sessions": "session_id\tstate\nses-1\twell\nses-2\till\n",
            "sub-02__sub-02_sessions": "session_id\tstate\n1\twell\n2\tn/a\n",
        },
    )  # fmt: skip
    found = load_scans(root, label_column="state")
    assert [(scan.label, scan.patient_id) for scan in found] == [
        ("well", "sub-01"), ("ill", "sub-01"), ("well", "sub-02"), (None, "sub-02"),
    ]  # fmt: skip
    assert codes(found) == ["label-missing"]
    assert found.scans[0].metadata == {"session": "ses-1", "age": "61", "group": "control"}
    by_person = load_scans(root, label_column="group")
    assert [scan.label for scan in by_person] == ["control"] * 2 + ["patient"] * 2


def test_a_table_of_the_phenotype(tmp_path):
    root = write_bids(tmp_path, T1, phenotype__exam="participant_id\tgrade\nsub-01\t1\nsub-02\t2\n")
    found = load_scans(root, labels=root / "phenotype/exam.tsv", label_column="grade")
    assert (found.source, found.classes) == ("BIDS", ("1", "2"))


def test_who_is_missing_is_found(tmp_path):
    text = PARTICIPANTS + "sub-03\t40\tpatient\n"
    root = write_bids(tmp_path, (*T1, "sub-04/anat/sub-04_T1w.nii.gz"), text)
    found = load_scans(root, label_column="group")
    assert codes(found) == ["file-not-listed", "participant-without-scan"]
    assert [scan.sample_id for scan in found] == ["sub-01/anat/sub-01_T1w", "sub-02/anat/sub-02_T1w"]
    other, missing = sorted(found.findings, key=lambda one: one.code)
    assert "row 4: sub-03 has no such image" in missing.value
    assert "sub-04/anat/sub-04_T1w.nii.gz is of no participant" in other.value


def test_suffixes_as_channels(tmp_path):
    root = write_bids(tmp_path, (*T1, "sub-01/anat/sub-01_FLAIR.nii.gz"))
    found = load_scans(root, label_column="group", sequences=("T1w", "FLAIR"))
    assert [list(scan.sequences) for scan in found] == [["T1w", "FLAIR"], ["T1w"]]
    assert codes(found) == ["sequence-missing"]
    assert found.scans[0].path == found.scans[0].sequences["T1w"]


@pytest.mark.parametrize(
    ("images", "participants", "message"),
    [
        (
            T1,
            PARTICIPANTS,
            "participants.tsv has no column 'label'; it has participant_id, age, group. .*--label-column",
        ),
        (T1, "id\tlabel\n01\ta\n", "has no column 'participant_id'"),
        (T1, "", "a BIDS data set without participants.tsv. Name a table with --labels"),
    ],
)
def test_refusals(tmp_path, images, participants, message):
    with pytest.raises(DataError, match=message):
        load_scans(write_bids(tmp_path, images, participants))


def test_a_data_set_whose_images_were_not_fetched(tmp_path):
    root = write_bids(tmp_path, ())
    (root / "sub-01").mkdir()
    with pytest.raises(DataError, match=r"its folders sub-\* hold no images. Fetch them"):
        load_scans(root, label_column="group")


def test_a_table_of_paths_beside_it_wins(tmp_path):
    root = write_bids(tmp_path, T1)
    (root / "labels.csv").write_text("path,label\n" + "\n".join(f"{name},{n}" for n, name in enumerate(T1)) + "\n")
    assert load_scans(root).source == "labels.csv"
