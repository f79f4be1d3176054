"""Single files and their bytes: syntaxes, damage, bombs, zip archives."""

import io
import random
import sys
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medres.data.catalogue import KINDS
from medres.data.readers.dicom import is_dicom, read_dicom_bytes, read_dicom_zip, read_series, read_study
from medres.data.readers.dicom.headers import read_header
from medres.data.readers.dicom.pixels import read_values
from medres.data.readers.dicom.planes import planes_of
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.readers.dicom.making import dataset, enhanced, positions, save, stack, write_series

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

RULES = ReadingRules()


def large():
    """As large as the encoder of JPEG 2000 needs it."""
    return stack(1, (66, 65))[0]


def content_of(made) -> bytes:
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def refusal(content, rules=RULES, read=read_dicom_bytes):
    with pytest.raises(UnreadableScanError) as caught:
        read(content, rules=rules)
    assert caught.value.code in KINDS
    return caught.value


def as_syntax(made, syntax) -> bytes:
    if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        made.compress(syntax, generate_instance_uid=False)
        return content_of(made)
    if syntax == ExplicitVRBigEndian:
        made.PixelData = np.frombuffer(made.PixelData, "<i2").astype(">i2").tobytes()
    made.file_meta.TransferSyntaxUID = syntax
    return content_of(made)


# --- transfer syntaxes


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless,
     JPEGLSLossless],
    ids=lambda uid: uid.name,
)  # fmt: skip
def test_every_syntax_gives_the_same_voxels(syntax):
    pixels = large()
    expected = read_dicom_bytes(content_of(dataset(pixels)), rules=RULES)
    image = read_dicom_bytes(as_syntax(dataset(pixels), syntax), rules=RULES)
    np.testing.assert_array_equal(image.voxels[0], pixels - 1024)
    assert image.content_hash == expected.content_hash


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_floating_point_pixels_of_either_byte_order(big, keyword, kind):
    pixels = np.linspace(0, 1, 12 * 16).reshape(12, 16).astype(kind)
    made = dataset(stack(1, (12, 16))[0], modality="MR", RescaleSlope=None, RescaleIntercept=None, PixelData=None,
                   BitsStored=None, HighBit=None, PixelRepresentation=None)  # fmt: skip
    made.BitsAllocated = 8 * pixels.itemsize
    setattr(made, keyword, pixels.astype((">" if big else "<") + kind).tobytes())
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian if big else ExplicitVRLittleEndian
    np.testing.assert_array_equal(read_dicom_bytes(content_of(made), rules=RULES).voxels[0], pixels)


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.parametrize("columns", [16, 17])
def test_8_bits_in_big_endian_words_are_those_of_simpleitk(tmp_path, vr, columns):
    pixels = np.arange(11 * columns, dtype=np.uint8).reshape(11, columns)
    made = dataset(pixels, modality="CR", RescaleSlope=None, RescaleIntercept=None, ImagePositionPatient=None)
    content = pixels.tobytes() + bytes(pixels.size % 2)
    made.add_new("PixelData", vr, np.frombuffer(content, "u2").byteswap().tobytes() if vr == "OW" else content)
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    read, path = read_dicom_bytes(content_of(made), rules=RULES), save(made, tmp_path / "a.dcm")
    np.testing.assert_array_equal(read.voxels[0], pixels)
    np.testing.assert_array_equal(read.voxels[0], SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0])


def test_frames_of_a_compressed_film_are_chosen_one_by_one():
    made = enhanced(stack(5))
    made.PixelData = encapsulate([_rle(frame) for frame in stack(5)])
    made["PixelData"].VR, made.file_meta.TransferSyntaxUID = "OB", RLELossless
    image = read_dicom_bytes(content_of(made), rules=RULES)
    np.testing.assert_array_equal(image.voxels[0].transpose(2, 1, 0), stack(5) * 2 - 10)


def _rle(pixels) -> bytes:
    one = dataset(pixels)
    one.compress(RLELossless)
    return next(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1))


def test_colours_are_colours():
    pixels = np.random.default_rng(0).integers(0, 255, (7, 5, 3)).astype(np.uint8)
    image = read_dicom_bytes(content_of(dataset(pixels, modality="OT", ImagePositionPatient=None)), rules=RULES)
    np.testing.assert_array_equal(image.voxels, np.moveaxis(pixels, -1, 0))
    assert image.color


@pytest.mark.parametrize("preamble", [True, False])
def test_a_file_without_preamble_is_dicom(preamble):
    content = content_of(dataset(stack(1)[0]))
    content = content if preamble else content[132:]
    assert is_dicom(content[:352])
    np.testing.assert_array_equal(read_dicom_bytes(content, rules=RULES).voxels[0], stack(1)[0] - 1024)


def test_random_bytes_and_other_formats_are_no_dicom():
    rng = random.Random(0)
    heads = [rng.randbytes(352) for _ in range(20_000)]
    heads += [b"\x08\x00" + rng.randbytes(350) for _ in range(20_000)]
    heads += [b"", b"\0" * 352, b"PK\x03\x04" + bytes(348), b"\x5c\x01\0\0" + bytes(348), b"{}" * 176]
    assert sum(map(is_dicom, heads)) == 0


def test_a_missing_decoder_is_named_with_the_way_to_install_it(monkeypatch):
    content = as_syntax(dataset(large()), JPEG2000Lossless)
    decoder = pydicom.pixels.get_decoder(JPEG2000Lossless)
    monkeypatch.setattr(decoder, "_available", {})
    error = refusal(content)
    assert error.code == "missing-decoder"
    assert "JPEG 2000" in error.problem
    assert 'pip install "medres[dicom-codecs]"' in error.fix


def test_a_syntax_that_nobody_reads_is_named():
    made = dataset(stack(1)[0])
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4
    made.PixelData = encapsulate([b"film"])
    made["PixelData"].VR = "OB"
    error = refusal(content_of(made))
    assert (error.code, "MPEG-4" in error.problem) == ("missing-decoder", True)


# --- damage


def test_what_is_cut_off_anywhere_is_refused():
    content = content_of(dataset(stack(1)[0]))
    whole = len(content)
    counted = 0
    for length in range(0, whole, max(1, whole // 150)):
        assert refusal(content[:length]).code
        counted += 1
    assert counted > 140


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian])
def test_flipped_bits_raise_nothing_else(syntax):
    made = (
        enhanced(stack(3, (9, 8)))
        if syntax is None
        else dataset(stack(1, (9, 8))[0] if syntax != JPEG2000Lossless else large())
    )
    content = content_of(made) if syntax is None else as_syntax(made, syntax)
    rng = random.Random(1)
    outcomes = Counter()
    for _ in range(150):
        spoilt = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        try:
            image = read_dicom_bytes(bytes(spoilt), rules=RULES)
            assert image.voxels.size <= 2**20
            outcomes["read"] += 1
        except UnreadableScanError as error:
            outcomes[error.code] += 1
    assert set(outcomes) <= {"read", *KINDS}
    assert outcomes["read"] < 145


def quick_and_small(content, read=read_dicom_bytes):
    """Refused, in under a second and 80 MB more than before."""
    read_dicom_bytes(content_of(dataset(stack(1)[0])), rules=RULES)  # imports
    process = psutil.Process()
    before, begin = process.memory_info().rss, time.perf_counter()
    error = refusal(content, read=read)
    assert time.perf_counter() - begin < 1
    assert process.memory_info().rss - before < 80 * 2**20
    return error


@pytest.mark.parametrize("tags", [{"Rows": 65535, "Columns": 65535}, {"NumberOfFrames": 2_000_000_000}])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_bomb_is_refused_before_it_is_believed(tags, compressed):
    made = dataset(large())
    if compressed:
        made.compress(JPEG2000Lossless)
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    assert quick_and_small(content_of(made)).code in ("header-damaged", "too-large", "truncated")


def test_a_compressed_image_that_claims_more_than_its_header_is_refused():
    made = dataset(large())
    made.compress(JPEG2000Lossless)
    size = (65).to_bytes(4, "big") + (66).to_bytes(4, "big")
    assert size in made.PixelData
    made.PixelData = made.PixelData.replace(size, (60000).to_bytes(4, "big") * 2, 1)
    error = quick_and_small(content_of(made))
    assert (error.code, "60000 x 60000" in error.problem) == ("header-damaged", True)


def test_a_file_that_contradicts_itself_lifts_no_limit_of_the_others_of_its_series():
    """The series is refused by what the sound header claims, before anything is decoded or room is made for it."""
    huge, cut = (dataset(large()) for _ in range(2))
    huge.compress(RLELossless)  # which does not say the size again
    for number, made in enumerate((huge, cut), start=1):
        made.Rows = made.Columns = 50_000
        made.InstanceNumber, made.ImagePositionPatient = number, [0, 0, number]
        made.SOPInstanceUID = generate_uid()
    assert refusal(content_of(cut)).code == "header-damaged"
    for files in ({"1": huge}, {"1": huge, "2": cut}, {"1": cut, "2": huge}):
        packed = zipped({name: content_of(made) for name, made in files.items()})
        assert refusal(packed, read=read_dicom_zip).code == "too-large"


def deflated(parts, level=9) -> bytes:
    """Bytes, and numbers of MB of zeros, deflated one after the other; equal blocks are packed once."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = b""
    for part in parts:
        if isinstance(part, int):
            packed += block * part
        else:
            packer = zlib.compressobj(level, zlib.DEFLATED, -15)
            packed += packer.compress(part) + packer.flush(zlib.Z_FULL_FLUSH)
    return packed + zlib.compressobj(level, zlib.DEFLATED, -15).flush()


def split_deflated(made):
    """The beginning of a deflated file, and what follows it, unpacked."""
    content = as_syntax(made, DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(content[140:144], "little")
    return content[:start], zlib.decompress(content[start:], -15)


def test_a_flood_before_the_pixels_of_a_deflated_file_is_refused():
    made = dataset(stack(1)[0])
    made.add_new(0x00091001, "OB", bytes(64))  # its length is written over
    head, plain = split_deflated(made)
    at = plain.index(b"\x09\x00\x01\x10OB\0\0") + 12
    length = (64 + 280 * 2**20).to_bytes(4, "little")
    content = head + deflated([plain[: at - 4] + length, 280, plain[at:]])
    before = psutil.Process().memory_info().rss
    assert refusal(content).code == "decompression-bomb"
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


def test_a_flood_behind_the_pixels_is_never_unpacked():
    head, plain = split_deflated(dataset(stack(1)[0]))
    content = head + deflated([plain, 280])
    process = psutil.Process()
    before = process.memory_info().rss
    np.testing.assert_array_equal(read_dicom_bytes(content, rules=RULES).voxels[0], stack(1)[0] - 1024)
    assert process.memory_info().rss - before < 50 * 2**20


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_film_of_nothing_is_refused_by_its_header(syntax):
    """600 frames of 512 x 512 zeros, each of some bytes: 300 MB."""
    one = dataset(np.zeros((512, 512), np.int16), modality="US", ImagePositionPatient=None)
    one.compress(syntax)
    frame = next(pydicom.encaps.generate_frames(one.PixelData, number_of_frames=1))
    one.NumberOfFrames, one.PixelData = 600, encapsulate([frame[:200]] * 600)
    one["PixelData"].VR = "OB"
    with pytest.raises(UnreadableScanError) as caught:
        read_values(planes_of([read_header(Path("film"), content_of(one))]))
    assert caught.value.code == "decompression-bomb"


def test_run_lengths_that_cannot_make_the_image_are_refused():
    made = dataset(large())
    made.compress(RLELossless)
    made.Rows = made.Columns = 4000
    assert quick_and_small(content_of(made)).code == "truncated"


@pytest.mark.parametrize("level", [1, 9])
def test_a_deflated_image_is_refused_by_its_header(level):
    """20,000 x 20,000 zeros: 229:1 at level 1, and refused as at level 9, before any pixel is unpacked."""
    head, plain = split_deflated(dataset(np.zeros((4, 4), np.uint8), Rows=20000, Columns=20000))
    length = (20000 * 20000).to_bytes(4, "little")
    assert quick_and_small(head + deflated([plain[:-20] + length, 382], level)).code == "too-large"


def test_deflated_files_have_no_private_limit_on_what_they_may_honestly_hold():
    pixels = np.random.default_rng(0).integers(0, 4000, (1200, 1100)).astype(np.int16)
    made = dataset(pixels)
    made.add_new(0x00091001, "OB", bytes(3 * 2**20))
    image = read_dicom_bytes(as_syntax(made, DeflatedExplicitVRLittleEndian), rules=RULES)
    np.testing.assert_array_equal(image.voxels[0], pixels - 1024)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_deflated_file_that_is_cut_off_is_refused(share):
    content = as_syntax(dataset(large()), DeflatedExplicitVRLittleEndian)
    assert refusal(content[: int(share * len(content))]).code in ("truncated", "header-damaged", "no-pixels")


# --- zip archives


def zipped(files, *, compression=zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_zip_is_read_as_its_folder_and_nothing_is_written(tmp_path):
    paths = write_series(tmp_path / "study" / "ct")
    files = {f"{index}/x": path.read_bytes() for index, path in enumerate(paths)}
    packed = zipped({**files, "readme.txt": b"hello", "../../evil.dcm": files["0/x"], "/etc/evil": files["1/x"]})
    (tmp_path / "scan.zip").write_bytes(packed)
    before = sorted(tmp_path.rglob("*"))
    image = read_study(tmp_path / "study", rules=RULES)
    for source in (packed, tmp_path / "scan.zip"):
        read = read_dicom_zip(source, rules=RULES)
        assert read.content_hash == image.content_hash
        assert [note.split(":")[0] for note in read.notes] == ["duplicate-slices"]
        np.testing.assert_array_equal(read.affine, image.affine)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_patients_in_a_zip_are_never_merged():
    one, other = (content_of(dataset(stack(1)[0], PatientID=name)) for name in ("P1", "P2"))
    assert refusal(zipped({"a": one, "b": other}), read=read_dicom_zip).code == "several-patients"


def test_damaged_archives_are_refused():
    packed = zipped({"a": content_of(dataset(stack(1)[0]))})
    counted = 0
    for length in range(0, len(packed), max(1, len(packed) // 60)):
        assert refusal(packed[:length], read=read_dicom_zip).code in KINDS
        counted += 1
    rng, outcomes = random.Random(0), Counter()
    for _ in range(100):
        spoilt = bytearray(packed)
        spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
        try:
            read_dicom_zip(bytes(spoilt), rules=RULES)
        except UnreadableScanError as error:
            outcomes[error.code] += 1
    assert set(outcomes) <= set(KINDS)
    assert counted + outcomes.total() > 130
    assert refusal(zipped({}), read=read_dicom_zip).code == "no-series"


def test_a_member_without_a_name_is_read_or_refused():
    # names end at a zero byte, which here is their first
    named = {"a": content_of(dataset(stack(1)[0])), "?q?": b"nothing"}
    whole, empty = (zipped(files).replace(b"?q?", b"\0q?") for files in (named, {"?q?": b"nothing"}))
    assert read_dicom_zip(whole, rules=RULES).spatial_dims == 2
    assert refusal(empty, read=read_dicom_zip).code == "no-series"


# a method that no zipfile knows (its error is a NotImplementedError, told by name), and LZMA with a broken header
@pytest.mark.parametrize(
    ("method", "said"), [(97, "is a damaged zip file .NotImplementedError"), (14, "is a damaged zip file")]
)
def test_compressions_that_cannot_be_undone_are_not_called_encryption(method, said):
    content = bytearray(zipped({"a.dcm": b"x" * 900}))
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # method in the local and the central header
        place = content.index(magic) + offset
        content[place : place + 2] = method.to_bytes(2, "little")
    with pytest.raises(UnreadableScanError, match=said) as caught:
        read_dicom_zip(bytes(content), rules=RULES)
    assert caught.value.code == "damaged"


def test_an_encrypted_zip_is_called_so():
    content = bytearray(zipped({"a.dcm": b"x" * 900}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + offset] |= 1
    with pytest.raises(UnreadableScanError, match="is an encrypted zip file"):
        read_dicom_zip(bytes(content), rules=RULES)


def test_a_zip_bomb_is_refused():
    packed = zipped({f"{index}": bytes(2**24) for index in range(8)})
    assert quick_and_small(packed, read=read_dicom_zip).code == "decompression-bomb"


def test_a_zip_that_lies_about_its_sizes_is_no_way_round_the_limits():
    packed = bytearray(zipped({"a": bytes(2**26)}))
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = packed.index(magic) + offset
        packed[at : at + 4] = (1000).to_bytes(4, "little")
    assert quick_and_small(bytes(packed), read=read_dicom_zip).code in ("damaged", "no-series")


def test_files_are_named_when_they_are_damaged(tmp_path):
    paths = write_series(tmp_path)
    paths[3].write_bytes(paths[3].read_bytes()[:300])
    with pytest.raises(UnreadableScanError, match=paths[3].name):
        read_series(paths, rules=RULES)


def test_a_copy_whose_pixels_are_damaged_is_named(tmp_path):
    paths = write_series(tmp_path, at=[*positions(11), positions(11)[4]])
    damaged = paths[11]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(UnreadableScanError, match=f"holds {damaged.name}, which is truncated") as caught:
        read_series(paths, rules=RULES)
    assert str(caught.value).count(damaged.name) == 1


def test_importing_the_package_imports_no_decoder():
    import subprocess

    code = (
        "import sys; from medres.data.readers.dicom import is_dicom, index_series, choose_series;"
        "print([name for name in ('pydicom', 'highdicom', 'SimpleITK', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pydicom_says_nothing_that_could_be_a_patients(tmp_path, caplog, recwarn):
    made = dataset(stack(1)[0])
    path = save(made, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"Nobody^Ann", b"Nobo\xff\xfeAnn\\"))
    read_series([path], rules=RULES)
    assert caplog.text == ""
    assert [str(warning.message) for warning in recwarn if "pydicom" in warning.filename] == []
