"""Consoles that show names from elsewhere as text: no file, label or column speaks to the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.measure import Measurement
from rich.segment import Segment

from medres.runs.printable import printable


def printable_console(**options: Any) -> Console:
    r"""Return a console that prints `medres.runs.printable.printable` of all it is given; its own styles stay.

    Args:
        options: Of `rich.console.Console`.

    Example:
        >>> import io
        >>> console = printable_console(file=io.StringIO())
        >>> console.print("scan\x1b[2J 1")
        >>> console.file.getvalue()
        'scan\\x1b[2J 1\n'
    """
    console = Console(**options)
    console.push_render_hook(_PrintableHook())
    return console


class _PrintableHook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Printable(renderable) for renderable in renderables]


class _Printable:
    """Anything that rich renders, with its text made printable."""

    def __init__(self, shown: RenderableType) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        for segment in console.render(self._shown, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._shown)
