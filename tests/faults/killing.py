"""Runs that are killed and continued: the commands, the wait for a moment, and what must be equal afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from medres.finetuning.checkpoints import Checkpoint

ARCH = "test_resnet"
#: One thread: bits are equal on the same number of threads only.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def finetune_command(data: Path, output: Path, name: str, *more: str) -> list[str]:
    """Return the command of a run with a solved head, kept activations and five stages after it."""
    return [
        sys.executable, "-m", "medres", "finetune", "--data", str(data), "--arch", ARCH, "--weights", "none",
        "--recipe", "gradual", "--epochs", "6", "--folds", "3", "--output", str(output), "--name", name,
        "--no-tracking", "--json", *more,
    ]  # fmt: skip


def resume_command(run: Path) -> list[str]:
    """Return the command that goes on with a run."""
    return [sys.executable, "-m", "medres", "finetune", "--resume", str(run), "--json"]


def run_to_end(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it printed."""
    return subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=280)


def kill_after(command: list[str], seconds: float, *, number: int = signal.SIGKILL) -> int:
    """Start a command, send it a signal after a while, and return its exit code (that of its end, if it came first)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.communicate(timeout=120)
    return process.returncode


def kill_when(command: list[str], there: Path, *, number: int = signal.SIGKILL, timeout: float = 120) -> int:
    """Start a command, send it a signal as soon as a file is there, and return its exit code."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    end = time.monotonic() + timeout
    while not there.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    process.send_signal(number)
    process.communicate(timeout=120)
    return process.returncode


def outcome_of(run: Path) -> dict[str, object]:
    """Return what must not depend on an interruption: weights of all folds and every score, without times."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    for fold in metrics["folds"]:
        fold.pop("seconds")
    weights = sorted(run.glob("fold_*/model.safetensors"))
    return {"metrics": metrics, "weights": [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights]}


def corrupt_files(folder: Path) -> list[str]:
    """Return the files under final names that are not whole."""
    bad = []
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.name in ("last.ckpt", "outcome.safetensors"):
                Checkpoint.read(path)
        except Exception as error:
            bad.append(f"{path}: {error}")
    return bad


def moments(count: int, *, longest: float, seed: int = 0) -> list[float]:
    """Return random moments in a run of that length, seconds after its start."""
    draw = random.Random(seed)
    return [draw.uniform(0.5, longest) for _ in range(count)]
