"""The malformed files that nibabel and MONAI read wrongly in silence: each is refused or noted, with its code."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK

from medres.data.catalogue import KINDS
from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.limits import expecting, require_reasonable_size
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.making import AFFINE, change_header, volume, write_nifti
from tests.figures import RecordProperty

Fixture = Callable[[Path], Path]


def patched(name: str = "a.nii.gz", voxels: np.ndarray | None = None, **fields: object) -> Fixture:
    return lambda folder: write_nifti(folder / name, voxels, **fields)


def raw(name: str, content: Callable[[], bytes]) -> Fixture:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return make


def cut(name: str, share: float) -> Fixture:
    def make(folder: Path) -> Path:
        path = write_nifti(folder / name, volume((20, 20, 10)))
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return make


def flipped(folder: Path) -> Path:
    path = write_nifti(folder / "a.nii.gz", volume((20, 20, 10)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    return path


def header_only(shape: tuple[int, int, int], body: bytes = b"\1" * 4096) -> bytes:
    header = nib.Nifti1Header(endianness="<")
    header["dim"], header["datatype"], header["bitpix"] = [3, *shape, 1, 1, 1, 1], 4, 16
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + b"\0" * 4 + body


def zeros_800() -> bytes:
    """Return a gzip file of 800^3 zeros of 16 bits, 1 MB, without making them."""
    member = gzip.compress(b"\0" * 2**24, 9)
    return gzip.compress(header_only((800,) * 3, b""), 9) + member * (2 * 800**3 // 2**24 + 1)


def planted(value: float) -> np.ndarray:
    voxels = volume(dtype=np.float32)
    voxels[3, 2, 1] = value
    return voxels


def two_placements(folder: Path) -> Path:
    image = nib.Nifti1Image(volume(), np.eye(4))
    image.set_sform(np.diag([2.0, 2, 5, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, folder / "a.nii.gz")
    return folder / "a.nii.gz"


def srow(affine: np.ndarray) -> dict[str, object]:
    return {f"srow_{axis}": affine[row] for row, axis in enumerate("xyz")} | {"sform_code": 1, "qform_code": 0}


SHEARED = np.array([[2, 0.6, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
PIXDIM = [1, 0.7, 0.8, 5, 0, 0, 0, 0]

REFUSED: dict[str, tuple[Fixture, str]] = {
    "claims 32767^3": (raw("a.nii", lambda: header_only((32767,) * 3)), "too-large"),
    "claims 32767^3 gz": (raw("a.nii.gz", lambda: gzip.compress(header_only((32767,) * 3))), "too-large"),
    "claims 1200^3, truncated gz": (raw("a.nii.gz", lambda: gzip.compress(header_only((1200,) * 3))), "truncated"),
    "claims 1200^3, truncated": (raw("a.nii", lambda: header_only((1200,) * 3)), "truncated"),
    "gzip bomb 800^3": (raw("a.nii.gz", zeros_800), "decompression-bomb"),
    "truncated gz": (cut("a.nii.gz", 0.6), "truncated"),
    "truncated": (cut("a.nii", 0.6), "truncated"),
    "bit flip gz": (flipped, "damaged"),
    "NaN": (patched(voxels=planted(np.nan)), "not-finite"),
    "Inf": (patched(voxels=planted(np.inf)), "not-finite"),
    "zero-size axis": (patched(dim=[3, 0, 32, 16, 1, 1, 1, 1]), "no-voxels"),
    "4D": (patched(voxels=volume((8, 8, 8, 3))), "several-volumes"),
    "5D": (patched(voxels=volume((8, 8, 8, 1, 3))), "several-volumes"),
    "sheared": (patched(**srow(SHEARED)), "sheared-affine"),
    "singular": (patched(**srow(np.diag([1.0, 1, 0, 1]))), "singular-affine"),
    "affine NaN": (patched(**srow(np.diag([1.0, np.nan, 1, 1]))), "header-damaged"),
    "scl_slope inf": (patched(scl_slope=np.inf), "header-damaged"),
    "scl_inter NaN": (patched(scl_slope=2.0, scl_inter=np.nan), "header-damaged"),
    "unknown type": (patched(datatype=1234), "header-damaged"),
    "complex": (patched(voxels=volume().astype(np.complex64)), "not-numbers"),
    "text": (raw("a.nii.gz", lambda: b"no scan at all"), "unknown-format"),
    "gzipped text": (raw("a.nii.gz", lambda: gzip.compress(b"no scan at all")), "unknown-format"),
    "0 bytes": (raw("a.nii", lambda: b""), "empty-file"),
    "0 bytes gz": (raw("a.nii.gz", lambda: gzip.compress(b"")), "empty-file"),
    "absent": (lambda folder: folder / "gone.nii", "file-missing"),
}

NOTED: dict[str, tuple[Fixture, str, tuple[float, ...] | None]] = {
    "qform I, sform 2x2x5": (two_placements, "sform-qform-differ", (2, 2, 5)),
    "no codes": (patched(sform_code=0, qform_code=0), "orientation-unknown", (0.7, 0.8, 5)),
    "pixdim 0": (patched(sform_code=0, qform_code=0, pixdim=[1, 0.7, 0, *PIXDIM[3:]]), "spacing-odd", None),
    "pixdim -1": (patched(sform_code=0, qform_code=0, pixdim=[1, 0.7, -1, *PIXDIM[3:]]), "spacing-odd", None),
    "pixdim NaN": (patched(sform_code=0, qform_code=0, pixdim=[1, 0.7, np.nan, *PIXDIM[3:]]), "spacing-odd", None),
    "pixdim 0, sform": (patched(qform_code=0, pixdim=[1, 0.7, 0, *PIXDIM[3:]]), "spacing-odd", (0.7, 0.8, 5)),
    "scl_slope NaN": (patched(scl_slope=np.nan, scl_inter=3.0), "scale-odd", (0.7, 0.8, 5)),
    "micrometres": (patched(xyzt_units=3), "units", (0.0007, 0.0008, 0.005)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_fixture_is_refused_with_its_code(tmp_path: Path, name: str, record_property: RecordProperty) -> None:
    make, code = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(UnreadableScanError, match="^" + str(path)) as refused:
        read_scan(path)
    assert refused.value.code == code
    assert refused.value.fix
    assert code in KINDS
    record_property("figure", f"{len(REFUSED)} fixtures refused with their code")


@pytest.mark.parametrize("name", NOTED)
def test_each_fixture_is_read_rightly_and_noted(tmp_path: Path, name: str, record_property: RecordProperty) -> None:
    make, code, spacing = NOTED[name]
    image = read_scan(make(tmp_path))
    assert code in [note.partition(": ")[0] for note in image.notes]
    assert {note.partition(": ")[0] for note in image.notes} <= set(KINDS)
    assert image.spacing_mm == (pytest.approx(spacing) if spacing else None)
    np.testing.assert_array_equal(image.voxels[0], volume())
    record_property("figure", f"{len(NOTED)} read rightly and noted")


def test_the_rest_of_the_fixtures_is_read(tmp_path: Path) -> None:
    flat = read_scan(write_nifti(tmp_path / "flat.nii.gz", volume((8, 8)), affine=np.eye(4)))
    assert (flat.spatial_dims, flat.spacing_mm) == (2, (1.0, 1.0))
    rgb = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = volume(low=0, high=255, dtype=np.uint8)
    assert read_scan(write_nifti(tmp_path / "rgb.nii.gz", rgb)).color
    plain = write_nifti(tmp_path / "plain.nii").rename(tmp_path / "plain.nii.gz")
    packed = write_nifti(tmp_path / "packed.nii.gz")
    assert read_scan(plain).content_hash == read_scan(packed).content_hash


def test_what_a_header_says_of_the_patient_does_not_leave_the_reader(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume(), np.diag([2.0, 2, 5, 1]))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(2, b"CANARY dicom"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"CANARY comment"))
    path = tmp_path / "a.nii.gz"
    nib.save(image, path)
    with gzip.open(path) as file:
        content = file.read()
    names = {"descrip": b"CANARY", "db_name": b"CANARY", "aux_file": b"CANARY", "intent_name": b"CANARY"}
    changes = [{}, {"scl_slope": np.inf}, {"sform_code": 0, "qform_code": 0}, {"dim": [9] * 8}, {"datatype": 77}]
    said = []
    for change in changes:
        header = nib.Nifti1Header(content[:348], check=False)
        for key, value in (names | change).items():
            header[key] = value
        try:
            said.append(repr(read_scan_bytes(header.binaryblock + content[348:])))
        except UnreadableScanError as error:
            said.append(f"{error} {error.fix} {error.__cause__!r}")
    assert len(said) == len(changes)
    assert not [text for text in said if "CANARY" in text]


@pytest.mark.real
def test_200_of_200_one_bit_flips_of_a_real_scan_are_found(real_data: Path, record_property: RecordProperty) -> None:
    content = (real_data / "nifti_odd/spinalcord/t2/t2.nii.gz").read_bytes()
    draw, codes = random.Random(0), Counter()
    for _ in range(200):
        changed, bit = bytearray(content), draw.randrange(8 * 30, 8 * len(content))  # behind the name in its header
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(UnreadableScanError) as refused:
            read_scan_bytes(bytes(changed))
        codes[refused.value.code] += 1
    record_property("figure", f"real .nii.gz: {sum(codes.values())} of 200")
    assert sum(codes.values()) == 200
    assert codes["damaged"] > 150


# --- bombs, measured in a process of their own

_MEASURE = """
import resource, sys, time
from pathlib import Path
from medres.data.readers import read_scan
from medres.errors import UnreadableScanError
read_scan(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
try:
    read_scan(Path(sys.argv[2]))
    outcome = "read"
except UnreadableScanError as error:
    outcome = error.code
seconds = time.perf_counter() - start
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(outcome, seconds, grown // 1024)
"""
BOMBS = [
    "claims 32767^3",
    "claims 32767^3 gz",
    "claims 1200^3, truncated gz",
    "claims 1200^3, truncated",
    "gzip bomb 800^3",
]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_within_50_ms_and_50_mib(tmp_path: Path, name: str, record_property: RecordProperty) -> None:
    make, code = REFUSED[name]
    command = [sys.executable, "-c", _MEASURE, str(write_nifti(tmp_path / "warm.nii.gz")), str(make(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    outcome, seconds, grown = done.stdout.split()
    assert outcome == code
    assert float(seconds) < 10 * 0.05  # ten times the bar: the cores are shared
    record_property("figure", f"{name}, in a process of its own: {grown} MB")
    assert int(grown) < 50


@pytest.mark.parametrize("item_bytes", [1, 2, 4, 8])
def test_a_shape_on_nothing_is_believed_up_to_512_slices_and_a_mask_at_any_size(
    monkeypatch: pytest.MonkeyPatch, item_bytes: int
) -> None:
    plenty = psutil.virtual_memory()._replace(available=2**40)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: plenty)
    voxels = min(512 * 512 * 512, 2**29 // item_bytes)
    packed = voxels * item_bytes // 1000  # as zeros are
    require_reasonable_size(voxels, voxels * item_bytes, compressed_bytes=packed)
    larger = voxels + 512**2
    with pytest.raises(UnreadableScanError) as refused:
        require_reasonable_size(larger, larger * item_bytes, compressed_bytes=packed)
    assert refused.value.code == "decompression-bomb"
    with expecting(mask=True):
        require_reasonable_size(8 * voxels, 8 * voxels * item_bytes, compressed_bytes=8 * packed)
        with pytest.raises(UnreadableScanError) as refused:
            require_reasonable_size(voxels, voxels * item_bytes, compressed_bytes=packed // 2)
    assert refused.value.code == "truncated"
    require_reasonable_size(2 * voxels, 2 * voxels * item_bytes, compressed_bytes=2 * voxels * item_bytes // 90)


# --- every odd file there is


@pytest.mark.real
def test_every_odd_file_is_read_as_others_read_it_or_refused_with_a_code(real_data: Path) -> None:
    outcomes: Counter[str] = Counter()
    for path in sorted((real_data / "nifti_odd").rglob("*")):
        if not path.is_file():
            continue
        try:
            image = read_scan(path)
        except UnreadableScanError as error:
            assert error.code in KINDS  # noqa: PT017
            outcomes[error.code] += 1
            continue
        outcomes["read"] += 1
        if ".nii" in path.name:
            expected = nib.load(path)
            np.testing.assert_allclose(image.voxels[0], np.asanyarray(expected.dataobj).squeeze(), rtol=1e-5)
            if image.affine is not None:
                np.testing.assert_allclose(image.affine, expected.affine, atol=1e-6)
                outcomes["same as nibabel"] += 1
                outcomes["same as SimpleITK"] += _spacing_is_that_of_itk(path, image.spacing_mm)
    assert outcomes["read"] > 100
    assert outcomes["same as nibabel"] > 90
    assert outcomes["same as SimpleITK"] > 80
    assert {"several-volumes", "not-finite", "sheared-affine", "unknown-format"} < set(outcomes)
    sys.stdout.write(f"{dict(outcomes)}\n")


def _spacing_is_that_of_itk(path: Path, spacing_mm: tuple[float, ...] | None) -> bool:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False
    assert spacing_mm == pytest.approx(reader.GetSpacing()[: len(spacing_mm or ())], rel=1e-4)
    return True


@pytest.mark.real
def test_each_volume_of_real_4d_files_is_that_of_nibabel(real_data: Path) -> None:
    compared = 0
    for path in sorted((real_data / "nifti_odd").rglob("*.nii*")):
        loaded = nib.load(path)
        if len(loaded.shape) < 4 or loaded.shape[3] == 1 or max(loaded.shape) > 300 or min(loaded.shape[:3]) < 2:
            continue
        voxels = np.asanyarray(loaded.dataobj).reshape((*loaded.shape[:3], -1), order="F")
        for number in (0, voxels.shape[-1] // 2, voxels.shape[-1] - 1):
            if np.isfinite(voxels[..., number]).all() and path.parent.name != "nibabel":
                try:
                    image = read_scan(path, rules=ReadingRules(volume=number))
                except UnreadableScanError as error:
                    assert error.code == "sheared-affine"  # noqa: PT017
                    continue
                np.testing.assert_allclose(image.voxels[0], voxels[..., number], rtol=1e-5)
                compared += 1
    assert compared > 25


# --- two files, MGH


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_analyze_is_read_as_nibabel_reads_it_but_for_the_orientation(tmp_path: Path, kind: type, dtype: str) -> None:
    nib.save(kind(volume(dtype=dtype, low=0, high=100), np.diag([0.7, 0.8, 5, 1])), tmp_path / "a.img")
    image = read_scan(tmp_path / "a.hdr")
    np.testing.assert_array_equal(image.voxels[0], np.asanyarray(nib.load(tmp_path / "a.hdr").dataobj))
    assert image.affine is None
    assert image.spacing_mm == pytest.approx((0.7, 0.8, 5))
    assert [note.partition(":")[0] for note in image.notes] == ["orientation-unknown"]


@pytest.mark.parametrize("slope", [0.0, 1.0, 0.5, 3.0])
def test_the_scale_of_spm_is_applied(tmp_path: Path, slope: float) -> None:
    nib.save(nib.Spm99AnalyzeImage(volume(), np.eye(4)), tmp_path / "a.img")
    content = bytearray((tmp_path / "a.hdr").read_bytes())
    content[112:116] = np.float32(slope).tobytes()
    (tmp_path / "a.hdr").write_bytes(content)
    expected = volume() * (slope or 1.0)
    np.testing.assert_allclose(read_scan(tmp_path / "a.hdr").voxels[0], expected)
    np.testing.assert_allclose(nib.load(tmp_path / "a.hdr").get_fdata(), expected)


def test_a_header_without_its_voxels_and_the_other_way_round(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(volume(), AFFINE), tmp_path / "a.hdr")
    with pytest.raises(UnreadableScanError, match=r"a\.img is no known scan format"):
        read_scan(tmp_path / "a.img")
    (tmp_path / "a.img").unlink()
    with pytest.raises(UnreadableScanError, match=r"voxels are missing: a\.img is not beside it") as refused:
        read_scan(tmp_path / "a.hdr")
    assert refused.value.code == "file-missing"


def test_an_mgh_that_does_not_know_its_orientation(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(volume(), AFFINE), tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[28:30] = b"\0\0"  # goodRASFlag
    image = read_scan_bytes(bytes(content))
    assert (image.affine, image.spacing_mm) == (None, None)
    assert [note.partition(":")[0] for note in image.notes] == ["orientation-unknown"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
def test_mgz_is_read_as_nibabel_reads_it_and_its_checksum_is_compared(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "a.mgz"
    nib.save(nib.MGHImage(volume(dtype=dtype, low=0, high=100), AFFINE), path)
    image, expected = read_scan(path), nib.load(path)
    np.testing.assert_array_equal(image.voxels[0], np.asanyarray(expected.dataobj))
    np.testing.assert_allclose(image.affine, expected.affine, atol=1e-5)
    content, outcomes = path.read_bytes(), Counter()
    for bit in range(8 * 10, 8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        try:
            outcomes[read_scan_bytes(bytes(changed)).content_hash == image.content_hash] += 1
        except UnreadableScanError:
            outcomes["refused"] += 1
    assert outcomes[False] == 0
    assert outcomes["refused"] > 40 * outcomes[True]  # a flip inside a run of zeros or in padding changes nothing


def test_changing_a_header_is_seen_by_these_tests(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz")
    change_header(path, descrip=b"x")
    assert nib.load(path).header["descrip"] == b"x"
