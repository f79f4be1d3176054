"""One small run, shared by the tests that read it: 2D CT phantoms, the tiny net, three folds, tracked in MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import medres
from medres.cli import app
from medres.data.phantoms import write_phantoms

ARCH = "test_resnet"


def write_cohort(folder: Path) -> Path:
    """Write 36 MR slices of 18 patients, two classes."""
    write_phantoms(folder, modality="MR", spatial_dims=2, num_scans=36, size=64, scans_per_patient=2, seed=1)
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("phantoms"))


@pytest.fixture(scope="session")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> medres.Run:
    output = tmp_path_factory.mktemp("runs")
    return medres.finetune(phantoms, arch=ARCH, weights="none", folds=3, epochs=2, output=output, name="shared")


def command(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``medres`` as a user would, in a process of its own."""
    line = [sys.executable, "-m", "medres", *(str(argument) for argument in arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd, timeout=280)


def inside(*arguments: str | Path) -> Result:
    """Run ``medres`` in this process: the same command line, without the seconds of importing torch again."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
