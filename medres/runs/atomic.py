"""Files that are there whole or not at all.

A temporary file is written *beside* its destination (never in the system's temp folder: voxels do not leave the
run's disk), flushed to the disk, then renamed over it. A killed writer leaves only a ``.part-*`` orphan, never a
truncated file under the final name.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from medres.errors import OutputError

PART_PREFIX = ".part-"


@contextmanager
def atomic_write(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that appears at ``path`` only when the block ends without an exception.

    Args:
        path: The file.
        private: Whether only its owner may read it (mode 0600), from its first byte on.

    Raises:
        OutputError: The folder cannot be written or the disk is full.

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "scores.txt"
        >>> with atomic_write(target) as file:
        ...     _ = file.write(b"0.91")
        >>> target.read_text()
        '0.91'
    """
    with explained_os_errors(path):
        with _where_files_can_be(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=PART_PREFIX)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield cast(BinaryIO, file)
                file.flush()
                os.fsync(file.fileno())
            if not private:  # mkstemp makes it 0600
                os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


def atomic_write_text(path: Path, text: str, *, private: bool = False) -> None:
    r"""Write ``text`` as UTF-8, whole or not at all; what is no text (a file name in another encoding) as escapes.

    Args:
        path: The file.
        text: Its content.
        private: Whether only its owner may read it (mode 0600).

    Example:
        >>> import tempfile, pathlib
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "names.txt"
        >>> atomic_write_text(target, "M\udcfcller")
        >>> print(target.read_text())
        M\udcfcller
    """
    with atomic_write(path, private=private) as file:
        file.write(text.encode("utf-8", errors="backslashreplace"))


def atomic_write_json(path: Path, document: Any, *, private: bool = False) -> None:
    """Write ``document`` as JSON; NaN and infinity are refused, since JSON has no word for them."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write_text(path, text, private=private)


def sweep_parts(folder: Path) -> int:
    """Remove what killed writers left in ``folder`` (files and folders) and return how many that was.

    Folders below are left alone: another process may be writing there. Who holds the lock of a folder sweeps it.
    """
    orphans = list(folder.glob(f"{PART_PREFIX}*"))
    for orphan in orphans:
        if orphan.is_dir():
            shutil.rmtree(orphan)
        else:
            orphan.unlink(missing_ok=True)
    return len(orphans)


def make_private(folder: Path) -> None:
    """Make ``folder``, with its parents, so that only its owner can enter it (mode 0700); one that is there stays."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another process was first
            folder.mkdir(mode=0o700)


def require_writable(folder: Path, *, private: bool = False) -> None:
    """Make ``folder`` and prove that a file can be written there, before any work is spent.

    Args:
        folder: The folder; one that is there keeps its mode.
        private: Whether only its owner may enter a new one (mode 0700).

    Raises:
        OutputError: It cannot, and why.
    """
    with explained_os_errors(folder), _where_files_can_be(folder):
        make_private(folder) if private else folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=PART_PREFIX) as probe:
            probe.write(b"probe")
            probe.flush()


@contextmanager
def _where_files_can_be(path: Path) -> Iterator[None]:
    # not among `_REASONS`: elsewhere ENOENT is an error of ours. Here every folder was just made with its parents, so
    # that nothing can be missing: the file system takes no files (/proc)
    try:
        yield
    except FileNotFoundError as error:
        raise OutputError(f"Cannot write {path}: no file can be made there.", fix="Give another folder.") from error


@contextmanager
def explained_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into an `OutputError` that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in _REASONS:
            reason, fix = _REASONS[error.errno]
            raise OutputError(f"Cannot write {path}: {reason}.", fix=fix) from error
        raise


_ELSEWHERE = "Give a folder that can be written with --output."
_REASONS: dict[int | None, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "Free space there or choose another disk with --output."),
    errno.EDQUOT: ("the disk quota is used up", "Free space there or choose another disk with --output."),
    errno.EACCES: ("permission denied", _ELSEWHERE),
    errno.EPERM: ("the operation is not permitted", _ELSEWHERE),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", _ELSEWHERE),
    errno.ENAMETOOLONG: ("the name is too long", "Give a shorter one (--output, --name)."),
    errno.EISDIR: ("a folder stands where the file should be", "Give the name of a file."),
    errno.EEXIST: ("a file stands where the folder should be", _ELSEWHERE),
}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
