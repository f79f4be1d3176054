"""What to type after a fault in the middle of a run: it must be what the next command accepts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from medres.errors import OutputError, StoppedError


@contextmanager
def going_on_with(command: str) -> Iterator[None]:
    """Add to what stops the block how it goes on.

    A full disk, a place that cannot be written and a damaged cache can be mended; the run is there already, so that
    the command that began it would be refused. Anything unexpected is met again by the same way.

    Args:
        command: What goes on with the run.
    """
    try:
        yield
    except (OutputError, StoppedError) as error:
        error.add_advice(f"Then go on with: {command}")
        raise
    except Exception as error:
        error.add_note(command)  # the command line tells it of an error that is none of ours
        raise
