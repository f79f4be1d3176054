"""Finished runs, simulated once for the whole room."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.runs.folder import RunFolder
from tests.reporting.fake_runs import make_run

#: Names that are markup, formulas, quotes or too long somewhere on the way.
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$\\frac{1}{0}$ and $", "_[bold]a|b[/bold]_",
    "Schädel & 肺 " + "long " * 20,
)  # fmt: skip

#: One run of every kind; each says what it is there for.
RUNS = {
    "two classes, lesions, test split": {"scans_each": 3, "units": True, "test": True},
    "three classes": {"classes": ("non_solid", "solid", "sub_solid"), "patients": 75, "folds": 5},
    "given split": {"kind": "given-split", "folds": 1, "patients": 40},
    "single split": {"kind": "single-split", "folds": 1, "patients": 40},
    "perfect, solved head": {"signal": 14.0, "patients": 24, "epochs": 0},
    "folds of one class": {"patients": 24, "folds": 2},
    "too small for intervals": {"patients": 6},
    "eight folds": {"patients": 80, "folds": 8},
    "thirteen classes": {"classes": tuple(f"organ {index:02d}" for index in range(13)), "patients": 130},
    "hostile names": {"classes": HOSTILE, "patients": 60},
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """All runs of `RUNS`, by name."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: make_run(_made(folder / f"run-{index}"), **RUNS[name]) for index, name in enumerate(RUNS)}


@pytest.fixture
def run(runs: dict[str, RunFolder]) -> RunFolder:
    """Two classes, units of three scans, five folds and a test split."""
    return runs["two classes, lesions, test split"]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
