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
def atomic_write(path: Path, *, private: bool = False, num_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Open a binary file that appears at ``path`` only when the block ends without an exception.

    Args:
        path: The file.
        private: Whether only its owner may read it (mode 0600), from its first byte on, and enter its folder (0700)
            where that is made for it.
        num_bytes: How many will be written, where that is known: a full disk is told with it.

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
    with explained_os_errors(path, num_bytes=num_bytes):
        with _where_files_can_be(path):
            make_private(path.parent) if private else path.parent.mkdir(parents=True, exist_ok=True)
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
    content = text.encode("utf-8", errors="backslashreplace")
    with atomic_write(path, private=private, num_bytes=len(content)) as file:
        file.write(content)


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


def require_writable(folder: Path, *, option: str = "") -> None:
    """Prove that a file can be written in ``folder``, or where it is still to be made, before any work is spent.

    Nothing is made: what is refused afterwards must leave the disk as it was.

    Args:
        folder: The folder.
        option: What names it on the command line, such as ``--output``.

    Raises:
        OutputError: It cannot, and why.
    """
    with (
        explained_os_errors(folder, option=option),
        _where_files_can_be(folder),
        tempfile.NamedTemporaryFile(dir=nearest_folder(folder), prefix=PART_PREFIX) as probe,
    ):
        probe.write(b"probe")
        probe.flush()


def require_place(file: Path, *, option: str = "") -> None:
    """Prove that ``file`` can be written, before any work is spent. Nothing is made.

    Args:
        file: The file.
        option: What names it on the command line, such as ``--html``.

    Raises:
        OutputError: It cannot, and why.
    """
    with explained_os_errors(file, option=option):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    require_writable(file.absolute().parent, option=option)


@contextmanager
def _where_files_can_be(path: Path) -> Iterator[None]:
    # not among `_REASONS`: elsewhere ENOENT is an error of ours. Here every folder was just made with its parents, so
    # that nothing can be missing: the file system takes no files (/proc)
    try:
        yield
    except FileNotFoundError as error:
        raise OutputError(f"Cannot write {path}: no file can be made there.", fix="Give another folder.") from error


@contextmanager
def explained_os_errors(path: Path, *, option: str = "", num_bytes: int | None = None) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into an `OutputError` that names ``path``.

    Args:
        path: What is written.
        option: What names its place on the command line, where there is one to change.
        num_bytes: How many are written, where that is known.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _REASONS:
            reason, fix = _REASONS[error.errno]
            needed = f" {num_bytes:,} bytes are needed." if num_bytes and error.errno in _NO_ROOM else ""
            raise OutputError(f"Cannot write {path}: {reason}.{needed}", fix=f"{fix}{_by(option)}.") from error
        raise


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_ELSEWHERE = "Make it writable or choose another folder"
_REASONS: dict[int | None, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "Free space there or choose another disk"),
    errno.EDQUOT: ("the disk quota is used up", "Free space there or choose another disk"),
    errno.EACCES: ("permission denied", _ELSEWHERE),
    errno.EPERM: ("the operation is not permitted", _ELSEWHERE),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Choose another folder"),
    errno.ENAMETOOLONG: ("the name is too long", "Give a shorter one"),
    errno.EISDIR: ("a folder stands where the file should be", "Give the name of a file"),
    errno.EEXIST: ("a file stands where the folder should be", "Choose another folder"),
}


def _by(option: str) -> str:
    return f" with {option}" if option else ""


def nearest_folder(folder: Path) -> Path:
    """Return the folder itself, or the nearest above it that is there: what is missing would be made in it.

    Raises:
        OSError: A file lies where a folder should be, or nobody may look.
    """
    path = folder.absolute()
    for place in (path, *path.parents):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not place.is_dir():  # a file, or a link that leads nowhere
            raise OSError(errno.EEXIST if place == path else errno.ENOTDIR, "not a folder", str(place))
        return place
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
