"""A pytest plugin that writes how many cases each test function has, so that a run that ends early is seen as such."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

#: Names the file that is written.
VARIABLE = "MEDRES_TESTS_COLLECTED"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the number of cases by node id of the test function."""
    counts = Counter(item.nodeid.partition("[")[0] for item in session.items)
    Path(os.environ[VARIABLE]).write_text(json.dumps(counts), encoding="utf-8")


def read_collected(path: Path) -> dict[str, int]:
    """Return what was written; empty where pytest ended before it had collected its tests."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
