import gzip
import io
import random
import subprocess
import sys
import warnings
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medres.data.readers import SCAN_SUFFIXES, read_scan, read_scan_bytes, reading
from medres.data.readers.formats import is_part_of_scan, looks_like_dicom, recognise, scan_suffix
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.making import AFFINE, volume, write_nifti, write_png
from tests.data.readers.samples import dicom, sample


def jpeg():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez_compressed(file, image=volume(), spacing=[0.7, 0.8, 5.0], affine=AFFINE)
    return file.getvalue()


SAMPLES = {
    "nifti": lambda folder: write_nifti(folder / "a.nii").read_bytes(),
    "nifti-2": lambda folder: write_nifti(folder / "a.nii", kind=nib.Nifti2Image).read_bytes(),
    "gzip": lambda folder: write_nifti(folder / "a.nii.gz").read_bytes(),
    "png": lambda folder: write_png(folder / "a.png").read_bytes(),
    "jpeg": lambda folder: jpeg(),
    "zip": lambda folder: npz(),
}


def damaged(content, draw):
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        position, kind = draw.randrange(min(len(changed), 700)), draw.random()
        if kind < 0.7:
            changed[position] = draw.randrange(256)
        elif kind < 0.85:
            del changed[position]
        else:
            changed.insert(position, draw.randrange(256))
    return bytes(changed)


@pytest.mark.parametrize("kind", SAMPLES)
def test_content_is_recognised(tmp_path, kind):
    assert recognise(SAMPLES[kind](tmp_path)) == kind.removesuffix("-2")


@pytest.mark.parametrize("kind", SAMPLES)
def test_damage_gives_a_scan_or_one_kind_of_error_and_no_warning(tmp_path, kind):
    content, draw, outcomes = SAMPLES[kind](tmp_path), random.Random(0), Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(500):
            try:
                assert np.isfinite(read_scan_bytes(damaged(content, draw)).voxels).all()
                outcomes["read"] += 1
            except UnreadableScanError as error:
                assert error.problem.startswith("The file ")  # noqa: PT017
                outcomes["refused"] += 1
    assert sum(outcomes.values()) == 500
    assert outcomes["refused"] > 100


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
def test_suffixes_in_any_case(tmp_path, suffix):
    assert scan_suffix(tmp_path / f"a.b{suffix.upper()}") == suffix.upper()
    assert scan_suffix(tmp_path / f"{suffix[1:]}.txt") == ""


def test_decoders_are_imported_when_a_scan_is_read():
    code = "import sys, medres.data.readers, medres.data.sources; print({'nibabel', 'PIL', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        __import__("medres.data.readers").data.readers.other  # noqa: B018


# --- DICOM by way of files, folders, zip files, gzip and bytes: the same scan


def write_series(folder, *, count=3):
    folder.mkdir()
    for number in range(1, count + 1):
        (folder / f"IM{number:06d}").write_bytes(dicom(2.0 * number, number))
    return folder


def test_a_series_is_the_same_as_files_folder_and_zip(tmp_path):
    folder = write_series(tmp_path / "series")
    (tmp_path / "scan.zip").write_bytes(sample("dicom zip"))
    images = [
        read_scan(folder),
        read_scan(folder, files=tuple(sorted(folder.iterdir()))),
        read_scan(folder / "nothing", member="1.2.5", files=tuple(sorted(folder.iterdir()))),
        read_scan(tmp_path / "scan.zip"),
        read_scan_bytes(sample("dicom zip")),
    ]
    assert len({image.content_hash for image in images}) == 1
    for image in images:
        assert (image.voxels.shape, image.modality) == ((1, 5, 6, 3), "CT")
        assert image.spacing_mm == pytest.approx((0.8, 0.7, 2))
        np.testing.assert_allclose(image.affine, images[0].affine)


def test_one_dicom_file_is_the_same_as_bytes_in_gzip_and_under_any_name(tmp_path):
    names = {"a.dcm": sample("dicom"), "IM000001": sample("dicom"), "a.dcm.gz": sample("dicom gz")}
    hashes = {read_scan_bytes(sample("dicom")).content_hash}
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
        hashes.add(read_scan(tmp_path / name).content_hash)
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda folder: (folder / "IM000002").unlink(), "file-missing"),
        (lambda folder: (folder / "IM000002").write_bytes(dicom(4.0, 2)[:-20]), "truncated"),
    ],
)
def test_the_message_of_a_series_names_its_folder_and_the_file_at_fault(tmp_path, change, code):
    folder = write_series(tmp_path / "series")
    files = tuple(sorted(folder.iterdir()))
    change(folder)
    with pytest.raises(UnreadableScanError, match=f"^{folder}.*IM000002") as refused:
        read_scan(folder, files=files)
    assert refused.value.code == code


def test_content_is_looked_at_without_a_suffix(tmp_path):
    folder = write_series(tmp_path / "series", count=1)
    assert looks_like_dicom(folder / "IM000001")
    (tmp_path / "LICENSE").write_text("Copyright 2020")
    (tmp_path / "empty").write_bytes(b"")
    for other in (tmp_path / "LICENSE", tmp_path / "empty", tmp_path / "gone", tmp_path, write_png(tmp_path / "a.png")):
        assert not looks_like_dicom(other)


@pytest.mark.real
def test_every_dicom_file_of_the_field_looks_like_one_and_no_other(real_data):
    counts = Counter()
    for path in sorted((real_data / "dicom").rglob("*")):
        if path.is_file() and path.suffix in (".dcm", "") and path.stem not in ("LICENSE", "README"):
            counts[path.suffix, looks_like_dicom(path)] += 1
    for path in sorted((real_data / "nifti_odd").rglob("*")):
        if path.is_file() and path.suffix != ".dcm":
            counts["other", looks_like_dicom(path)] += 1
    assert counts[".dcm", True] > 250
    assert counts[".dcm", False] <= 1  # badVR.dcm begins with a group that no image begins with
    assert counts["", True] > 80
    assert counts["other", False] > 150
    assert counts["", False] + counts["other", True] == 0


@pytest.mark.parametrize(
    ("part", "header"), [("a.img", "a.hdr"), ("a.raw", "a.mhd"), ("a.ZRAW", "a.mhd"), ("a.raw", "a.nhdr")]
)
def test_the_voxels_of_a_header_are_a_part_of_a_scan(tmp_path, part, header):
    (tmp_path / part).touch()
    assert not is_part_of_scan(tmp_path / part)
    (tmp_path / header).touch()
    assert is_part_of_scan(tmp_path / part)
    assert not is_part_of_scan(tmp_path / header)
    assert not scan_suffix(tmp_path / part)


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), AssertionError(), UnicodeDecodeError("a", b"", 0, 1, "b")]
)
def test_what_no_decoder_expected_is_one_message_too(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(reading, "read_nifti", fail)
    with pytest.raises(UnreadableScanError, match=r"a\.nii is damaged in a way") as refused:
        read_scan(write_nifti(tmp_path / "a.nii"))
    assert (refused.value.code, refused.value.__cause__) == ("damaged", error)


def test_what_the_operating_system_refuses_is_said(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "a.nii")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(UnreadableScanError, match=r"a\.nii cannot be read: Permission denied") as refused:
        read_scan(path)
    assert refused.value.code == "file-refused"


def test_rules_reach_the_reader_of_bytes():
    content = sample("nifti 4d")
    chosen = [read_scan_bytes(content, rules=ReadingRules(volume=number)).content_hash for number in range(3)]
    assert len(set(chosen)) == 3


def test_a_gzip_file_in_a_gzip_file_and_a_flood_are_refused():
    with pytest.raises(UnreadableScanError, match=r"packed once more \(gzip\)") as refused:
        read_scan_bytes(gzip.compress(sample("nifti.gz")))
    assert refused.value.code == "unknown-format"
    flood = gzip.compress(sample("png") + b"\0" * 80 * 2**20, 9)
    with pytest.raises(UnreadableScanError, match="as a decompression bomb does") as refused:
        read_scan_bytes(flood)
    assert refused.value.code == "decompression-bomb"
