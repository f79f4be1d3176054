"""`silently`: libraries that say nothing of a file's header while this thread reads for medres.

They write the values of tags, which are a patient's, into warnings and their logs. Both belong to the whole process,
and a service that uses medres may read files in other threads by its own rules. So nothing is switched on and off: what
is put in place looks at a mark of the thread that asks.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from medres.runs.host_warnings import ignored_warnings

# Pillow; pydicom, the decoders that it calls, and what reads segmentations with it
_PACKAGES = frozenset({"PIL", "pydicom", "pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls", "highdicom"})

_thread = threading.local()


@contextmanager
def silently() -> Iterator[None]:
    """Until the end of the block, or of the function that it decorates, this thread's reading is silent.

    Example:
        >>> with silently():
        ...     logging.getLogger("PIL.TiffImagePlugin").warning("a tag's value")
    """
    _mute_loggers(len(logging.root.manager.loggerDict))
    before, _thread.reads = reads(), True
    try:
        with ignored_warnings(Warning):
            yield
    finally:
        _thread.reads = before


def reads() -> bool:
    """Return whether this thread reads for medres now."""
    return getattr(_thread, "reads", False)


class _NoRecords(logging.Filter):
    """Drops what is logged by a thread that reads for medres."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not reads()


_NO_RECORDS = _NoRecords()


@functools.lru_cache(maxsize=1)
def _mute_loggers(num_loggers: int) -> None:
    # a filter sees what its own logger is given and nothing from below it
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _PACKAGES:
            logging.getLogger(name).addFilter(_NO_RECORDS)
