"""Warnings of libraries while medres works: where the host turns warnings into errors, they are shown instead.

Under ``python -W error`` or ``PYTHONWARNINGS=error`` a deprecation somewhere in a library would end a run that nothing
is wrong with. The filters of warnings belong to the whole process, and so do `warnings.catch_warnings` blocks, which
give back the wrong filters where threads overlap. So a filter is put before each one that would raise; it looks at the
thread that warns, and where that does not work for medres it does nothing. A filter that names a module was meant for
that module and stays in force.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medres.runs.shared_state import Back, SharedState

#: What threads are called that medres starts itself.
THREAD_PREFIX = "medres"

_thread = threading.local()


class _MedresThreads:
    """In the place of a pattern for modules: matches any while the thread works for medres, else none."""

    def match(self, module: str) -> bool:
        del module
        return getattr(_thread, "works", False) or threading.current_thread().name.startswith(THREAD_PREFIX)


_MEDRES_THREADS = _MedresThreads()


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Show the warnings of this thread inside the block where the host's filters would raise them.

    Example:
        >>> import contextlib, io
        >>> with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()) as shown:
        ...     warnings.simplefilter("error")
        ...     with shown_warnings():
        ...         warnings.warn("an old function", DeprecationWarning)
        >>> "DeprecationWarning: an old function" in shown.getvalue()
        True
    """
    before, _thread.works = getattr(_thread, "works", False), True
    try:
        with _SHOWN.held():
            yield
    finally:
        _thread.works = before


def _show() -> Back:
    _replace([filter_ for one in warnings.filters for filter_ in _with_what_shows_it(one)])
    return _hide


def _with_what_shows_it(one: Any) -> list[Any]:
    action, message, category, module, line = one
    if action != "error" or module is not None:
        return [one]
    return [("default", message, category, _MEDRES_THREADS, line), one]


def _hide() -> None:
    _replace([one for one in warnings.filters if one[3] is not _MEDRES_THREADS])


def _replace(filters: list[Any]) -> None:
    if len(filters) == len(warnings.filters):
        return
    warnings.filters[:] = filters  # type: ignore[index]
    # or what was shown once would stay silent for the host as well
    getattr(warnings, "_filters_mutated", lambda: None)()


_SHOWN = SharedState(_show)
