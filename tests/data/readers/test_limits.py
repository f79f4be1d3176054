"""Bombs of every format are refused by what they claim, at any level of compression; honest large scans are not."""

import gzip
import io
import time
import zipfile
import zlib

import nibabel as nib
import numpy as np
import psutil
import pytest
from PIL import Image

from medres.data.readers import memory, read_scan, read_scan_bytes
from medres.data.readers.budget import MAX_SCAN_VARIABLE
from medres.data.readers.limits import require_reasonable_size
from medres.data.readers.rules import MaskRules
from medres.errors import UnreadableScanError
from tests.data.making import write_nifti

ZEROS = bytes(2**24)


def zeros(num_bytes, level, *, wbits=31, strategy=zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, wbits, strategy=strategy)
    blocks = [packer.compress(ZEROS[: min(2**24, num_bytes - at)]) for at in range(0, num_bytes, 2**24)]
    return b"".join(blocks) + packer.flush()


def nifti_header(shape, dtype=4):
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", 352, 1
    for row, axis in enumerate("xyz"):
        header[f"srow_{axis}"] = np.eye(4)[row]
    return header.binaryblock + bytes(4)


LEVELS = [(1, zlib.Z_DEFAULT_STRATEGY), (9, zlib.Z_DEFAULT_STRATEGY), (1, zlib.Z_FIXED)]
# just above what is believed to be a shape on nothing
SHAPE = (512, 512, 520)
NUM_BYTES = 512 * 512 * 520


def nifti_bomb(level, strategy):
    return gzip.compress(nifti_header(SHAPE, 2), level) + zeros(NUM_BYTES, level, strategy=strategy)


def nrrd_bomb(level, strategy):
    head = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 512 512 520\nencoding: gzip\n\n"
    return head + zeros(NUM_BYTES, level, strategy=strategy)


def metaimage_bomb(level, strategy):
    packed = zeros(NUM_BYTES, level, wbits=15, strategy=strategy)
    head = (f"ObjectType = Image\nNDims = 3\nDimSize = 512 512 520\nElementType = MET_UCHAR\nCompressedData = True\n"
            f"CompressedDataSize = {len(packed)}\nElementDataFile = LOCAL\n")  # fmt: skip
    return head.encode() + packed


def npy_head():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": SHAPE})
    return buffer.getvalue()


def npz_bomb(level, strategy):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr("image.npy", npy_head() + bytes(NUM_BYTES))
    return buffer.getvalue()


def gzipped_npy_bomb(level, strategy):
    return gzip.compress(npy_head(), level) + zeros(NUM_BYTES, level, strategy=strategy)


def zip_bomb(level, strategy):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for index in range(3):
            archive.writestr(f"IM{index}", ZEROS)
    return buffer.getvalue()


BOMBS = [nifti_bomb, nrrd_bomb, metaimage_bomb, npz_bomb, gzipped_npy_bomb, zip_bomb]


def refused(content, **rules):
    """The error, after at most a moment and without memory."""
    read_scan_bytes(gzip.compress(nifti_header((3, 3, 3)) + bytes(54)))
    process, seconds = psutil.Process(), []
    before = process.memory_info().rss
    for _ in range(2):  # the faster one counts: the machine may be busy
        begin = time.perf_counter()
        with pytest.raises(UnreadableScanError) as caught:
            read_scan_bytes(content, **rules)
        seconds.append(time.perf_counter() - begin)
    assert process.memory_info().rss - before < 50 * 2**20
    return caught.value, min(seconds)


@pytest.mark.parametrize(("level", "strategy"), LEVELS, ids=["1", "9", "fixed codes"])
@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__)
def test_a_bomb_is_refused_at_any_level(make, level, strategy):
    error, seconds = refused(make(level, strategy))
    assert error.code == "decompression-bomb"
    assert seconds < 0.05


@pytest.mark.parametrize(
    ("kind", "size"), [("PNG", (12000, 11500)), ("TIFF", (12000, 11500)), ("JPEG", (13500, 13500))]
)
def test_pictures_of_nothing_are_refused(kind, size):
    Image.MAX_IMAGE_PIXELS, before = None, Image.MAX_IMAGE_PIXELS
    try:
        buffer = io.BytesIO()
        picture = Image.new("1" if kind != "JPEG" else "L", size)
        picture.save(buffer, kind, **({"compression": "tiff_deflate"} if kind == "TIFF" else {}))
        del picture
    finally:
        Image.MAX_IMAGE_PIXELS = before
    error, seconds = refused(buffer.getvalue())
    assert error.code in ("decompression-bomb", "too-large")
    assert seconds < 0.3


def test_the_user_may_vouch_for_a_scan(tmp_path, monkeypatch):
    content = nifti_bomb(1, zlib.Z_DEFAULT_STRATEGY)
    error, _ = refused(content)
    assert f"{MAX_SCAN_VARIABLE}=130" in error.fix
    monkeypatch.setenv(MAX_SCAN_VARIABLE, "130")
    assert read_scan_bytes(content).spatial_shape == SHAPE


def test_the_mask_of_one_lesion_in_a_large_scan_is_read():
    content = nifti_bomb(9, zlib.Z_DEFAULT_STRATEGY)
    assert refused(content)[0].code == "decompression-bomb"
    assert read_scan_bytes(content, rules=MaskRules()).spatial_shape == SHAPE


@pytest.mark.parametrize("ratio", [2, 4, 30, 90])
@pytest.mark.parametrize("num_bytes", [2**30, 512 * 512 * 2000 * 2])
def test_a_whole_body_ct_is_no_bomb(ratio, num_bytes, monkeypatch):
    monkeypatch.setattr(memory, "_GROUPS", ())
    free = psutil.virtual_memory()._replace(available=8 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    require_reasonable_size(num_bytes // 2, num_bytes, compressed_bytes=num_bytes // ratio)


# --- memory


def group(folder, *, limit, used, cached=0):
    for name, text in (("max", limit), ("now", used), ("stat", f"anon 5\ninactive_file {cached}\n")):
        (folder / name).write_text(str(text))
    return ((str(folder / "max"), str(folder / "now"), str(folder / "stat")),)


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [(1000, 400, 0, 600), (1000, 900, 300, 400), (1000, 2000, 0, 0), ("max", 900, 0, 10**6), (10**9, 5, 0, 10**6)],
)
def test_the_memory_of_a_container_is_what_its_group_may_use(tmp_path, monkeypatch, limit, used, cached, free):
    monkeypatch.setattr(memory, "_GROUPS", group(tmp_path, limit=limit, used=used, cached=cached))
    machine = psutil.virtual_memory()._replace(available=10**6)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert memory.available_bytes() == free


def test_a_scan_larger_than_its_container_is_refused(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "scan.nii", np.zeros((400, 400, 300), dtype=np.int16))
    monkeypatch.setattr(memory, "_GROUPS", group(tmp_path, limit=50 * 2**20, used=0))
    with pytest.raises(UnreadableScanError, match=r"needs 0.1 GiB of memory, 0.0 GiB are free"):
        read_scan(path)
