"""Progress on the terminal: bars with time left, or plain lines where nobody watches. Results never come here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


class TerminalProgress:
    """Show work on stderr, so that stdout holds results only.

    On a terminal: one bar for each level of work (folds, epochs), with the time that is left. Elsewhere (a log
    file, a batch job): one line when a piece of work is done, with the time it took.

    Args:
        quiet: Show nothing at all.
        console: Where to; stderr by default.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._quiet = quiet
        self._console = console or Console(stderr=True, soft_wrap=True, highlight=False)
        self._bars: Progress | None = None
        self._depth = 0

    def track(self, items: Iterable[T], *, description: str, total: int) -> Iterator[T]:
        """Yield the items and show how many are done."""
        if self._quiet:
            yield from items
        elif self._console.is_terminal:
            yield from self._bar(items, description, total)
        else:
            yield from self._line(items, description, total)

    def note(self, text: str) -> None:
        """Show one line that stays."""
        if not self._quiet:
            self._console.print(text, markup=False)

    def _bar(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        bars = self._opened()
        task = bars.add_task(description, total=total)
        try:
            for item in items:
                yield item
                bars.advance(task)
        finally:
            bars.remove_task(task)
            self._closed()

    def _line(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        started = time.monotonic()
        yield from items
        self._console.print(f"{description}: {total} done in {_duration(time.monotonic() - started)}", markup=False)

    def _opened(self) -> Progress:
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
                console=self._console, transient=True,
            )  # fmt: skip
            self._bars.start()
        self._depth += 1
        return self._bars

    def _closed(self) -> None:
        self._depth -= 1
        if self._depth == 0 and self._bars is not None:
            self._bars.stop()
            self._bars = None


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
