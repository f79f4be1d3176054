from __future__ import annotations

import os
from pathlib import Path
from shutil import copy2, copytree

import pytest
import torch

from tests.deployment.tiny import Tiny, tiny

__all__ = ["tiny"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)  # these networks are too small to be shared out


@pytest.fixture
def bundle(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that may be damaged; weights are linked, and removed before they are changed."""
    return Path(copytree(tiny.bundle, tmp_path / "model", copy_function=_link_or_copy))


def _link_or_copy(source: str, target: str) -> None:
    (os.link if source.endswith(".safetensors") else copy2)(source, target)
