"""What long work says while it runs: the contract between the rooms and the terminal.

The rooms know only this protocol. The command line draws bars with time left (``reporting/terminal.py``); a
library call stays silent unless it is given something else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Something that can show how far work has come."""

    def track(self, items: Iterable[T], *, description: str, total: int) -> Iterator[T]:
        """Yield the items and show how many of ``total`` are done and how much time is left."""
        ...

    def note(self, text: str) -> None:
        """Show one line that stays, such as a decision."""
        ...

    def warn(self, text: str) -> None:
        """Show one line that must be seen, also by who asked for silence: something has to be done."""
        ...


class Silent:
    """Show nothing."""

    def track(self, items: Iterable[T], *, description: str, total: int) -> Iterator[T]:
        """Yield the items."""
        del description, total
        yield from items

    def note(self, text: str) -> None:
        """Drop the line."""

    def warn(self, text: str) -> None:
        """Hand the line to the logger ``medres``, which shows it on stderr unless the host says otherwise."""
        logging.getLogger("medres").warning(text)


class Prefixed:
    """Show work under a prefix, such as ``fold 2/5``."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress = progress
        self._prefix = prefix

    def track(self, items: Iterable[T], *, description: str, total: int) -> Iterator[T]:
        """Yield the items and show them under the prefix."""
        return self._progress.track(items, description=f"{self._prefix} {description}", total=total)

    def note(self, text: str) -> None:
        """Show the line under the prefix."""
        self._progress.note(f"{self._prefix} {text}")

    def warn(self, text: str) -> None:
        """Show the line under the prefix."""
        self._progress.warn(f"{self._prefix} {text}")
