"""`quietly`: pydicom, lenient and silent while this thread reads for medres, and as its host set it otherwise.

By its settings pydicom may refuse a file for one odd value. They belong to the whole process, and a service that uses
medres may read DICOM in other threads by its own rules. So they are not switched: what is put in place once looks at
a mark of the thread that asks (`medres.data.readers.silence`), and does what pydicom did before where that is not set.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medres.data.readers.silence import reads, silently

_installing = threading.Lock()


@contextmanager
def quietly() -> Iterator[Any]:
    """Yield pydicom; until the end, this thread's reading is lenient and silent, that of other threads as it was.

    Example:
        >>> import pydicom
        >>> with quietly():
        ...     pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
        True
        >>> pydicom.config.settings.reading_validation_mode == pydicom.config.WARN
        True
    """
    import pydicom

    _install(pydicom.config)
    with silently():
        yield pydicom


def _install(config: Any) -> None:
    kind: Any = type(config.settings)
    if not hasattr(kind, "of_medres"):
        with _installing:
            config.settings.__class__ = _lenient(kind, config.IGNORE)


@functools.cache
def _lenient(kind: Any, ignore: int) -> type:
    """Return pydicom's class of settings, whose mode of validation is `ignore` while the thread reads for medres."""
    own: property = kind.reading_validation_mode

    def mode(settings: Any) -> Any:
        return ignore if reads() else own.__get__(settings)

    return type("Settings", (kind,), {"reading_validation_mode": property(mode, own.fset), "of_medres": True})
