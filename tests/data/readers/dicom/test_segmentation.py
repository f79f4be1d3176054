"""Segmentation objects as masks: written by highdicom on a series, compared with the same mask as NIfTI."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
import zipfile
from collections import Counter

import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentationTypeValues

from medres.data.catalogue import KINDS
from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.dicom import index_series
from medres.data.readers.rules import MaskRules, ReadingRules
from medres.data.regions import crop_to_region
from medres.data.sample import read_mask, read_sample
from medres.data.sources import list_scans
from medres.data.table import Scan, ScanTable
from medres.errors import UnreadableScanError
from medres.planning.reading import choose_reading
from tests.data.readers.dicom.making import AXIAL, CORONAL, positions, save, segmentation, stack, write_series

SHAPE = (12, 20, 24)  # slices, rows, columns
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
ORIENTATIONS = pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE], ids=["axial", "coronal", "oblique"])
KINDS_OF = pytest.mark.parametrize("kind", [one.value for one in SegmentationTypeValues])
MASK, RULES = MaskRules(), ReadingRules(roi_size_mm=(9, 8, 11))


def lesion(seed=0, *, slices=None):
    """A box somewhere, ``(slices, rows, columns)``; or in the slices named."""
    rng = np.random.default_rng(seed)
    low = [int(rng.integers(0, size - 4)) for size in SHAPE]
    high = [start + int(rng.integers(1, 5)) for start in low]
    made = np.zeros(SHAPE, np.uint8)
    chosen = range(low[0], high[0]) if slices is None else slices
    made[list(chosen), low[1] : high[1], low[2] : high[2]] = 1
    return made


def as_kind(mask, kind):
    return mask.astype(np.float32) if kind == "FRACTIONAL" else mask


@pytest.fixture
def series(tmp_path):
    def write(orientation=AXIAL):
        return write_series(tmp_path / "ct", stack(*SHAPE[:1], SHAPE[1:]), orientation=orientation)

    return write


def as_nifti(path, mask, affine):
    nib.save(nib.Nifti1Image(mask.T, affine), path)
    return path


def marked_ras(image):
    """Centre (rounded) and number of every voxel that is marked."""
    index = np.argwhere(image.voxels[0] > 0)
    places = np.c_[index, np.ones(len(index))] @ image.affine.T
    numbers = image.voxels[0][tuple(index.T)]
    return {(*np.round(place[:3], 3) + 0.0, int(number)) for place, number in zip(places, numbers, strict=True)}


@KINDS_OF
@ORIENTATIONS
def test_a_segmentation_is_the_same_mask_as_its_nifti(tmp_path, series, orientation, kind):
    paths = series(orientation)
    volume = read_scan(tmp_path / "ct")
    cases = [lesion(seed) for seed in range(3)] + [lesion(7, slices=[4]), lesion(8, slices=[2, 3, 7, 9])]
    for number, mask in enumerate(cases):
        file = save(segmentation(paths, as_kind(mask, kind), kind=kind), tmp_path / f"{number}.dcm")
        nifti = as_nifti(tmp_path / f"{number}.nii.gz", mask, volume.affine)
        expected, found = read_scan(nifti), read_scan(file, rules=MASK)
        assert marked_ras(found) == marked_ras(expected)
        assert len(marked_ras(found)) == mask.sum() > 0
        assert found.spacing_mm == pytest.approx(volume.spacing_mm, abs=1e-5)
        rows = [Scan(sample_id="a", patient_id="a", path=tmp_path / "ct", mask=one) for one in (file, nifti)]
        crop, same = (read_sample(row, rules=RULES) for row in rows)
        assert crop.region == same.region
        np.testing.assert_array_equal(crop.voxels, same.voxels)
        np.testing.assert_allclose(crop.affine, same.affine)


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_a_compressed_segmentation_is_the_same_mask(tmp_path, series, kind):
    paths = series()
    images = []
    for name, more in (("plain", {}), ("rle", {"transfer_syntax_uid": pydicom.uid.RLELossless})):
        file = save(segmentation(paths, as_kind(lesion(), kind), kind=kind, **more), tmp_path / f"{name}.dcm")
        images.append(read_scan(file, rules=MASK))
    assert images[0].content_hash == images[1].content_hash
    assert images[0].voxels.any()


def test_numbers_of_segments_and_the_union_where_they_overlap(tmp_path, series):
    paths = series()
    both = np.stack([lesion(1), lesion(1), lesion(2)], axis=-1)
    both[..., 1] = np.roll(both[..., 0], 1, axis=2)
    file = save(segmentation(paths, both), tmp_path / "several.dcm")
    found = read_scan(file, rules=MASK)
    expected = np.max(both * np.array([1, 2, 3], np.uint8), axis=-1)
    assert set(np.unique(expected)) == {0, 1, 2, 3}
    nifti = read_scan(as_nifti(tmp_path / "several.nii", expected, read_scan(tmp_path / "ct").affine))
    assert marked_ras(found) == marked_ras(nifti)


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_numbers_in_the_other_types(tmp_path, series, kind):
    labels = lesion(1) + 2 * (lesion(2) & ~lesion(1))
    parts = np.stack([labels == 1, labels == 2], axis=-1).astype(np.float32)
    made = segmentation(series(), labels if kind == "LABELMAP" else parts, kind=kind, num=2)
    found = read_scan(save(made, tmp_path / "a.dcm"), rules=MASK)
    nifti = read_scan(as_nifti(tmp_path / "a.nii", labels, read_scan(tmp_path / "ct").affine))
    assert marked_ras(found) == marked_ras(nifti)
    assert {place[-1] for place in marked_ras(found)} == {1, 2}


def test_of_a_fractional_one_half_or_more(tmp_path, series):
    shares = lesion(1).astype(np.float32)
    at = np.argwhere(shares)
    shares[tuple(at[0])], shares[tuple(at[1])] = 0.4, 0.6
    file = save(segmentation(series(), shares, kind="FRACTIONAL"), tmp_path / "a.dcm")
    assert np.count_nonzero(read_scan(file, rules=MASK).voxels) == len(at) - 1


def test_a_label_map_whose_background_is_not_0(tmp_path, series):
    file = save(segmentation(series(), lesion(1), kind="LABELMAP"), tmp_path / "a.dcm")
    made = pydicom.dcmread(file)
    pixels = made.pixel_array.copy()
    pixels[pixels == 0] = 9
    made.PixelData = pixels.tobytes()
    made.add_new("PixelPaddingValue", "US", 9)
    save(made, tmp_path / "b.dcm")
    expected, found = (read_scan(tmp_path / name, rules=MASK) for name in ("a.dcm", "b.dcm"))
    np.testing.assert_array_equal(found.voxels, expected.voxels)


def test_one_slice_is_as_thick_as_the_file_says(tmp_path, series):
    file = save(segmentation(series(), lesion(7, slices=[4])), tmp_path / "a.dcm")
    made = pydicom.dcmread(file)
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices
    measures.SliceThickness = 4.5
    save(made, tmp_path / "b.dcm")
    assert read_scan(tmp_path / "b.dcm", rules=MASK).spacing_mm == pytest.approx((0.8, 0.7, 4.5))


def test_file_folder_zip_gzip_and_bytes_are_the_same(tmp_path, series):
    content = io.BytesIO()
    segmentation(series(), lesion()).save_as(content)
    folder = tmp_path / "mask"
    folder.mkdir()
    (folder / "seg.dcm").write_bytes(content.getvalue())
    (folder / "notes.txt").write_text("not DICOM")
    (tmp_path / "seg.dcm.gz").write_bytes(gzip.compress(content.getvalue()))
    with zipfile.ZipFile(tmp_path / "seg.zip", "w") as archive:
        archive.write(folder / "seg.dcm", "a/seg.dcm")
    named = (folder / "seg.dcm", folder, tmp_path / "seg.dcm.gz", tmp_path / "seg.zip")
    images = [read_scan(path, rules=MASK) for path in named]
    images += [read_scan_bytes(path.read_bytes(), rules=MASK) for path in named if path.is_file()]
    assert len({image.content_hash for image in images}) == 1
    assert len(images) == 7
    assert all(image.modality == "SEG" for image in images)


def test_a_mask_that_is_a_series_is_read_as_a_series(tmp_path, series):
    series()
    mask = lesion(3)
    write_series(tmp_path / "mask", mask.astype(np.int16), uid="1.9", RescaleIntercept=0)
    with zipfile.ZipFile(tmp_path / "mask.zip", "w") as archive:
        for path in (tmp_path / "mask").iterdir():
            archive.write(path, path.name)
    volume = read_scan(tmp_path / "ct")
    nifti = as_nifti(tmp_path / "mask.nii.gz", mask, volume.affine)
    row = Scan(sample_id="a", patient_id="a", path=tmp_path / "ct", mask=nifti)
    expected = crop_to_region(volume, size_mm=RULES.roi_size_mm, mask=read_mask(row))
    for path in (tmp_path / "mask", tmp_path / "mask.zip"):
        row = Scan(sample_id="a", patient_id="a", path=tmp_path / "ct", mask=path)
        np.testing.assert_array_equal(read_sample(row, rules=RULES).voxels, expected.voxels)


def test_the_size_of_the_region_follows_from_segmentations(tmp_path, series):
    paths = series()
    affine = read_scan(tmp_path / "ct").affine
    rows, same = [], []
    for number in range(3):
        file = save(segmentation(paths, lesion(number)), tmp_path / f"{number}.dcm")
        nifti = as_nifti(tmp_path / f"{number}.nii", lesion(number), affine)
        for listed, mask in ((rows, file), (same, nifti)):
            listed.append(Scan(sample_id=f"{number}", patient_id="a", path=tmp_path / "ct", mask=mask))
    tables = [ScanTable(root=tmp_path, scans=tuple(scans), classes=(), source="table") for scans in (rows, same)]
    found, expected = (choose_reading(table, rules=ReadingRules()).value.roi_size_mm for table in tables)
    assert found == expected is not None


# --- what is refused


def test_a_segmentation_is_no_scan(tmp_path, series):
    paths = series()
    folder = tmp_path / "seg"
    file = save(segmentation(paths, lesion()), folder / "seg.dcm")
    for path in (file, folder):
        with pytest.raises(UnreadableScanError, match="is no image") as caught:
            read_scan(path)
        assert caught.value.code == "no-series"
    (kind,) = {one.kind for one in index_series([file]).series}
    assert kind == "not-a-scan"
    scan = list_scans([tmp_path]).scans
    assert [set(one.files) for one in scan] == [set(paths)]


def test_a_mask_beside_its_scan_is_not_guessed(tmp_path, series):
    paths = series()
    save(segmentation(paths, lesion()), tmp_path / "ct" / "seg.dcm")
    with pytest.raises(UnreadableScanError, match="Name the file of the one that is the mask") as caught:
        read_scan(tmp_path / "ct", rules=MASK)
    assert caught.value.code == "several-series"
    assert read_scan(tmp_path / "ct").voxels.shape[1:] == SHAPE[::-1]


def test_contours_are_refused_with_the_way_out(tmp_path, series):
    made = pydicom.dcmread(series()[0])
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    made.Modality = "RTSTRUCT"
    for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient"):
        delattr(made, keyword)
    save(made, tmp_path / "rt" / "contours.dcm")
    for path in (tmp_path / "rt", tmp_path / "rt" / "contours.dcm"):
        with pytest.raises(UnreadableScanError, match=r"contours, not voxels.*NIfTI"):
            read_scan(path, rules=MASK)


def test_frames_that_are_no_stack_are_refused_with_the_way_out(tmp_path):
    at = positions(12)
    at[5] = at[5] + [0, 0, 1.0]
    paths = write_series(tmp_path / "ct", stack(*SHAPE[:1], SHAPE[1:]), at=at)
    file = save(segmentation(paths, lesion(7, slices=range(2, 9))), tmp_path / "a.dcm")
    with pytest.raises(UnreadableScanError, match=r"no regular stack.*NIfTI") as caught:
        read_scan(file, rules=MASK)
    assert caught.value.code == "roi-unknown"


def test_a_grid_that_is_too_large_is_refused_before_it_is_made(tmp_path, series):
    file = save(segmentation(series(), lesion(7, slices=[2, 3])), tmp_path / "a.dcm")
    made = pydicom.dcmread(file)
    made.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient[2] += 2.5e8
    save(made, tmp_path / "b.dcm")
    with pytest.raises(UnreadableScanError) as caught:
        read_scan(tmp_path / "b.dcm", rules=MASK)
    assert caught.value.code == "too-large"


@pytest.mark.parametrize("told", [0.333, None])
def test_positions_that_are_rounded_are_a_stack(tmp_path, told):
    at = [np.round(position, 2) for position in positions(12, step=(0, 0, 0.333))]
    at[4] = at[4] + [0, 0, 0.01]
    paths = write_series(tmp_path / "ct", stack(*SHAPE[:1], SHAPE[1:]), at=at)
    made = segmentation(paths, lesion(7, slices=range(2, 9)))
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = told
    if told is None:
        del measures.SpacingBetweenSlices
    image = read_scan(save(made, tmp_path / "a.dcm"), rules=MASK)
    assert image.spatial_shape == (24, 20, 7)
    assert image.spacing_mm == pytest.approx((0.8, 0.7, 0.333), abs=2e-3)


@KINDS_OF
def test_damage_gives_a_mask_or_one_kind_of_error(tmp_path, series, kind):
    content, draw, codes = io.BytesIO(), random.Random(0), Counter()
    segmentation(series(), as_kind(lesion(), kind), kind=kind).save_as(content)
    for _ in range(100):
        changed = bytearray(content.getvalue())
        for _ in range(draw.randrange(1, 6)):
            changed[draw.randrange(132, len(changed))] = draw.randrange(256)
        if draw.random() < 0.2:
            del changed[draw.randrange(len(changed)) :]
        try:
            read_scan_bytes(bytes(changed), rules=MASK)
            codes["read"] += 1
        except UnreadableScanError as error:
            assert error.code in KINDS  # noqa: PT017
            assert "did not expect" not in str(error), error.__cause__  # noqa: PT017
            codes[error.code] += 1
    assert sum(codes.values()) == 100
    assert len(codes) > 2


def test_values_of_tags_stay_in_the_file(tmp_path, series, caplog, recwarn):
    file = save(segmentation(series(), lesion()), tmp_path / "a.dcm")
    content = file.read_bytes()
    for told, odd in ((b"Nobody^Ann", b"Nobo\xff\xfeAnn\\"), (b"1.2.3.9\0", b"1.2.x.9\0"), (b"SCT", b"s\xe9t")):
        assert told in content
        content = content.replace(told, odd)
    image = read_scan_bytes(content, rules=MASK)
    assert image.voxels.any()
    assert caplog.text == ""
    assert [one for one in recwarn if "highdicom" in one.filename or "pydicom" in one.filename] == []


def test_highdicom_is_imported_for_segmentations_only(tmp_path, series):
    paths = series()
    file = save(segmentation(paths, lesion()), tmp_path / "a.dcm")
    code = (
        "import sys; from pathlib import Path; from medres.data.readers import read_scan\n"
        "from medres.data.readers.rules import MaskRules\n"
        f"read_scan(Path({str(paths[0])!r}), rules=MaskRules()); print('highdicom' in sys.modules)\n"
        f"read_scan(Path({str(file)!r}), rules=MaskRules()); print('highdicom' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
