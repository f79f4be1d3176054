"""Progress on the terminal: bars with time left, or plain lines where nobody watches. Results never come here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from medres.reporting.console import printable_console
from medres.runs.printable import one_line

T = TypeVar("T")

#: In a log file, work that takes long says how far it is once in this time.
SECONDS_BETWEEN_LINES = 60.0


class TerminalProgress:
    """Show work on stderr, so that stdout holds results only.

    On a terminal: one bar for each level of work (folds, epochs), with the time that is left. Elsewhere (a log
    file, a batch job): a line when a piece of work begins, one when it is done, with the time it took, and one
    a minute in between.

    Args:
        quiet: Show nothing but warnings.
        console: Where to; stderr by default.

    Example:
        >>> progress = TerminalProgress(quiet=True)
        >>> [item for item in progress.track("ab", description="scans", total=2)]
        ['a', 'b']
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._quiet = quiet
        self._console = console or printable_console(stderr=True)
        self._bars: Progress | None = None
        self._depth = 0

    def track(self, items: Iterable[T], *, description: str, total: int) -> Iterator[T]:
        """Yield the items and show how many are done."""
        if self._quiet:
            yield from items
        elif self._console.is_terminal:
            yield from self._bar(items, description, total)
        else:
            yield from self._lines(items, description, total)

    def note(self, text: str) -> None:
        """Show one line that stays."""
        if not self._quiet:
            # as text: a class called [grade 2] is no markup; a log line is not broken at 80 columns
            self._console.print(Text(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Show one line that stays, quiet or not."""
        self._console.print(Text(f"warning: {text}"), soft_wrap=True)

    def _bar(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        started, bars = time.monotonic(), self._opened()
        task = bars.add_task(one_line(description), total=total)
        try:
            for item in items:
                yield item
                bars.advance(task)
        finally:
            bars.remove_task(task)
            self._closed()
        if self._depth == 0:  # bars go away; what stays is one line for each piece of work, not one for each epoch
            self.note(_done(description, total, started))

    def _lines(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        started = said = time.monotonic()
        self.note(f"{description}: {total} to do")
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - said >= SECONDS_BETWEEN_LINES and done < total:
                said = now
                left = (now - started) / done * (total - done)
                self.note(f"{description}: {done} of {total} done, about {duration(left)} left")
        self.note(_done(description, total, started))

    def _opened(self) -> Progress:
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), MofNCompleteColumn(),
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


def duration(seconds: float) -> str:
    """Return a time in words.

    Example:
        >>> duration(7.26), duration(61), duration(7260)
        ('7.3 s', '1 min 01 s', '2 h 01 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _done(description: str, total: int, started: float) -> str:
    return f"{description}: {total} done in {duration(time.monotonic() - started)}"
