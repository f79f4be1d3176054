"""Fixtures that all tests share. Each test makes its own data; real scans are used where they are present."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import hypothesis
import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

# how long an example takes says how busy the machine is: a test that fails for that is no test
hypothesis.settings.register_profile("medres", deadline=None)
hypothesis.settings.load_profile("medres")

_LEFT_OUT = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count what is left out."""
    config.stash[_LEFT_OUT] = 0
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(_Workers(config))


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count, in this process, what its options leave out."""
    if items:
        items[0].config.stash[_LEFT_OUT] += len(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the count of a worker to the process that reports."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[_LEFT_OUT]


class _Workers:
    """All workers collect the same tests: the count of one is the count."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the count of a worker that has finished."""
        self._config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many tests were left out: pytest-xdist does not."""
    terminalreporter.write_line(f"left out by options: {config.stash[_LEFT_OUT]} tests (make test-all, make test-gpu)")
    kept = [_contract_of(terminalreporter.stats.get(outcome, [])) for outcome in ("passed", "failed", "error")]
    if walked := kept[0] - kept[1] - kept[2]:
        counts = [sum(dims == which for dims, _ in walked) for which in ("2D", "3D")]
        terminalreporter.write_line(f"backbone contract kept by {counts[0]} 2D names and {counts[1]} 3D networks")


def _contract_of(reports: list[Any]) -> set[tuple[str, str]]:
    """Return (dims, network) of the reports on tests of the contract."""
    found = (re.search(r"test_backbones\.py::\w+\[([23]D)-(.+)\]$", report.nodeid) for report in reports)
    return {(match[1], match[2]) for match in found if match}


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
