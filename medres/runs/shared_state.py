"""State of the whole process that is changed for a while: by the first thread that needs it, until the last is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Back = Callable[[], None]


class SharedState:
    """Counts the blocks that are open in all threads: one that leaves may not take from another what it still needs.

    Args:
        change: Makes the change and returns the way back.

    Example:
        >>> settings = {"checks": True}
        >>> def change() -> Back:
        ...     settings["checks"] = False
        ...     return lambda: settings.update(checks=True)
        >>> unchecked = SharedState(change)
        >>> with unchecked.held():
        ...     with unchecked.held():
        ...         pass
        ...     settings
        {'checks': False}
        >>> settings
        {'checks': True}
    """

    def __init__(self, change: Callable[[], Back]) -> None:
        self._change = change
        self._back: Back = lambda: None
        self._lock = threading.RLock()
        self._depth = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the change inside the block; blocks may be nested and may overlap between threads."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            if not self._depth:
                self._back = self._change()
            self._depth += 1

    def _leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._back()
