"""PNG, JPEG, TIFF and BMP in any mode: grey has one channel, true colour three; 16 bits stay 16 bits."""

from __future__ import annotations

import ctypes
import io
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, _imaging
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from medres.data.image import ScanImage
from medres.data.readers.blocks import long_axes
from medres.data.readers.budget import claim
from medres.data.readers.limits import (
    MAX_DEFLATE_RATIO,
    require_memory,
    require_no_bomb,
    require_plane_size,
    require_reasonable_size,
)
from medres.data.readers.silence import silently
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

#: One byte of DEFLATE becomes 1032 bytes at most, of eight black-and-white pixels each. Grey scans stay far below.
MAX_PIXELS_PER_BYTE = 8 * MAX_DEFLATE_RATIO

# Four bytes are the most: RGBA, or 32-bit grey.
_BYTES_A_PIXEL = 4

#: Most pages of a TIFF: its directory of pages has no other end.
MAX_PAGES = 4096

#: Channels of 8 bits that differ by less are one grey image, stored as colour: JPEG rounds luminance and colour apart.
MAX_TINT = 8

# libtiff writes each oddity of a file to the terminal from C; what it cannot read Pillow raises all the same
with suppress(OSError, AttributeError):  # a Pillow without libtiff, or with one that is linked in
    _libraries = ctypes.CDLL(_imaging.__file__)
    _libraries.TIFFSetErrorHandler(None)
    _libraries.TIFFSetWarningHandler(None)

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_ZERO = 0
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY_MODES = ("1", "L", "LA", "La")
_PNG_COLOR_TYPES_READ_WITH_8_BITS = (2, 4, 6)  # RGB, grey + alpha, RGBA
_FIX = "Copy or export the file again."


@silently()
def read_png(content: bytes) -> ScanImage:
    """Read a PNG; the checksums of all its chunks are compared.

    Raises:
        UnreadableScanError: It is damaged, truncated or too large.
    """
    image = _open(PngImageFile, content)
    try:
        PngImageFile(io.BytesIO(content)).verify()  # which leaves no image to read
    except Exception as error:
        raise _damaged(error) from error
    notes = _depth_note(content) + _frames_note(image)
    return picture(_decoded(image), notes=notes)


@silently()
def read_jpeg(content: bytes) -> ScanImage:
    """Read a JPEG. The format has no checksum: damage that still decodes cannot be seen.

    Raises:
        UnreadableScanError: It is damaged, truncated or too large.
    """
    return picture(_decoded(_open(JpegImageFile, content)))


@silently()
def read_bmp(content: bytes) -> ScanImage:
    """Read a BMP. The format has no checksum.

    Raises:
        UnreadableScanError: It is damaged, truncated or too large.
    """
    return picture(_decoded(_open(BmpImageFile, content)))


@silently()
def read_tiff(content: bytes) -> ScanImage:
    """Read a TIFF: one page is an image, several grey pages of one size are the slices of a volume.

    A stack is read as ``(1, pages, rows, columns)``; where it lies in the patient and how large its voxels are
    is not known, as the resolution in a TIFF is that of a print. Pages that differ are refused.

    Raises:
        UnreadableScanError: It is damaged, truncated, too large, or its pages are no stack.
    """
    image = _open(TiffImageFile, content)
    num_pages = _num_pages(image)
    if num_pages == 1:
        return picture(_tiff_page(image, 0, len(content)), notes=_tiff_depth_note(image))
    width, height = image.size
    require_reasonable_size(num_pages * width * height, num_pages * width * height * 2)
    first = picture(_tiff_page(image, 0, len(content)))
    if first.color:
        found = f"has {num_pages} pages in colour"
        raise UnreadableScanError(found, fix="Save one page as PNG, or grey pages.", code="several-volumes")
    stack = np.empty((num_pages, *first.spatial_shape), dtype=first.voxels.dtype)
    long_axes(stack.shape)
    for page in range(num_pages):
        stack[page] = _same_page(_tiff_page(image, page, len(content)), page, like=stack)
    unknown = "orientation-unknown: a TIFF does not say how it lies in the patient"
    return make_image(stack[np.newaxis], notes=(unknown,) if min(stack.shape) > 1 else ())


def _num_pages(image: ImageFile) -> int:
    num_pages = 1
    for page in range(1, MAX_PAGES + 1):
        try:
            image.seek(page)
        except EOFError:
            break
        except Exception as error:
            raise _damaged(error) from error
        num_pages = page + 1
    if num_pages > MAX_PAGES:
        found = f"has more than {MAX_PAGES:,} pages"
        raise UnreadableScanError(found, fix="Save it as NIfTI.", code="too-large")
    image.seek(0)
    return num_pages


def _tiff_page(image: ImageFile, page: int, num_bytes: int) -> Image.Image:
    try:
        image.seek(page)
        _require_size(image, num_bytes)
    except (EOFError, OSError, SyntaxError, ValueError, KeyError, TypeError) as error:
        raise _damaged(error) from error
    decoded = _decoded(image)
    inverted = image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
    if inverted and image.mode in _SIXTEEN_BIT_MODES:  # Pillow turns 8 bits round, 16 bits not
        return Image.fromarray(np.iinfo(np.uint16).max - np.asarray(decoded).astype(np.uint16))
    return decoded


def _same_page(image: Image.Image, page: int, *, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
    voxels: npt.NDArray[Any] = picture(image).voxels
    if voxels.shape != (1, *like.shape[1:]) or not np.can_cast(voxels.dtype, like.dtype):
        raise UnreadableScanError(
            f"has pages of different size or type: the first is {like.shape[1:]}, page {page + 1} {voxels.shape[1:]}",
            fix="Save each page as an image of its own.",
            code="several-volumes",
        )
    return np.asarray(voxels[0])


def _tiff_depth_note(image: ImageFile) -> tuple[str, ...]:
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))  # type: ignore[attr-defined]
    deep = isinstance(bits, tuple) and max(bits, default=8) > 8
    return (_DEPTH_NOTE,) if deep and len(image.getbands()) > 1 else ()


def picture(image: Image.Image, *, notes: tuple[str, ...] = ()) -> ScanImage:
    """Return the scan of a decoded image of any mode.

    Alpha and palette transparency are left out, not composited: they say how to show a pixel, not what was
    measured. The EXIF orientation is applied. Black-and-white becomes 0 and 255.

    Args:
        image: Fully loaded.
        notes: Carried over.

    Example:
        >>> read = picture(Image.new("RGBA", (4, 2), (7, 7, 7, 0)))
        >>> read.voxels.shape, read.color, int(read.voxels.max())
        ((1, 2, 4), False, 7)
    """
    upright = ImageOps.exif_transpose(image)
    if _has_transparency(image):
        notes = (*notes, "transparency-ignored: partly transparent; the colours were taken as stored")
    channels = _channels(upright)
    if _is_tinted_grey(channels):
        tint = int(np.ptp(channels.astype(np.int16), axis=0).max())
        notes = (*notes, f"tint-ignored: its colours differ by at most {tint} of 255 levels; read as grey")
        channels = np.array(upright.convert("RGB").convert("L"))[np.newaxis]
    return make_image(channels, notes=notes)


def _is_tinted_grey(channels: npt.NDArray[Any]) -> bool:
    """Return whether colours are the rounding of a grey image, as in a JPEG or what was made of one."""
    if channels.shape[0] != 3 or channels.dtype != np.uint8:
        return False
    tint = int((channels.max(axis=0) - channels.min(axis=0)).max())
    return 0 < tint <= MAX_TINT


def _channels(image: Image.Image) -> npt.NDArray[Any]:
    if image.mode in _SIXTEEN_BIT_MODES:
        return np.asarray(image).astype(np.uint16)[np.newaxis]
    if image.mode == "I":
        return _smallest_integers(np.asarray(image))[np.newaxis]
    if image.mode == "F":
        return np.array(image, dtype=np.float32)[np.newaxis]
    if image.mode in _GREY_MODES:
        return np.array(image.convert("L"))[np.newaxis]
    if image.mode in ("P", "PA", "RGBa"):  # by way of RGBA, so that transparency does not change a colour
        image = image.convert("RGBA")
    return np.ascontiguousarray(np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))


def _smallest_integers(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    fits = pixels.min() >= 0 and pixels.max() <= np.iinfo(np.uint16).max
    return pixels.astype(np.uint16 if fits else np.int32)


def _has_transparency(image: Image.Image) -> bool:
    if "A" in image.getbands() or "a" in image.getbands():
        lowest = image.getchannel(len(image.getbands()) - 1).getextrema()[0]
        return bool(lowest != 255)
    return "transparency" in image.info


def _open(opener: type[ImageFile], content: bytes) -> ImageFile:
    # the plugin itself, not Image.open: that one tries every format there is, and warns about large images
    # through the warning filters, which all threads share
    try:
        image = opener(io.BytesIO(content))
    except Exception as error:
        raise _damaged(error) from error
    _require_size(image, len(content))
    width, height = image.size
    claim(width * height * _BYTES_A_PIXEL)
    return image


def _require_size(image: ImageFile, num_bytes: int) -> None:
    width, height = image.size
    require_plane_size(height, width)
    extents = [tile[1] or (0, 0, width, height) for tile in image.tile] or [(0, 0, width, height)]
    covered = max(extent[2] for extent in extents) >= width and max(extent[3] for extent in extents) >= height
    if width * height > MAX_PIXELS_PER_BYTE * num_bytes or not covered:
        raise UnreadableScanError(
            f"claims {width:,} x {height:,} pixels, more than its {num_bytes:,} bytes hold", fix=_FIX, code="truncated"
        )
    require_no_bomb(width * height, width * height * len(image.getbands()), compressed_bytes=num_bytes)
    require_memory(2 * width * height * _BYTES_A_PIXEL)  # decoded and converted


def _decoded(image: ImageFile) -> ImageFile:
    try:
        image.load()
    except Exception as error:
        raise _damaged(error) from error
    return image


def _damaged(error: Exception) -> UnreadableScanError:
    # whatever the decoder raises on damaged bytes: OSError, SyntaxError, ValueError, struct.error, zlib.error
    reason = str(error) or type(error).__name__
    code = "truncated" if "truncated" in reason.lower() else "damaged"
    return UnreadableScanError(f"is damaged or truncated ({reason})", fix=_FIX, code=code)


def _depth_note(content: bytes) -> tuple[str, ...]:
    depth, color_type = content[24], content[25]  # of the IHDR chunk, which always comes first
    if depth != 16 or color_type not in _PNG_COLOR_TYPES_READ_WITH_8_BITS:
        return ()
    return (_DEPTH_NOTE,)


def _frames_note(image: ImageFile) -> tuple[str, ...]:
    num_frames = getattr(image, "n_frames", 1)
    return () if num_frames == 1 else (f"first-frame: the first of {num_frames} frames was read",)


_DEPTH_NOTE = "depth-reduced: 16 bits with colour or alpha are read as 8; save it as 16-bit grey to keep them"
