"""A slice that does not fit the others is named, and the volume that lacks it is called incomplete, at every door."""

import io
import zipfile

import numpy as np
import pytest

from medres.data.readers.dicom import read_dicom_zip, read_study
from medres.data.readers.rules import ReadingRules
from medres.data.sources import list_scans
from tests.data.readers.dicom.making import CORONAL, PIXEL_MM, change, dataset, positions, save, stack, write_series

RULES = ReadingRules()
LEANING = (1.0, 0.0, 0.0, 0.0, float(np.cos(0.05)), float(np.sin(0.05)))  # 2.9 degrees

ODD = {
    "fewer rows": ({}, (10, 24), "has 10 x 24 pixels, the other 11 20 x 24"),
    "more columns": ({}, (20, 48), "has 20 x 48 pixels, the other 11 20 x 24"),
    "spacing": ({"PixelSpacing": [1.4, 1.6]}, (20, 24), "has pixels of 1.4 x 1.6 mm, the other 11 0.7 x 0.8 mm"),
    "orientation": ({"orientation": LEANING}, (20, 24), "has another orientation than the other 11"),
}


def codes(notes):
    return [note.partition(":")[0] for note in notes]


def with_odd_slice(folder, index, tags, shape):
    """A series of 12 slices of which one is otherwise."""
    paths = write_series(folder)
    pixels = stack(1, shape)[0]
    save(dataset(pixels, position=positions()[index], number=index + 1, **tags), paths[index])
    return paths


@pytest.mark.parametrize("index", [0, 5, 11])
@pytest.mark.parametrize("odd", ODD)
def test_which_slice_and_why_and_what_is_missing(tmp_path, index, odd):
    tags, shape, said = ODD[odd]
    with_odd_slice(tmp_path, index, tags, shape)
    divided, *rest = read_study(tmp_path, rules=RULES).notes
    assert divided == f"series-divided: slice {index + 1} of the chosen series {said}; was left out"
    assert "missing-slices" in codes(rest)
    assert any("the volume is incomplete: 1 slice that belongs to it was left out" in note for note in rest)


def test_the_same_in_a_zip_and_in_a_folder_of_studies(tmp_path):
    tags, shape, said = ODD["fewer rows"]
    paths = with_odd_slice(tmp_path / "p1", 11, tags, shape)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    assert codes(read_dicom_zip(buffer.getvalue(), rules=RULES).notes) == ["series-divided", "missing-slices"]
    found = {finding.code: finding.value for finding in list_scans([tmp_path]).findings}
    assert said in found["series-divided"]
    assert "the volume is incomplete" in found["missing-slices"]
    assert "series-chosen" not in found


def test_several_slices_are_numbered(tmp_path):
    paths = write_series(tmp_path, stack(20), at=positions(20))
    for index in range(12, 20):
        save(dataset(stack(1, (10, 10))[0], position=positions(20)[index], number=index + 1), paths[index])
    divided, missing = read_study(tmp_path, rules=RULES).notes
    assert "slices 13, 14, 15, 16, 17 and 3 more of the chosen series have 10 x 10 pixels" in divided
    assert "8 slices that belong to it were left out" in missing


@pytest.mark.parametrize("which", ["across", "at the same places", "far away", "in colour"])
def test_what_does_not_continue_the_volume_is_not_missed(tmp_path, which):
    write_series(tmp_path)
    pixels, position, tags = stack(1, (10, 10))[0], positions()[5], {}
    if which == "across":
        tags = {"orientation": CORONAL}
    elif which == "far away":
        position = positions(100)[99]
    elif which == "in colour":
        pixels, position = np.zeros((10, 10, 3), np.uint8), positions(13)[12]
    save(dataset(pixels, position=position, number=13, **tags), tmp_path / "odd.dcm")
    assert codes(read_study(tmp_path, rules=RULES).notes) == ["series-divided"]


def test_a_rounding_of_the_header_divides_nothing(tmp_path):
    paths = write_series(tmp_path)
    change(paths[-1], ImageOrientationPatient=[1, 0, 0, 0, 0.99999, 0.004], PixelSpacing=[PIXEL_MM[0] + 1e-5, 0.8])
    image = read_study(tmp_path, rules=RULES)
    assert (image.spatial_shape[2], image.notes) == (12, ())


def test_images_without_a_place_are_other_scans_and_no_parts(tmp_path):
    for index in range(3):
        pixels = stack(1, (10 + index, 10))[0].astype("u1")
        save(dataset(pixels, modality="OT", ImagePositionPatient=None, number=index + 1), tmp_path / f"{index}.dcm")
    assert "series-chosen" in codes(read_study(tmp_path, rules=RULES).notes)
    assert "series-divided" not in codes(read_study(tmp_path, rules=RULES).notes)


def test_another_series_beside_it_is_still_a_choice(tmp_path):
    with_odd_slice(tmp_path, 11, *ODD["fewer rows"][:2])
    for index in range(3):
        made = dataset(stack(1)[0], position=positions()[index], number=index + 1, SeriesInstanceUID="1.2.3.9")
        save(made, tmp_path / f"other{index}.dcm")
    image = read_study(tmp_path, rules=RULES)
    assert codes(image.notes) == ["series-chosen", "series-divided", "missing-slices"]
    assert image.notes[0].startswith("series-chosen: one of 2 series was taken, with 11 image(s)")
