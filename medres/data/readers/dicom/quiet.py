"""`quietly`: pydicom, lenient and silent while this thread reads for medres, and as its host set it otherwise.

pydicom writes the values of tags, which are a patient's, into warnings and its log, and by its settings it may refuse a
file for one odd value. All three (settings, log, warnings) belong to the whole process, and a service that uses medres
may read DICOM in other threads by its own rules. So nothing is switched on and off. What is put in place once looks at
a mark of the thread that asks, and where that is not set it does what pydicom did before.
"""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# pydicom, the decoders that it calls, and what reads segmentations with it
_PACKAGES = frozenset({"pydicom", "pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls", "highdicom"})

_thread = threading.local()
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
    before, _thread.reads = _reads(), True
    try:
        yield pydicom
    finally:
        _thread.reads = before


def _reads() -> bool:
    """Whether this thread reads for medres now."""
    return getattr(_thread, "reads", False)


class _NoRecords(logging.Filter):
    """Drops what is logged by a thread that reads for medres."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _reads()


class _AnyModule:
    """In the place of a pattern for modules: matches any while the thread reads for medres, else none."""

    def match(self, module: str) -> bool:
        return _reads()


_NO_RECORDS = _NoRecords()
_NO_WARNINGS: Any = ("ignore", None, Warning, _AnyModule(), 0)


def _install(config: Any) -> None:
    """Put in place what is not: a host may import more, and set or restore its filters of warnings at any time."""
    kind: Any = type(config.settings)
    if not hasattr(kind, "of_medres"):
        with _installing:
            config.settings.__class__ = _lenient(kind, config.IGNORE)
    _mute_loggers(len(logging.root.manager.loggerDict))
    if not warnings.filters or warnings.filters[0] is not _NO_WARNINGS:
        with _installing:
            others = [one for one in warnings.filters if one is not _NO_WARNINGS]
            warnings.filters[:] = [_NO_WARNINGS, *others]  # type: ignore[index]


@functools.cache
def _lenient(kind: Any, ignore: int) -> type:
    """Return pydicom's class of settings, whose mode of validation is `ignore` while the thread reads for medres."""
    own: property = kind.reading_validation_mode

    def mode(settings: Any) -> Any:
        return ignore if _reads() else own.__get__(settings)

    return type("Settings", (kind,), {"reading_validation_mode": property(mode, own.fset), "of_medres": True})


@functools.lru_cache(maxsize=1)
def _mute_loggers(num_loggers: int) -> None:
    # a filter sees what its own logger is given and nothing from below it
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _PACKAGES:
            logging.getLogger(name).addFilter(_NO_RECORDS)
