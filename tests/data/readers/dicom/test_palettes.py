"""Palette colour: in either byte order, of 8 and 16 bits, plain and in segments."""

import io
import time

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.pixels import apply_color_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from medres.data.readers.dicom import read_dicom_bytes
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.readers.dicom.making import dataset, save

RULES = ReadingRules()
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16)).astype(np.uint8)
SYNTAXES = (ExplicitVRLittleEndian, ExplicitVRBigEndian)


def ramps(bits):
    """Three palettes of 256 entries that differ everywhere."""
    places = np.arange(256)
    eight = [places, 255 - places, (places * 7) % 256]
    return eight if bits == 8 else [one * 257 for one in eight]


def written(palettes, *, bits, packed=False, syntax=ExplicitVRLittleEndian, segmented=False, first=0, count=256):
    made = dataset(PIXELS, modality="US", ImagePositionPatient=None, RescaleSlope=None, RescaleIntercept=None)
    made.PhotometricInterpretation = "PALETTE COLOR"
    made["PixelData"].VR = "OB"
    made.file_meta.TransferSyntaxUID = syntax
    for color, palette in zip(("Red", "Green", "Blue"), palettes, strict=True):
        made.add_new(f"{color}PaletteColorLookupTableDescriptor", "US", [count % 2**16, first, bits])
        name = f"{'Segmented' if segmented else ''}{color}PaletteColorLookupTableData"
        words = np.asarray(palette, dtype="u1" if packed else "u2").tobytes()
        if syntax == ExplicitVRBigEndian:
            words = np.frombuffer(words, "u2").byteswap().tobytes()
        made.add_new(name, "OW", words)
    return made


def content_of(made) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


def colors_of(made):
    read = read_dicom_bytes(content_of(made), rules=RULES)
    assert read.voxels.dtype == np.uint8
    channels = np.broadcast_to(read.voxels, (3, *PIXELS.shape))  # three equal ones are grey
    return np.moveaxis(channels, 0, -1)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize(("bits", "packed"), [(16, False), (8, False), (8, True)])
def test_colours_are_those_of_the_palettes_and_of_simpleitk(tmp_path, syntax, bits, packed):
    made = written(ramps(bits), bits=bits, packed=packed, syntax=syntax)
    colors = colors_of(made)
    np.testing.assert_array_equal(colors, np.stack([one[PIXELS] for one in ramps(8)], axis=-1))
    if not (bits == 8 and not packed):  # padded to 16 bits: GDCM shows them black
        itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(save(made, tmp_path / "palette.dcm"))))
        np.testing.assert_array_equal(colors, itk[0] >> (8 if itk.dtype.itemsize == 2 else 0))


@pytest.mark.parametrize("first", [0, 30])
def test_places_are_those_of_pydicom(first):
    made = written(ramps(16), bits=16, first=first)
    expected = apply_color_lut(PIXELS.astype(np.uint16), pydicom.dcmread(io.BytesIO(content_of(made))))
    np.testing.assert_array_equal(colors_of(made), expected >> 8)


def test_16_bits_that_hold_only_8_are_not_black():
    np.testing.assert_array_equal(colors_of(written(ramps(8), bits=16))[..., 0], PIXELS)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_segments_are_those_of_pydicom(syntax):
    segments = [0, 3, 2560, 5120, 7680, 1, 100, 58880, 1, 53, 1280, 2, 1, 5, 0]
    made = written([segments] * 3, bits=16, syntax=syntax, segmented=True)
    expected = apply_color_lut(PIXELS.astype(np.uint16), pydicom.dcmread(io.BytesIO(content_of(made))))
    np.testing.assert_array_equal(colors_of(made), expected >> 8)


def test_segments_of_8_bits_are_those_of_pydicom_in_either_order():
    segments = [0, 3, 10, 20, 30, 1, 100, 230, 1, 53, 5, 2, 1, 5, 0, 0, 0]
    segments += [0] * (len(segments) % 2)
    made, big = (written([segments] * 3, bits=8, packed=True, syntax=syntax, segmented=True) for syntax in SYNTAXES)
    expected = apply_color_lut(PIXELS, pydicom.dcmread(io.BytesIO(content_of(made))))
    np.testing.assert_array_equal(colors_of(made), expected)
    np.testing.assert_array_equal(colors_of(big), expected)


def test_segments_that_repeat_a_flood_end_with_the_palette():
    flood = [0, 1, 7, 1, 65535, 9, *[2, 65535, 3, 0] * 4000]
    begin = time.perf_counter()
    assert set(colors_of(written([flood] * 3, bits=16, segmented=True, count=65536)).ravel()) <= {0, 7, 8, 9}
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("spoil", ["missing", "short", "segments"])
def test_a_palette_that_is_not_there_is_refused(spoil):
    made = written(ramps(16), bits=16) if spoil != "segments" else written([[1, 5, 3, 0]] * 3, bits=16, segmented=True)
    if spoil == "missing":
        del made.GreenPaletteColorLookupTableData
    elif spoil == "short":
        made.GreenPaletteColorLookupTableData = made.GreenPaletteColorLookupTableData[:100]
    with pytest.raises(UnreadableScanError, match="palettes of colours that are missing or damaged"):
        read_dicom_bytes(content_of(made), rules=RULES)
