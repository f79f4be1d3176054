import gzip
import random
import struct
import time
from collections import Counter

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK

from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.nifti import scaled
from medres.errors import UnreadableScanError
from tests.data.making import AFFINE, volume, write_nifti
from tests.figures import RecordProperty

TYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
GZIP_HEADER_BYTES = 10  # no checksum covers them, and none of them changes a voxel


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


# --- right by comparison with nibabel and SimpleITK


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxels_and_affine_are_those_of_nibabel(tmp_path, dtype, suffix, kind):
    path = write_nifti(tmp_path / f"scan{suffix}", volume(dtype=dtype, low=0, high=100), kind=kind)
    image, expected = read_scan(path), nib.load(path)
    np.testing.assert_array_equal(image.voxels[0], np.asanyarray(expected.dataobj))
    assert image.voxels.dtype == np.dtype(dtype)
    assert image.voxels.dtype.isnative
    np.testing.assert_allclose(image.affine, expected.affine)
    assert image.spacing_mm == pytest.approx((0.7, 0.8, 5.0))
    assert (image.spatial_dims, image.notes, image.color) == (3, (), False)


def test_big_endian_is_native_and_has_the_same_hash(tmp_path):
    little = write_nifti(tmp_path / "little.nii")
    big = tmp_path / "big.nii.gz"
    loaded = nib.load(little)
    nib.save(nib.Nifti1Image(np.asanyarray(loaded.dataobj), AFFINE, loaded.header.as_byteswapped(">")), big)
    with gzip.open(big) as file:
        assert struct.unpack(">i", file.read(4)) == (348,)
    assert read_scan(big).voxels.dtype.isnative
    assert read_scan(big).content_hash == read_scan(little).content_hash


def test_geometry_is_that_of_simpleitk(tmp_path):
    rotation = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]]) @ np.diag([-0.5, 0.5, 3.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation, (5, -6, 7)
    path = write_nifti(tmp_path / "oblique.nii.gz", affine=affine)
    image, itk = read_scan(path), SimpleITK.ReadImage(str(path))
    assert image.spacing_mm == pytest.approx(itk.GetSpacing(), rel=1e-5)
    np.testing.assert_array_equal(image.voxels[0], SimpleITK.GetArrayFromImage(itk).T)
    for index in [(0, 0, 0), (5, 4, 3)]:
        lps = np.array(itk.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((image.affine @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize(("unit", "millimetres"), [(1, 1000.0), (2, 1.0), (3, 0.001)])
def test_units_of_length_become_millimetres(tmp_path, unit, millimetres):
    path = write_nifti(tmp_path / "scan.nii", xyzt_units=unit)
    image = read_scan(path)
    assert image.spacing_mm == pytest.approx(np.array([0.7, 0.8, 5.0]) * millimetres)
    assert image.spacing_mm == pytest.approx(SimpleITK.ReadImage(str(path)).GetSpacing(), rel=1e-5)
    assert bool(image.notes) == (unit != 2)


def test_name_and_compression_do_not_change_the_hash(tmp_path):
    paths = [write_nifti(tmp_path / name) for name in ("a.nii", "b.nii.gz")]
    hashes = {read_scan(path).content_hash for path in paths} | {
        read_scan_bytes(path.read_bytes()).content_hash for path in paths
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("name", ["plain.nii.gz", "plain.png", "plain"])
def test_content_counts_not_the_suffix(tmp_path, name):
    path = write_nifti(tmp_path / "scan.nii").rename(tmp_path / name)
    assert read_scan(path).spatial_shape == (6, 5, 4)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (2, 3), (0.5, 0), (0.0123, -7.5), (-1, 10)])
def test_scale_factors_are_those_of_nibabel(tmp_path, dtype, slope, intercept):
    voxels = volume(dtype=dtype, low=0, high=100)
    path = write_nifti(tmp_path / "scan.nii", voxels, scl_slope=slope, scl_inter=intercept)
    voxels = read_scan(path).voxels[0]
    np.testing.assert_allclose(voxels, nib.load(path).get_fdata(), rtol=1e-5, atol=1e-4)
    whole = float(slope).is_integer() and dtype != "float32"
    assert voxels.dtype.kind == ("f" if not whole else "u" if (slope, intercept) == (1, 0) and dtype[0] == "u" else "i")


def test_scaling_never_wraps():
    ends = np.array([np.iinfo(np.int16).min, np.iinfo(np.int16).max], dtype=np.int16)
    for slope, intercept in [(1, 1), (2, 0), (-1, 0), (1000, 5), (1, 2**31), (2**20, 2**20), (70000, -70000)]:
        got = scaled(ends, slope=float(slope), intercept=float(intercept))
        np.testing.assert_allclose(got.astype(float), ends.astype(float) * slope + intercept)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
@pytest.mark.parametrize(
    ("slope", "intercept"),
    [
        (1e-9, 0),
        (1e-9, -3e-8),
        (1e-42, 0),
        (1e-3, 1e6),
        (0.01, -3e5),
        (1e35, 0),
        (3e38, -1e38),
        (0.5, 1e7),
        (2.5, -1024),
    ],
)
def test_small_steps_survive_any_scale_and_offset(tmp_path, dtype, slope, intercept):
    voxels = volume(dtype=dtype, low=0, high=200)
    path = write_nifti(tmp_path / "scan.nii", voxels, scl_slope=slope, scl_inter=intercept)
    factor, offset = float(np.float32(slope)), float(np.float32(intercept))  # as the header holds them
    expected = voxels.astype(np.float64) * factor + offset
    rounding = factor / 8 if dtype != "float32" else float(np.finfo(np.float32).eps) * 200 * factor
    np.testing.assert_allclose(read_scan(path).voxels[0], expected, rtol=0, atol=rounding)


def test_values_that_no_difference_can_be_computed_of_are_refused_by_their_size(tmp_path):
    voxels = np.linspace(-1, 1, 120).reshape(6, 5, 4)
    assert read_scan(write_nifti(tmp_path / "large.nii", voxels * 1e299)).voxels.max() == 1e299
    with pytest.raises(UnreadableScanError, match=r"voxel values of up to 1e\+305") as caught:
        read_scan(write_nifti(tmp_path / "scan.nii", voxels * 1e305))
    assert caught.value.code == "not-finite"


@pytest.mark.parametrize("slope", [0.0, float("nan")])
def test_no_scaling_is_asked_for(tmp_path, slope):
    path = write_nifti(tmp_path / "scan.nii", scl_slope=slope, scl_inter=12.0)
    np.testing.assert_array_equal(read_scan(path).voxels[0], volume())


# --- shapes


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 5, 4, 1), (6, 5, 4)),
        ((6, 5, 4, 1, 1), (6, 5, 4)),
        ((6, 5), (6, 5)),
        ((6, 5, 1), (6, 5)),
        ((6, 5, 1, 1), (6, 5)),
        ((1, 5, 4), (5, 4)),
    ],
)
def test_ones_are_left_out(tmp_path, shape, expected):
    image = read_scan(write_nifti(tmp_path / "scan.nii.gz", volume(shape)))
    assert image.spatial_shape == expected
    np.testing.assert_array_equal(image.voxels[0], volume(shape).reshape(expected))
    assert (image.affine is None) == (len(expected) == 2)
    assert len(image.spacing_mm) == len(expected)


@pytest.mark.parametrize("shape", [(6, 5, 4, 2), (6, 5, 1, 3), (6, 5, 4, 1, 3)])
def test_more_axes_are_refused_with_the_way_out(tmp_path, shape):
    path = write_nifti(tmp_path / "series.nii.gz", volume(shape))
    with pytest.raises(UnreadableScanError, match=rf"series.nii.gz is {len(shape)}D, shape 6x5.*fslsplit"):
        read_scan(path)


@pytest.mark.parametrize("shape", [(6, 1, 1), (6,), (1, 1, 1)])
def test_a_profile_is_no_scan(tmp_path, shape):
    with pytest.raises(UnreadableScanError, match="no image and no volume"):
        read_scan(write_nifti(tmp_path / "line.nii", volume(shape)))


def test_colour(tmp_path):
    rgb = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    grey = rgb.copy()
    for channel, name in enumerate("RGB"):
        rgb[name] = volume(low=0, high=255, dtype=np.uint8, seed=channel)
        grey[name] = volume(low=0, high=255, dtype=np.uint8)
    colored = read_scan(write_nifti(tmp_path / "rgb.nii.gz", rgb))
    assert (colored.voxels.shape, colored.color) == ((3, 6, 5, 4), True)
    np.testing.assert_array_equal(colored.voxels[1], rgb["G"])
    one = read_scan(write_nifti(tmp_path / "grey.nii.gz", grey))
    plain = read_scan(write_nifti(tmp_path / "plain.nii.gz", volume(low=0, high=255, dtype=np.uint8)))
    assert (one.voxels.shape, one.color, one.content_hash) == ((1, 6, 5, 4), False, plain.content_hash)


# --- geometry that files do not tell, or tell wrongly


def test_without_codes_orientation_is_unknown_and_never_invented(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=0)
    image = read_scan(path)
    assert image.affine is None
    assert image.spacing_mm == pytest.approx((0.7, 0.8, 5.0))
    assert [note.partition(":")[0] for note in image.notes] == ["orientation-unknown"]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_without_codes_a_spacing_that_cannot_be_is_none(tmp_path, bad):
    path = write_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=0, pixdim=[1, 0.7, bad, 5, 0, 0, 0, 0])
    assert read_scan(path).spacing_mm is None


def test_identity_with_a_code_is_legal(tmp_path):
    image = read_scan(write_nifti(tmp_path / "scan.nii", affine=np.eye(4), sform_code=2, qform_code=0))
    np.testing.assert_array_equal(image.affine, np.eye(4))
    assert image.spacing_mm == (1.0, 1.0, 1.0)


def test_the_qform_counts_where_there_is_no_sform(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=1)
    np.testing.assert_allclose(read_scan(path).affine, nib.load(path).affine, atol=1e-5)


def test_the_sform_wins_and_the_conflict_is_said(tmp_path):
    image = nib.Nifti1Image(volume(), np.diag([2.0, 2, 5, 1]))
    image.set_sform(np.diag([2.0, 2, 5, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, tmp_path / "scan.nii")
    read = read_scan(tmp_path / "scan.nii")
    assert read.spacing_mm == (2.0, 2.0, 5.0)
    assert [note.partition(":")[0] for note in read.notes] == ["sform-qform-differ"]


SHEARED = np.array([[2, 0.6, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (SHEARED, "sheared affine: its axes are 16.7 degrees off .* SimpleITK"),
        (np.diag([1.0, 1, 0, 1]), "singular affine: spacing 1 x 1 x 0 mm"),
        (np.diag([1.0, np.nan, 1, 1]), "not 4x4 finite numbers"),
        (np.diag([1.0, np.inf, 1, 1]), "not 4x4 finite numbers"),
    ],
)
def test_affines_that_cannot_be_used_are_refused(tmp_path, affine, message):
    srow = {f"srow_{axis}": affine[row] for row, axis in enumerate("xyz")}
    path = write_nifti(tmp_path / "scan.nii.gz", affine=np.eye(4), sform_code=1, qform_code=0, **srow)
    with pytest.raises(UnreadableScanError, match=message):
        read_scan(path)


def test_half_a_degree_of_shear_is_rounding(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = np.tan(np.radians(0.5))
    assert read_scan(write_nifti(tmp_path / "scan.nii", affine=affine, qform_code=0)).affine is not None


@pytest.mark.parametrize("pixdim", [-1.0, float("nan")])
def test_a_qform_with_pixdims_that_cannot_be_is_refused(tmp_path, pixdim):
    path = write_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=1, pixdim=[1, pixdim, 1, 1, 0, 0, 0, 0])
    with pytest.raises(UnreadableScanError, match=r"qform that cannot be used|finite numbers"):
        read_scan(path)


@pytest.mark.parametrize("qfac", [0.0, 1.0, -1.0, 2.0, -2.0, float("nan")])
def test_qfac_is_read_by_its_sign_as_simpleitk_does(tmp_path, qfac):
    turned = nib.Nifti1Image(volume(), np.diag([-2.0, -3, 5, 1]))
    turned.set_qform(turned.affine, code=1)
    turned.set_sform(None, code=0)
    turned.header["pixdim"][0] = 1
    path = tmp_path / "scan.nii"
    nib.save(turned, path)
    content = bytearray(path.read_bytes())
    content[76:80] = struct.pack("<f", qfac)
    path.write_bytes(content)
    read, itk = read_scan(path), SimpleITK.ReadImage(str(path))
    direction = np.array(itk.GetDirection()).reshape(3, 3) * np.array(itk.GetSpacing())
    np.testing.assert_allclose(read.affine[:3, :3], np.diag([-1.0, -1, 1]) @ direction, atol=1e-5)
    if qfac in (0, 1, -1):
        np.testing.assert_allclose(read.affine, nib.load(path).affine, atol=1e-5)
    assert [note.partition(":")[0] for note in read.notes] == ([] if qfac in (0, 1, -1) else ["qform-damaged"])


def test_a_qfac_of_0_beside_an_equal_sform_is_no_finding(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", affine=np.diag([1.0, 2, 3, 1]), sform_code=1, qform_code=1)
    content = bytearray(path.read_bytes())
    content[76:80] = bytes(4)
    path.write_bytes(content)
    assert (read_scan(path).notes, read_scan(path).spacing_mm) == ((), (1.0, 2.0, 3.0))


# --- damage


@pytest.mark.parametrize(("bad", "count"), [(np.nan, 1), (np.inf, 2), (-np.inf, 3)])
def test_nan_and_infinity_are_refused_with_their_number(tmp_path, bad, count):
    voxels = volume(dtype=np.float32)
    voxels.flat[:count] = bad
    with pytest.raises(UnreadableScanError, match=f"scan.nii holds {count} NaN or infinite voxels of 120"):
        read_scan(write_nifti(tmp_path / "scan.nii", voxels))


def test_complex_voxels_are_refused(tmp_path):
    with pytest.raises(UnreadableScanError, match=r"complex.*magnitude"):
        read_scan(write_nifti(tmp_path / "scan.nii", volume().astype(np.complex64)))


def test_all_of_200_one_bit_flips_are_refused(tmp_path, record_property: RecordProperty):
    path = write_nifti(tmp_path / "scan.nii.gz", volume((40, 40, 20), low=-30000, high=30000))
    content = path.read_bytes()
    draw = random.Random(0)
    outcomes = Counter()
    for _ in range(200):
        path.write_bytes(flipped(content, draw.randrange(8 * GZIP_HEADER_BYTES, 8 * len(content))))
        with pytest.raises(UnreadableScanError, match=str(path)):
            read_scan(path)
        outcomes["refused"] += 1
    record_property("figure", f".nii.gz: {outcomes['refused']} of 200")
    assert outcomes == {"refused": 200}


def test_a_flip_in_the_gzip_header_is_refused_or_changes_no_voxel(tmp_path):
    path = write_nifti(tmp_path / "scan.nii.gz")
    content, expected = path.read_bytes(), read_scan(path).content_hash
    outcomes = Counter()
    for bit in range(8 * GZIP_HEADER_BYTES):
        try:
            outcomes[read_scan_bytes(flipped(content, bit)).content_hash == expected] += 1
        except UnreadableScanError:
            outcomes["refused"] += 1
    assert outcomes[False] == 0
    assert sum(outcomes.values()) == 80


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_truncation_is_refused(tmp_path, suffix):
    path = write_nifti(tmp_path / f"scan{suffix}")
    content = path.read_bytes()
    refused = 0
    for length in range(len(content)):
        with pytest.raises(UnreadableScanError):
            read_scan_bytes(content[:length])
        refused += 1
    assert refused == len(content)


def test_content_that_the_header_does_not_claim(tmp_path):
    content = write_nifti(tmp_path / "scan.nii").read_bytes()
    assert read_scan_bytes(content + b"\0" * 512).spatial_shape == (6, 5, 4)  # padded to a block of the disk
    with pytest.raises(UnreadableScanError, match=r"goes on after the \d+ bytes of voxels"):
        read_scan_bytes(content + b"\0" * 100_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": [3, 0, 32, 16, 1, 1, 1, 1]}, "shape 0x32x16: an axis without voxels"),
        ({"dim": [3, -4, 32, 16, 1, 1, 1, 1]}, "axis without voxels"),
        ({"dim": [0, 1, 1, 1, 1, 1, 1, 1]}, "claims 0 axes"),
        ({"datatype": 1234}, "unknown voxel type 1234"),
        ({"vox_offset": 1e9}, "voxels at byte 1e"),
        ({"vox_offset": 100}, "voxels at byte 100"),
        ({"vox_offset": float("nan")}, "voxels at byte nan"),
        ({"scl_slope": float("inf")}, "scl_slope inf"),
        ({"scl_slope": 1.0, "scl_inter": float("nan")}, "scl_inter nan"),
        ({"sizeof_hdr": 350}, "damaged"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path, change, message):
    header = nib.Nifti1Header(endianness="<")
    header.set_data_shape((6, 5, 4))
    header["magic"], header["vox_offset"] = b"n+1", 352
    for key, value in change.items():
        header[key] = value
    path = tmp_path / "scan.nii"
    path.write_bytes(header.binaryblock + b"\0" * 100_000)
    with pytest.raises(UnreadableScanError, match=message):
        read_scan(path)


def test_extensions_are_skipped(tmp_path):
    image = nib.Nifti1Image(volume(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(image, tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "scan.nii.gz").voxels[0], volume())


# --- bombs


def bomb(path, shape, *, dtype=4, body=b""):
    header = nib.Nifti1Header(endianness="<")
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    header["datatype"], header["bitpix"] = dtype, {2: 8, 4: 16}[dtype]
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 1
    for row, axis in enumerate("xyz"):
        header[f"srow_{axis}"] = np.eye(4)[row]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(header.binaryblock + b"\0" * 4 + body)
    return path


def zeros_in_gzip(path, header_of, num_bytes):
    """Write a gzip file of zeros without making them."""
    member = gzip.compress(b"\0" * 2**24, 9)
    with gzip.open(header_of) as file:
        head = gzip.compress(file.read(352))
    path.write_bytes(head + member * (num_bytes // 2**24 + 1))
    return path


@pytest.mark.parametrize(
    "name", ["claims.nii", "claims.nii.gz", "truncated.nii.gz", "zeros.nii.gz", "eight_bit.nii.gz"]
)
def test_bombs_are_refused_at_once_and_without_memory(tmp_path, name, record_property: RecordProperty):
    shape = {"claims": (32767,) * 3, "truncated": (1200,) * 3}.get(name.split(".")[0], (800,) * 3)
    dtype = 2 if name.startswith("eight") else 4
    path = bomb(tmp_path / name, shape, dtype=dtype, body=b"\1" * 4096)
    if name.startswith(("zeros", "eight")):
        path = zeros_in_gzip(tmp_path / f"bomb_{name}", path, 800**3 * dtype // 2)
    write_nifti(tmp_path / "warm.nii.gz")
    read_scan(tmp_path / "warm.nii.gz")
    memory, seconds = psutil.Process().memory_info().rss, []
    for _ in range(3):  # the fastest counts: the machine may be busy
        start = time.perf_counter()
        with pytest.raises(UnreadableScanError, match=r"claims|unpacks"):
            read_scan(path)
        seconds.append(time.perf_counter() - start)
    grown = psutil.Process().memory_info().rss - memory
    record_property("figure", f"{name}: {1000 * min(seconds):.1f} ms (least of 3), {grown / 2**20:.0f} MB")
    assert min(seconds) < 0.05
    assert grown < 50 * 2**20


def test_a_scan_larger_than_free_memory_is_refused(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "scan.nii", np.zeros((400, 400, 300), dtype=np.int16))
    free = psutil.virtual_memory()._replace(available=10**6)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(UnreadableScanError, match=r"needs 0.1 GiB of memory, 0.0 GiB are free"):
        read_scan(path)


# --- files that are no NIfTI


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\). Copy it again"),
        (b"hello world", "is no known scan format. Supported are"),
        (b"NRRD0004\n", "has a damaged NRRD header"),
        (b"\x93NUMPY\x01\x00", "holds an array whose header is damaged"),
        (b"GIF89a", "is a GIF image. Save it as PNG"),
        (b"CDF\1", "is a MINC .* mnc2nii"),
        (b"# === DATA DESCRIPTION FILE ===", "is a Philips PAR file. .*dcm2niix"),
        (b"\ntype = integer-attribute", "seems to be an AFNI header. .*3dAFNItoNIFTI"),
        (struct.pack("<i", 348) + b"\0" * 344, "begins like NIfTI, but its header is damaged"),
        # without the time of day: content is part of a test's name, and all workers must call it the same
        (gzip.compress(b"text", mtime=0), "is a gzip file, and what it holds is no known scan format"),
        (gzip.compress(b"", mtime=0), "is a gzip file, and what it holds is empty"),
        (b"\x1f\x8b" + b"\xff" * 50, "is damaged"),
    ],
)
def test_other_content_is_refused_and_named(tmp_path, content, message):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(UnreadableScanError, match=message):
        read_scan(path)
    with pytest.raises(UnreadableScanError, match="^The file " + message):
        read_scan_bytes(content)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(UnreadableScanError, match=r"gone.nii does not exist"):
        read_scan(tmp_path / "gone.nii")
