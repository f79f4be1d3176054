"""Training on a CUDA device, and that its bundle says the same on the CPU. Run with `make test-gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import medres
from medres.data.phantoms import write_phantoms

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("spatial_dims", "arch", "dims"), [(2, "resnet18", "2"), (3, "resnet10", "3"), (3, "resnet18", "2.5")]
)
def test_a_run_on_the_gpu_predicts_the_same_on_the_cpu(spatial_dims: int, arch: str, dims: str, tmp_path: Path) -> None:
    assert torch.cuda.is_available(), "the GPU tests need a CUDA device"
    write_phantoms(tmp_path / "scans", spatial_dims=spatial_dims, num_scans=16, size=48)  # type: ignore[arg-type]
    run = medres.finetune(
        tmp_path / "scans",
        arch=arch,
        dims=dims,
        weights="none",
        folds=2,
        epochs=3,
        device="cuda",
        output=tmp_path,
        name="gpu",
        tracking=False,
    )
    scans = sorted((tmp_path / "scans").rglob("scan-*"))
    on_cpu = medres.Predictor(run.path, device="cpu").predict(scans)
    on_gpu = medres.Predictor(run.path, device="cuda").predict(scans)
    np.testing.assert_allclose(on_gpu.probabilities, on_cpu.probabilities, atol=1e-4)
