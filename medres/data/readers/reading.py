"""`read_scan`: decide by content which decoder reads a file, and say which file when it cannot be read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medres.data.image import ScanImage
from medres.data.readers.arrays import read_array_scan, read_member
from medres.data.readers.formats import HEAD_BYTES, SUPPORTED, name_of, recognise
from medres.data.readers.nifti import read_gzipped_nifti, read_nifti
from medres.data.readers.pictures import read_jpeg, read_png
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError


def read_scan(
    path: Path,
    *,
    member: str | None = None,
    files: Sequence[Path] = (),
    rules: ReadingRules = ReadingRules(),  # noqa: B008  # frozen
) -> ScanImage:
    """Read one scan, whatever its format; the content counts, not the suffix.

    Args:
        path: NIfTI, PNG, JPEG or ``.npz``; or a folder or zip file that holds the DICOM files of one scan.
        member: Which image of an ``.npz`` that holds many, such as ``train_images:17``.
        files: The files of one DICOM series, where they are known.
        rules: How files become a scan.

    Raises:
        UnreadableScanError: Naming the file, what is wrong with it and what to do.
    """
    with _named(str(path)):
        if member is not None:
            return read_member(path, member)
        with path.open("rb") as stream:
            return _read(stream, num_bytes=path.stat().st_size)


def read_scan_bytes(content: bytes) -> ScanImage:
    """Read one scan from the bytes of its file, as they come over the network.

    Raises:
        UnreadableScanError: What is wrong with it and what to do.
    """
    with _named("The file"):
        return _read(io.BytesIO(content), num_bytes=len(content))


def _read(stream: BinaryIO, *, num_bytes: int) -> ScanImage:
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    match recognise(head):
        case "gzip":
            return read_gzipped_nifti(stream, num_bytes=num_bytes)
        case "nifti":
            return read_nifti(stream)
        case "png":
            return read_png(stream.read())
        case "jpeg":
            return read_jpeg(stream.read())
        case "npz":
            return read_array_scan(stream)
    raise UnreadableScanError(name_of(head), fix=f"Supported are {SUPPORTED}.")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the file's name before what a decoder says, and explain what the operating system says."""
    try:
        yield
    except UnreadableScanError as error:
        raise UnreadableScanError(f"{name} {error.problem}.", fix=error.fix, code=error.code) from error.__cause__
    except FileNotFoundError:
        raise UnreadableScanError(f"{name} does not exist.", fix="Check the path.", code="file-missing") from None
    except IsADirectoryError:
        raise UnreadableScanError(f"{name} is a folder, not a scan.", fix="Name a file in it.") from None
    except MemoryError as error:
        raise UnreadableScanError(f"{name} does not fit into memory.", fix="Crop it first.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnreadableScanError(f"{name} cannot be read: {reason}.", fix="Check the file.") from error
