"""Weights that name no run have seen no scans."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.models.typed_path import NAMED_WEIGHTS
from medres.workflows.transfer import scans_trained_before


@pytest.mark.parametrize("weights", [*NAMED_WEIGHTS, "x" * 300, "~nobody-of-this-name/x.pth"])
def test_named_weights_are_no_folder(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMED_WEIGHTS:
        (tmp_path / name).mkdir()
    assert scans_trained_before(weights) == ()
