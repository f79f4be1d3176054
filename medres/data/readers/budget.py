"""How many bytes of voxels may be read: of one scan, and by all threads of a process at once.

Without a budget the memory of the machine is the limit (`medres.data.readers.limits`), which is right for a person who
reads scans of their own. A server reads what strangers send: it says what a scan for its model may be, and all its
requests take what they read from one pool, so that ten of them need no more memory than two.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from medres.errors import ConfigError, UnreadableScanError

#: Environment variable: most megabytes of voxels of one scan, as its header claims them.
MAX_SCAN_VARIABLE = "MEDRES_MAX_SCAN_MB"

_MEGABYTE = 2**20


class MemoryPool:
    """Bytes that all threads of a process may hold at once; thread-safe.

    Args:
        max_bytes: How many.
        wait_s: How long a thread waits for others to give back before it is refused.

    Example:
        >>> pool = MemoryPool(100, wait_s=0.0)
        >>> pool.take(80), pool.take(30), pool.give_back(80), pool.take(30)
        (True, False, None, True)
    """

    def __init__(self, max_bytes: int, *, wait_s: float) -> None:
        self.max_bytes = max_bytes
        self._wait_s = wait_s
        self._free = max_bytes
        self._changed = threading.Condition()

    def take(self, num_bytes: int) -> bool:
        """Take bytes, waiting for them if need be; False where they did not come free in time."""
        until = time.monotonic() + self._wait_s
        with self._changed:
            while num_bytes > self._free:
                if not self._changed.wait(until - time.monotonic()) and num_bytes > self._free:
                    return False
            self._free -= num_bytes
            return True

    def give_back(self, num_bytes: int) -> None:
        """Give back bytes that were taken."""
        with self._changed:
            self._free += num_bytes
            self._changed.notify_all()


@dataclass(kw_only=True)
class ReadingBudget:
    """What one request may read.

    Args:
        max_scan_bytes: Most bytes of voxels of one image.
        pool: Where they are taken from.
        taken: Bytes that were taken so far.
        was_busy: Whether the pool was empty: the same request may be answered later.
    """

    max_scan_bytes: int
    pool: MemoryPool
    taken: int = field(default=0, init=False)
    was_busy: bool = field(default=False, init=False)

    def claim(self, num_bytes: int) -> None:
        """Take the bytes of one image.

        Raises:
            UnreadableScanError: They are more than one image may have, or than all images of a request, or others hold
                the pool.
        """
        # what this request holds by itself never comes free while it waits
        limit = min(self.max_scan_bytes, self.pool.max_bytes - self.taken)
        if num_bytes > limit:
            raise too_large(num_bytes, limit)
        if not self.pool.take(num_bytes):
            self.was_busy = True
            raise UnreadableScanError(
                f"needs {_in_mb(num_bytes)}, which other requests hold", fix="Send it again later.", code="too-large"
            )
        self.taken += num_bytes


_BUDGET: ContextVar[ReadingBudget | None] = ContextVar("reading_budget", default=None)


@contextmanager
def reading_within(budget: ReadingBudget) -> Iterator[ReadingBudget]:
    """Let all that this thread reads until the end count towards a budget; then all is given back."""
    before = _BUDGET.set(budget)
    try:
        yield budget
    finally:
        _BUDGET.reset(before)
        budget.pool.give_back(budget.taken)
        budget.taken = 0


def claim(num_bytes: int) -> None:
    """Count bytes of voxels that are about to be read, by what their header claims.

    Raises:
        UnreadableScanError: They are more than the budget of this thread, or than `MAX_SCAN_VARIABLE`, allows.
    """
    budget = _BUDGET.get()
    if budget is not None:
        budget.claim(num_bytes)
        return
    limit = asked_limit()
    if limit is not None and num_bytes > limit:
        raise too_large(num_bytes, limit)


def asked_limit(variable: str = MAX_SCAN_VARIABLE) -> int | None:
    """Return the bytes that an environment variable of megabytes asks for, or None where it is not set.

    Raises:
        ConfigError: It is no positive number.
    """
    asked = os.environ.get(variable, "").strip()
    if not asked:
        return None
    try:
        megabytes = float(asked)
        if not 0 < megabytes < 2**30:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"${variable} is {asked!r}, which is no number of megabytes.", fix=f"Set it as in {variable}=2048."
        ) from None
    return int(megabytes * _MEGABYTE)


def too_large(num_bytes: int, limit: int) -> UnreadableScanError:
    """Return the error about a scan that claims more than a limit allows."""
    return UnreadableScanError(
        f"claims {_in_mb(num_bytes)} of voxels, more than the limit of {_in_mb(limit)}",
        fix=f"If it is a scan all the same, raise the limit: {MAX_SCAN_VARIABLE}={-(-num_bytes // _MEGABYTE)}.",
        code="too-large",
    )


def _in_mb(num_bytes: int) -> str:
    return f"{num_bytes / _MEGABYTE:,.0f} MB"
