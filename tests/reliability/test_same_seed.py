"""Number 20: the same seed gives the same numbers, whatever number of threads reads; what differs is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.killing import ENVIRONMENT, finetune_command, kill_when, resume_command
from tests.figures import RecordProperty
from tests.integration.conftest import write_cohort

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_seconds(inner) for key, inner in value.items() if "seconds" not in key}
    return [_without_seconds(inner) for inner in value] if isinstance(value, list) else value


def _metrics(run: Path) -> Any:
    return _without_seconds(json.loads((run / "metrics.json").read_text(encoding="utf-8")))


def _run_with_readers(command: Sequence[str], readers: int) -> None:
    """Run a command whose pools of reading threads have so many threads."""
    code = (
        "import sys, medres.finetuning.machine, medres.runs.parallel as parallel\n"  # the plan sees the true machine
        f"parallel.num_cores = lambda: {readers}\n"
        "from medres.__main__ import main\n"
        "sys.argv = ['medres', *sys.argv[1:]]\nmain()\n"
    )
    arguments = command[command.index("finetune") :]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr


def test_the_same_seed_gives_the_same_metrics_with_any_number_of_readers(
    tmp_path: Path, record_property: RecordProperty
) -> None:
    scans = write_cohort(tmp_path / "scans")
    for name, readers in (("one", 1), ("again", 1), ("two", 2), ("four", 4)):
        _run_with_readers(finetune_command(scans, tmp_path / name, "run"), readers)
    expected = _metrics(tmp_path / "one" / "run")
    assert expected["pooled"]
    equal = sum(_metrics(tmp_path / name / "run") == expected for name in ("again", "two", "four"))
    record_property("figure", f"{equal} of 3 repetitions (1, 2 and 4 reading threads) with an identical metrics.json")
    assert equal == 3


def test_another_number_of_threads_is_said_where_a_run_goes_on(tmp_path: Path, record_property: RecordProperty) -> None:
    scans, run = write_cohort(tmp_path / "scans"), tmp_path / "run"
    kill_when(finetune_command(scans, tmp_path, "run"), run / "fold_0" / "last.ckpt", number=signal.SIGTERM)
    command = [word for word in resume_command(run) if word != "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "2"}
    )
    assert done.returncode == 0, done.stderr
    said = [line.strip() for line in done.stderr.splitlines() if "threads 1 -> 2" in line]
    assert said
    record_property("figure", f"resumed with 2 threads instead of 1: “{said[0]}”")
