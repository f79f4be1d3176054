"""The second file of a scan in two files: it lies beside its header, or it is not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from medres.errors import UnreadableScanError


@contextmanager
def open_beside(header: Path, names: Sequence[str]) -> Iterator[BinaryIO]:
    """Open the first of the named files that lies in the folder of a header.

    Args:
        header: A file.
        names: Plain file names; a header that names a file elsewhere could make medres read any file.

    Raises:
        UnreadableScanError: A name is a path, or there is no such file.
    """
    for name in names:
        require_plain_name(name)
    there = [header.with_name(name) for name in names if header.with_name(name).is_file()]
    if not there:
        raise UnreadableScanError(
            f"is a header, and its voxels are missing: {names[0]} is not beside it",
            fix="Copy both files into one folder.",
            code="file-missing",
        )
    with there[0].open("rb") as stream:
        yield stream


def require_plain_name(name: str) -> None:
    """Refuse what is a path, absolute or relative, on any operating system.

    Raises:
        UnreadableScanError: It is none, or empty.

    Example:
        >>> require_plain_name("scan.raw")
    """
    parts = {PurePosixPath(name).name, PureWindowsPath(name).name}
    if not name or parts != {name} or name in (".", "..") or "\0" in name or ":" in name:
        raise UnreadableScanError(
            "is a header that names a file in another folder, which is not followed",
            fix="Put both files into one folder and the plain file name into the header.",
            code="header-damaged",
        )
