"""Warm-up and cosine against PyTorch's own schedulers."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from medres.finetuning.schedule import warmup_cosine


@pytest.mark.parametrize(("total", "warmup"), [(10, 1), (30, 5), (7, 0), (1, 0)])
def test_the_factor_equals_pytorchs_schedulers(total: int, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cosine = CosineAnnealingLR(optimizer, T_max=max(1, total - warmup))
    scheduler = cosine
    if warmup:
        linear = LinearLR(optimizer, start_factor=1 / warmup, total_iters=max(1, warmup - 1))
        scheduler = SequentialLR(optimizer, [linear, cosine], milestones=[warmup])
    for step in range(total):
        assert warmup_cosine(step, total_steps=total, warmup_steps=warmup) == pytest.approx(
            optimizer.param_groups[0]["lr"], abs=1e-6
        )
        optimizer.step()
        scheduler.step()
