"""Fixtures that all tests share. Each test makes its own data; real scans are used where they are present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

SHARED = Path(__file__).parents[2] / "shared"


def _place(variable: str, default: Path) -> Path:
    folder = Path(os.environ.get(variable, default))
    if not folder.is_dir():
        pytest.skip(f"no real files: {folder} is absent; set ${variable}")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real scans; its tests are skipped, saying so, where it is absent."""
    return _place("MEDRES_REAL_DATA", SHARED / "data")


@pytest.fixture(scope="session")
def real_weights() -> Path:
    """Folder of the real pretrained weights; its tests are skipped, saying so, where it is absent."""
    return _place("MEDRES_REAL_WEIGHTS", SHARED / "weights")
