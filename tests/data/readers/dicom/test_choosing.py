"""Which files belong together and which series is the scan: laws over random mixtures, and the rules one by one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medres.data.catalogue import KINDS
from medres.data.readers.dicom import DicomSeries, choose_series, index_series, read_series
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.readers.dicom.making import AXIAL, CORONAL, dataset, positions, save, stack, write_series


def series(number=1, *, num_images=100, kind="volume", description="", **fields):
    given = {
        "files": (Path(f"{number}.dcm"),), "key": f"uid{number}", "patient_id": "P", "study_uid": "S",
        "series_uid": f"uid{number}", "series_number": str(number), "description": description, "modality": "CT",
        "num_images": num_images, "kind": kind, "reason": "is a stack of slices", "folder": Path(),
    }  # fmt: skip
    return DicomSeries(**{**given, **fields})


# --- never merged: a law over mixtures


@pytest.mark.parametrize("seed", range(12))
def test_what_differs_in_identity_or_geometry_is_never_one_series(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = {}
    for number in range(30):
        # few values of each, so that any two files are likely to share most of them
        who = rng.choice(["P1", "P2", " P1", "1", "01", ""])
        study, uid, side = (int(rng.integers(2)) for _ in range(3))
        orientation, shape = (AXIAL, CORONAL)[int(rng.integers(2))], ((8, 9), (9, 8))[side]
        spacing = (0.7, 0.71)[int(rng.integers(2))]
        path = save(dataset(stack(1, shape)[0], position=(0, 0, number), orientation=orientation, PatientID=who,
                            PatientName=f"Name of {who.strip()}", StudyInstanceUID=f"1.{study}",
                            SeriesInstanceUID=f"2.{uid}", PixelSpacing=[spacing, 0.7]),
                    tmp_path / f"{number}.dcm")  # fmt: skip
        truth[path] = (who.strip(), study, uid, orientation, shape, spacing)
    index = index_series(list(truth))
    assert sorted(path for one in index.series for path in one.files) == sorted(truth)
    for one in index.series:
        assert len({truth[path] for path in one.files}) == 1
    assert len(index.series) == len(set(truth.values()))
    assert len({one.key for one in index.series}) == len(index.series)
    patients = {truth[one.files[0]][0]: one.patient_key for one in index.series}
    assert len(set(patients.values())) == len(patients)
    with pytest.raises(UnreadableScanError) as caught:
        read_series(list(truth), rules=ReadingRules())
    assert caught.value.code == "several-patients"


def test_cosines_at_a_rounding_boundary_are_one_orientation(tmp_path):
    tilts = [0.94999, 0.95001, 0.95, 0.949995]
    for number, cosine in enumerate(tilts):
        orientation = (1, 0, 0, 0, cosine, -np.sqrt(1 - cosine**2))
        save(dataset(stack(1)[0], position=(0, 0, number), orientation=orientation), tmp_path / f"{number}.dcm")
    assert [one.num_images for one in index_series(list(tmp_path.iterdir())).series] == [4]


def test_the_index_tells_what_is_no_dicom_and_what_is_damaged(tmp_path):
    paths = write_series(tmp_path, stack(3))
    text = tmp_path / "notes.txt"
    text.write_text("DICM")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(paths[0].read_bytes()[:400])
    (tmp_path / "empty.DCM").touch()
    directory = pydicom.dcmread(paths[0])
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del directory.SOPClassUID, directory.PixelData
    directory.save_as(tmp_path / "DICOMDIR")
    index = index_series([*tmp_path.iterdir()])
    assert index.others == (text,)
    assert [(path.name, error.code) for path, error in index.problems] == [
        ("cut.dcm", "truncated"), ("empty.DCM", "empty-file")]  # fmt: skip
    assert {error.code for _, error in index.problems} <= set(KINDS)
    assert [one.files for one in index.series] == [tuple(sorted(paths))]
    assert index.series[0].folder == tmp_path


@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        ("volume", {}),
        ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("localizer", {"SeriesDescription": "3-plane Scout"}),
        ("mosaic", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}),
        ("4d", {"at": positions(3) * 2}),
        ("not-a-scan", {"modality": "SEG"}),
    ],
)
def test_kinds(tmp_path, kind, tags):
    write_series(tmp_path, stack(6), **tags)
    found = index_series(list(tmp_path.iterdir())).series
    assert [(one.kind, one.num_images) for one in found] == [(kind, 6)]


def test_images_without_a_place_are_scans_of_their_own(tmp_path):
    write_series(tmp_path, stack(3), modality="CR", ImagePositionPatient=None, ImageOrientationPatient=None)
    found = index_series(list(tmp_path.iterdir())).series
    assert [(one.kind, one.num_images) for one in found] == [("image", 1)] * 3


# --- the choice


@pytest.mark.parametrize(
    ("best", "others"),
    [
        (series(5, num_images=60), [series(1, num_images=3, kind="localizer"), series(2, num_images=40)]),
        (series(5, num_images=60), [series(1, num_images=400, original=False)]),
        (series(5, num_images=60), [series(1, num_images=600, kind="4d"), series(2, num_images=1, kind="image")]),
        (series(5, num_images=60), [series(1, num_images=99, kind="secondary"), series(2, kind="no-pixels")]),
        (series(5, num_images=60, original=False), [series(1, num_images=1, kind="image"), series(9, kind="mosaic")]),
        (series(5, num_images=1, kind="image"), [series(1, kind="localizer"), series(2, kind="not-a-scan")]),
        (series(5, kind="secondary"), [series(1, kind="localizer")]),
    ],
)
def test_the_scan_of_a_study_is_what_a_radiologist_would_call_it(best, others):
    for order in ([best, *others], [*others, best]):
        choice = choose_series(order)
        assert (choice.chosen, choice.problem, choice.ambiguous) == (best, None, False)
        assert set(choice.rejected) == set(others)


def test_equally_good_series_are_never_chosen_in_silence():
    choice = choose_series([series(12, description="lung"), series(7, description="soft"), series(3, num_images=9)])
    assert (choice.chosen.series_number, choice.ambiguous) == ("7", True)
    assert "'lung'" in choice.reason
    assert "--series" in choice.reason


@pytest.mark.parametrize(("pattern", "number"), [("lung", "12"), ("^7 ", "7"), ("uid3$", "3"), ("SCOUT", "1")])
def test_a_pattern_decides_before_any_rule(pattern, number):
    study = [series(12, description="Lung 1mm"), series(7, description="soft"), series(3, num_images=9),
             series(1, kind="localizer", description="scout")]  # fmt: skip
    assert choose_series(study, pattern=pattern).chosen.series_number == number


@pytest.mark.parametrize(("pattern", "code"), [("bone", "no-series"), ("T1", "several-series"), ("(", "no-series")])
def test_a_pattern_that_does_not_decide_is_a_problem_that_lists_the_candidates(pattern, code):
    study = [series(12, description="T1 Nobody^Ann"), series(7, description="T1 post")]
    choice = choose_series(study, pattern=pattern)
    assert (choice.chosen, choice.problem.code) == (None, code)
    assert code in KINDS
    if pattern != "(":
        assert "series 12 (CT, 100 images)" in str(choice.problem)
    assert "Nobody" not in str(choice.problem)


def test_a_second_geometry_of_the_series_is_no_second_match():
    main, rest = series(4, description="T1"), series(4, description="T1", num_images=2, key="uid4#2")
    assert choose_series([rest, main], pattern="T1").chosen is main


def test_two_studies_are_not_chosen_between():
    choice = choose_series([series(1), series(2, study_uid="S2")])
    assert (choice.chosen, choice.problem.code) == (None, "several-series")


@pytest.mark.parametrize("kinds", [(), ("localizer",), ("no-pixels", "not-a-scan")])
def test_a_study_without_a_scan_says_so(kinds):
    choice = choose_series([series(number, kind=kind) for number, kind in enumerate(kinds)])
    assert (choice.chosen, choice.problem.code) == (None, "no-series")


def test_the_choice_does_not_depend_on_the_order_given():
    rng = np.random.default_rng(0)
    counted = Counter()
    for _ in range(100):
        study = [series(number, num_images=int(rng.integers(1, 4)), original=bool(rng.integers(2)),
                        kind=str(rng.choice(["volume", "4d", "image", "secondary", "localizer", "no-pixels"])))
                 for number in range(6)]  # fmt: skip
        chosen = choose_series(study).chosen
        shuffled = [study[index] for index in rng.permutation(6)]
        assert choose_series(shuffled).chosen is chosen
        counted[chosen.kind if chosen else None] += 1
    assert counted["volume"] > 30
