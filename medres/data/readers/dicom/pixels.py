"""Pixels of planes: decoded, with masked bits, without padding, bright where there is much, in physical units."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medres.data.readers.dicom.codestreams import require_claimed_size
from medres.data.readers.dicom.deflated import unpacked
from medres.data.readers.dicom.elements import Dataset, raw_bytes, tag_of, text, whole
from medres.data.readers.dicom.headers import Header, explained, opened
from medres.data.readers.dicom.padding import padded_pixels
from medres.data.readers.dicom.palettes import PALETTE_KEYWORDS, palette_colors
from medres.data.readers.dicom.planes import Plane
from medres.data.readers.dicom.quiet import quietly
from medres.data.readers.limits import require_no_bomb, require_plane_size, require_reasonable_size
from medres.data.readers.nifti import scaled
from medres.errors import UnreadableScanError

Pixels = npt.NDArray[Any]

_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_KEYWORDS = [
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    *PALETTE_KEYWORDS,
]
_RLE = "1.2.840.10008.1.2.5"
_CODECS = ("libjpeg", "openjpeg", "jpeg_ls")  # what the extra dicom-codecs installs
# Values of these are physical quantities, whatever the header says about how to show them.
_QUANTITATIVE = frozenset({"CT", "PT"})
_FIX_COPY = "Copy or export the file again."


class Values(NamedTuple):
    """Decoded planes.

    Args:
        pixels: ``(N, rows, columns)``, or ``(N, rows, columns, 3)`` for colours, in physical units.
        notes: What had to be decided.
    """

    pixels: Pixels
    notes: tuple[str, ...]


def read_values(planes: Sequence[Plane]) -> Values:
    """Return the values of planes in physical units.

    Args:
        planes: Of one matrix, in the order wanted.

    Raises:
        UnreadableScanError: Pixels are missing, damaged, too many, or their decoder is not installed.
    """
    import pydicom.pixels  # noqa: F401  # with the decoders, whose logs are muted below

    with quietly():
        stored = _read_stored(planes)
    padded, notes = padded_pixels(stored, planes)
    for pixels, plane in zip(stored, planes, strict=True):
        if plane.frame.table is None:
            _invert(pixels, plane.header)
    values = stored if stored.ndim == 4 else _measured(stored, planes)
    if padded is not None:
        _fill(values, padded)
    return Values(values, notes)


def digest(plane: Plane, *, alone: bool = False) -> bytes:
    """Return a digest of a plane's values: equal for pixel-identical images.

    Args:
        plane: One of a series.
        alone: Its file is the only one, so that an error need not name it.
    """
    with _named_file(plane.header, alone=alone):
        values = np.ascontiguousarray(read_values([plane]).pixels)
    return hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).digest()


def is_inverted(header: Header) -> bool:
    """Return whether high stored values are dark and are turned round."""
    dark = header.photometric == "MONOCHROME1" or header.shown_inverted
    return dark and header.samples == 1 and header.modality not in _QUANTITATIVE


def _read_stored(planes: Sequence[Plane]) -> Pixels:
    _require_bearable(planes)
    stored: Pixels | None = None
    for index, pixels in enumerate(_decoded(planes)):
        if stored is None:
            stored = np.empty((len(planes), *pixels.shape), dtype=pixels.dtype)
        if pixels.shape != stored.shape[1:]:
            raise UnreadableScanError("has images of different sizes", fix=_FIX_COPY, code="header-damaged")
        if pixels.dtype != stored.dtype:
            stored = stored.astype(np.promote_types(pixels.dtype, stored.dtype))
        stored[index] = pixels
    assert stored is not None  # planes are never empty
    return stored


def _require_bearable(planes: Sequence[Plane]) -> None:
    """Refuse planes that are too large by what their headers claim, before any of them is read."""
    # what contradicts its file is said when its pixels are looked at, before they are believed
    planes = [plane for plane in planes if not _contradicts_its_file(plane.header)]
    num_voxels = num_bytes = 0
    for plane in planes:
        header = plane.header
        require_plane_size(header.rows, header.columns)
        size = header.rows * header.columns * header.samples
        num_voxels += size
        num_bytes += size * -(-header.bits_allocated // 8)
    packed = sum({id(plane.header): plane.header.num_bytes for plane in planes}.values())
    require_no_bomb(num_voxels, num_bytes, compressed_bytes=packed)
    require_reasonable_size(num_voxels, num_bytes)


def _contradicts_its_file(header: Header) -> bool:
    """Whether pixels that are not compressed cannot lie in so small a file."""
    plain = header.transfer_syntax in ("", _IMPLICIT, _EXPLICIT, _BIG_ENDIAN)
    return plain and _expected_bytes(header) > header.num_bytes


def _decoded(planes: Sequence[Plane]) -> Iterator[Pixels]:
    """Decode planes in order; a file is opened once for all its planes that follow each other."""
    for _, group in itertools.groupby(planes, key=lambda plane: id(plane.header)):
        wanted = list(group)
        with _named_file(wanted[0].header, alone=len(wanted) == len(planes)):
            yield from _decoded_file(wanted[0].header, [plane.frame.number for plane in wanted])


@contextmanager
def _named_file(header: Header, *, alone: bool) -> Iterator[None]:
    """Say which file of a series is at fault; the only one is named by the caller, and bytes have no name."""
    try:
        yield
    except UnreadableScanError as error:
        if alone or header.content is not None:
            raise
        found = f"holds {header.path.name}, which {error.problem}"
        raise UnreadableScanError(found, fix=error.fix, code=error.code) from error.__cause__


def _decoded_file(header: Header, numbers: list[int]) -> Iterator[Pixels]:
    dataset = _read_dataset(header)
    syntax = _transfer_syntax(dataset)
    decoder = _decoder(syntax)
    with explained():
        _require_whole(dataset, header, compressed=decoder.UID.is_encapsulated)
    # all frames in one go where all are wanted in order: a single one is found by walking through those before it
    indices = None if numbers == list(range(len(header.frames))) else numbers
    with _explained_decoding(decoder):
        for pixels, properties in decoder.iter_array(dataset, indices=indices, raw=False):
            if properties["photometric_interpretation"] == "PALETTE COLOR":
                pixels = palette_colors(pixels, dataset)
            yield _checked(pixels, str(properties["photometric_interpretation"]))


def _checked(pixels: Pixels, photometric: str) -> Pixels:
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = pixels[..., :3]  # the fourth sample is transparency
    if pixels.ndim == 3 and (pixels.shape[2] != 3 or photometric not in _COLORS):
        raise UnreadableScanError(
            f"has {pixels.shape[2]} samples a pixel that are no colours medres knows",
            fix="Export it as grey values or RGB.",
            code="not-numbers",
        )
    return pixels


_COLORS = ("RGB", "PALETTE COLOR", "YBR_RCT", "YBR_ICT", "ARGB")


def _read_dataset(header: Header) -> Dataset:
    from pydicom.filereader import read_partial

    with opened(header.path, header.content) as stream, explained():
        plain = unpacked(stream, pixel_bytes=_expected_bytes(header))
        dataset = read_partial(plain, _behind_pixels(), force=True, specific_tags=_tags())
        _fill_in(dataset, header)
    return dataset


def _behind_pixels() -> Callable[[Any, str | None, int], bool]:
    """Return the rule by which reading stops behind the pixels: what follows them is not needed, and may be a flood."""
    seen = False

    def stops(tag: Any, vr: str | None, length: int) -> bool:
        nonlocal seen
        stop, seen = seen, tag in _tags()[:3]
        return stop

    return stops


@functools.cache
def _tags() -> list[Any]:
    return [tag_of(keyword) for keyword in _KEYWORDS]


def _fill_in(dataset: Dataset, header: Header) -> None:
    """Give the decoder what headers leave out, and the number of frames as it was understood."""
    dataset.NumberOfFrames = len(header.frames)
    dataset.SamplesPerPixel = header.samples
    if not text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2" if header.samples == 1 else "RGB"
    if whole(dataset, "PixelRepresentation") is None:
        dataset.PixelRepresentation = 0
    if not whole(dataset, "BitsStored"):
        dataset.BitsStored = header.bits_allocated
    if header.samples > 1 and whole(dataset, "PlanarConfiguration") is None:
        dataset.PlanarConfiguration = 0


def _transfer_syntax(dataset: Dataset) -> str:
    named = text(dataset.file_meta, "TransferSyntaxUID")
    if named:
        return named
    implicit, little = dataset.original_encoding
    return _IMPLICIT if implicit else _EXPLICIT if little else _BIG_ENDIAN


def _decoder(syntax: str) -> Any:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        decoder = get_decoder(UID(syntax))
    except (NotImplementedError, ValueError):  # how pydicom says that it knows no such transfer syntax, or none at all
        # the name only where it is registered: a damaged file may hold anything here
        name = UID(syntax).name if UID(syntax).is_transfer_syntax else "an unknown way"
        raise UnreadableScanError(
            f"is compressed by {name}, which medres does not read",
            fix="Convert it to Explicit VR Little Endian (dcmdjpeg, gdcmconv --raw).",
            code="missing-decoder",
        ) from None
    if not decoder.is_available:
        raise _missing(decoder)
    return decoder


def _missing(decoder: Any) -> UnreadableScanError:
    return UnreadableScanError(
        f"is compressed by {decoder.UID.name}, whose decoder is not installed",
        fix='Type: pip install "medres[dicom-codecs]"',
        code="missing-decoder",
    )


class _explained_decoding:  # noqa: N801  # a context manager, used like a function
    """Turn whatever a decoder raises into one error."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, UnreadableScanError | MemoryError):
            return
        if self._decoder.UID != _RLE and not all(map(importlib.util.find_spec, _CODECS)):
            raise _missing(self._decoder) from None
        raise UnreadableScanError(
            f"holds pixels that cannot be decoded ({self._decoder.UID.name}, {type(error).__name__})",
            fix=_FIX_COPY,
            code="damaged",
        ) from None


def require_decodable(dataset: Dataset, header: Header) -> None:
    """Compare the pixels' bytes with what the header claims, and see whether their decoder is installed.

    Args:
        dataset: With its pixels, as they lie in the file.
        header: Of the same file.

    Raises:
        UnreadableScanError: Pixels are missing, cut off or of another size, or cannot be decoded.
    """
    decoder = _decoder(_transfer_syntax(dataset))
    _require_whole(dataset, header, compressed=decoder.UID.is_encapsulated)


def _require_whole(dataset: Dataset, header: Header, *, compressed: bool) -> None:
    """Compare the pixels' bytes with what the header claims, before a decoder believes it."""
    content = next(filter(None, (raw_bytes(dataset, word) for word in _KEYWORDS[:3])), None)
    if content is None:
        raise UnreadableScanError("holds no pixels", fix="Name the folder of the images.", code="no-pixels")
    declared, expected = _declared_bytes(dataset), _expected_bytes(header)
    if compressed:
        _require_possible_runs(dataset, content, expected)
        require_claimed_size(content, header)
        return
    if len(content) < declared:
        raise UnreadableScanError(
            f"is truncated: it holds {len(content):,} of {declared:,} bytes of pixels", fix=_FIX_COPY, code="truncated"
        )
    row_bytes = max(2, expected // (header.rows * len(header.frames)))
    if not expected <= len(content) < expected + row_bytes + _SPARE_BYTES:
        raise UnreadableScanError(
            f"claims {header.rows} x {header.columns} pixels in {len(header.frames)} images, {expected:,} bytes, "
            f"and holds {len(content):,}",
            fix="Its header is damaged: export it again.",
            code="header-damaged",
        )


def _require_possible_runs(dataset: Dataset, content: bytes, expected: int) -> None:
    """Refuse run-length codes that cannot make so many pixels: two bytes of PackBits stand for at most 128."""
    if _transfer_syntax(dataset) == _RLE and expected > _MAX_RUN_RATIO * len(content):
        raise UnreadableScanError(
            f"claims {expected:,} bytes of pixels, more than {len(content):,} bytes of run lengths hold",
            fix=_FIX_COPY,
            code="truncated",
        )


_MAX_RUN_RATIO = 64

# Some writers fill the last element up to a block; a row more would say that the matrix is another.
_SPARE_BYTES = 128


def _declared_bytes(dataset: Dataset) -> int:
    for tag in _tags()[:3]:
        if tag in dataset:
            return int(getattr(dataset.get_item(tag), "length", 0))
    return 0


def _expected_bytes(header: Header) -> int:
    num_bits = header.rows * header.columns * header.samples * len(header.frames) * header.bits_allocated
    if header.photometric == "YBR_FULL_422":
        num_bits = num_bits * 2 // 3
    return (num_bits + 7) // 8


def _invert(pixels: Pixels, header: Header) -> None:
    if not is_inverted(header) or pixels.dtype.kind not in "iu":
        return
    top = -1 if header.signed else 2**header.bits_stored - 1
    np.subtract(pixels.dtype.type(top), pixels, out=pixels)


def _measured(stored: Pixels, planes: Sequence[Plane]) -> Pixels:
    """Return what stored values mean: by the rescale factors of each plane, or by its table."""
    scales = {(plane.frame.slope, plane.frame.intercept, plane.frame.table) for plane in planes}
    slope, intercept, table = scales.pop()
    if not scales and table is None:
        return scaled(stored, slope=slope, intercept=intercept)
    slices = [_measured_plane(pixels, plane) for pixels, plane in zip(stored, planes, strict=True)]
    return np.stack(slices).astype(np.result_type(*slices), copy=False)


def _measured_plane(pixels: Pixels, plane: Plane) -> Pixels:
    frame = plane.frame
    if frame.table is None:
        return scaled(pixels, slope=frame.slope, intercept=frame.intercept)
    if pixels.dtype.kind not in "iu":
        raise UnreadableScanError(
            "has a Modality LUT for pixels that are no whole numbers", fix=_FIX_COPY, code="header-damaged"
        )
    # what is bright is said of the values that the table gives, not of those that are stored
    table = frame.table.inverted() if is_inverted(plane.header) else frame.table
    return table.apply(pixels)


def _fill(values: Pixels, padded: npt.NDArray[np.bool_]) -> None:
    """Give padding the lowest value that was measured: -2000 around a CT is no density, and looks like damage."""
    top = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else np.inf
    # slice by slice: the whole at once would copy the volume
    lowest = [pixels.min(where=~mask, initial=top) for pixels, mask in zip(values, padded, strict=True)]
    if not padded.all():
        values[padded] = min(lowest)
