"""Warnings of libraries while medres works: shown where the host would raise them, ignored where they say nothing.

Under ``python -W error`` or ``PYTHONWARNINGS=error`` a deprecation somewhere in a library would end a run that nothing
is wrong with. The filters of warnings belong to the whole process, and `warnings.catch_warnings` gives back the wrong
ones where blocks of two threads overlap. The filters that are put in place here look at the thread that warns, do
nothing in any other, and are taken out one by one.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medres.runs.shared_state import Back, SharedState

#: What threads are called that medres starts itself.
THREAD_PREFIX = "medres"

_thread = threading.local()
_replacing = threading.RLock()


class _OneThread:
    """In the place of a filter's pattern for modules: matches any module in this thread until it is over, else none."""

    def __init__(self) -> None:
        self._number = threading.get_ident()
        self.is_over = False

    def match(self, module: str) -> bool:
        del module
        return not self.is_over and threading.get_ident() == self._number


class _MedresThreads:
    """The same for threads that work for medres."""

    def match(self, module: str) -> bool:
        del module
        return getattr(_thread, "works", False) or threading.current_thread().name.startswith(THREAD_PREFIX)


# these stand in `warnings.filters`, which joblib pickles
_MEDRES_THREADS: Any = _MedresThreads()


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Show the warnings of medres's threads inside the block where the host's filters would raise them.

    A filter that names a module was meant for that module and stays in force.

    Example:
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error")
        ...     with shown_warnings():
        ...         warnings.warn("an old function", DeprecationWarning)
    """
    before, _thread.works = getattr(_thread, "works", False), True
    try:
        with _SHOWN.held():
            yield
    finally:
        _thread.works = before


@contextmanager
def ignored_warnings(category: type[Warning], *, message: str = "") -> Iterator[None]:
    """Ignore warnings of this thread inside the block.

    Args:
        category: Which.
        message: Pattern of their beginning; empty: any.

    Example:
        >>> with warnings.catch_warnings(), ignored_warnings(UserWarning):
        ...     warnings.warn("nothing that matters")
    """
    pattern = re.compile(message, re.IGNORECASE) if message else None
    here = _OneThread()
    entry: Any = ("ignore", pattern, category, here, 0)
    with _replacing:
        warnings.filters = [entry, *warnings.filters]
    try:
        yield
    finally:
        here.is_over = True  # a block of the host's that ends later may put the filter back
        with _replacing:
            warnings.filters = [one for one in warnings.filters if not _is_over(one)]


def _show() -> Back:
    with _replacing:
        _replace([entry for one in warnings.filters for entry in _with_what_shows_it(one)])
    return _hide


def _with_what_shows_it(one: Any) -> list[Any]:
    action, message, category, module, line = one
    if action != "error" or module is not None:
        return [one]
    return [("default", message, category, _MEDRES_THREADS, line), one]


def _hide() -> None:
    with _replacing:
        _replace([one for one in warnings.filters if one[3] is not _MEDRES_THREADS])


def _is_over(one: Any) -> bool:
    return isinstance(one[3], _OneThread) and one[3].is_over


def _replace(entries: list[Any]) -> None:
    if len(entries) == len(warnings.filters):
        return
    warnings.filters = entries
    # or what was shown once would stay silent for the host as well
    getattr(warnings, "_filters_mutated", lambda: None)()


_SHOWN = SharedState(_show)
