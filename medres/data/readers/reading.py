"""`read_scan`: decide by content which decoder reads a file, and say which file when it cannot be read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medres.data.image import ScanImage
from medres.data.readers import dicom
from medres.data.readers.arrays import holds_arrays, read_array_file, read_array_scan, read_member
from medres.data.readers.formats import HEAD_BYTES, FileFormat, name_of, recognise, way_out
from medres.data.readers.gzipped import gunzipped, inflate
from medres.data.readers.limits import expecting, require_memory
from medres.data.readers.metaimage import read_metaimage
from medres.data.readers.mgh import read_mgh
from medres.data.readers.nifti import read_nifti
from medres.data.readers.nrrd import read_nrrd
from medres.data.readers.pairs import read_pair
from medres.data.readers.pictures import read_bmp, read_jpeg, read_png, read_tiff
from medres.data.readers.rules import ReadingRules
from medres.errors import MedresError, UnreadableScanError


def read_scan(
    path: Path,
    *,
    member: str | None = None,
    files: Sequence[Path] = (),
    rules: ReadingRules = ReadingRules(),  # noqa: B008  # frozen
) -> ScanImage:
    """Read one scan, whatever its format; the content counts, not the suffix.

    Args:
        path: A file of any supported format; or a folder or zip file that holds the DICOM files of one scan.
        member: Which image of an ``.npz`` that holds many, such as ``train_images:17``.
        files: The files of one DICOM series, where they are known; `path` then only names them.
        rules: How files become a scan.

    Raises:
        UnreadableScanError: Naming the file, what is wrong with it and what to do.
    """
    with _named(str(path)), expecting(mask=rules.takes_segmentations):
        if files:
            return dicom.read_series(files, rules=rules)
        if path.is_dir():
            return dicom.read_study(path, rules=rules)
        if member is not None:
            return read_member(path, member)
        with path.open("rb") as stream:
            return _read(stream, num_bytes=path.stat().st_size, path=path, rules=rules)


def read_scan_bytes(
    content: bytes,
    *,
    rules: ReadingRules = ReadingRules(),  # noqa: B008  # frozen
) -> ScanImage:
    """Read one scan from the bytes of its file, as they come over the network; nothing is written to disk.

    Args:
        content: A file of any supported format that is one file; a zip file of a DICOM series.
        rules: How files become a scan.

    Raises:
        UnreadableScanError: What is wrong with it and what to do.
    """
    with _named("The file"), expecting(mask=rules.takes_segmentations):
        return _read(io.BytesIO(content), num_bytes=len(content), path=None, rules=rules)


def _read(stream: BinaryIO, *, num_bytes: int, path: Path | None, rules: ReadingRules) -> ScanImage:
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    kind = recognise(head)
    if kind == "gzip":
        return _read_gzipped(stream, num_bytes=num_bytes, path=path, rules=rules)
    return _decode(stream, head, kind, num_bytes=num_bytes, path=path, rules=rules)


def _read_gzipped(stream: BinaryIO, *, num_bytes: int, path: Path | None, rules: ReadingRules) -> ScanImage:
    with gunzipped(stream) as unpacked:
        head = unpacked.peek(HEAD_BYTES)[:HEAD_BYTES]
        match kind := recognise(head):
            case "nifti":
                return read_nifti(unpacked, volume=rules.volume, compressed_bytes=num_bytes)
            case "mgh":
                return read_mgh(unpacked, volume=rules.volume, compressed_bytes=num_bytes)
            case "npy":
                return read_array_file(unpacked, compressed_bytes=num_bytes)
            case "pair":
                return read_pair(unpacked, path, volume=rules.volume)
            case None | "gzip" | "zip":  # nothing is packed twice in earnest
                code = "unknown-format" if head else "empty-file"
                name = name_of(head) if kind is None else f"is packed once more ({kind})"
                raise UnreadableScanError(f"is a gzip file, and what it holds {name}", fix=way_out(head), code=code)
        content = inflate(unpacked, compressed_bytes=num_bytes)
    return _decode(io.BytesIO(content), head, kind, num_bytes=len(content), path=path, rules=rules)


def _decode(
    stream: BinaryIO, head: bytes, kind: FileFormat | None, *, num_bytes: int, path: Path | None, rules: ReadingRules
) -> ScanImage:
    folder = path.parent if path is not None else None
    match kind:
        case "nifti":
            return read_nifti(stream, volume=rules.volume)
        case "pair":
            return read_pair(stream, path, volume=rules.volume)
        case "mgh":
            return read_mgh(stream, volume=rules.volume)
        case "nrrd":
            return read_nrrd(stream, num_bytes=num_bytes, folder=folder, volume=rules.volume)
        case "metaimage":
            return read_metaimage(stream, num_bytes=num_bytes, folder=folder, volume=rules.volume)
        case "npy":
            return read_array_file(stream)
        case "zip":
            return _read_zip(stream, path, rules)
    require_memory(num_bytes)
    return _decode_bytes(stream.read(), head, kind, rules)


def _read_zip(stream: BinaryIO, path: Path | None, rules: ReadingRules) -> ScanImage:
    if holds_arrays(stream):
        return read_array_scan(stream)
    return dicom.read_dicom_zip(path if path is not None else stream.read(), rules=rules)


def _decode_bytes(content: bytes, head: bytes, kind: FileFormat | None, rules: ReadingRules) -> ScanImage:
    match kind:
        case "dicom":
            return dicom.read_dicom_bytes(content, rules=rules)
        case "png":
            return read_png(content)
        case "jpeg":
            return read_jpeg(content)
        case "tiff":
            return read_tiff(content)
        case "bmp":
            return read_bmp(content)
    code = "unknown-format" if head else "empty-file"
    raise UnreadableScanError(name_of(head), fix=way_out(head), code=code)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the file's name before what a decoder says, and explain what the operating system says."""
    try:
        yield
    except UnreadableScanError as error:
        raise UnreadableScanError(f"{name} {error.problem}.", fix=error.fix, code=error.code) from error.__cause__
    except FileNotFoundError as error:
        gone = error.filename or name  # one of the files of a series
        raise UnreadableScanError(f"{gone} does not exist.", fix="Check the path.", code="file-missing") from None
    except MemoryError as error:
        raise UnreadableScanError(
            f"{name} does not fit into memory.", fix="Crop it first.", code="too-large"
        ) from error
    except MedresError:
        raise
    except OSError as error:
        refused = f"{error.filename or name} cannot be read: {error.strerror or error}."
        raise UnreadableScanError(refused, fix="Check the file and its permissions.", code="file-refused") from error
    except Exception as error:  # a decoder met damage that it does not know: no reason to stop a check of 1,000 files
        found = f"{name} is damaged in a way that its reader did not expect ({type(error).__name__})."
        raise UnreadableScanError(found, fix="Copy or export it again; --debug shows more.", code="damaged") from error
