"""The scan files below a folder, and the sample ids that stand for them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from medres.data.readers.formats import SUPPORTED, scan_stem, scan_suffix
from medres.data.wording import counted
from medres.errors import DataError

# what operating systems put beside files
_SYSTEM_NAMES = frozenset({"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True, kw_only=True)
class FolderContent:
    """What lies below a folder.

    Args:
        scans: Files with the suffix of a scan, absolute, sorted.
        num_hidden: Hidden files and those of the operating system, left out.
        unsupported: Other files, left out.
    """

    scans: tuple[Path, ...]
    num_hidden: int
    unsupported: tuple[Path, ...]

    def note(self, *, known: Sequence[Path] = ()) -> tuple[str, ...]:
        """Return a sentence about what was left out, or nothing.

        Args:
            known: Files that are no scans and have a purpose, such as the table of labels.
        """
        others = [path for path in self.unsupported if path not in known]
        parts = [counted(self.num_hidden, "hidden file")] if self.num_hidden else []
        parts += [counted(len(others), "file") + " of other kinds"] if others else []
        return (f"{' and '.join(parts)} were left out; scans are {SUPPORTED}.",) if parts else ()


def walk_scans(folder: Path) -> FolderContent:
    """Return what lies below a folder; links are followed, each folder once.

    Raises:
        DataError: A folder cannot be read.
    """
    scans: list[Path] = []
    unsupported: list[Path] = []
    num_hidden = 0
    for path in _files_below(absolute(folder)):
        if is_hidden(path):
            num_hidden += 1
        else:
            (scans if scan_suffix(path) else unsupported).append(path)
    return FolderContent(scans=tuple(sorted(scans)), num_hidden=num_hidden, unsupported=tuple(sorted(unsupported)))


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
