"""A refused command leaves the disk as it found it.

Each of these acts where its block raises a `MedresError`, and does nothing otherwise. What another process may have
begun to use meanwhile is left alone: a folder goes only where it is empty, or where the caller holds its lock.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medres.errors import MedresError


@contextmanager
def folders_as_found(*folders: Path) -> Iterator[None]:
    """Remove the folders, and those above them, that were not there before and are empty.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp())
        >>> with suppress(MedresError), folders_as_found(place / "runs" / "x"):
        ...     (place / "runs" / "x").mkdir(parents=True)
        ...     raise MedresError("No scan is labelled.")
        >>> list(place.iterdir())
        []
    """
    paths = [folder.absolute() for folder in folders]
    absent = {path for given in paths for path in (given, *given.parents) if not path.exists()}
    try:
        yield
    except MedresError:
        for path in sorted(absent, key=lambda path: len(path.parts), reverse=True):
            with suppress(OSError):  # somebody's files are in it
                path.rmdir()
        raise


@contextmanager
def files_as_found(*files: Path) -> Iterator[None]:
    """Remove the files that were not there before, and the folders that were made for them."""
    absent = [file for file in files if not file.exists()]
    with folders_as_found(*(file.parent for file in files)):
        try:
            yield
        except MedresError:
            for file in absent:
                with suppress(OSError):
                    file.unlink()
            raise


@contextmanager
def emptied_when_refused(folder: Path) -> Iterator[None]:
    """Remove all that is in a folder that was empty, and that nobody else writes to: the caller holds its lock."""
    try:
        yield
    except MedresError:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


@contextmanager
def empty_folder_removed(folder: Path) -> Iterator[None]:
    """Remove a folder that was made for the block, if it is empty by then."""
    try:
        yield
    except MedresError:
        with suppress(OSError):  # somebody's files are in it
            folder.rmdir()
        raise
