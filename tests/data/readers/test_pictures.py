import io
import random
import struct
import warnings
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.limits import MAX_PIXELS
from medres.data.readers.pictures import MAX_TINT, picture
from medres.errors import UnreadableScanError

GREY = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (7, 9, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey_image(mode):
    grey = Image.fromarray(GREY)
    if mode == "P":
        palette = grey.convert("P")
        palette.putpalette([level for level in range(256) for _ in range(3)])
        return palette
    return grey.convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_grey_in_any_mode_is_one_channel_with_one_hash(mode):
    image = read_scan_bytes(encoded(grey_image(mode)))
    np.testing.assert_array_equal(image.voxels, GREY[np.newaxis])
    assert image.voxels.dtype == np.uint8
    assert not image.color
    assert image.content_hash == read_scan_bytes(encoded(Image.fromarray(GREY))).content_hash
    assert (image.affine, image.spacing_mm, image.notes) == (None, None, ())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_true_colour_stays_colour(mode):
    source = Image.fromarray(COLOUR).convert(mode)
    image = read_scan_bytes(encoded(source))
    assert (image.voxels.shape, image.color) == ((3, 7, 9), True)
    np.testing.assert_array_equal(np.moveaxis(image.voxels, 0, -1), np.asarray(source.convert("RGB")))


def test_black_and_white_is_0_and_255():
    image = read_scan_bytes(encoded(Image.fromarray(GREY).point(lambda level: level > 99, mode="1")))
    np.testing.assert_array_equal(image.voxels[0], np.where(GREY > 99, 255, 0))


def test_16_bits_stay_16_bits():
    deep = GREY.astype(np.uint16) * 257
    image = read_scan_bytes(encoded(Image.fromarray(deep)))
    assert image.voxels.dtype == np.uint16
    np.testing.assert_array_equal(image.voxels[0], deep)


@pytest.mark.parametrize(
    ("mode", "values", "dtype"),
    [
        ("I", [[0, 65535]], np.uint16),
        ("I", [[-1, 70000]], np.int32),
        ("F", [[0.5, 2.5]], np.float32),
        ("I;16B", [[1, 65535]], np.uint16),
    ],
)
def test_modes_that_only_decoders_make(mode, values, dtype):
    if mode == "I;16B":
        source = Image.frombytes(mode, (2, 1), np.array(values, dtype=">u2").tobytes())
    else:
        source = Image.fromarray(np.array(values, dtype=np.int32 if mode == "I" else np.float32))
    image = picture(source)
    assert image.voxels.dtype == dtype
    np.testing.assert_array_equal(image.voxels[0], values)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_are_converted(mode):
    image = picture(Image.fromarray(COLOUR).convert(mode))
    assert (image.voxels.shape[0], image.color) == (3, True)


def test_jpeg_is_that_of_pillow():
    for source in (Image.fromarray(GREY), Image.fromarray(COLOUR), Image.fromarray(COLOUR).convert("CMYK")):
        content = encoded(source, "JPEG")
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        image = read_scan_bytes(content)
        assert image.voxels.shape[0] == (1 if source.mode == "L" else 3)
        np.testing.assert_array_equal(np.moveaxis(image.voxels, 0, -1), expected[..., : image.voxels.shape[0]])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_honoured(orientation, kind):
    source = Image.fromarray(GREY)
    exif = source.getexif()
    exif[0x0112] = orientation
    content = encoded(source, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(read_scan_bytes(content).voxels[0], np.asarray(expected))


def test_transparency_is_ignored_and_said():
    transparent = Image.fromarray(np.dstack([COLOUR, GREY]))
    image = read_scan_bytes(encoded(transparent))
    np.testing.assert_array_equal(np.moveaxis(image.voxels, 0, -1), COLOUR)
    assert image.notes[0].startswith("transparency-ignored: ")
    palette = Image.fromarray(COLOUR).convert("P")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        keyed = read_scan_bytes(encoded(palette, transparency=0))
    np.testing.assert_array_equal(np.moveaxis(keyed.voxels, 0, -1), np.asarray(palette.convert("RGB")))
    assert keyed.notes


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def deep_png(values, color_type):
    """Return a PNG of 16 bits a channel, which Pillow cannot write."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_16_bit_colour_is_read_with_8_and_said():
    deep = COLOUR.astype(np.uint16) * 257
    image = read_scan_bytes(deep_png(deep, color_type=2))
    np.testing.assert_array_equal(np.moveaxis(image.voxels, 0, -1), COLOUR)
    assert [note.partition(":")[0] for note in image.notes] == ["depth-reduced"]
    grey = read_scan_bytes(deep_png(deep[..., 0], color_type=0))
    np.testing.assert_array_equal(grey.voxels[0], deep[..., 0])
    assert grey.notes == ()


def test_the_suffix_may_lie(tmp_path):
    path = tmp_path / "scan.jpg"
    path.write_bytes(encoded(Image.fromarray(GREY)))
    np.testing.assert_array_equal(read_scan(path).voxels[0], GREY)


def test_200_one_bit_flips_of_a_png_are_refused_or_change_no_pixel():
    content = encoded(Image.fromarray(GREY))
    expected, draw, outcomes = read_scan_bytes(content).content_hash, random.Random(0), Counter()
    for _ in range(200):
        changed = bytearray(content)
        bit = draw.randrange(8 * len(content))
        changed[bit // 8] ^= 1 << (bit % 8)
        try:
            outcomes[read_scan_bytes(bytes(changed)).content_hash == expected] += 1
        except UnreadableScanError:
            outcomes["refused"] += 1
    assert outcomes[False] == 0
    assert outcomes["refused"] > 150


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated_images_are_refused(tmp_path, kind):
    content = encoded(Image.fromarray(np.tile(GREY, (20, 20))), kind)
    path = tmp_path / "scan.png"
    for share in (0.02, 0.3, 0.6, 0.9, 0.98):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UnreadableScanError, match=r"scan.png is (damaged or truncated|no known)"):
            read_scan(path)


def png_claiming(width, height):
    content = bytearray(encoded(Image.fromarray(GREY)))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_decompression_bombs_are_refused():
    side = 100_000
    with pytest.raises(UnreadableScanError, match=f"claims {side:,} x {side:,} pixels, more than the limit"):
        read_scan_bytes(png_claiming(side, side))
    assert side * side > MAX_PIXELS


def test_grey_that_jpeg_tinted_is_grey_and_said():
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    tinted = np.stack([smooth, smooth + 3, smooth + 5], axis=-1)
    image = read_scan_bytes(encoded(Image.fromarray(tinted)))
    assert (image.voxels.shape, image.color) == ((1, 64, 64), False)
    np.testing.assert_array_equal(image.voxels[0], np.asarray(Image.fromarray(tinted).convert("L")))
    assert image.notes == ("tint-ignored: its colours differ by at most 5 of 255 levels; read as grey",)
    lossy = read_scan_bytes(encoded(Image.fromarray(tinted), "JPEG", quality=90, subsampling=0))
    assert (lossy.voxels.shape[0], lossy.color) == (1, False)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_a_coloured_mark_on_grey_is_colour(size):
    pixels = np.repeat(np.tile(GREY, (5, 5))[..., np.newaxis], 3, axis=-1)
    pixels[:size, :size, 0] = 255 - pixels[:size, :size, 0] // 2
    assert read_scan_bytes(encoded(Image.fromarray(pixels))).color


@pytest.mark.parametrize("tint", range(1, 20))
def test_colours_count_from_nine_levels_on(tint):
    pixels = np.repeat(GREY[..., np.newaxis] // 2, 3, axis=-1)
    pixels[2, 3, 1] += tint
    assert read_scan_bytes(encoded(Image.fromarray(pixels))).color == (tint > MAX_TINT)


# --- TIFF and BMP


def tiff(*pages, **options):
    file = io.BytesIO()
    images = [page if isinstance(page, Image.Image) else Image.fromarray(page) for page in pages]
    images[0].save(file, "TIFF", save_all=True, append_images=images[1:], **options)
    return file.getvalue()


def random_pages(count, dtype=np.uint16, shape=(7, 9)):
    return np.random.default_rng(0).integers(0, 255, (count, *shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_stack_of_pages_is_a_volume_of_unknown_geometry(dtype, compression):
    pages = random_pages(4, dtype)
    image = read_scan_bytes(tiff(*pages, compression=compression))
    np.testing.assert_array_equal(image.voxels, pages[np.newaxis])
    assert (image.affine, image.spacing_mm) == (None, None)
    assert [note.partition(":")[0] for note in image.notes] == ["orientation-unknown"]


def test_one_page_is_an_image():
    for pixels in (GREY, COLOUR, GREY.astype(np.uint16) * 257, GREY.astype(np.float32) / 3):
        image = read_scan_bytes(tiff(pixels))
        np.testing.assert_array_equal(image.voxels, np.moveaxis(np.atleast_3d(pixels), -1, 0))
        assert image.color == (pixels.ndim == 3)


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([GREY, GREY[:5]], r"pages of different size or type: the first is \(7, 9\), page 2 \(5, 9\)"),
        ([GREY, GREY.astype(np.uint16) * 257], "different size or type"),
        ([GREY, COLOUR], "different size or type"),
        ([COLOUR, COLOUR], "2 pages in colour"),
    ],
)
def test_pages_that_are_no_stack_are_refused(pages, message):
    with pytest.raises(UnreadableScanError, match=message) as refused:
        read_scan_bytes(tiff(*pages))
    assert refused.value.code == "several-volumes"


@pytest.mark.parametrize("deep", [False, True])
def test_white_is_zero_is_turned_round(deep):
    pixels = GREY.astype(np.uint16) * 257 if deep else GREY
    content = bytearray(tiff(pixels))
    entry = content.index(struct.pack("<HHI", 262, 3, 1))
    assert content[entry + 8] == 1
    content[entry + 8] = 0
    highest = 65535 if deep else 255
    np.testing.assert_array_equal(read_scan_bytes(bytes(content)).voxels[0], highest - pixels)


def tiff_claiming(height):
    """Return a TIFF whose strips hold 7 rows and which claims another number; Pillow fills the rest with zeros."""
    content = bytearray(tiff(GREY))
    entry = content.index(struct.pack("<HHIH", 257, 4, 1, 7))
    content[entry + 8 : entry + 12] = struct.pack("<I", height)
    return bytes(content)


def test_bmp():
    for pixels in (GREY, COLOUR):
        image = read_scan_bytes(encoded(Image.fromarray(pixels), "BMP"))
        np.testing.assert_array_equal(image.voxels, np.moveaxis(np.atleast_3d(pixels), -1, 0))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (png_claiming(100_000, 100_000), "too-large"),
        (encoded(Image.fromarray(COLOUR))[:-80], "truncated"),
        (encoded(Image.fromarray(np.tile(GREY, (20, 20))), "JPEG")[:3000], "truncated"),
        (encoded(Image.fromarray(GREY), "BMP")[:200], "truncated"),
        (tiff(COLOUR)[:250], "truncated"),
        (tiff_claiming(15_859_721), "truncated"),
        (tiff_claiming(8), "truncated"),
        (png_claiming(9_000, 9_000), "truncated"),
    ],
)
def test_codes(content, code):
    with pytest.raises(UnreadableScanError) as refused:
        read_scan_bytes(content)
    assert refused.value.code == code


@pytest.mark.real
def test_real_mri_slices_are_those_of_pillow(real_data):
    counts, hashes = Counter(), set()
    files = sorted((real_data / "brain_mri_tumor").rglob("*.*"))
    for path in files:
        with Image.open(path) as source:
            expected = np.asarray(ImageOps.exif_transpose(source).convert("RGBA").convert("RGB"))
        image = read_scan(path)
        hashes.add(image.content_hash)
        tint = int(np.ptp(expected.astype(int), axis=-1).max())
        if 0 < tint <= MAX_TINT:
            expected = np.asarray(Image.fromarray(expected).convert("L"))[..., np.newaxis]
            counts["tinted"] += 1
        np.testing.assert_array_equal(image.voxels, np.moveaxis(expected, -1, 0)[: image.voxels.shape[0]])
        counts[image.voxels.shape[0]] += 1
    assert counts == {1: 234, 3: 19, "tinted": 16}
    assert len(files) - len(hashes) == 25  # the identical copies, found by their pixels
