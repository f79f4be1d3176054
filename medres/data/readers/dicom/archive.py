"""`read_dicom_zip`: a zip of DICOM files, read in memory; nothing goes to disk, no name is used as a path."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from medres.data.image import ScanImage
from medres.data.readers.budget import claim
from medres.data.readers.dicom.grouping import grouped
from medres.data.readers.dicom.headers import Header, read_header
from medres.data.readers.dicom.reading import read_chosen
from medres.data.readers.limits import MAX_DEFLATE_RATIO, is_bomb, require_memory
from medres.data.readers.rules import ReadingRules
from medres.data.readers.zips import ZIP_ERRORS, is_encrypted
from medres.errors import UnreadableScanError

# A whole-body CT has 3,000 slices; a study of ten such series is far above what is sent as one scan.
_MAX_FILES = 20_000
# What is unpacked is held in memory.
_MAX_BYTES = 4 * 2**30
_LARGE = "too-large"
_ZIP_OR_FILE_ERRORS: tuple[type[Exception], ...] = (UnreadableScanError, OSError, *ZIP_ERRORS)
_FIX = "Pack the DICOM files of one study into a plain zip file."


def read_dicom_zip(source: Path | bytes, *, rules: ReadingRules) -> ScanImage:
    """Read the scan in a zip file of DICOM files.

    Args:
        source: The file or its bytes.
        rules: How files become a scan.

    Raises:
        UnreadableScanError: It is damaged, a bomb, encrypted, or holds no scan or more than one patient.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            headers = list(_headers(archive))
    except ZIP_ERRORS as error:
        if is_encrypted(error):
            raise UnreadableScanError("is an encrypted zip file", fix=_FIX, code="unreadable") from None
        raise UnreadableScanError(f"is a damaged zip file ({type(error).__name__})", fix=_FIX, code="damaged") from None
    return read_chosen(grouped(headers), rules=rules)


def patient_of_zip(path: Path) -> str:
    """Return the PatientID of the first DICOM file in a zip file.

    Empty where it has none or the file cannot be read: reading the scan says why, and refuses a zip of two patients.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            first = next(_headers(archive), None)
    except _ZIP_OR_FILE_ERRORS:
        return ""
    return first.patient_id if first is not None else ""


def _headers(archive: zipfile.ZipFile) -> Iterator[Header]:
    # by hand: `is_dir` fails for a damaged archive whose member has no name
    members = [member for member in archive.infolist() if not member.filename.endswith("/")]
    _require_bounded(members)
    for index, member in enumerate(members):
        # zipfile stops at the size that was checked, and compares the checksum
        header = read_header(Path(f"{index:06d}"), archive.read(member))
        if header is not None:
            yield header


def _require_bounded(members: list[zipfile.ZipInfo]) -> None:
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    ratio = total / max(packed, 1)
    if len(members) > _MAX_FILES:
        raise UnreadableScanError(f"holds {len(members):,} files, the limit is {_MAX_FILES:,}", fix=_FIX, code=_LARGE)
    if total > _MAX_BYTES:
        raise UnreadableScanError(f"unpacks to {total:,} bytes, the limit is {_MAX_BYTES:,}", fix=_FIX, code=_LARGE)
    # headers and pixels of a series shrink 2:1 to 30:1, an empty slice 200:1
    if ratio > MAX_DEFLATE_RATIO or is_bomb(total, compressed_bytes=max(packed, 1)):
        raise UnreadableScanError(
            f"unpacks {packed:,} bytes to {total:,}, as a decompression bomb does", fix=_FIX, code="decompression-bomb"
        )
    require_memory(total)
    claim(total)
