"""Whether weights as they were typed are a path: some names never are, and some texts cannot be."""

from __future__ import annotations

import errno
from pathlib import Path

from medres.errors import WeightsError

#: Weights that are never a path, also where a file or folder of that name lies about.
NAMED_WEIGHTS = ("auto", "none", "imagenet", "medicalnet")


def existing_path(weights: str) -> Path | None:
    """Return the file or folder that typed weights are, None where they are none.

    Raises:
        WeightsError: The operating system does not let anybody look.

    Example:
        >>> existing_path("none"), existing_path("~nobody-of-this-name/x.pth"), existing_path("x" * 300)
        (None, None, None)
    """
    if not weights.strip() or weights in NAMED_WEIGHTS:
        return None
    path = expanded(Path(weights))
    return path if is_there(path) else None


def expanded(path: Path) -> Path:
    """Return a path with ``~`` as a home folder; as it is where no user bears the name after ``~``."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_there(path: Path) -> bool:
    """Return whether a path exists; one that cannot (a name too long, a NUL in it) does not.

    Raises:
        WeightsError: The operating system does not let anybody look.
    """
    try:
        return path.exists()
    except ValueError:  # a NUL
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise WeightsError(f"{path} cannot be looked at: {error.strerror}.", fix="Check the path.") from None
