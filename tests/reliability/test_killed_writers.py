"""Number 4: writers of the cache and of checkpoints are killed 50 times, the temporary folder on another disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medres.errors import TrainingError
from medres.finetuning.checkpoints import Checkpoint
from medres.preprocessing.packed import PackedCache
from medres.runs.atomic import PART_PREFIX, sweep_parts
from tests.figures import RecordProperty

KILLS = 25
ROWS = 4000
SHAPE = (1, 64, 64)
#: A writer that is forked for each line: a kill costs no import. The rows are numbered, so are the checkpoints.
_WRITERS = """
import os, sys
from pathlib import Path
import numpy as np, torch
from medres.finetuning.checkpoints import Checkpoint
from medres.preprocessing.packed import PackedCache

def write_cache(folder):
    cache = PackedCache(folder, key="ab" * 32, shape=(1, 64, 64), dtype=np.int16, segment_bytes=40_000)
    cache.add((f"scan {number}", np.full((1, 64, 64), number, np.int16)) for number in range(4000))

def write_checkpoints(folder):
    for number in range(10**6):
        Checkpoint(identity="a", facts={"number": number}, tensors={"w": torch.full((500_000,), float(number))}).write(
            folder / "last.ckpt"
        )

write, folder = {"cache": write_cache, "checkpoint": write_checkpoints}[sys.argv[1]], Path(sys.argv[2])
print("ready", flush=True)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        write(folder)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@contextmanager
def _elsewhere(folder: Path) -> Iterator[Path]:
    """Make a temporary folder on a disk that `folder` is not on."""
    place = next((disk for disk in ("/dev/shm", "/run") if Path(disk).is_dir()
                  and os.stat(disk).st_dev != os.stat(folder).st_dev and os.access(disk, os.W_OK)), None)  # fmt: skip
    if place is None:
        pytest.skip("no second disk that can be written")
    with tempfile.TemporaryDirectory(dir=place) as made:
        yield Path(made)


def _kill_one(starter: subprocess.Popen[str], seconds: float) -> None:
    assert starter.stdin is not None
    assert starter.stdout is not None
    starter.stdin.write("go\n")
    starter.stdin.flush()
    writer = int(starter.stdout.readline())
    time.sleep(seconds)
    os.kill(writer, signal.SIGKILL)
    assert starter.stdout.readline() == "dead\n"


@contextmanager
def _starter(kind: str, folder: Path, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    starter = subprocess.Popen(
        [sys.executable, "-c", _WRITERS, kind, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    try:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        yield starter
    finally:
        starter.communicate()


def _open(folder: Path) -> PackedCache:
    return PackedCache(folder, key="ab" * 32, shape=SHAPE, dtype=np.int16, segment_bytes=40_000)


def _wrong_rows(folder: Path) -> int:
    cache = _open(folder)
    keys = [f"scan {number}" for number in range(len(cache))]
    read = cache.read(keys) if keys else np.zeros((0, *SHAPE), np.int16)
    return int(sum(np.any(row != number) for number, row in enumerate(read)))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cache_whose_writers_are_killed(tmp_path: Path, record_property: RecordProperty) -> None:
    delays, wrong, sizes = random.Random(0), 0, list[int]()
    with _elsewhere(tmp_path) as temporary, _starter("cache", tmp_path, temporary) as starter:
        for _ in range(KILLS):
            _kill_one(starter, delays.uniform(0.005, 0.12))
            wrong += _wrong_rows(tmp_path)
            sizes.append(len(_open(tmp_path)))
        assert list(temporary.iterdir()) == []
    assert wrong == 0
    assert len({size for size in sizes if 0 < size < ROWS}) >= 5  # kills did strike in the middle of the work
    _open(tmp_path).add((f"scan {number}", np.full(SHAPE, number, np.int16)) for number in range(ROWS))
    assert _wrong_rows(tmp_path) == 0
    assert len(_open(tmp_path)) == ROWS
    record_property("figure", f"cache: {KILLS} kills, {wrong} corrupt rows, healed to {ROWS} of {ROWS}, nothing left in the temporary folder of another disk")  # fmt: skip # noqa: E501


def _state_of(path: Path) -> Any:
    """Return the number of a checkpoint, ``None`` where there is none, ``broken`` where it is not whole."""
    if not path.exists():
        return None
    try:
        kept = Checkpoint.read(path)
    except TrainingError:
        return "broken"
    return kept.facts["number"] if set(kept.tensors["w"].tolist()) == {float(kept.facts["number"])} else "broken"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_checkpoint_whose_writers_are_killed(tmp_path: Path, record_property: RecordProperty) -> None:
    delays, states, parts = random.Random(1), list[Any](), 0
    with _elsewhere(tmp_path) as temporary, _starter("checkpoint", tmp_path, temporary) as starter:
        for _ in range(KILLS):
            _kill_one(starter, delays.uniform(0.0, 0.15))
            states.append(_state_of(tmp_path / "last.ckpt"))
            parts += len(list(tmp_path.glob(f"{PART_PREFIX}*")))
            sweep_parts(tmp_path)  # as the next run does
            assert {path.name for path in tmp_path.iterdir()} <= {"last.ckpt"}
        assert list(temporary.iterdir()) == []
    assert "broken" not in states
    assert parts  # kills did strike in the middle of a file
    record_property("figure", f"checkpoint: {KILLS} kills, {states.count('broken')} corrupt, {parts} unfinished files swept by the next run")  # fmt: skip # noqa: E501
