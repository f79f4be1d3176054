"""The next batch is made while the device computes this one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, NamedTuple, TypeVar

from medres.runs.host_warnings import THREAD_PREFIX

T = TypeVar("T")


class Wanted(NamedTuple, Generic[T]):
    """Something to be made, and the key that says what it is."""

    key: Hashable
    make: Callable[[], T]


class ReadAhead(Generic[T]):
    """Hands out what is asked for, and begins what comes next in a thread of its own.

    What is made may not draw from the global random state: how far the thread is then changes nothing.

    Args:
        active: Whether to read ahead: where the device computes by itself and leaves the processor idle (a GPU). On a
            CPU both would share the same cores.

    Example:
        >>> squares = [Wanted(n, lambda n=n: n * n) for n in range(4)]
        >>> ahead = ReadAhead(active=True)
        >>> [ahead.take(this, then=following) for this, following in zip(squares, squares[1:])]
        [0, 1, 4]
        >>> ahead.drop()
    """

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._thread: ThreadPoolExecutor | None = None
        self._begun: tuple[Hashable, Future[T]] | None = None

    def take(self, wanted: Wanted[T], *, then: Wanted[T] | None = None) -> T:
        """Return what is wanted, begun before or made now; errors of the thread are raised here.

        Args:
            wanted: What was begun under another key is thrown away first, so that its memory is free.
            then: What will be asked for next, if that is known.
        """
        if self._begun and self._begun[0] != wanted.key:
            self.drop()
        result = self._finished(self._begun[1]) if self._begun else wanted.make()
        if self._active and then is not None:
            self._begin(then)
        return result

    def drop(self) -> None:
        """Wait for the thread, throw away what it made, and end it."""
        if self._begun:
            wait([self._begun[1]])  # how it ended is nobody's matter
        self._begun = None
        if self._thread:
            self._thread.shutdown()
        self._thread = None

    def _finished(self, future: Future[T]) -> T:
        self._begun = None
        try:
            return future.result()
        finally:
            # an error holds this frame, and through it itself: a circle that would keep the tensors of its batch
            del future

    def _begin(self, wanted: Wanted[T]) -> None:
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix=f"{THREAD_PREFIX}-read-ahead")
        self._begun = (wanted.key, self._thread.submit(wanted.make))
