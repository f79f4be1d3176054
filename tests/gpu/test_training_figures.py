"""Figures of training on a CUDA device: scans a second, share of the time that waits for data, peak memory, per type.

Run with ``make test-gpu``; the figures are printed, and go to ``docs/reference/measured-results.md``.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from tests.benchmarks.stages import Case, trained_stage

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

CASES = {
    "resnet50 224x224": Case(arch="resnet50", shape=(224, 224), num_scans=256, batch_size=32),
    "resnet18 3D 96^3": Case(arch="resnet18", shape=(96, 96, 96), num_scans=32, batch_size=8),
}


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_figures_of_training(name: str, precision: str, tmp_path: Path) -> None:
    assert torch.cuda.is_available(), "the GPU tests need a CUDA device"
    case, device = CASES[name], torch.device("cuda", 0)
    torch.cuda.reset_peak_memory_stats(device)
    epochs = trained_stage(case, tmp_path, device=device, precision=precision, train_from="stem", epochs=4)
    seconds = [epoch["metrics"]["seconds"] for epoch in epochs[1:]]  # the first one chooses kernels
    waiting = [epoch["metrics"]["waiting_seconds"] for epoch in epochs[1:]]
    losses = [epoch["metrics"]["loss"] for epoch in epochs]
    print(
        f"\n{name}, {precision}, {torch.cuda.get_device_name(device)}: {case.num_scans / min(seconds):.0f} scans a "
        f"second, {100 * sum(waiting) / sum(seconds):.1f} % waiting for data, "
        f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB at most"
    )
    assert all(torch.isfinite(torch.tensor(losses)))
    assert len(epochs) == 4


def test_all_types_learn_the_same(tmp_path: Path) -> None:
    assert torch.cuda.is_available(), "the GPU tests need a CUDA device"
    case, device = Case(arch="resnet18", shape=(64, 64), num_scans=64, batch_size=16), torch.device("cuda", 0)
    last = {
        precision: trained_stage(
            case, tmp_path / precision, device=device, precision=precision, train_from="stem", epochs=3
        )[-1]["metrics"]["loss"]
        for precision in ("fp32", "bf16", "fp16")
    }
    for one, other in itertools.combinations(last.values(), 2):
        assert one == pytest.approx(other, abs=0.1)
