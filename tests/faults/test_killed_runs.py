"""`medres finetune` killed at any moment, continued with `--resume`: the same weights and scores, no broken file."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from medres.runs.events import read_events
from tests.faults.killing import (
    corrupt_files,
    finetune_command,
    kill_after,
    kill_when,
    moments,
    outcome_of,
    resume_command,
    run_to_end,
)
from tests.integration.conftest import write_cohort

NUM_KILLS = 30


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def whole(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    done = run_to_end(finetune_command(scans, output, "run"))
    assert done.returncode == 0, done.stderr
    return output / "run"


def _seconds(run: Path) -> float:
    """Return how long the run trained, by its own log; starting Python and reading scans come before that."""
    events = read_events(run / "events.jsonl")
    return float(events[-1]["time"] - events[0]["time"])


def _continue(scans: Path, output: Path) -> Path:
    """Continue a run, or begin it again where it was killed before it wrote what was asked for."""
    run = output / "run"
    begun = (run / "config.yaml").is_file()
    done = run_to_end(resume_command(run) if begun else finetune_command(scans, output, "run"))
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thirty_kills_at_random_moments(scans: Path, whole: Path, tmp_path: Path) -> None:
    expected, length = outcome_of(whole), _seconds(whole) + 15
    finished = 0
    for number, moment in enumerate(moments(NUM_KILLS, longest=length)):
        output = tmp_path / str(number)
        kill_after(finetune_command(scans, output, "run"), moment)
        assert corrupt_files(output) == []
        run = _continue(scans, output)
        assert corrupt_files(output) == []
        assert outcome_of(run) == expected, f"killed after {moment:.2f} s"
        finished += 1
        shutil.rmtree(output)
    assert finished == NUM_KILLS


@pytest.mark.parametrize("there", ["fold_1/last.ckpt", pytest.param("metrics.json", marks=pytest.mark.slow)])
def test_killed_as_soon_as_a_file_is_there(scans: Path, whole: Path, tmp_path: Path, there: str) -> None:
    kill_when(finetune_command(scans, tmp_path, "run"), tmp_path / "run" / there)
    assert corrupt_files(tmp_path) == []
    assert outcome_of(_continue(scans, tmp_path)) == outcome_of(whole)


def test_sigterm_keeps_the_state_and_marks_the_run(scans: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = kill_when(finetune_command(scans, tmp_path, "run"), run / "fold_0" / "last.ckpt", number=signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert read_events(run / "events.jsonl")[-1]["status"] == "interrupted"
    assert outcome_of(_continue(scans, tmp_path)) == outcome_of(whole)
    kinds = [event.get("resumed") for event in read_events(run / "events.jsonl") if event["kind"] == "run_started"]
    assert kinds == [False, True]


@pytest.mark.slow
def test_folds_as_jobs_of_their_own_make_the_same_run(scans: Path, whole: Path, tmp_path: Path) -> None:
    said = []
    for fold in (2, 0, 1):
        done = run_to_end(finetune_command(scans, tmp_path, "run", "--fold", str(fold)))
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout)["left"])
        if fold == 2:
            early = run_to_end([sys.executable, "-m", "medres", "collect", str(tmp_path / "run")])
            assert early.returncode == 1
            assert "2 of the 3 folds" in early.stderr
    assert said == [[0, 1], [1], []]
    collected = run_to_end([sys.executable, "-m", "medres", "collect", str(tmp_path / "run"), "--json"])
    assert collected.returncode == 0, collected.stderr
    assert outcome_of(tmp_path / "run") == outcome_of(whole)
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert sorted({event["fold"] for event in events if event["kind"] == "epoch"}) == [0, 1, 2]
