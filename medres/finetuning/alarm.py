"""One of several processes fails: all end, soon, with one message.

A process that fails says so in the table that all processes read; the first to say so is the one whose message is
shown. The others look there once a second, since a process that waits inside a collective operation hears nothing
else: those that write nothing end at once, rank 0 is interrupted so that it can close what it has open.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from contextlib import suppress
from datetime import timedelta

from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from medres.errors import TrainingError
from medres.finetuning.ranks import JOIN_TIME, open_store
from medres.finetuning.world import World

_LOOK_SECONDS = 1.0
#: For rank 0 to write what it has open, and for the others to read who was first.
_GRACE_SECONDS = 20.0
#: For the first to print its message and to end.
_WORD_SECONDS = 5.0
_SAID, _LEFT = "failed", "left"


class Alarm:
    """Watches over the processes of a run, in a thread of its own.

    Args:
        world: Connected already; nothing is watched where there is one process.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = threading.Event()
        if world.size > 1:
            self._store, self._watched = _table(world), _table(world)
            self._thread = threading.Thread(target=self._watch, name="medres-alarm", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Stop watching: all processes have come to the end."""
        self._over.set()
        if self._world.size > 1:
            # a thread inside PyTorch's code when the interpreter goes would abort the process
            self._thread.join(_GRACE_SECONDS)

    def ring(self, code: int) -> int | None:
        """Say that this process fails.

        Args:
            code: Its exit code.

        Returns:
            None where it is the first to say so: its message is shown. Else the exit code of the first, which is
            everybody's.
        """
        self._over.set()
        if self._world.size == 1:
            return None
        mine = f"{self._world.rank} {code}"
        try:
            said = self._store.compare_set(_SAID, "", mine).decode()
            self._let_others_read()
        except RuntimeError:  # the table is gone: rank 0 was killed and has said nothing
            return None
        return None if said == mine else _code_in(said)

    def _let_others_read(self) -> None:
        """Leave; the process that holds the table waits until all have read it."""
        left = self._store.add(_LEFT, 1)
        end = time.monotonic() + _GRACE_SECONDS
        holds = self._world.is_first and not self._world.store_elsewhere
        while holds and left < self._world.size and time.monotonic() < end:
            time.sleep(0.1)
            left = self._store.add(_LEFT, 0)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            try:
                rung = self._watched.check([_SAID])
            except RuntimeError:  # the table is gone
                rung = None
            if self._over.is_set():
                return
            if rung is None or rung:
                self._leave(rung=bool(rung))
                return

    def _leave(self, *, rung: bool) -> None:
        if rung and not self._world.is_first:
            code = 1
            with suppress(RuntimeError):
                code = _code_in(self._watched.get(_SAID).decode())
                self._watched.add(_LEFT, 1)
            # a launcher ends the others when one has ended: the first is to say its word before that
            self._over.wait(_WORD_SECONDS)
            os._exit(code)
        if self._world.is_first:
            _thread.interrupt_main()
        # it may be leaving by itself, for the same reason
        if not self._over.wait(_GRACE_SECONDS):
            os._exit(1)


def code_of_first(world: World) -> int | None:
    """Return the exit code of the process that said first that it ends early; None where none has said so."""
    try:
        table = _table(world, timeout=timedelta(seconds=_WORD_SECONDS))
        return _code_in(table.get(_SAID).decode()) if table.check([_SAID]) else None
    except (RuntimeError, TrainingError):  # the table is gone: rank 0 was killed and has said nothing
        return None


def _table(world: World, *, timeout: timedelta = JOIN_TIME) -> PrefixStore:
    return PrefixStore(f"medres-alarm/{world.attempt}", open_store(world, timeout=timeout))


def _code_in(said: str) -> int:
    return int(said.split()[1]) or 1
