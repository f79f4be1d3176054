from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from tests.deployment.tiny import Tiny, tiny

__all__ = ["tiny"]


@pytest.fixture
def bundle(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that may be damaged."""
    return Path(copytree(tiny.bundle, tmp_path / "model"))
