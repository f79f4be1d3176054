"""SIGTERM and Ctrl-C while a network is trained: the step is finished and its state kept before the process ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked the training to stop, and how.

    Example:
        >>> with stop_requests() as request:
        ...     request.signal is None
        True
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def leave(self) -> None:
        """Leave the way the signal would have: `KeyboardInterrupt` after Ctrl-C, `SystemExit` after SIGTERM."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def stop_requests(*, echo_seconds: float = 0.0) -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM inside the block into a request; a second one ends the block at once.

    Args:
        echo_seconds: A signal so soon after the first is the same one again: Ctrl-C reaches a process once from the
            terminal and once from torchrun.

    Outside the main thread, where Python does not allow it, signals stay what they are. A signal that the program
    around ignores (``nohup``) stays ignored, and one that it handles outside Python stays its own.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    heard: list[float] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    # a handler of the host that was not set from Python (None) could not be put back
    before = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        heard.append(time.monotonic())
        request.signal = request.signal or number
        if len(heard) > 1 and heard[-1] - heard[0] > echo_seconds:
            request.signal = number
            request.leave()

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
