"""NRRD and MetaImage: right by comparison with SimpleITK, strict where SimpleITK is not."""

import gzip
import random
import zlib
from collections import Counter

import numpy as np
import pytest
import SimpleITK

from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.contracts.test_readers import itk_image
from tests.data.making import volume
from tests.data.readers.samples import sample

SUFFIXES = ["nrrd", "mha", "mhd", "nhdr"]
TYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


def random_affine(seed):
    draw = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(draw.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * draw.uniform(0.3, 6, 3)
    affine[:3, 3] = draw.uniform(-300, 300, 3)
    return affine


def write(path, voxels, affine=None, *, compressed=False):
    image = itk_image(voxels, np.diag([0.7, 0.8, 5, 1]) if affine is None else affine)
    SimpleITK.WriteImage(image, str(path), useCompression=compressed)
    return path


def same_as_itk(path):
    image, itk = read_scan(path), SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(image.voxels[0], SimpleITK.GetArrayFromImage(itk).T)
    assert image.spacing_mm == pytest.approx(itk.GetSpacing(), rel=1e-6)
    for index in [(0, 0, 0), (5, 4, 3), (1, 0, 2)]:
        lps = np.array(itk.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((image.affine @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-4)
    return image


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [False, True])
def test_geometry_of_any_direction_is_that_of_simpleitk(tmp_path, suffix, compressed):
    for seed in range(10):
        path = write(tmp_path / f"{seed}.{suffix}", volume(), random_affine(seed), compressed=compressed)
        np.testing.assert_allclose(same_as_itk(path).affine, random_affine(seed), atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", TYPES)
def test_types_are_kept(tmp_path, suffix, dtype):
    image = same_as_itk(write(tmp_path / f"a.{suffix}", volume(dtype=dtype, low=0, high=100)))
    assert image.voxels.dtype == np.dtype(dtype)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_and_colour(tmp_path, suffix):
    grey = volume((9, 7), low=0, high=255, dtype=np.uint8)
    flat = SimpleITK.GetImageFromArray(grey.T)
    flat.SetSpacing((0.5, 0.25))
    SimpleITK.WriteImage(flat, str(tmp_path / f"a.{suffix}"))
    image = read_scan(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(image.voxels[0], grey)
    assert (image.affine, image.spacing_mm, image.notes) == (None, (0.5, 0.25), ())
    colours = volume((9, 7, 5, 3), low=0, high=255, dtype=np.uint8)
    vectors = SimpleITK.GetImageFromArray(np.ascontiguousarray(colours.transpose(2, 1, 0, 3)), isVector=True)
    SimpleITK.WriteImage(vectors, str(tmp_path / f"b.{suffix}"))
    image = read_scan(tmp_path / f"b.{suffix}")
    assert image.color
    np.testing.assert_array_equal(image.voxels, np.moveaxis(colours, -1, 0))


# --- NRRD by hand


def nrrd(voxels=None, *, body=None, **fields):
    voxels = volume() if voxels is None else voxels
    values = {
        "type": "short",
        "dimension": voxels.ndim,
        "sizes": " ".join(map(str, voxels.shape)),
        "endian": "little",
        "encoding": "raw",
    }
    values |= {name.replace("_", " "): value for name, value in fields.items()}
    header = "NRRD0005\n# comment\nPatient:=CANARY\n" + "".join(
        f"{k}: {v}\n" for k, v in values.items() if v is not None
    )
    return header.encode() + b"\n" + (voxels.tobytes(order="F") if body is None else body)


PLACED = {"space_directions": "(0.7,0,0) (0,0.8,0) (0,0,5)", "space_origin": "(1,2,3)"}


@pytest.mark.parametrize(
    ("space", "factors"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_the_space_of_an_nrrd_is_turned_into_ras(tmp_path, space, factors):
    (tmp_path / "a.nrrd").write_bytes(nrrd(space=space, **PLACED))
    image = read_scan(tmp_path / "a.nrrd")
    np.testing.assert_allclose(image.affine[:3, 3], np.array([1, 2, 3]) * factors)
    np.testing.assert_allclose(np.diag(image.affine)[:3], np.array([0.7, 0.8, 5]) * factors)
    same_as_itk(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    ("fields", "spacing", "codes"),
    [
        ({}, None, ["orientation-unknown"]),
        ({"spacings": "0.7 0.8 5"}, (0.7, 0.8, 5), ["orientation-unknown"]),
        ({"spacings": "0.7 nan 5"}, None, ["orientation-unknown"]),
        ({"spacings": "0.7 0 5"}, None, ["orientation-unknown"]),
        ({"space": "scanner-xyz", **PLACED}, (0.7, 0.8, 5), ["orientation-unknown"]),
        (
            {"space_directions": PLACED["space_directions"], "space_dimension": 3},
            (0.7, 0.8, 5),
            ["orientation-unknown"],
        ),
        ({"space": "LPS", "space_directions": PLACED["space_directions"]}, (0.7, 0.8, 5), ["origin-unknown"]),
        ({"space": "LPS", "space_units": '"cm" "cm" "cm"', **PLACED}, (7, 8, 50), []),
    ],
)
def test_what_an_nrrd_does_not_say_is_unknown(fields, spacing, codes):
    image = read_scan_bytes(nrrd(**fields))
    assert image.spacing_mm == (pytest.approx(spacing) if spacing else None)
    assert [note.partition(":")[0] for note in image.notes] == codes
    assert (image.affine is None) == ("orientation-unknown" in codes)
    assert "CANARY" not in repr(image.notes)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (nrrd(sizes="32767 32767 32767"), "too-large"),
        (nrrd(sizes="1200 1200 1200", encoding="gzip", body=gzip.compress(b"\1" * 4096, mtime=0)), "truncated"),
        (nrrd(sizes="1200 1200 1200"), "truncated"),
        (nrrd(sizes="6 5"), "header-damaged"),
        (nrrd(sizes="6 5 x"), "header-damaged"),
        (nrrd(sizes="6 5 0"), "no-voxels"),
        (nrrd(sizes="6 -5 4"), "no-voxels"),
        (nrrd(sizes=f"6 5 {10**17}"), "too-large"),
        (nrrd(type="block"), "not-numbers"),
        (nrrd(endian=None), "header-damaged"),
        (nrrd(encoding="hex"), "unknown-format"),
        (nrrd(encoding="bzip2"), "unknown-format"),
        (nrrd(space="LPS", space_directions="(1,0,0) (0,1,0) (0,0,0)", space_origin="(0,0,0)"), "singular-affine"),
        (nrrd(space="LPS", space_directions="(1,0,0) (0.5,1,0) (0,0,1)", space_origin="(0,0,0)"), "sheared-affine"),
        (nrrd(space="LPS", space_directions="(1,0,0) (0,nan,0) (0,0,1)", space_origin="(0,0,0)"), "header-damaged"),
        (nrrd(space="LPS", space_directions="(1,0,0) (0,1) (0,0,1)", space_origin="(0,0,0)"), "header-damaged"),
        (nrrd(space="LPS", space_directions="(1,0,0)", space_origin="(0,0,0)"), "header-damaged"),
        (nrrd(data_file="a.raw"), "unknown-format"),
        (nrrd(data_file="LIST"), "unknown-format"),
        (nrrd(byte_skip=-1, body=b""), "truncated"),
        (nrrd()[:-1], "truncated"),
        (nrrd() + b"\0" * 100_000, "header-damaged"),
        (nrrd(content="x" * 2**21), "header-damaged"),
    ],
)
def test_nrrds_that_cannot_be_are_refused(content, code):
    with pytest.raises(UnreadableScanError) as refused:
        read_scan_bytes(content)
    assert refused.value.code == code


def test_bytes_and_lines_before_the_voxels(tmp_path):
    body = volume().tobytes(order="F")
    expected = read_scan_bytes(nrrd()).content_hash
    assert read_scan_bytes(nrrd(byte_skip=7, body=b"x" * 7 + body)).content_hash == expected
    assert read_scan_bytes(nrrd(byte_skip=-1, body=b"x" * 70_000 + body)).content_hash == expected
    assert read_scan_bytes(nrrd(line_skip=2, body=b"a\nbc\n" + body)).content_hash == expected
    (tmp_path / "voxels.raw").write_bytes(b"head\n" + body)
    (tmp_path / "a.nhdr").write_bytes(nrrd(data_file="voxels.raw", line_skip=1, body=b""))
    assert read_scan(tmp_path / "a.nhdr").content_hash == expected


# --- MetaImage by hand


def mha(voxels=None, *, body=None, **fields):
    voxels = volume() if voxels is None else voxels
    values = {
        "ObjectType": "Image",
        "NDims": voxels.ndim,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "PatientName": "CANARY",
        "DimSize": " ".join(map(str, voxels.shape)),
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    values |= fields
    last = values.pop("ElementDataFile")
    header = "".join(f"{name} = {value}\n" for name, value in values.items() if value is not None)
    content = f"{header}ElementDataFile = {last}\n".encode()
    return content + (voxels.tobytes(order="F") if body is None else body)


def test_what_a_metaimage_does_not_say_is_unknown():
    image = read_scan_bytes(mha())
    assert (image.affine, image.spacing_mm) == (None, None)
    assert [note.partition(":")[0] for note in image.notes] == ["orientation-unknown"]
    image = read_scan_bytes(mha(ElementSpacing="0.7 0.8 5"))
    assert (image.affine, image.spacing_mm) == (None, pytest.approx((0.7, 0.8, 5)))
    image = read_scan_bytes(mha(ElementSpacing="1 1 2", TransformMatrix="1 0 0 0 1 0 0 0 1"))
    np.testing.assert_array_equal(image.affine, np.diag([-1, -1, 2, 1]))
    assert [note.partition(":")[0] for note in image.notes] == ["origin-unknown"]
    assert read_scan_bytes(mha(Modality="MET_MOD_CT")).modality == "CT"
    assert read_scan_bytes(mha(Modality="MET_MOD_OTHER")).modality is None


def test_big_endian_and_a_header_of_the_data_file(tmp_path):
    expected = read_scan_bytes(mha()).content_hash
    big = volume().astype(">i2").tobytes(order="F")
    assert read_scan_bytes(mha(body=big, BinaryDataByteOrderMSB="True")).content_hash == expected
    (tmp_path / "a.raw").write_bytes(b"x" * 512 + big)
    (tmp_path / "a.mhd").write_bytes(
        mha(body=b"", ElementByteOrderMSB="True", HeaderSize="-1", ElementDataFile="a.raw")
    )
    assert read_scan(tmp_path / "a.mhd").content_hash == expected


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (mha(DimSize="32767 32767 32767"), "too-large"),
        (mha(DimSize="1200 1200 1200", CompressedData="True", body=zlib.compress(b"\1" * 4096)), "truncated"),
        (mha(DimSize="6 5"), "header-damaged"),
        (mha(DimSize="6 5 0"), "no-voxels"),
        (mha(ElementType="MET_STRING"), "not-numbers"),
        (mha(BinaryData="False"), "unknown-format"),
        (mha(ElementDataFile="LIST"), "unknown-format"),
        (mha(ElementDataFile="slice%03d.raw 1 4 1"), "unknown-format"),
        (mha(ElementDataFile="other.raw"), "unknown-format"),
        (mha(ElementSpacing="1 1 1", TransformMatrix="1 0 0 0 1 0 0 0"), "header-damaged"),
        (mha(ElementSpacing="1 1 1", TransformMatrix="1 0 0 0 1 0 0 0.5 1"), "sheared-affine"),
        (mha(ElementSpacing="1 1 1", TransformMatrix="1 0 0 0 1 0 0 0 nan"), "header-damaged"),
        (mha(CompressedData="True"), "damaged"),
        (mha()[:100], "truncated"),
        (mha()[:-1], "truncated"),
    ],
)
def test_metaimages_that_cannot_be_are_refused(content, code):
    with pytest.raises(UnreadableScanError) as refused:
        read_scan_bytes(content)
    assert refused.value.code == code


# --- files beside a header


@pytest.mark.parametrize("name", ["../a.raw", "/etc/passwd", "..\\a.raw", "C:\\a.raw", "sub/a.raw", "..", "C:a.raw"])
def test_a_header_that_points_elsewhere_is_not_followed(tmp_path, name):
    (tmp_path / "sub").mkdir()
    for target in (tmp_path / "a.raw", tmp_path / "sub" / "a.raw"):
        target.write_bytes(volume().tobytes(order="F"))
    (tmp_path / "sub" / "a.mhd").write_bytes(mha(body=b"", ElementDataFile=name))
    (tmp_path / "sub" / "a.nhdr").write_bytes(nrrd(body=b"", data_file=name))
    for header in ("a.mhd", "a.nhdr"):
        with pytest.raises(UnreadableScanError, match="another folder, which is not followed") as refused:
            read_scan(tmp_path / "sub" / header)
        assert refused.value.code == "header-damaged"


def test_a_missing_half_is_named(tmp_path):
    (tmp_path / "a.mhd").write_bytes(mha(body=b"", ElementDataFile="a.raw"))
    with pytest.raises(UnreadableScanError, match=r"its voxels are missing: a\.raw is not beside it") as refused:
        read_scan(tmp_path / "a.mhd")
    assert refused.value.code == "file-missing"


@pytest.mark.parametrize("name", ["mha zlib", "nrrd gz"])
def test_200_one_bit_flips_of_the_compressed_voxels_are_refused_or_change_no_voxel(name):
    content, draw, outcomes = sample(name), random.Random(0), Counter()
    expected = read_scan_bytes(content).content_hash
    begin = content.index(b"LOCAL\n") + 6 if name == "mha zlib" else content.index(b"\n\n\x1f\x8b") + 12
    for _ in range(200):
        changed, bit = bytearray(content), draw.randrange(8 * begin, 8 * len(content))
        changed[bit // 8] ^= 1 << (bit % 8)
        try:
            outcomes[read_scan_bytes(bytes(changed)).content_hash == expected] += 1  # a bit of padding
        except UnreadableScanError as error:
            outcomes[error.code] += 1
    assert set(outcomes) <= {"damaged", "truncated", "header-damaged", True}
    assert outcomes[True] < 10


def test_interleaved_vectors_and_time_are_counted_one_after_the_other():
    voxels = volume((2, 6, 5, 4, 3))  # two components a voxel, three times
    content = mha(voxels, NDims=4, DimSize="6 5 4 3", ElementNumberOfChannels=2)
    for number in range(6):
        image = read_scan_bytes(content, rules=ReadingRules(volume=number))
        np.testing.assert_array_equal(image.voxels[0], voxels[number // 3, ..., number % 3])
