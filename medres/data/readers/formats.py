"""Which files may be scans (by suffix) and what a file holds (by content)."""

from __future__ import annotations

import struct
from pathlib import PurePath
from typing import Literal

#: Suffixes of the files that a folder is searched for; case does not matter.
SCAN_SUFFIXES: tuple[str, ...] = (".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".npz")

#: The same for people.
SUPPORTED = "NIfTI (.nii, .nii.gz), PNG, JPEG and NumPy .npz"

#: Bytes of a file's beginning that `recognise` needs.
HEAD_BYTES = 352

FileFormat = Literal["gzip", "nifti", "png", "jpeg", "npz"]


def scan_suffix(path: PurePath) -> str:
    """Return the suffix of a scan as it is written, or an empty text where the file is not one.

    Example:
        >>> scan_suffix(PurePath("ct/p1.v2.NII.GZ"))
        '.NII.GZ'
        >>> scan_suffix(PurePath("notes.txt"))
        ''
    """
    lower = path.name.lower()
    length = max((len(suffix) for suffix in SCAN_SUFFIXES if lower.endswith(suffix)), default=0)
    return path.name[len(path.name) - length :] if length < len(path.name) else ""


def scan_stem(path: PurePath) -> str:
    """Return a file's name without the suffix of a scan; any other dot belongs to the name.

    Example:
        >>> scan_stem(PurePath("ct/p1.v2.nii.gz"))
        'p1.v2'
    """
    return path.name[: len(path.name) - len(scan_suffix(path))]


def recognise(head: bytes) -> FileFormat | None:
    """Return what a file holds.

    Args:
        head: Its first `HEAD_BYTES` bytes (fewer where it is shorter).
    """
    for magic, file_format in _MAGIC.items():
        if head.startswith(magic):
            return file_format
    return "nifti" if _is_nifti(head) else None


def name_of(head: bytes) -> str:
    """Return what an unsupported file seems to be, for the error message."""
    if not head:
        return "is empty (0 bytes)"
    if head[128:132] == b"DICM":
        return "is a DICOM file"
    if len(head) >= 4 and 348 in (*struct.unpack("<i", head[:4]), *struct.unpack(">i", head[:4])):
        return "begins like NIfTI, but its header is damaged or Analyze 7.5"
    known = (name for magic, name in _UNSUPPORTED.items() if head.startswith(magic))
    return next(known, "is no known scan format")


def _is_nifti(head: bytes) -> bool:
    # the magic alone decides: a header whose length field lies is refused by the reader, with its own message
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")


_MAGIC: dict[bytes, FileFormat] = {
    b"\x1f\x8b": "gzip",
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"PK\x03\x04": "npz",
    b"PK\x05\x06": "npz",
}
_UNSUPPORTED = {
    b"NRRD": "is an NRRD file",
    b"ObjectType": "is a MetaImage (MHA) file",
    b"BM": "is a BMP image",
    b"GIF8": "is a GIF image",
    b"II*\0": "is a TIFF image",
    b"MM\0*": "is a TIFF image",
    b"RIFF": "is a WebP image",
    b"\x93NUMPY": "is a single NumPy .npy array",
    b"\x89HDF": "is an HDF5 file",
    b"CDF": "is a MINC (netCDF) file",
}
