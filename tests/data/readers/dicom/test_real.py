"""Real files: each is read as SimpleITK reads it, or refused with a finding; the fixtures of issue 3 made from them."""

import gzip
import shutil
from collections import Counter

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from medres.data.catalogue import KINDS
from medres.data.readers.dicom import choose_series, index_series, read_dicom_bytes, read_series, read_study
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

RULES = ReadingRules()


@pytest.fixture(scope="module")
def dicom(real_data):
    return real_data / "dicom"


@pytest.fixture(scope="module")
def every_file(real_data):
    files = [path for path in sorted((real_data / "dicom").rglob("*")) if path.is_file()]
    return files + sorted((real_data / "nifti_odd").rglob("*.dcm"))


@pytest.fixture
def volume(dicom, tmp_path):
    """One volume of the fMRI, 15 slices 5 mm apart, in a folder of its own."""
    files = sorted((dicom / "mr_4d_single_frame" / "mr_0004").glob("*.dcm"))
    return [shutil.copy(path, tmp_path / path.name) for path in files[:15]], tmp_path


def codes(image):
    return {note.split(":")[0] for note in image.notes} - {"not-deidentified"}


def refusal(folder, rules=RULES):
    with pytest.raises(UnreadableScanError) as caught:
        read_study(folder, rules=rules)
    return caught.value.code


def affine_of(expected):
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(expected.GetDirection(), (3, 3)) * expected.GetSpacing()
    affine[:3, 3] = expected.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def change(path, **tags):
    made = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    made.save_as(path)


# --- every file


def test_every_file_is_read_or_refused_with_a_finding(every_file):
    outcomes = Counter()
    for path in every_file:
        try:
            image = read_series([path], rules=RULES)
            assert {note.split(":")[0] for note in image.notes} <= set(KINDS)
            assert image.voxels.size
            outcomes["read"] += 1
        except UnreadableScanError as error:
            outcomes[error.code] += 1
    assert outcomes.total() == len(every_file) > 380
    assert set(outcomes) <= {"read", *KINDS}
    assert outcomes["read"] > 260


# SimpleITK (GDCM) joins the wide samples of RLE colours in another order; pydicom agrees with their description.
# JPEG decoders round differently by up to 2; a lossy CT is filled where its padding rings.
OTHERWISE = {"SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm", "693_J2KI.dcm"}
SLOW = {"SC_rgb_jpeg.dcm"}  # 10 s in SimpleITK


def test_single_files_have_the_values_of_simpleitk(every_file):
    compared = 0
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    for path in every_file:
        if path.name in OTHERWISE | SLOW or "mr_4d" in str(path) or path.stat().st_size > 600_000:
            continue
        try:
            image = read_series([path], rules=RULES)
            expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        except (UnreadableScanError, RuntimeError):
            continue
        ours = np.moveaxis(image.voxels, 0, -1) if image.voxels.shape[0] == 3 else image.voxels[0]
        ours = ours if image.spatial_dims == 2 else ours.transpose(2, 1, 0)
        measured = np.squeeze(expected).astype(float)
        if "ct_head" in str(path):  # -1500 is its padding
            measured = np.maximum(measured, measured[measured > -1500].min())
        assert np.abs(measured - ours).max() <= (2 if "JP" in path.name or "SC" in path.name else 1e-3), path.name
        compared += 1
    assert compared > 110


def test_the_gantry_tilt_is_corrected_at_the_true_positions(dicom):
    image = read_study(dicom / "ct_head_gantry_tilt", rules=RULES)
    assert codes(image) == {"gantry-tilt-corrected", "uneven-slices"}
    assert "18.5 degrees" in image.notes[0]
    assert "from 1.08 to 7 mm" in image.notes[1]
    assert (image.modality, image.voxels.dtype) == ("CT", np.int16)
    # a voxel of the corrected volume has the value of the slice that lies there, 7 mm from the next
    for name in ("01", "20", "28"):
        path = dicom / "ct_head_gantry_tilt" / f"{name}.dcm"
        header, single = pydicom.dcmread(path, stop_before_pixels=True), read_series([path], rules=RULES)
        checked = 0
        for row, column in np.random.default_rng(0).integers(100, 400, (200, 2)):
            orientation = np.array(header.ImageOrientationPatient)
            lps = np.array(header.ImagePositionPatient) + 0.4882812 * (column * orientation[:3] + row * orientation[3:])
            found = np.linalg.solve(image.affine, [*(lps * [-1, -1, 1]), 1])[:3]
            k = round(found[2])
            if abs(found[2] - k) > 0.02:
                continue
            around = single.voxels[0, row - 1 : row + 2, column - 1 : column + 2].astype(int)
            value = image.voxels[0, round(found[0]), round(found[1]), k]
            assert around.min() - 40 <= value <= around.max() + 40
            checked += 1
        assert checked in (0, 200)
    assert refusal(dicom / "ct_head_gantry_tilt", ReadingRules(gantry_tilt="refuse")) == "gantry-tilt-refused"
    assert refusal(dicom / "ct_head_gantry_tilt", ReadingRules(uneven_slices="refuse")) == "uneven-slices-refused"


def test_4d_single_frames_are_volumes_in_time(dicom):
    folder = dicom / "mr_4d_single_frame"
    assert refusal(folder) == "several-volumes"
    files = sorted((folder / "mr_0004").glob("*.dcm"))
    for index in (0, 9):
        image = read_study(folder, rules=ReadingRules(volume=index))
        own = files[15 * index : 15 * index + 15]
        assert image.content_hash == read_series(own, rules=RULES).content_hash
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files[:15]])
    expected = reader.Execute()
    image = read_series(files[:15], rules=RULES)
    np.testing.assert_array_equal(image.voxels[0].transpose(2, 1, 0), SimpleITK.GetArrayFromImage(expected))
    np.testing.assert_allclose(image.affine, affine_of(expected), atol=1e-3)


def test_enhanced_files_lie_where_simpleitk_puts_them(dicom):
    siemens = sorted((dicom / "mr_enhanced_multiframe" / "In" / "Siemens" / "XA10").glob("*.dcm"))
    for path in siemens:
        image, expected = read_series([path], rules=RULES), SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(image.voxels[0].transpose(2, 1, 0), SimpleITK.GetArrayFromImage(expected))
        np.testing.assert_allclose(image.affine, affine_of(expected), atol=1e-3)
    assert len(siemens) == 4
    time = read_series(siemens, rules=ReadingRules(volume=2))
    assert time.content_hash == read_series([siemens[2]], rules=RULES).content_hash


def test_highdicom_finds_every_voxel_at_the_same_place(dicom):
    classic = sorted((dicom / "mr_4d_single_frame" / "mr_0004").glob("*.dcm"))[:15]
    enhanced = sorted((dicom / "mr_enhanced_multiframe" / "In" / "Siemens" / "XA10").glob("*.dcm"))[:1]
    expected = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in classic])
    for files, volume in ((classic, expected), (enhanced, highdicom.imread(enhanced[0]).get_volume())):
        image = read_series(files, rules=RULES)
        for index in np.random.default_rng(0).integers(0, volume.spatial_shape, (50, 3)):
            ras = (volume.affine @ [*index, 1]) * [-1, -1, 1, 1]
            i, j, k = np.linalg.solve(image.affine, ras)[:3]
            assert np.abs(np.array([i, j, k]) - np.rint([i, j, k])).max() < 1e-3
            assert image.voxels[0, round(i), round(j), round(k)] == volume.array[tuple(index)]


def test_each_enhanced_frame_has_its_own_scale(dicom):
    (path,) = (dicom / "mr_enhanced_multiframe" / "In" / "Philips").glob("*.dcm")
    made = pydicom.dcmread(path)
    scales = [group.PixelValueTransformationSequence[0] for group in made.PerFrameFunctionalGroupsSequence]
    slopes, intercepts = (np.array([float(scale[name].value) for scale in scales])[:, None, None]
                          for name in ("RescaleSlope", "RescaleIntercept"))  # fmt: skip
    assert len(np.unique(slopes)) == 2  # magnitude and field map, which SimpleITK scales alike
    values = made.pixel_array * slopes + intercepts
    expected = SimpleITK.ReadImage(str(path))
    for index in range(2):
        image = read_series([path], rules=ReadingRules(volume=index))
        frames = values[32 * index : 32 * index + 32]
        np.testing.assert_allclose(image.voxels[0].transpose(2, 1, 0), frames, atol=1e-3)
        assert image.voxels.dtype == np.float32
        np.testing.assert_allclose(image.affine[:3, :2], affine_of(expected)[:3, :2], atol=1e-3)


def test_mosaics_are_refused(dicom, real_data):
    assert refusal(dicom / "mr_siemens_mosaic") == "mosaic"
    assert refusal(real_data / "nifti_odd" / "nibabel" / "tests" / "data") == "mosaic"


def test_a_gzipped_file_is_read_from_its_bytes(dicom):
    content = gzip.decompress((dicom / "pydicom_test_files" / "test_files" / "zipMR.gz").read_bytes())
    assert read_dicom_bytes(content, rules=RULES).spatial_shape == (64, 64)


def test_the_patients_of_one_export_are_told_apart(dicom):
    folder = dicom / "pydicom_test_files" / "test_files" / "dicomdirtests"
    index = index_series([path for path in folder.rglob("*") if path.is_file()])
    patients = {one.patient_id for one in index.series}
    assert {"77654033", "98890234"} <= patients
    assert len({one.patient_key for one in index.series}) == len(patients)
    heart = [one for one in index.series if "CT5N" in str(one.folder) or "CT2N" in str(one.folder)]
    assert choose_series(heart).chosen.description.startswith("SmartScore")
    image = read_study(folder / "98892001", rules=RULES)
    # its slices are numbered from 6
    assert (image.spatial_shape[2], codes(image)) == (5, {"series-chosen", "missing-slices"})


# --- the folders of facts 2.3, from a real volume


def test_whole(volume):
    paths, folder = volume
    image = read_study(folder, rules=RULES)
    assert (codes(image), image.spatial_shape, len(paths)) == (set(), (64, 64, 15), 15)
    assert image.spacing_mm[2] == pytest.approx(5)


def test_missing_middle(volume):
    paths, folder = volume
    paths[7].unlink()
    image = read_study(folder, rules=RULES)
    # a gap, and a count in the header that is not met
    assert (codes(image), image.spatial_shape[2]) == ({"missing-slices"}, 15)
    assert image.spacing_mm[2] == pytest.approx(5)


def test_missing_last_three(volume):
    paths, folder = volume
    for path in paths[-3:]:
        path.unlink()
    image = read_study(folder, rules=RULES)
    assert (codes(image), image.spatial_shape[2]) == ({"missing-slices"}, 12)


def test_duplicate(volume):
    paths, folder = volume
    shutil.copy(paths[3], folder / "again.dcm")
    image = read_study(folder, rules=RULES)
    assert (codes(image), image.spatial_shape[2]) == ({"duplicate-slices"}, 15)
    assert image.spacing_mm[2] == pytest.approx(5)


def test_two_series_and_two_patients(volume, dicom):
    paths, folder = volume
    heads = sorted((dicom / "ct_head_gantry_tilt").glob("*.dcm"))
    for path in heads[:5]:
        shutil.copy(path, folder)
    assert refusal(folder) == "several-patients"
    for path in heads[:5]:
        change(folder / path.name, PatientID=pydicom.dcmread(paths[0]).PatientID)
    assert refusal(folder) == "several-series"  # of two studies
    study = pydicom.dcmread(paths[0]).StudyInstanceUID
    for path in heads[:5]:
        change(folder / path.name, StudyInstanceUID=study)
    image = read_study(folder, rules=RULES)
    assert (codes(image), image.modality, image.spatial_shape[2]) == ({"series-chosen"}, "MR", 15)


def test_last_slice_of_another_orientation(volume):
    paths, folder = volume
    change(paths[-1], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    image = read_study(folder, rules=RULES)
    assert (codes(image), image.spatial_shape[2]) == ({"series-divided", "missing-slices"}, 14)


def test_tilt_of_20_degrees(volume):
    paths, folder = volume
    angle = np.deg2rad(20)
    for path in paths:
        change(path, ImageOrientationPatient=[1, 0, 0, 0, float(np.cos(angle)), float(-np.sin(angle))])
    image = read_study(folder, rules=RULES)
    assert codes(image) == {"gantry-tilt-corrected"}
    assert image.spacing_mm[2] == pytest.approx(5 * np.cos(angle), abs=1e-3)


def test_localizer_of_another_size(volume, dicom):
    paths, folder = volume
    shutil.copy(dicom / "ct_head_gantry_tilt" / "01.dcm", folder / "scout.dcm")
    own = pydicom.dcmread(paths[0], stop_before_pixels=True)
    same = {name: own[name].value for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")}
    change(folder / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **same)
    image = read_study(folder, rules=RULES)
    assert (codes(image), image.spatial_shape) == ({"series-chosen"}, (64, 64, 15))


@pytest.mark.parametrize(("spoil", "code"), [("matrix", "header-damaged"), ("length", "truncated")])
def test_lies_and_cuts(volume, spoil, code):
    paths, folder = volume
    if spoil == "matrix":
        for path in paths:
            change(path, Rows=30000, Columns=30000)
    else:
        paths[4].write_bytes(paths[4].read_bytes()[:-500])
    assert refusal(folder) == code


def test_strangers_in_the_folder(volume):
    _, folder = volume
    whole = read_study(folder, rules=RULES)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
    (folder / "notes.txt").write_text("scanned twice")
    image = read_study(folder, rules=RULES)
    assert (image.content_hash, image.notes) == (whole.content_hash, whole.notes)
