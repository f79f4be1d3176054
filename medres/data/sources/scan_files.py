"""The files below a folder that may be scans, and the sample ids that stand for them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from medres.data.readers.formats import SUPPORTED, is_part_of_scan, looks_like_dicom, scan_stem, scan_suffix
from medres.data.wording import counted
from medres.errors import DataError

# what operating systems and DICOM media put beside files
_SYSTEM_NAMES = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"})
_MEDIA_INDEX = "DICOMDIR"
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
# of files with no suffix of a scan, these are not opened: a tree of NIfTI has a .json beside every scan
_OTHER_SUFFIXES = frozenset(
    f".{name}"
    for group in (
        "json csv tsv txt md rst xml html htm pdf doc docx xls xlsx xlsm ods yaml yml toml ini log bval bvec",
        "py sh m h js css jar exe dll db sqlite mat pkl pt pth safetensors h5 hdf5",
        "gif svg mp4 avi raw zraw img gz bz2 xz zst tar 7z rar part tmp lock",
    )
    for name in group.split()
)


@dataclass(frozen=True, kw_only=True)
class FolderContent:
    """What lies below a folder.

    Args:
        scans: Files that are each a scan by their suffix, absolute, sorted; DICOM excepted.
        num_hidden: Hidden files and those of the operating system, left out.
        unsupported: Other files, left out.
        dicom: Files that are DICOM by suffix or content, absolute, sorted: slices, of which several are a scan.
    """

    scans: tuple[Path, ...]
    num_hidden: int
    unsupported: tuple[Path, ...]
    dicom: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are scans or slices of scans, sorted."""
        return tuple(sorted((*self.scans, *self.dicom)))

    def note(self, *, known: Sequence[Path] = ()) -> tuple[str, ...]:
        """Return a sentence about what was left out, or nothing.

        Args:
            known: Files that are no scans and have a purpose, such as the table of labels.
        """
        others = [path for path in self.unsupported if path not in known]
        parts = [counted(self.num_hidden, "hidden file")] if self.num_hidden else []
        parts += [counted(len(others), "file") + " of other kinds"] if others else []
        were = "was" if self.num_hidden + len(others) == 1 else "were"
        return (f"{' and '.join(parts)} {were} left out; scans are {SUPPORTED}.",) if parts else ()


def walk_scans(folder: Path) -> FolderContent:
    """Return what lies below a folder; links are followed, each folder once.

    Files with the suffix of no scan are opened to see whether they are DICOM, which scanners write without a suffix;
    those with a suffix that is known to be something else are not.

    Raises:
        DataError: A folder cannot be read.
    """
    kinds: dict[str, list[Path]] = {"scan": [], "dicom": [], "other": [], "hidden": []}
    for path in _files_below(absolute(folder)):
        kinds["hidden" if is_hidden(path) else kind_of_file(path)].append(path)
    return FolderContent(
        scans=tuple(sorted(kinds["scan"])),
        num_hidden=len(kinds["hidden"]),
        unsupported=tuple(sorted(path for path in kinds["other"] if not is_part_of_scan(path))),
        dicom=tuple(sorted(kinds["dicom"])),
    )


def kind_of_file(path: Path) -> str:
    """Return whether a file is ``dicom``, a ``scan`` of another format, or ``other``.

    Example:
        >>> kind_of_file(Path("ct/p1.nii.gz")), kind_of_file(Path("ct/IM1.dcm")), kind_of_file(Path("DICOMDIR"))
        ('scan', 'dicom', 'other')
    """
    suffix = path.suffix.lower()
    if suffix in _DICOM_SUFFIXES:
        return "dicom"
    if scan_suffix(path):
        return "scan"
    if suffix in _OTHER_SUFFIXES or path.name.upper() == _MEDIA_INDEX:
        return "other"
    return "dicom" if looks_like_dicom(path) else "other"


def is_hidden(path: PurePath) -> bool:
    """Return whether a file or folder is hidden or belongs to the operating system."""
    return path.name.startswith(".") or path.name in _SYSTEM_NAMES


def absolute(path: Path) -> Path:
    """Return the path without ``..`` and ``.``, links as they are."""
    return Path(os.path.normpath(path.absolute()))


def relative_name(path: Path, root: Path) -> str:
    """Return the path below the root with forward slashes; with ``..`` where it lies elsewhere.

    Example:
        >>> relative_name(Path("/data/ct/p1.nii"), Path("/data"))
        'ct/p1.nii'
    """
    text, start = str(path), f"{root}{os.sep}"
    if text.startswith(start):  # nearly always; a data set has 100,000 files, and relpath is slow
        return PurePath(text[len(start) :]).as_posix() if os.sep != "/" else text[len(start) :]
    return Path(os.path.relpath(path, root)).as_posix()


def sample_ids(files: Sequence[tuple[str, str | None]]) -> list[str]:
    """Return unique ids: the relative path without the suffix of a scan, with it where two would be the same.

    Args:
        files: (path relative to the root, member or None), all different.

    Example:
        >>> sample_ids([("a/1.png", None), ("a/1.jpg", None), ("b/1.nii.gz", None), ("c.npz", "images:3")])
        ['a/1.png', 'a/1.jpg', 'b/1', 'c:images:3']
    """
    short = [_sample_id(_without_suffix(name), member) for name, member in files]
    ids = _with_suffix_where_repeated(short, files)
    # a kept suffix may meet a file that bears it in its stem (1.png beside 1.png.nii): then both keep theirs
    return _with_suffix_where_repeated(ids, files)


def _with_suffix_where_repeated(ids: list[str], files: Sequence[tuple[str, str | None]]) -> list[str]:
    times = Counter(ids)
    return [
        _sample_id(*file) if times[sample_id] > 1 else sample_id for sample_id, file in zip(ids, files, strict=True)
    ]


def _sample_id(name: str, member: str | None) -> str:
    return name if member is None else f"{name}:{member}"


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent / scan_stem(path)).as_posix() if scan_suffix(path) else name


def _files_below(folder: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.", fix="Check its permissions.")

    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not is_hidden(PurePath(name)))
        yield from (Path(parent, name) for name in files)
