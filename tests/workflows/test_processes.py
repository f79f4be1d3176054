"""How a run of several processes ended is what the process says that ended first."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from medres.finetuning.alarm import Alarm
from medres.finetuning.ranks import Ranks
from medres.workflows.processes import was_interrupted
from tests.finetuning.gloo import in_processes

MET = [RuntimeError("Connection closed by peer"), KeyboardInterrupt(), SystemExit(143)]


def _told(ranks: Ranks, folder: Path, *, code: int) -> list[list[bool]]:
    """Return what is said of three exceptions, before and after process 1 has left with an exit code."""
    world = ranks.world
    os.environ.update(
        TORCHELASTIC_RUN_ID="test", RANK=str(world.rank), WORLD_SIZE=str(world.size), LOCAL_RANK=str(world.local_rank),
        LOCAL_WORLD_SIZE=str(world.local_size), MASTER_ADDR=world.address, MASTER_PORT=str(world.port),
    )  # fmt: skip
    before = [was_interrupted(error) for error in MET]
    ranks.wait()
    if ranks.rank == 1:
        Alarm(world).ring(code)
    ranks.wait()
    return [before, [was_interrupted(error) for error in MET]]


@pytest.mark.parametrize(("code", "interrupted"), [(143, True), (130, True), (1, False)])
def test_the_process_that_ended_first_says_whether_a_run_was_interrupted(
    tmp_path: Path, code: int, interrupted: bool
) -> None:
    for before, after in in_processes(partial(_told, code=code), tmp_path):
        assert before == [False, True, True]
        assert after == [interrupted] * 3


def test_a_single_process_knows_by_itself() -> None:
    assert [was_interrupted(error) for error in MET] == [False, True, True]
