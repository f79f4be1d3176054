"""NumPy ``.npz`` and ``.npy``: one scan a file, or one member (``train_images:17``) of a MedMNIST file. No pickles."""

from __future__ import annotations

import math
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from medres.data.image import ScanImage
from medres.data.readers.blocks import Part, read_block
from medres.data.readers.limits import require_reasonable_size
from medres.data.readers.placement import Placement, place_volume, plausible_spacing
from medres.data.readers.voxels import make_image
from medres.data.readers.zips import ZIP_ERRORS
from medres.errors import UnreadableScanError

Array = npt.NDArray[Any]

#: Inflated arrays that are kept for the next member; the one in use is kept whatever its size.
MAX_CACHED_BYTES = 2**30

_GEOMETRY = ("spacing", "affine")
_FIX_COPY = "Copy or export the file again."


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of the arrays of an ``.npz``, from their headers alone.

    Raises:
        UnreadableScanError: It is no ``.npz`` or holds Python objects.
    """
    with _archive(path) as archive:
        return {name: _header(archive, name)[0] for name in _names(archive)}


def read_array(path: Path, name: str) -> Array:
    """Return one whole array of an ``.npz``; its checksum is compared.

    Raises:
        UnreadableScanError: There is no such array, or it is damaged, too large or holds Python objects.
    """
    with _archive(path) as archive:
        return _load(archive, name)


def read_array_scan(stream: BinaryIO) -> ScanImage:
    """Read an ``.npz`` that is one scan.

    The array may bear any name if it is the only one, else it is ``image``. Arrays ``affine`` (4x4, index to
    RAS mm) and ``spacing`` (mm, one a spatial axis) beside it are honoured. Axes of length 1 at either end are
    left out; a last axis of 3 with 8 or 16 bits is colour.

    Raises:
        UnreadableScanError: It cannot be read as one scan.
    """
    with _archive(stream) as archive:
        names = _names(archive)
        name = _image_name(names)
        voxels = _without_ones(_load(archive, name))
        geometry = {key: _load(archive, key) for key in _GEOMETRY if key in names}
    place = _placement(geometry, num_axes=voxels.ndim - 1)
    return make_image(voxels, affine=place.affine, spacing_mm=place.spacing_mm, notes=place.notes)


def read_member(path: Path, member: str) -> ScanImage:
    """Read one image of an array of images, such as ``train_images:17``.

    Raises:
        UnreadableScanError: There is no such member, or the file cannot be read.
    """
    name, _, position = member.rpartition(":")
    if not name or not position.isdecimal():
        raise UnreadableScanError(
            f"has no member {member!r}", fix="Members are named like 'train_images:17'.", code="file-missing"
        )
    images = _ARRAYS.get(path, name)
    if int(position) >= len(images):
        found = f"has no member {member!r}: '{name}' holds {len(images)} images"
        raise UnreadableScanError(found, code="file-missing")
    image = images[int(position)]
    return make_image(np.array(_channels_first(image)))  # a copy: a view would keep the whole array in memory


def read_array_file(stream: BinaryIO, *, compressed_bytes: int | None = None) -> ScanImage:
    """Read an ``.npy`` that is one scan, by the rules of `read_array_scan`; where it lies is then unknown.

    Args:
        stream: At its beginning, unpacked.
        compressed_bytes: Size of the gzip file that the stream unpacks, or None.

    Raises:
        UnreadableScanError: It cannot be read as one scan.
    """
    shape, fortran_order, dtype = _read_header(stream)
    stored = read_block(stream, dtype=dtype, part=Part(shape=shape), compressed_bytes=compressed_bytes, max_trailing=0)
    return make_image(_without_ones(stored.reshape(shape, order="F" if fortran_order else "C")))


def holds_arrays(stream: BinaryIO) -> bool:
    """Return whether a zip file is an ``.npz``, by the names in it; the stream is put back to its beginning.

    Raises:
        UnreadableScanError: It is no zip file or damaged.
    """
    with _archive(stream) as archive:
        found = any(name.endswith(".npy") for name in archive.namelist())
    stream.seek(0)
    return found


class _ArrayCache:
    """Inflated arrays by file and name: reading all members inflates each array once; thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._arrays: OrderedDict[tuple[str, str, int, int], Array] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, name: str) -> Array:
        """Return one array; a second thread that asks for it waits for the first."""
        status = path.stat()
        key = (str(path), name, status.st_size, status.st_mtime_ns)
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = read_array(path, name)
            self._arrays.move_to_end(key)
            self._drop_oldest()
            return self._arrays[key]

    def _drop_oldest(self) -> None:
        while len(self._arrays) > 1 and sum(array.nbytes for array in self._arrays.values()) > self._max_bytes:
            self._arrays.popitem(last=False)


_ARRAYS = _ArrayCache(MAX_CACHED_BYTES)


@contextmanager
def _archive(source: Path | BinaryIO) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    except ZIP_ERRORS as error:
        raise UnreadableScanError(f"is damaged or no zip file ({error})", fix=_FIX_COPY, code="damaged") from error


def _names(archive: zipfile.ZipFile) -> tuple[str, ...]:
    names = tuple(name[: -len(".npy")] for name in archive.namelist() if name.endswith(".npy"))
    if not names:
        raise UnreadableScanError(
            "is a zip file without NumPy arrays",
            fix="Unpack it, or save the scan with numpy.savez_compressed.",
            code="unknown-format",
        )
    return names


def _image_name(names: Sequence[str]) -> str:
    images = [name for name in names if name not in _GEOMETRY]
    if len(images) == 1:
        return images[0]
    if "image" in images:
        return "image"
    raise UnreadableScanError(
        f"holds the arrays {', '.join(sorted(names)) or 'none'}, and none of them is named 'image'",
        fix="Name the scan's array 'image'. A MedMNIST file is given to --data as it is.",
        code="several-volumes",
    )


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with _member(archive, name) as file:
        shape, _, dtype = _read_header(file)
        return shape, dtype


def _load(archive: zipfile.ZipFile, name: str) -> Array:
    with _member(archive, name) as file:
        shape, fortran_order, dtype = _read_header(file)
        info = archive.getinfo(f"{name}.npy")
        compressed = None if info.compress_type == zipfile.ZIP_STORED else info.compress_size
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes > info.file_size:
            raise UnreadableScanError(
                f"claims {num_bytes:,} bytes for the array '{name}', which has {info.file_size:,}",
                fix=_FIX_COPY,
                code="truncated",
            )
        require_reasonable_size(math.prod(shape), num_bytes, compressed_bytes=compressed)
        values = np.empty(math.prod(shape), dtype=dtype)
        _read_into(file, values.view(np.uint8).data, name)
    return values.reshape(shape, order="F" if fortran_order else "C")


def _read_into(file: IO[bytes], target: memoryview, name: str) -> None:
    filled = 0
    while filled < len(target):
        block = file.read(min(2**24, len(target) - filled))
        if not block:
            raise UnreadableScanError(f"is truncated inside the array '{name}'", fix=_FIX_COPY, code="truncated")
        target[filled : filled + len(block)] = block
        filled += len(block)
    if file.read(1):  # at the end of the member zipfile compares its CRC
        found = f"holds more bytes than the array '{name}' claims"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged")


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    try:
        with archive.open(f"{name}.npy") as file:
            yield file
    except KeyError:
        there = f"It holds {', '.join(_names(archive))}."
        raise UnreadableScanError(f"holds no array '{name}'", fix=there, code="file-missing") from None


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
    except Exception as error:  # numpy parses the header as Python: ValueError, SyntaxError, TokenError, ...
        found = f"holds an array whose header is damaged ({type(error).__name__})"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged") from error
    if dtype.hasobject or dtype.names:
        found = "holds Python objects, which are never unpickled"
        raise UnreadableScanError(found, fix="Save plain numbers.", code="not-numbers")
    if dtype.itemsize == 0 or any(int(size) < 0 for size in shape):
        found = "holds an array whose header is damaged (its sizes)"
        raise UnreadableScanError(found, fix=_FIX_COPY, code="header-damaged")
    return tuple(int(size) for size in shape), bool(fortran_order), dtype


def _without_ones(values: Array) -> Array:
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    return _channels_first(values)


def _channels_first(values: Array) -> Array:
    """Return an image or volume as ``(C, *spatial)``."""
    if values.size == 0 or values.ndim not in (2, 3):
        raise UnreadableScanError(
            f"holds an array of shape {values.shape}: neither an image (2 axes) nor a volume (3 axes)",
            fix="Save one image or volume a file.",
            code="no-voxels" if values.size == 0 or values.ndim < 2 else "several-volumes",
        )
    if values.ndim == 3 and values.shape[-1] == 3 and values.dtype in (np.uint8, np.uint16):
        return np.moveaxis(values, -1, 0)
    return values[np.newaxis]


def _placement(geometry: dict[str, Array], *, num_axes: int) -> Placement:
    for key, value in geometry.items():
        if value.dtype.kind not in "uif":
            raise UnreadableScanError(f"has an array '{key}' that is not numbers", fix=_FIX_COPY, code="not-numbers")
    place = Placement()
    if "affine" in geometry and num_axes == 3:
        place = place_volume(geometry["affine"].astype(np.float64))
    if "spacing" not in geometry:
        return place
    spacing = _given_spacing(geometry["spacing"], num_axes=num_axes)
    if place.spacing_mm is None:
        return Placement(spacing_mm=spacing)
    if not np.allclose(place.spacing_mm, spacing, rtol=0.01):
        found = f"has the spacing {list(spacing)}, but its affine says {list(place.spacing_mm)}"
        raise UnreadableScanError(found, fix="Save one of them.", code="header-damaged")
    return place


def _given_spacing(values: Array, *, num_axes: int) -> tuple[float, ...]:
    spacing = plausible_spacing(values.ravel().tolist())
    if spacing is None or len(spacing) != num_axes:
        fix = f"Give {num_axes} sizes in mm, one a spatial axis."
        raise UnreadableScanError(f"has the spacing {values.tolist()}", fix=fix, code="header-damaged")
    return spacing
