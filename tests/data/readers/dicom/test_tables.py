"""Modality LUT: the values are those of pydicom, wherever the table stands and however it is written."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medres.data.readers.dicom import read_dicom_bytes, read_study
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.readers.dicom.making import dataset, enhanced, stack, write_series

RULES = ReadingRules()
NO_RESCALE = {"RescaleSlope": None, "RescaleIntercept": None}


def table(entries, *, first=0, bits=16, packed=False, big=False, vr="OW", signed=False) -> Dataset:
    """One item of a Modality LUT Sequence; `big`: written for a big-endian file."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(entries) % 2**16, first, bits])
    item.ModalityLUTType = "OD"
    if packed:
        content = np.append(entries, [0] * (len(entries) % 2)).astype("u1").tobytes()
        content = np.frombuffer(content, "u2").byteswap().tobytes() if big else content
        item.add_new("LUTData", vr, content)
    else:
        words = np.asarray(entries, dtype=">u2" if big else "<u2")
        item.add_new("LUTData", vr, words.tobytes() if vr == "OW" else words.astype(int).tolist())
    return item


def image(item, pixels, *, modality="CR", **tags):
    return dataset(pixels, modality=modality, ImagePositionPatient=None, ModalityLUTSequence=[item],
                   **{**NO_RESCALE, **tags})  # fmt: skip


def content_of(made, syntax=ExplicitVRLittleEndian) -> bytes:
    made.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        made.PixelData = np.frombuffer(made.PixelData, f"u{made.BitsAllocated // 8}").byteswap().tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def values_of(content):
    return read_dicom_bytes(content, rules=RULES)


def codes(read):
    return {note.partition(":")[0] for note in read.notes}


PIXELS = np.arange(12 * 16).reshape(12, 16)
FALLING = 4095 - np.arange(4096)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize(("first", "signed"), [(0, False), (40, False), (-90, True)])
def test_values_are_those_of_pydicom(syntax, vr, first, signed):
    pixels = (PIXELS - 60 * signed).astype("i2" if signed else "u2")  # below and beyond the table too
    big = syntax == ExplicitVRBigEndian
    content = content_of(image(table(FALLING[:100], first=first, vr=vr, big=big, signed=signed), pixels), syntax)
    read, made = values_of(content), pydicom.dcmread(io.BytesIO(content))
    np.testing.assert_array_equal(read.voxels[0], apply_modality_lut(made.pixel_array, made))
    np.testing.assert_array_equal(read.voxels[0], FALLING[np.clip(pixels.astype(int) - first, 0, 99)])
    assert "modality-lut" in codes(read)


def test_65536_entries_are_written_as_0():
    pixels = np.array([[0, 1, 65534], [65535, 7, 8]], dtype=np.uint16)
    read = values_of(content_of(image(table((65535 - np.arange(65536)).astype("u2")), pixels)))
    np.testing.assert_array_equal(read.voxels[0], 65535 - pixels)


def test_the_whole_range_of_signed_pixels_fits():
    """pydicom wraps here: 32767 + 32768 is no int16."""
    pixels = np.array([[-32768, 32767], [0, -1]], dtype=np.int16)
    read = values_of(content_of(image(table(np.arange(65536), first=-32768, signed=True), pixels)))
    np.testing.assert_array_equal(read.voxels[0], pixels.astype(int) + 32768)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [99, 100])
def test_entries_of_8_bits_alone_or_two_to_a_word(count, packed, big):
    item = table(200 - np.arange(count), bits=8, packed=packed, big=big)
    made = image(item, PIXELS.astype("u1"))
    if big:
        made["PixelData"].VR = "OB"
        made.PixelData = made.PixelData
    content = content_of(made, ExplicitVRLittleEndian) if not big else _big_with_bytes(made)
    np.testing.assert_array_equal(values_of(content).voxels[0], 200 - np.minimum(PIXELS, count - 1))


def _big_with_bytes(made) -> bytes:
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def test_12_bits_are_12_bits():
    read = values_of(content_of(image(table(FALLING, bits=12), PIXELS.astype("u2"))))
    np.testing.assert_array_equal(read.voxels[0], FALLING[PIXELS])


def test_what_is_dark_is_said_of_the_values_of_the_table():
    tags = {"PhotometricInterpretation": "MONOCHROME1"}
    read = values_of(content_of(image(table(FALLING, bits=12), PIXELS.astype("u2"), **tags)))
    np.testing.assert_array_equal(read.voxels[0], 4095 - FALLING[PIXELS])
    assert codes(read) == {"modality-lut", "grey-inverted"}


def test_a_table_beside_rescale_factors_counts_and_the_contradiction_is_said():
    tags = {"RescaleSlope": 2, "RescaleIntercept": -10}
    read = values_of(content_of(image(table(FALLING), PIXELS.astype("u2"), **tags)))
    np.testing.assert_array_equal(read.voxels[0], FALLING[PIXELS])
    assert codes(read) == {"modality-lut", "modality-lut-doubt"}


def test_each_slice_has_its_own_table(tmp_path):
    def per_slice(index):
        return {"ModalityLUTSequence": [table(np.arange(2000) + 100 * index)]}

    write_series(tmp_path, stack(4).astype("u2"), modality="MR", per_slice=per_slice, **NO_RESCALE)
    read = read_study(tmp_path, rules=RULES)
    expected = stack(4).astype(int) + 100 * np.arange(4)[:, None, None]
    np.testing.assert_array_equal(read.voxels[0].transpose(2, 1, 0), expected)


@pytest.mark.parametrize("where", ["dataset", "shared", "frame", "in the transformation"])
def test_frames_find_their_table(where):
    made = enhanced(stack(3).astype("u2"), shared_scale=None)
    item, groups = table(FALLING), made.PerFrameFunctionalGroupsSequence
    if where == "dataset":
        made.ModalityLUTSequence = [item]
    elif where == "shared":
        made.SharedFunctionalGroupsSequence[0].ModalityLUTSequence = [item]
    for group in groups if where == "frame" else ():
        group.ModalityLUTSequence = [item]
    if where == "in the transformation":
        held = Dataset()
        held.ModalityLUTSequence = [item]
        made.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [held]
    read = values_of(content_of(made))
    np.testing.assert_array_equal(read.voxels[0].transpose(2, 1, 0), FALLING[stack(3)])


@pytest.mark.parametrize("spoil", ["no data", "short", "no descriptor", "bits"])
def test_a_table_that_cannot_be_applied_is_refused(spoil):
    item = table(FALLING)
    if spoil == "no data":
        del item.LUTData
    elif spoil == "short":
        item.LUTData = item.LUTData[:-20]
    elif spoil == "no descriptor":
        del item.LUTDescriptor
    else:
        item.LUTDescriptor = [4096, 0, 32]
    with pytest.raises(UnreadableScanError, match="Modality LUT that cannot be applied") as caught:
        values_of(content_of(image(item, PIXELS.astype("u2"))))
    assert caught.value.code == "header-damaged"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_presentation_that_turns_round_counts_once(photometric):
    tags = {"PhotometricInterpretation": photometric, "PresentationLUTShape": "INVERSE"}
    made = image(table(FALLING), PIXELS.astype("u2"), **tags, BitsStored=12, HighBit=11)
    del made.ModalityLUTSequence
    read = values_of(content_of(made))
    np.testing.assert_array_equal(read.voxels[0], 4095 - PIXELS)
    assert codes(read) == {"grey-inverted"}
