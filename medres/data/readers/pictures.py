"""PNG and JPEG in any mode: grey images have one channel, true colour has three; 16 bits stay 16 bits."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from medres.data.image import ScanImage
from medres.data.readers.voxels import make_image
from medres.errors import UnreadableScanError

#: Most pixels of an image, Pillow's own limit for what is surely a decompression bomb.
MAX_PIXELS = 178_956_970

_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY_MODES = ("1", "L", "LA", "La")
_PNG_COLOR_TYPES_READ_WITH_8_BITS = (2, 4, 6)  # RGB, grey + alpha, RGBA
_FIX = "Copy or export the file again."


def read_png(content: bytes) -> ScanImage:
    """Read a PNG; the checksums of all its chunks are compared.

    Raises:
        UnreadableScanError: It is damaged, truncated or too large.
    """
    verified = _open(PngImageFile, content)
    try:
        verified.verify()
    except Exception as error:
        raise _damaged(error) from error
    image = _open(PngImageFile, content)
    notes = _depth_note(content) + _frames_note(image)
    return picture(_decoded(image), notes=notes)


def read_jpeg(content: bytes) -> ScanImage:
    """Read a JPEG. The format has no checksum: damage that still decodes cannot be seen.

    Raises:
        UnreadableScanError: It is damaged, truncated or too large.
    """
    return picture(_decoded(_open(JpegImageFile, content)))


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
    return make_image(_channels(upright), notes=notes)


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
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableScanError(
            f"claims {width:,} x {height:,} pixels, more than the limit of {MAX_PIXELS:,}",
            fix="The file is damaged, or the image must be made smaller first.",
        )
    return image


def _decoded(image: ImageFile) -> ImageFile:
    try:
        image.load()
    except Exception as error:
        raise _damaged(error) from error
    return image


def _damaged(error: Exception) -> UnreadableScanError:
    # whatever the decoder raises on damaged bytes: OSError, SyntaxError, ValueError, struct.error, zlib.error
    return UnreadableScanError(f"is damaged or truncated ({str(error) or type(error).__name__})", fix=_FIX)


def _depth_note(content: bytes) -> tuple[str, ...]:
    depth, color_type = content[24], content[25]  # of the IHDR chunk, which always comes first
    if depth != 16 or color_type not in _PNG_COLOR_TYPES_READ_WITH_8_BITS:
        return ()
    return ("depth-reduced: 16 bits with colour or alpha are read as 8; save it as 16-bit grey to keep them",)


def _frames_note(image: ImageFile) -> tuple[str, ...]:
    num_frames = getattr(image, "n_frames", 1)
    return () if num_frames == 1 else (f"first-frame: the first of {num_frames} frames was read",)
