"""Runs of several threads of one process: each gives what it gives alone, and none is in the way of another."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import medres
from medres.data.phantoms import write_phantoms
from tests.hosts import state_of_host
from tests.integration.conftest import ARCH


def _weights(scans: Path, output: Path, seed: int) -> bytes:
    # dropout, stochastic depth and mixing draw in every step; no name: both begin in the same second
    run = medres.finetune(
        scans, arch=ARCH, weights="none", recipe="full", epochs=2, folds=2, seed=seed, output=output, tracking=False,
        optimisation={"dropout": 0.3, "drop_path": 0.2, "mixup": 0.4},
    )  # fmt: skip
    return b"".join((run.path / f"fold_{fold}" / "model.safetensors").read_bytes() for fold in (0, 1))


@pytest.mark.parametrize("noisy", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_runs_of_two_threads_are_those_of_one(noisy: bool, tmp_path: Path) -> None:
    scans = write_phantoms(tmp_path / "scans", modality="MR", spatial_dims=2, num_scans=12, size=32, seed=1)
    expected = {seed: _weights(scans, tmp_path / "alone", seed) for seed in (0, 1)}
    assert expected[0] != expected[1]
    found: dict[int, bytes] = {}
    before = state_of_host()
    stop = threading.Event()

    def work(seed: int) -> None:
        found[seed] = _weights(scans, tmp_path / "together", seed)

    def disturb() -> None:  # a host that trains something of its own beside
        while noisy and not stop.wait(0.001):
            torch.manual_seed(0)
            torch.rand(3)
            np.random.seed(0)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    noise = threading.Thread(target=disturb)
    for thread in (noise, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    noise.join()
    assert found == expected
    after = state_of_host()
    assert [name for name in before if before[name] != after[name] and not (noisy and "random" in name)] == []
