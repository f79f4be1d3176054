"""A command that several processes run together: one of them speaks, and all end when one fails."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from medres.errors import MedresError, TrainingError, UsageError
from medres.finetuning.world import World

#: Exit codes of a process that was asked to end.
_INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


@contextmanager
def together() -> Iterator[World]:
    """Connect this process with those that it was started with (torchrun, srun), for the length of the block.

    An exception in one process ends all of them; the process that failed first raises it, the others leave silently
    with the same exit code. In a single process the block is run as it is.

    Raises:
        UsageError: The variables of the launcher contradict each other.
        TrainingError: Not all processes came, or one of them was killed.
    """
    world = World.from_environment()
    if world.size == 1:
        yield world
    else:
        with _connected(world):
            yield world


@contextmanager
def _connected(world: World) -> Iterator[None]:
    from torch import distributed as dist  # seconds that a single process has no use for

    from medres.finetuning.alarm import Alarm
    from medres.finetuning.ranks import joined_ranks

    ranks = joined_ranks(world)
    alarm = Alarm(world)
    try:
        yield
        ranks.wait()
    except BaseException as error:
        code = alarm.ring(_code_of(error))
        if code is not None:
            raise SystemExit(code) from None
        if _is_lost_connection(error):
            raise _lost(world, error) from error
        raise
    alarm.end()
    dist.destroy_process_group()


def leave_together(code: object) -> None:
    """End a process that worked with others at once; in a single process nothing happens.

    gloo's threads may be about to let go of the last tensors. Where they meet an interpreter that is being taken down,
    the process aborts (see pytorch/pytorch#179291; three times in the tests, on a busy machine), and the launcher calls
    a run failed that was finished.

    Args:
        code: What the process would exit with, as in `SystemExit`.
    """
    with suppress(UsageError):  # it was told before
        if World.from_environment().size > 1:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code if isinstance(code, int) else int(code is not None))


def was_interrupted(error: BaseException, world: World) -> bool:
    """Return whether Ctrl-C or a batch system's SIGTERM ended a run, this process or the one that ended first.

    A process whose partner leaves meets a lost connection, or an interruption whatever the partner met.

    Args:
        error: What ends this process.
        world: The processes of the run.
    """
    first = None
    if world.size > 1:
        from medres.finetuning.alarm import code_of_first  # seconds that a single process has no use for

        first = code_of_first(world)
    return isinstance(error, KeyboardInterrupt | SystemExit) if first is None else first in _INTERRUPTED


def _code_of(error: BaseException) -> int:
    if isinstance(error, MedresError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 1


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether an exception says that another process does not answer any more."""
    words = ("gloo", "nccl", "closed by peer", "reset by peer")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


def _lost(world: World, error: BaseException) -> TrainingError:
    command = (getattr(error, "__notes__", None) or ["medres finetune --resume RUN"])[-1]
    return TrainingError(
        f"One of the {world.size} processes has ended without a message: it was killed, or its node is gone.",
        fix=f"Look for the reason in the system's log (out of memory, time limit), then go on with: {command}",
    )
