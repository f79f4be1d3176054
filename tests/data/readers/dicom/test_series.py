"""Volumes from slices: geometry and values by comparison with SimpleITK, and what is wrong with real folders."""

import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK

from medres.data.catalogue import KINDS
from medres.data.readers.dicom import read_series, read_study
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.readers.dicom.making import (
    AXIAL,
    CORONAL,
    ORIGIN,
    PITCH,
    PIXEL_MM,
    change,
    dataset,
    enhanced,
    positions,
    save,
    stack,
    write_series,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

RULES = ReadingRules()
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)


def tilted(degrees):
    angle = np.deg2rad(degrees)
    return (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), -float(np.sin(angle)))


def codes(image):
    found = [note.split(":")[0] for note in image.notes]
    assert set(found) <= set(KINDS)
    return found


def refusal(folder, rules=RULES):
    with pytest.raises(UnreadableScanError) as caught:
        read_study(folder, rules=rules)
    assert caught.value.code in KINDS
    return caught.value


def with_simpleitk(folder):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def itk_affine(image):
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def world(image, index):
    return (image.affine @ [*index, 1])[:3]


# --- geometry and values: an independent implementation


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE], ids=["axial", "coronal", "oblique"])
@pytest.mark.parametrize("upwards", [1, -1])
def test_geometry_and_values_are_those_of_simpleitk(tmp_path, orientation, upwards):
    normal = np.cross(orientation[:3], orientation[3:])
    write_series(
        tmp_path, orientation=orientation, at=positions(orientation=orientation, step=upwards * PITCH * normal)
    )
    image, expected = read_study(tmp_path, rules=RULES), with_simpleitk(tmp_path)
    np.testing.assert_array_equal(image.voxels[0].transpose(2, 1, 0), SimpleITK.GetArrayFromImage(expected))
    np.testing.assert_allclose(image.affine, itk_affine(expected), atol=1e-4)
    assert image.spacing_mm == pytest.approx((PIXEL_MM[1], PIXEL_MM[0], PITCH), abs=1e-5)
    assert (image.modality, image.notes, image.voxels.dtype) == ("CT", (), np.int16)


def test_every_voxel_lies_where_its_slice_says(tmp_path):
    voxels = stack()
    write_series(tmp_path, voxels, orientation=OBLIQUE)
    image = read_study(tmp_path, rules=RULES)
    at = positions(orientation=OBLIQUE)
    for k, row, column in [(0, 0, 0), (3, 5, 7), (11, 19, 23)]:
        lps = at[k] + column * PIXEL_MM[1] * np.array(OBLIQUE[:3]) + row * PIXEL_MM[0] * np.array(OBLIQUE[3:])
        np.testing.assert_allclose(world(image, (column, row, k)), lps * [-1, -1, 1], atol=1e-4)
        assert image.voxels[0, column, row, k] == voxels[k, row, column] - 1024


def test_names_and_instance_numbers_do_not_matter(tmp_path):
    first = write_series(tmp_path / "a")
    write_series(tmp_path / "b", per_slice=lambda index: {"number": 12 - index})
    one, other = (read_study(tmp_path / name, rules=RULES) for name in "ab")
    assert one.content_hash == other.content_hash
    assert one.content_hash == read_series(first[::-1], rules=RULES).content_hash


@pytest.mark.parametrize("scale", [(1, -1024), (1, 0), (2.5, -3.25)])
def test_values_are_rescaled(tmp_path, scale):
    write_series(tmp_path, RescaleSlope=scale[0], RescaleIntercept=scale[1])
    image = read_study(tmp_path, rules=RULES)
    np.testing.assert_allclose(image.voxels[0].transpose(2, 1, 0), stack() * scale[0] + scale[1])
    assert image.voxels.dtype == (np.float32 if scale[0] == 2.5 else np.int16)


@pytest.mark.parametrize("modality", ["PT", "CT"])
def test_each_slice_has_its_own_scale(tmp_path, modality):
    write_series(
        tmp_path, modality=modality, per_slice=lambda index: {"RescaleSlope": 1 + index, "RescaleIntercept": 5}
    )
    image = read_study(tmp_path, rules=RULES)
    expected = stack() * np.arange(1, 13)[:, None, None] + 5
    np.testing.assert_allclose(image.voxels[0].transpose(2, 1, 0), expected)
    assert codes(image) == ([] if modality == "PT" else ["rescale-unusual"])


def test_bits_above_those_stored_are_no_values(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 2**12, (3, 6, 5)).astype(np.uint16)
    dirty = voxels | np.uint16(0x5000)  # an overlay in the unused bits
    write_series(tmp_path, dirty, BitsStored=12, HighBit=11, RescaleIntercept=0)
    np.testing.assert_array_equal(read_study(tmp_path, rules=RULES).voxels[0].transpose(2, 1, 0), voxels)


def test_monochrome1_is_turned_round_where_values_are_no_quantity(tmp_path):
    voxels = stack().astype(np.uint16)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11, "RescaleIntercept": 0}
    write_series(tmp_path / "mr", voxels, modality="MR", **tags)
    write_series(tmp_path / "ct", voxels, **tags)
    turned, kept = (read_study(tmp_path / name, rules=RULES) for name in ("mr", "ct"))
    np.testing.assert_array_equal(turned.voxels[0].transpose(2, 1, 0), 4095 - voxels)
    np.testing.assert_array_equal(kept.voxels[0].transpose(2, 1, 0), voxels)
    assert (codes(turned), codes(kept)) == (["grey-inverted"], [])


def test_padding_is_as_low_as_what_was_measured(tmp_path):
    voxels = stack()
    voxels[:, :4] = -2000
    write_series(tmp_path, voxels, PixelPaddingValue=-2000)
    read = read_study(tmp_path, rules=RULES).voxels[0].transpose(2, 1, 0)
    np.testing.assert_array_equal(read[:, 4:], voxels[:, 4:] - 1024)
    assert set(read[:, :4].ravel()) == {voxels[:, 4:].min() - 1024}


@pytest.mark.parametrize(
    "per_frame", [None, lambda index: {"scale": (1 + index, 3)}], ids=["one scale", "a scale each"]
)
def test_enhanced_frames_lie_where_simpleitk_puts_them(tmp_path, per_frame):
    voxels = stack(num=6)
    path = save(enhanced(voxels, orientation=OBLIQUE, per_frame=per_frame), tmp_path / "e.dcm")
    image = read_series([path], rules=RULES)
    scale = (2, -10) if per_frame is None else (np.arange(1, 7)[:, None, None], 3)
    np.testing.assert_allclose(image.voxels[0].transpose(2, 1, 0), voxels * scale[0] + scale[1])
    np.testing.assert_allclose(image.affine, itk_affine(SimpleITK.ReadImage(str(path))), atol=1e-4)


def test_enhanced_frames_are_ordered_by_their_places(tmp_path):
    voxels = stack(num=6)
    order = [4, 0, 5, 2, 1, 3]
    save(enhanced(voxels[order], at=[positions()[index] for index in order]), tmp_path / "mixed.dcm")
    mixed = read_study(tmp_path, rules=RULES)
    np.testing.assert_array_equal(mixed.voxels[0].transpose(2, 1, 0), voxels * 2 - 10)


def test_one_slice_is_an_image(tmp_path):
    write_series(tmp_path, stack(num=1))
    image = read_study(tmp_path, rules=RULES)
    np.testing.assert_array_equal(image.voxels[0], stack(num=1)[0] - 1024)
    assert (image.spatial_dims, image.affine, image.spacing_mm) == (2, None, PIXEL_MM)


# --- what is wrong with folders: each has its finding, none is read silently wrong


def test_a_missing_slice_in_the_middle_is_found_and_filled_at_the_true_positions(tmp_path):
    paths = write_series(tmp_path)
    whole = read_study(tmp_path, rules=RULES)
    paths[5].unlink()
    image = read_study(tmp_path, rules=RULES)
    assert codes(image) == ["missing-slices"]
    assert "1 missing slice" in image.notes[0]
    np.testing.assert_allclose(image.affine, whole.affine, atol=1e-9)
    kept = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(image.voxels[..., kept], whole.voxels[..., kept])
    middle = (whole.voxels[..., 4].astype(float) + whole.voxels[..., 6]) / 2
    assert np.abs(image.voxels[..., 5] - middle).max() <= 0.5


def test_missing_slices_at_the_end_are_told_by_the_headers_count(tmp_path):
    paths = write_series(tmp_path, ImagesInAcquisition=12, AcquisitionNumber=1)
    assert codes(read_study(tmp_path, rules=RULES)) == []
    for path in paths[-3:]:
        path.unlink()
    image = read_study(tmp_path, rules=RULES)
    assert (codes(image), image.spatial_shape[2]) == (["missing-slices"], 9)
    assert "12 slices, 9 are there" in image.notes[0]


def test_missing_slices_at_the_begin_are_told_by_their_numbers(tmp_path):
    for path in write_series(tmp_path)[:3]:
        path.unlink()
    assert codes(read_study(tmp_path, rules=RULES)) == ["missing-slices"]


def test_a_copy_of_a_slice_is_left_out(tmp_path):
    paths = write_series(tmp_path)
    whole = read_study(tmp_path, rules=RULES)
    shutil.copy(paths[4], tmp_path / "copy.dcm")
    change(shutil.copy(paths[7], tmp_path / "sent again.dcm"), SOPInstanceUID="1.2.3.4", InstanceNumber=40)
    image = read_study(tmp_path, rules=RULES)
    assert codes(image) == ["duplicate-slices"]
    assert "2 slice(s)" in image.notes[0]
    assert image.content_hash == whole.content_hash
    np.testing.assert_array_equal(image.affine, whole.affine)


def test_a_series_copied_whole_is_the_series(tmp_path):
    write_series(tmp_path / "a")
    once = read_study(tmp_path, rules=RULES)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    twice = read_study(tmp_path, rules=RULES)
    assert (twice.content_hash, codes(twice)) == (once.content_hash, ["duplicate-slices"])


def test_different_slices_at_one_place_are_refused(tmp_path):
    write_series(tmp_path)
    save(dataset(stack(seed=9)[3], position=positions()[3], number=30), tmp_path / "other.dcm")
    assert refusal(tmp_path).code == "slices-contradict"


def test_two_series_in_a_folder_are_not_merged(tmp_path):
    write_series(tmp_path, name="A", SeriesNumber=2)
    write_series(tmp_path, stack(num=9), name="B", SeriesInstanceUID="1.2.3.9", SeriesNumber=1)
    image = read_study(tmp_path, rules=RULES)
    assert (image.spatial_shape[2], codes(image)) == (12, ["series-chosen"])
    with pytest.raises(UnreadableScanError) as caught:
        read_series(list(tmp_path.iterdir()), rules=RULES)
    assert caught.value.code == "several-series"


@pytest.mark.parametrize("other", ["P2", ""])
def test_two_patients_in_a_folder_are_never_merged(tmp_path, other):
    write_series(tmp_path, stack(num=6), name="A")
    write_series(tmp_path, stack(num=6), name="B", PatientID=other)
    assert refusal(tmp_path).code == "several-patients"
    with pytest.raises(UnreadableScanError) as caught:
        read_series(list(tmp_path.iterdir()), rules=RULES)
    assert caught.value.code == "several-patients"


def test_without_ids_names_tell_patients_apart(tmp_path):
    write_series(tmp_path, stack(num=6), name="A", PatientID="")
    assert read_study(tmp_path, rules=RULES).spatial_shape[2] == 6
    write_series(tmp_path, stack(num=6), name="B", PatientID="", PatientName="Someone^Else")
    assert refusal(tmp_path).code == "several-patients"


def test_a_last_slice_with_another_orientation_is_left_out_and_said(tmp_path):
    paths = write_series(tmp_path)
    change(paths[-1], ImageOrientationPatient=list(CORONAL))
    image = read_study(tmp_path, rules=RULES)
    assert (image.spatial_shape[2], codes(image)) == (11, ["series-divided"])


@pytest.mark.parametrize("degrees", [-20, 8, 20])
def test_a_gantry_tilt_is_corrected_to_true_places(tmp_path, degrees):
    orientation = tilted(degrees)
    shape = (40, 30)
    at = positions(8, step=(0, 0, 4))
    # a volume that is linear in space: wherever a voxel ends up, its value tells where it is
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    voxels = np.stack([_linear(position, orientation, rows, columns) for position in at])
    write_series(tmp_path, voxels, orientation=orientation, at=at, GantryDetectorTilt=degrees)
    image = read_study(tmp_path, rules=RULES)
    assert codes(image) == ["gantry-tilt-corrected"]
    assert f"{abs(degrees)}.0 degrees" in image.notes[0]
    inside = image.voxels[0] > voxels.min() - 1024
    assert inside.mean() > 0.7
    indices = np.argwhere(inside)
    places = indices @ image.affine[:3, :3].T + image.affine[:3, 3]
    expected = _field(places * [-1, -1, 1])
    assert np.abs(image.voxels[0][inside] - (expected - 1024)).max() < 2
    axes = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert refusal(tmp_path, ReadingRules(gantry_tilt="refuse")).code == "gantry-tilt-refused"


def _field(lps):
    return 2000 + lps @ np.array([3.0, 5.0, 7.0])


def _linear(position, orientation, rows, columns):
    lps = (position + columns[..., None] * PIXEL_MM[1] * np.array(orientation[:3])
           + rows[..., None] * PIXEL_MM[0] * np.array(orientation[3:]))  # fmt: skip
    return np.rint(_field(lps)).astype(np.int16)


def test_a_tilt_that_only_the_header_knows_is_a_doubt(tmp_path):
    write_series(tmp_path, GantryDetectorTilt=15)
    assert codes(read_study(tmp_path, rules=RULES)) == ["gantry-tilt-doubt"]


def test_uneven_distances_are_resampled_to_the_true_positions(tmp_path):
    heights = np.array([0, 2, 4, 6, 7, 10, 13, 16.0])
    at = [ORIGIN + np.array([0, 0, height]) for height in heights]
    rows, columns = np.mgrid[0:10, 0:12]
    write_series(tmp_path, np.stack([_linear(position, AXIAL, rows, columns) for position in at]), at=at)
    image = read_study(tmp_path, rules=RULES)
    assert codes(image) == ["uneven-slices"]
    assert "from 1 to 3 mm" in image.notes[0]
    indices = np.argwhere(np.ones(image.spatial_shape, dtype=bool))
    places = indices @ image.affine[:3, :3].T + image.affine[:3, 3]
    assert np.abs(image.voxels[0].ravel() - (_field(places * [-1, -1, 1]) - 1024)).max() <= 1.5
    np.testing.assert_allclose(world(image, (0, 0, image.spatial_shape[2] - 1)), at[-1] * [-1, -1, 1])
    assert refusal(tmp_path, ReadingRules(uneven_slices="refuse")).code == "uneven-slices-refused"


def test_two_blocks_far_apart_are_not_bridged(tmp_path):
    at = positions()
    write_series(tmp_path, at=at[:6] + [position + np.array([0, 0, 200]) for position in at[6:]])
    assert refusal(tmp_path).code == "uneven-slices-refused"


@pytest.mark.parametrize("jitter", [0.0, 0.005])
def test_the_rounding_of_positions_is_no_unevenness(tmp_path, jitter):
    rng = np.random.default_rng(0)
    write_series(tmp_path, at=[position + rng.uniform(-jitter, jitter, 3) for position in positions()])
    assert codes(read_study(tmp_path, rules=RULES)) == []


def test_a_scout_within_the_series_is_told_apart(tmp_path):
    write_series(tmp_path, uid="1.2.9")
    alone = read_study(tmp_path, rules=RULES)
    scout = stack(num=1, shape=(30, 50))[0]
    save(dataset(scout, orientation=CORONAL, uid="1.2.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
         tmp_path / "scout.dcm")  # fmt: skip
    # one of the same matrix and orientation, which only its type tells apart
    save(dataset(stack(num=1)[0], position=ORIGIN - [0, 0, 9], uid="1.2.9",
                 ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), tmp_path / "axial scout.dcm")  # fmt: skip
    image = read_study(tmp_path, rules=RULES)
    assert (image.content_hash, image.spacing_mm) == (alone.content_hash, alone.spacing_mm)
    assert codes(image) == ["series-chosen"]


def test_decimal_strings_that_are_too_long_are_numbers(tmp_path):
    paths = write_series(tmp_path)
    expected = read_study(tmp_path, rules=RULES)
    for path, position in zip(paths, positions(), strict=True):
        content = path.read_bytes()
        short = "\\".join(f"{value:.6f}" for value in position).encode()
        long = "\\".join(f"{value:.18f}" for value in position).encode()
        short += b" " * (len(short) % 2)
        long += b" " * (len(long) % 2)
        old = b"DS" + len(short).to_bytes(2, "little") + short
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, b"DS" + len(long).to_bytes(2, "little") + long))
    image = read_study(tmp_path, rules=RULES)
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-9)
    assert image.notes == ()


@pytest.mark.parametrize(("rows", "columns"), [(30000, 30000), (10, 24), (20, 12), (24, 20 + 24)])
def test_a_header_that_lies_about_the_matrix_is_refused(tmp_path, rows, columns):
    for path in write_series(tmp_path, stack(num=3)):
        change(path, Rows=rows, Columns=columns)
    assert refusal(tmp_path).code == "header-damaged"


@pytest.mark.parametrize("share", [0.25, 0.3, 0.4, 0.6, 0.99])
def test_a_truncated_file_is_refused_and_named(tmp_path, share):
    path = write_series(tmp_path)[4]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    error = refusal(tmp_path)
    assert error.code in ("truncated", "no-pixels")
    if share > 0.5:  # its header is whole
        assert error.code == "truncated"


def test_what_is_named_like_a_slice_and_is_none_is_not_left_out_in_silence(tmp_path):
    paths = write_series(tmp_path)
    paths[-1].write_bytes(b"")
    error = refusal(tmp_path)
    assert (error.code, paths[-1].name in error.problem) == ("empty-file", True)


def test_files_that_are_no_dicom_are_ignored(tmp_path):
    write_series(tmp_path)
    expected = read_study(tmp_path, rules=RULES)
    for name, content in {
        "Thumbs.db": b"\xd0\xcf\x11\xe0" * 99,
        "notes.txt": b"text",
        "empty": b"",
        ".DS_Store": b"x",
    }.items():
        (tmp_path / name).write_bytes(content)
    image = read_study(tmp_path, rules=RULES)
    assert (image.content_hash, image.notes) == (expected.content_hash, ())


# --- several volumes


def four_d(folder, num_volumes=3):
    for volume in range(num_volumes):
        own = [
            {"number": 1 + index + 5 * volume, "TemporalPositionIdentifier": num_volumes - volume} for index in range(5)
        ]
        tags = {"modality": "MR", "RescaleIntercept": 0, "per_slice": own.__getitem__}
        write_series(folder, stack(num=5, seed=volume), name=f"V{volume}", **tags)


def test_4d_is_refused_with_the_way_out_and_a_volume_can_be_chosen(tmp_path):
    four_d(tmp_path)
    error = refusal(tmp_path)
    assert error.code == "several-volumes"
    assert "--volume (0 to 2)" in error.fix
    for index in range(3):
        image = read_study(tmp_path, rules=ReadingRules(volume=index))
        # the time in the header counts, which runs against the numbers
        np.testing.assert_array_equal(image.voxels[0].transpose(2, 1, 0), stack(num=5, seed=2 - index))
        assert codes(image) == ["volume-chosen"]
    assert refusal(tmp_path, ReadingRules(volume=3)).code == "several-volumes"


def test_enhanced_4d_is_chosen_by_time(tmp_path):
    voxels = np.concatenate([stack(num=4, seed=seed) for seed in range(2)])
    path = save(enhanced(voxels, at=positions(4) * 2, per_frame=lambda index: {"time": 2 - index // 4}), tmp_path / "e")
    assert refusal(tmp_path).code == "several-volumes"
    image = read_series([path], rules=ReadingRules(volume=0))
    np.testing.assert_array_equal(image.voxels[0].transpose(2, 1, 0), voxels[4:] * 2 - 10)


def test_a_mosaic_is_refused_with_the_way_out(tmp_path):
    write_series(tmp_path, stack(num=2), modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    error = refusal(tmp_path)
    assert (error.code, "dcm2niix" in error.fix) == ("mosaic", True)


def test_a_film_is_no_volume(tmp_path):
    film = dataset(stack(num=1)[0], modality="US", ImagePositionPatient=None, ImageOrientationPatient=None)
    film.NumberOfFrames, film.PixelData = 4, stack(num=4).tobytes()
    save(film, tmp_path / "film.dcm")
    assert refusal(tmp_path).code == "several-volumes"
    image = read_study(tmp_path, rules=ReadingRules(volume=2))
    np.testing.assert_array_equal(image.voxels[0], stack(num=4)[2] - 1024)


@pytest.mark.parametrize("tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_a_stack_without_places_is_refused(tmp_path, tag):
    write_series(tmp_path, **{tag: None})
    assert refusal(tmp_path).code == "header-damaged"


@pytest.mark.parametrize(
    "cosines", [(0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0), (1, 0, 0, 0, 0.5, 0), (1e6, 0, 0, 0, 1, 0)]
)
def test_directions_that_cannot_be_are_refused(tmp_path, cosines):
    write_series(tmp_path, stack(num=3), at=positions(3), orientation=cosines)
    assert refusal(tmp_path).code == "header-damaged"


def test_notes_say_what_privacy_needs(tmp_path):
    write_series(tmp_path / "a", PatientIdentityRemoved="NO", BurnedInAnnotation="YES")
    assert codes(read_study(tmp_path / "a", rules=RULES)) == ["burned-in", "not-deidentified"]
    save(dataset(stack(num=1)[0], modality="OT", ImagePositionPatient=None), tmp_path / "b" / "screen.dcm")
    assert codes(read_study(tmp_path / "b", rules=RULES)) == ["burned-in"]


SPOILT = {
    "tilt": {"orientation": tilted(20), "at": positions(step=(0, 0, 4))},
    "flat": {},
    "gap": {"at": [*positions()[:4], *positions(20)[12:]]},
    "4d": {"at": positions(6) * 2},
    "mosaic": {"ImageType": ["CANARY", "MOSAIC"]},
    "none": {"PixelSpacing": None},
}
STRICT = ReadingRules(uneven_slices="refuse", gantry_tilt="refuse")


@pytest.mark.parametrize("rules", [RULES, ReadingRules(series="nothing"), STRICT], ids=["plain", "series", "strict"])
def test_no_text_of_the_header_is_in_notes_or_errors(tmp_path, rules):
    checked = 0
    for name, spoil in SPOILT.items():
        for path in write_series(tmp_path / name, **spoil):
            plant_canary(path)
        try:
            said = " ".join(read_study(tmp_path / name, rules=rules).notes)
        except UnreadableScanError as error:
            said = f"{error} {error.__cause__}"
        assert "CANARY" not in said.upper()
        checked += bool(said)
    assert checked == len(SPOILT)


def plant_canary(path):
    made = pydicom.dcmread(path)
    for keyword in ("PatientName", "PatientID", "SeriesDescription", "StudyDescription", "InstitutionName",
                    "PatientComments", "PatientIdentityRemoved", "BurnedInAnnotation", "AccessionNumber"):  # fmt: skip
        setattr(made, keyword, "CANARY")
    made.save_as(path)
