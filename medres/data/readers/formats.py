"""Which files may be scans (by suffix) and what a file holds (by content)."""

from __future__ import annotations

import re
import struct
from pathlib import Path, PurePath
from typing import Literal

from medres.data.readers.dicom import is_dicom

_GZIPPED = (".nii", ".hdr", ".nrrd", ".mha", ".mgh", ".dcm", ".npy")

#: Suffixes of the files that a folder is searched for; case does not matter. DICOM files need none: `looks_like_dicom`.
SCAN_SUFFIXES: tuple[str, ...] = (
    *(".dcm", ".ima", ".dicom", ".zip"),
    *(".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz"),
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npz", ".npy"),
    *(f"{suffix}.gz" for suffix in _GZIPPED),
)

#: The same for people.
SUPPORTED = (
    "DICOM (also zipped), NIfTI (.nii, .nii.gz, .hdr + .img), NRRD, MetaImage (.mha, .mhd), Analyze, MGH (.mgh, .mgz), "
    "PNG, JPEG, TIFF, BMP and NumPy (.npz, .npy)"
)

#: Bytes of a file's beginning that `recognise` needs.
HEAD_BYTES = 352

FileFormat = Literal[
    "gzip", "zip", "dicom", "nifti", "pair", "nrrd", "metaimage", "mgh", "png", "jpeg", "tiff", "bmp", "npy"
]


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


def is_part_of_scan(path: Path) -> bool:
    """Return whether a file holds the voxels of a header beside it: ``a.img`` of ``a.hdr``, ``a.raw`` of ``a.mhd``.

    Args:
        path: Any file; it is not opened, the header only looked for.
    """
    lower = path.name.lower()
    for suffix, headers in _HEADERS_OF.items():
        if lower.endswith(suffix):
            stem = path.name[: len(path.name) - len(suffix)]
            names = (f"{stem}{header}" for header in headers)
            return any(path.with_name(name).is_file() for lower in names for name in (lower, lower.upper()))
    return False


def looks_like_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its first 352 bytes, whatever its name; False where it cannot be read.

    Args:
        path: Any file.
    """
    try:
        with path.open("rb") as file:
            return recognise(file.read(HEAD_BYTES)) == "dicom"
    except OSError:
        return False


def recognise(head: bytes) -> FileFormat | None:
    """Return what a file holds.

    Args:
        head: Its first `HEAD_BYTES` bytes (fewer where it is shorter).
    """
    if head[128:132] == b"DICM":  # a file may be DICOM and TIFF at once; its preamble is never trusted
        return "dicom"
    for magic, file_format in _MAGIC.items():
        if head.startswith(magic):
            return file_format
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "nifti" if head[345:346] == b"+" else "pair"
    if _METAIMAGE.match(head):
        return "metaimage"
    if _is_analyze(head):
        return "pair"
    if _is_mgh(head):
        return "mgh"
    return "dicom" if is_dicom(head) else None


def name_of(head: bytes) -> str:
    """Return what an unsupported file seems to be, for the error message."""
    if not head:
        return "is empty (0 bytes)"
    if _begins_with_348(head):
        return "begins like NIfTI, but its header is damaged"
    return next(
        (name for magic, (name, _) in _UNSUPPORTED.items() if head.startswith(magic)), "is no known scan format"
    )


def way_out(head: bytes) -> str:
    """Return what to do with an unsupported file."""
    if not head:
        return "Copy it again."
    ways = (way for magic, (_, way) in _UNSUPPORTED.items() if head.startswith(magic) and way)
    return next(ways, f"Supported are {SUPPORTED}.")


def _is_analyze(head: bytes) -> bool:
    if not _begins_with_348(head) or len(head) < 348:
        return False
    order = "<" if struct.unpack("<i", head[:4])[0] == 348 else ">"
    return bool(1 <= struct.unpack(f"{order}h", head[40:42])[0] <= 7)


def _begins_with_348(head: bytes) -> bool:
    return head[:4] in (struct.pack("<i", 348), struct.pack(">i", 348))


def _is_mgh(head: bytes) -> bool:
    # version 1, four sizes that are positive, a known type; big-endian
    if len(head) < 284 or head[:4] != b"\0\0\0\1":
        return False
    *sizes, kind = struct.unpack(">5i", head[4:24])
    return min(sizes) > 0 and kind in (0, 1, 3, 4, 10)


_METAIMAGE = re.compile(rb"\s*(ObjectType|ObjectSubType|NDims|Comment)\s*=")
_HEADERS_OF = {
    ".img": (".hdr",),
    ".img.gz": (".hdr.gz", ".hdr"),
    ".raw": (".mhd", ".nhdr"),
    ".zraw": (".mhd",),
    ".raw.gz": (".nhdr",),
    ".raw.bz2": (".nhdr",),
}
_MAGIC: dict[bytes, FileFormat] = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"BM": "bmp",
    b"\x93NUMPY": "npy",
    b"NRRD000": "nrrd",
    struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n": "nifti",
    struct.pack(">i", 540) + b"n+2\0\r\n\x1a\n": "nifti",
    struct.pack("<i", 540) + b"ni2\0\r\n\x1a\n": "pair",
    struct.pack(">i", 540) + b"ni2\0\r\n\x1a\n": "pair",
}
_UNSUPPORTED = {
    b"GIF8": ("is a GIF image", "Save it as PNG."),
    b"RIFF": ("is a WebP image", "Save it as PNG."),
    b"II+\0": ("is a BigTIFF image", "Save it as an ordinary TIFF."),
    b"MM\0+": ("is a BigTIFF image", "Save it as an ordinary TIFF."),
    b"\0\0\0\x0cjP  ": ("is a JPEG 2000 image", "Save it as PNG."),
    b"\x89HDF": ("is an HDF5 file (MINC 2, MATLAB 7.3, ...)", "Convert MINC to NIfTI with mnc2nii, others by hand."),
    b"CDF": ("is a MINC (netCDF) file", "Convert it to NIfTI with mnc2nii."),
    b"MATLAB": ("is a MATLAB file", "Save the volume and its spacing as NIfTI (niftiwrite)."),
    b"# === DATA DESCRIPTION FILE": ("is a Philips PAR file", "Convert it to NIfTI with dcm2niix."),
    b"\ntype": ("seems to be an AFNI header", "Convert it to NIfTI with 3dAFNItoNIFTI."),
    b"%PDF": ("is a PDF document", ""),
    b"\x80\x04": ("is a Python pickle, which is never loaded", "Save the voxels as .npz or NIfTI."),
}
