"""From one hospital's run to another's: its weights are a start, its training scans are no test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import medres
from medres.data.phantoms import write_phantoms
from medres.errors import DataError
from tests.integration.conftest import ARCH


def test_the_scans_that_weights_were_trained_on_are_not_scored(run: medres.Run, phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"24 of the 36 scans .* training data of the weights shared"):
        medres.finetune(phantoms, arch=ARCH, weights=str(run.path), folds=3, output=tmp_path, tracking=False)
    assert not any(path.is_dir() and path.name != "cache" for path in tmp_path.iterdir())


def test_another_hospital_begins_where_the_first_one_ended(run: medres.Run, phantoms: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "scans", modality="MR", spatial_dims=2, num_scans=24, size=64, seed=5)
    second = medres.finetune(
        tmp_path / "scans", arch=ARCH, weights=str(run.path), recipe="linear-probe", folds=2, output=tmp_path,
        name="second", tracking=False,
    )  # fmt: skip
    before, after = (load_file(folder / "fold_0" / "model.safetensors") for folder in (run.path, second.path))
    frozen = [name for name in before if name.startswith("backbone.") and not name.endswith("num_batches_tracked")]
    assert len(frozen) > 20
    for name in frozen:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    _assert_that_the_third_run_knows_the_first(run, phantoms, second, tmp_path)
    assert str(run.path) not in (second.path / "plan.yaml").read_text() + (second.path / "events.jsonl").read_text()


def _assert_that_the_third_run_knows_the_first(
    first: medres.Run, scans: Path, second: medres.Run, folder: Path
) -> None:
    """What the first run was trained on is no test of the third, which began from the second."""
    with pytest.raises(DataError, match=r"24 of the 36 scans .* weights second, or of those that it began from"):
        medres.finetune(scans, arch=ARCH, weights=str(second.path), folds=3, output=folder, tracking=False)
    told = json.loads((second.path / "model" / "training_hashes.json").read_text())
    assert len(told["before"]) == 1
    assert told["before"][0]["salt"] != told["salt"]
    assert first.path.name not in json.dumps(told)
