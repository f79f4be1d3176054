"""How a run of several processes ended is what the process says that ended first."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from medres.finetuning.alarm import Alarm
from medres.finetuning.ranks import Ranks
from medres.finetuning.world import World
from medres.workflows.processes import was_interrupted
from tests.finetuning.gloo import in_processes

MET = [RuntimeError("Connection closed by peer"), KeyboardInterrupt(), SystemExit(143)]


def _told(ranks: Ranks, folder: Path, *, code: int) -> list[list[bool]]:
    """Return what is said of three exceptions, before and after process 1 has left with an exit code."""
    before = [was_interrupted(error, ranks.world) for error in MET]
    ranks.wait()
    if ranks.rank == 1:
        Alarm(ranks.world).ring(code)
    ranks.wait()
    return [before, [was_interrupted(error, ranks.world) for error in MET]]


@pytest.mark.parametrize(("code", "interrupted"), [(143, True), (130, True), (1, False)])
def test_the_process_that_ended_first_says_whether_a_run_was_interrupted(
    tmp_path: Path, code: int, interrupted: bool
) -> None:
    for before, after in in_processes(partial(_told, code=code), tmp_path):
        assert before == [False, True, True]
        assert after == [interrupted] * 3


@pytest.mark.parametrize(("code", "expected"), [("143", 143), ("None", 0), ("'a message'", 1)])
def test_a_process_that_worked_with_others_leaves_at_once_with_its_code(code: str, expected: int) -> None:
    program = (
        "import atexit\nfrom medres.workflows.processes import leave_together\n"
        "class Late:\n    def __del__(self): print('late')\n"
        "kept = Late()\natexit.register(print, 'flushed')\n"
        f"print('said', end=' ')\nleave_together({code})\nprint('went on')"
    )
    world = {"TORCHELASTIC_RUN_ID": "test", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for environment, said, left in [({**world, "MASTER_PORT": "1"}, "said flushed\n", expected), ({}, None, 0)]:
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (left, "")
        assert done.stdout == said or (said is None and "went on" in done.stdout)


def test_a_single_process_knows_by_itself() -> None:
    assert [was_interrupted(error, World()) for error in MET] == [False, True, True]
