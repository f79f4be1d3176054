"""``medres`` under torchrun and as a step of srun: one run, written once, ended together."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medres.runs.events import read_events
from tests.finetuning.gloo import free_port

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "several-gpus-and-slurm.md"


def _torchrun(*arguments: str | Path) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "medres",
        *map(str, arguments),
    ]  # fmt: skip


def _finetune(data: Path, output: Path, name: str, *more: str) -> list[str | Path]:
    return [
        "finetune", "--data", data, "--arch", "test_resnet", "--weights", "none", "--recipe", "gradual",
        "--epochs", "2", "--folds", "2", "--output", output, "--name", name, "--device", "cpu", *more,
    ]  # fmt: skip


def _done(line: list[str], timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=timeout)


def _steps_of_srun(arguments: list[str | Path], *more_of_the_second: str) -> list[subprocess.Popen[str]]:
    """Start what srun would start: two tasks of one step, inside an allocation of eight."""
    shared = {
        "SLURM_JOB_ID": "77", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "3", "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, "-m", "medres", *map(str, arguments), *(more_of_the_second if rank else ())],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=ENVIRONMENT | shared | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 250
    while not path.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)


def _folds(run: Path) -> Counter[tuple[str, str, str]]:
    """Return who is in which part of which fold, by sample id: pseudonyms differ between runs."""
    names = {row["pseudonym"]: row["id"] for row in csv.DictReader((run / "pseudonyms.csv").open())}
    rows = csv.DictReader((run / "folds.csv").open())
    return Counter((row["fold"], row["part"], names[row["sample"]]) for row in rows)


def _kinds(run: Path) -> Counter[str]:
    return Counter(event["kind"] for event in read_events(run / "events.jsonl"))


def _names(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.slow
def test_torchrun_makes_the_run_of_one_process(phantoms: Path, tmp_path: Path) -> None:
    one = _done([sys.executable, "-m", "medres", *map(str, _finetune(phantoms, tmp_path, "one", "--json"))])
    two = _done(_torchrun(*_finetune(phantoms, tmp_path, "two", "--json")))
    assert (one.returncode, two.returncode) == (0, 0), two.stderr
    assert json.loads(two.stdout)["kind"] == "cross-validation"  # one document, of rank 0
    assert _folds(tmp_path / "two") == _folds(tmp_path / "one")
    assert _names(tmp_path / "two") == _names(tmp_path / "one")
    predictions = pd.read_csv(tmp_path / "two" / "predictions.csv")
    assert len(predictions) == 36 == predictions["sample"].nunique()
    kinds = [
        Counter(event["kind"] for event in read_events(tmp_path / name / "events.jsonl")) for name in ("one", "two")
    ]
    assert kinds[0] == kinds[1]
    epochs = [event for event in read_events(tmp_path / "two" / "events.jsonl") if event["kind"] == "epoch"]
    assert all(np.isfinite(event["metrics"]["loss"]) for event in epochs)
    again = _done(_torchrun("finetune", "--resume", tmp_path / "two", "--json"))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(two.stdout)


@pytest.mark.slow
def test_folds_under_srun_are_collected(phantoms: Path, tmp_path: Path) -> None:
    for fold in ("0", "1"):
        steps = _steps_of_srun(_finetune(phantoms, tmp_path, "run", "--no-tracking", "--fold", fold))
        said = [step.communicate(timeout=280) for step in steps]
        assert [step.returncode for step in steps] == [0, 0], said
        assert f"fold {fold} of" in said[0][0]
        assert said[1] == ("", "")
    done = _done(_torchrun("collect", tmp_path / "run", "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["auroc"]["n_units"] == 36
    kinds = _kinds(tmp_path / "run")
    assert (kinds["epoch"], kinds["scores"], kinds["run_finished"]) == (4, 1, 1)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_checkpoint_and_the_run_goes_on(
    phantoms: Path, tmp_path: Path
) -> None:
    steps = _steps_of_srun(_finetune(phantoms, tmp_path, "run", "--no-tracking", "--set", "seed=1"))
    checkpoint = tmp_path / "run" / "fold_0" / "last.ckpt"
    _wait_for(checkpoint, steps[1])
    steps[1].send_signal(signal.SIGTERM)
    said = [step.communicate(timeout=280) for step in steps]
    assert {step.returncode for step in steps} == {128 + signal.SIGTERM}, said
    assert read_events(tmp_path / "run" / "events.jsonl")[-1]["status"] == "interrupted"
    assert checkpoint.exists() or (tmp_path / "run" / "fold_0" / "outcome.safetensors").exists()
    done = _done(_torchrun("finetune", "--resume", tmp_path / "run", "--json"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["auroc"]["n_units"] == 36


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_a_message(phantoms: Path, tmp_path: Path, killed: int) -> None:
    steps = _steps_of_srun(_finetune(phantoms, tmp_path, "run", "--no-tracking", "--quiet", "--epochs", "400"))
    _wait_for(tmp_path / "run" / "fold_0" / "last.ckpt", steps[1])
    steps[killed].kill()
    other = steps[1 - killed]
    said = other.communicate(timeout=120)
    assert other.returncode == 1, said
    assert said[1].count("medres: One of the 2 processes has ended without a message") == 1, said
    steps[killed].communicate()


def test_what_is_refused_is_said_once_and_ends_all_processes(tmp_path: Path) -> None:
    done = _done(_torchrun("finetune", "--data", tmp_path / "nowhere", "--arch", "resnet18", "--output", tmp_path))
    assert done.returncode != 0
    assert re.findall(r"^medres: .*$", done.stderr, re.MULTILINE) == [
        f"medres: {tmp_path / 'nowhere'} does not exist. Check the path given to --data."
    ]
    assert done.stdout == ""
    assert "unexpected" not in done.stderr


@pytest.mark.slow
def test_what_one_process_alone_meets_ends_the_others_with_its_message_and_code(phantoms: Path, tmp_path: Path) -> None:
    steps = _steps_of_srun(_finetune(phantoms, tmp_path, "run", "--no-tracking", "--quiet"), "--set", "bogus=1")
    said = [step.communicate(timeout=280) for step in steps]
    assert [step.returncode for step in steps] == [1, 1], said
    assert said[0] == ("", "")
    assert said[1][1].startswith("medres: ")
    assert said[1][1].count("bogus") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--set", "optimisation.sync_batchnorm=true"), "sync_batchnorm works on GPUs only"),
        (("--batch-size", "1"), "batches of 1 scans, which 2 processes cannot share"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_before_a_run_is_made(
    phantoms: Path, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    steps = _steps_of_srun(_finetune(phantoms, tmp_path / "runs", "run", "--no-tracking", "--quiet", *more))
    said = [step.communicate(timeout=280) for step in steps]
    assert all(step.returncode in (1, 2) for step in steps), said
    assert "".join(err for _, err in said).count("medres: ") == 1
    assert message in said[0][1] + said[1][1]
    assert not (tmp_path / "runs" / "run").exists()


def test_every_script_of_the_how_to_is_valid_bash() -> None:
    scripts = re.findall(r"```bash\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)
    assert len(scripts) == 6
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
